"""A move under way: its own clock, its passes, and how it takes over from what came before.

Knows nothing of presets' names or of commands; everything here is a fixed function of ``now``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from engine.camera.axes import AxisFlags, AxisValues, Limits, names
from engine.camera.easing import Timing
from engine.camera.glide import Glide
from engine.camera.moves import Path

PHASE_STEP = 1e-4  # for the derivative of a path, which is smooth
FIT_STEPS = 14
SAMPLES_PER_S, FEWEST_SAMPLES, MOST_SAMPLES = 12, 48, 240


def smooth(u: float) -> float:
    """0 to 1 with no velocity and no acceleration at the ends."""
    return u**3 * (10 - 15 * u + 6 * u * u)


def smooth_slope(u: float) -> float:
    return 30 * (u * (1 - u)) ** 2


@dataclass(frozen=True, slots=True)
class MoveClock:
    """A move's own seconds: they pass at ``rate``, reached from ``rate_before`` over ``ramp_s``."""

    start_s: float
    elapsed_s: float
    rate_before: float
    rate: float
    ramp_s: float = 0.0

    def elapsed(self, now: float) -> float:
        t = max(0.0, now - self.start_s)
        elapsed = self.elapsed_s + self.rate * t
        if self.ramp_s > 0:
            u = min(1.0, t / self.ramp_s)
            missing = u**4 * (2.5 - 3 * u + u * u)  # the integral of smooth()
            elapsed += (self.rate_before - self.rate) * self.ramp_s * (u - missing)
        return elapsed

    def rate_at(self, now: float) -> float:
        if self.ramp_s == 0:
            return self.rate
        u = min(1.0, max(0.0, (now - self.start_s) / self.ramp_s))
        return self.rate_before + (self.rate - self.rate_before) * smooth(u)

    def changed(self, now: float, rate: float, ramp_s: float) -> MoveClock:
        return MoveClock(now, self.elapsed(now), self.rate_at(now), rate, ramp_s)

    def when(self, elapsed_s: float) -> float:
        """The instant at which so much has passed; infinity if it never will."""
        ramp_end = self.start_s + self.ramp_s
        left = elapsed_s - self.elapsed(ramp_end)
        if left >= 0:
            return ramp_end + left / self.rate if self.rate > 0 else math.inf
        early, late = self.start_s, ramp_end
        for _ in range(50):
            middle = (early + late) / 2
            early, late = (middle, late) if self.elapsed(middle) < elapsed_s else (early, middle)
        return late


@dataclass(frozen=True)
class Shifted:
    """A path that begins where the camera was."""

    path: Path
    base: AxisValues

    def at(self, phase: float) -> AxisValues:
        return self.base + self.path.at(phase)

    def scaled(self, share: float) -> Shifted:
        return Shifted(self.path.scaled(share), self.base)


