"""Motion of free axes: towards a wanted velocity with bounded acceleration, and never past a limit.

This is the joystick, the stop, and what is left of a move after it was interrupted. Closed form, so
that asking twice, or out of order, gives the same answer. Knows nothing of moves or poses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from engine.camera.axes import AxisValues, Limits

LONGEST_STOP_S = 0.5  # however fast the camera is, it comes to rest within this time


class Leg(NamedTuple):
    """Constant acceleration for a while, from a position and a velocity."""

    duration_s: float
    position: float
    velocity: float
    acceleration: float

    def at(self, t: float) -> tuple[float, float]:
        return (
            self.position + (self.velocity + self.acceleration * t / 2) * t,
            self.velocity + self.acceleration * t,
        )


Legs = tuple[Leg, ...]


def drive(
    position: float, velocity: float, wanted: float, acceleration: float, low: float, high: float
) -> Legs:
    """From a position and velocity to the ``wanted`` velocity, coming to rest exactly at a limit.

    Braking is harder than ``acceleration`` where there is no room, or where it would take too long.
    """
    if wanted < 0:
        return tuple(
            Leg(leg.duration_s, -leg.position, -leg.velocity, -leg.acceleration)
            for leg in drive(-position, -velocity, -wanted, acceleration, -high, -low)
        )
    if velocity < 0 < wanted:
        *brake, rest = _brake(position, velocity, acceleration, low, high)
        return (*brake, *_run(rest.position, 0.0, wanted, acceleration, high))
    if wanted == 0 or velocity**2 / (2 * acceleration) >= high - position:
        return _brake(position, velocity, acceleration, low, high)
    return _run(position, velocity, wanted, acceleration, high)


def _run(position: float, velocity: float, wanted: float, acceleration: float, high: float) -> Legs:
    """Ramp, cruise, brake, rest; ``velocity`` is not negative and there is room to brake."""
    room = max(0.0, high - position)
    peak = min(wanted, math.sqrt(acceleration * room + velocity**2 / 2)) if velocity < wanted else wanted
    ramp_s = abs(peak - velocity) / acceleration
    ramp_end = position + (velocity + peak) / 2 * ramp_s
    brake_at = high - peak**2 / (2 * acceleration)
    cruise_s = max(0.0, brake_at - ramp_end) / peak if peak > 0 else 0.0
    return (
        Leg(ramp_s, position, velocity, math.copysign(acceleration, peak - velocity)),
        Leg(cruise_s, ramp_end, peak, 0.0),
        Leg(peak / acceleration, brake_at, peak, -acceleration),
        Leg(math.inf, high, 0.0, 0.0),
    )


def _brake(position: float, velocity: float, acceleration: float, low: float, high: float) -> Legs:
    room = high - position if velocity > 0 else position - low
    speed = abs(velocity)
    if speed == 0 or room <= 0:
        return (Leg(math.inf, position, 0.0, 0.0),)
    hardness = max(acceleration, speed / LONGEST_STOP_S, speed**2 / (2 * room))
    way = math.copysign(speed**2 / (2 * hardness), velocity)
    rest = min(high, max(low, position + way))
    return (
        Leg(speed / hardness, position, velocity, -math.copysign(hardness, velocity)),
        Leg(math.inf, rest, 0.0, 0.0),
    )


@dataclass(frozen=True)
class Glide:
    """All axes at once from ``start_s``; before that, they stand where they begin."""

    start_s: float
    axes: tuple[Legs, ...]

    @classmethod
    def resting(cls, values: AxisValues, now: float) -> Glide:
        return cls(now, tuple((Leg(math.inf, value, 0.0, 0.0),) for value in values.tolist()))

    @classmethod
    def driven(
        cls,
        values: AxisValues,
        velocity: AxisValues,
        wanted: AxisValues,
        acceleration: AxisValues,
        limits: Limits,
        now: float,
    ) -> Glide:
        given = (limits.clamp(values), velocity, wanted, acceleration, limits.low, limits.high)
        columns = zip(*(each.tolist() for each in given), strict=True)
        return cls(now, tuple(drive(*column) for column in columns))

    @property
    def end_s(self) -> float:
        """From when on everything rests."""
        return self.start_s + max(sum(leg.duration_s for leg in legs[:-1]) for legs in self.axes)

    @property
    def goal(self) -> AxisValues:
        """Where everything rests in the end."""
        return np.array([legs[-1].position for legs in self.axes])

    def values(self, now: float) -> AxisValues:
        return np.array([_state(legs, now - self.start_s)[0] for legs in self.axes])

    def velocity(self, now: float) -> AxisValues:
        return np.array([_state(legs, now - self.start_s)[1] for legs in self.axes])


def _state(legs: Legs, t: float) -> tuple[float, float]:
    """Position and velocity; before the start, as at the start."""
    t = max(0.0, t)
    for leg in legs[:-1]:
        if t < leg.duration_s:
            return leg.at(t)
        t -= leg.duration_s
    return legs[-1].position, 0.0