@dataclass(frozen=True)
class Playing:
    """A path in passes of ``duration_s`` on a clock, taking over from ``before`` in the first pass.

    The way over: normally, the difference between where the camera was and where the path starts
    shrinks at the pace of the move itself, so that a straight move from anywhere is a straight line.
    That sum may leave the envelope where the path is bent; ``crossfade`` is the mean of both, which
    cannot, and does not need the path to start at rest.
    """

    path: Path
    timing: Timing
    duration_s: float
    delay_s: float
    passes: float  # may be infinite
    alternate: bool  # every second pass goes back
    reverse: bool
    clock: MoveClock
    before: Glide
    crossfade: bool = False

    @property
    def end_s(self) -> float:
        return self.clock.when(self.total_s)

    @property
    def total_s(self) -> float:
        return self.delay_s + self.passes * self.duration_s

    @property
    def goal(self) -> AxisValues:
        """Where a move with an end ends."""
        last = int(self.passes) - 1
        return self.path.at(0.0 if self._goes_back(last) else 1.0)

    def share(self, now: float) -> tuple[int, float]:
        """Which pass, and how much of its time has passed."""
        passed = max(0.0, self.clock.elapsed(now) - self.delay_s) / self.duration_s
        number = int(min(passed, self.passes - 1))
        return number, min(1.0, passed - number)

    def progress(self, now: float) -> float:
        """Of the whole, waiting included; of the present pass where there is no end."""
        if math.isinf(self.passes):
            return self.share(now)[1]
        return min(1.0, self.clock.elapsed(now) / self.total_s)

    def values(self, now: float) -> AxisValues:
        number, share = self.share(now)
        done = self.timing.value(share)
        on_path = self.path.at(1 - done if self._goes_back(number) else done)
        return on_path if number > 0 else self._joined(share, on_path, self.before.values(now))

    def velocity(self, now: float) -> AxisValues:
        number, share = self.share(now)
        waiting = self.clock.elapsed(now) < self.delay_s
        rate = 0.0 if waiting else self.clock.rate_at(now) / self.duration_s
        done, done_rate = self.timing.value(share), self.timing.slope(share) * rate
        phase, phase_rate = (1 - done, -done_rate) if self._goes_back(number) else (done, done_rate)
        ahead, behind = self.path.at(phase + PHASE_STEP), self.path.at(phase - PHASE_STEP)
        velocity: AxisValues = (ahead - behind) * (phase_rate / (2 * PHASE_STEP))
        if number > 0:
            return velocity
        before, before_velocity = self.before.values(now), self.before.velocity(now)
        if self.crossfade:
            away, away_velocity = before - self.path.at(phase), before_velocity - velocity
            weight, weight_rate = 1 - smooth(share), -smooth_slope(share) * rate
        else:
            away, away_velocity = before - self._origin, before_velocity
            weight, weight_rate = 1 - done, -done_rate
        return velocity + away_velocity * weight + away * weight_rate

    def leaves(self, limits: Limits) -> bool:
        """Whether the way over to the path, in the first pass, goes outside (with ``before`` at rest)."""
        rest = self.before.goal
        if np.array_equal(rest, self._origin):
            return False
        ways = []
        for share in _samples(0.0):
            done = self.timing.value(share)
            ways.append(self._joined(share, self.path.at(1 - done if self.reverse else done), rest))
        return bool(limits.beyond(np.array(ways)).any())

    def _joined(self, share: float, on_path: AxisValues, before: AxisValues) -> AxisValues:
        if self.crossfade:
            return on_path + (before - on_path) * (1 - smooth(share))
        return on_path + (before - self._origin) * (1 - self.timing.value(share))

    @cached_property
    def _origin(self) -> AxisValues:
        """Where the first pass starts."""
        return self.path.at(1.0 if self.reverse else 0.0)

    def retimed(self, now: float, rate: float, ramp_s: float) -> Playing:
        return replace(self, clock=self.clock.changed(now, rate, ramp_s))

    def _goes_back(self, number: int) -> bool:
        return self.reverse != (self.alternate and number % 2 == 1)


def phases(timing: Timing, duration_s: float, forwards: bool, backwards: bool) -> list[float]:
    """Where on its path a move will be, overshoots included."""
    ways = [timing.value(share) for share in _samples(duration_s)]
    return ways * forwards + [1 - phase for phase in ways] * backwards


def fitted(path: Path, phases: Sequence[float], limits: Limits) -> tuple[Path, tuple[str, ...]]:
    """The path, made smaller until it lies within the limits, and the axes that asked for it.

    An operator waits for this, and a path is slow to ask: the phases where an axis is furthest out decide
    how much smaller, and all others are only asked whether that was enough.
    """
    smaller, values = path, _along(path, phases)
    beyond: AxisFlags = np.any(limits.beyond(values), axis=0)
    decisive: set[int] = set()
    while found := _furthest_out(values, limits) - decisive:
        decisive |= found
        smaller = _within(limits, path, [phases[i] for i in decisive])
        values = _along(smaller, phases)
    return smaller, names(beyond)


def _along(path: Path, phases: Sequence[float]) -> AxisValues:
    return np.array([path.at(phase) for phase in phases])


def _furthest_out(values: AxisValues, limits: Limits) -> set[int]:
    """Of the rows, those outside the limits that hold an axis' least or greatest value."""
    extremes = (*values.argmin(axis=0).tolist(), *values.argmax(axis=0).tolist())
    return {row for row in extremes if limits.beyond(values[row]).any()}


def _within(limits: Limits, path: Path, phases: Sequence[float]) -> Path:
    """The path, as large as it may be to lie within the limits at these phases."""
    fits, too_far = 0.0, 1.0
    for _ in range(FIT_STEPS):
        middle = (fits + too_far) / 2
        smaller = path.scaled(middle)
        if any(limits.beyond(smaller.at(phase)).any() for phase in phases):
            too_far = middle
        else:
            fits = middle
    return path.scaled(fits)


def _samples(duration_s: float) -> list[float]:
    count = int(min(MOST_SAMPLES, max(FEWEST_SAMPLES, SAMPLES_PER_S * duration_s)))
    return [i / count for i in range(count + 1)]
