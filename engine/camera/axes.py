"""A pose as seven numbers that an operator can name, and the envelope they may not leave.

In this order: pan, tilt, roll in radians; x (right), y (down), z (forward) in shares of the
subject's distance; the logarithm of the zoom. Inside the envelope the tilt stays far from ±90°, so
there these numbers are as good as a quaternion, and a box is a box. Knows nothing of time.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from engine.camera.geometry import Pose

AxisValues = NDArray[np.float64]  # 7
AxisFlags = NDArray[np.bool_]  # 7

AXES = ("pan", "tilt", "roll", "x", "y", "z", "zoom")
PAN, TILT, ROLL, X, Y, Z, ZOOM = range(7)

ROUNDING = 1e-9
AT_LIMIT = 1e-3  # of an axis' range: nearer than this counts as being at the limit


def axis_values(
    pan: float = 0.0,
    tilt: float = 0.0,
    roll: float = 0.0,
    x: float = 0.0,
    y: float = 0.0,
    z: float = 0.0,
    zoom: float = 1.0,
) -> AxisValues:
    """``zoom`` is the factor; its logarithm is stored."""
    return np.array((pan, tilt, roll, x, y, z, math.log(zoom)))


def from_pose(pose: Pose, subject_distance_m: float) -> AxisValues:
    x, y, z = (t / subject_distance_m for t in pose.translation)
    return axis_values(*pose.angles(), x, y, z, pose.zoom)


def to_pose(values: AxisValues, subject_distance_m: float) -> Pose:
    pan, tilt, roll, x, y, z, log_zoom = values.tolist()
    d = subject_distance_m
    return Pose.from_angles(pan, tilt, roll, (x * d, y * d, z * d), math.exp(log_zoom))


def names(which: AxisFlags) -> tuple[str, ...]:
    return tuple(itertools.compress(AXES, which.tolist()))


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How far the camera may go: radians both ways, shares of the subject's distance, zoom factors."""

    pan: float = math.radians(45)
    tilt: float = math.radians(30)
    roll: float = math.radians(45)
    sideways: float = 1.5
    vertical: float = 0.75
    forward: float = 0.75
    backward: float = 1.0
    zoom_in: float = 4.0
    zoom_out: float = 0.5

    def __post_init__(self) -> None:
        if min(self.pan, self.tilt, self.roll, self.sideways, self.vertical, self.backward) < 0:
            raise ValueError(f"limits are never negative: {self}")
        if not 0 <= self.forward < 1:
            raise ValueError(f"the camera must stay in front of its subject: 0 <= {self.forward} < 1")
        if not 0 < self.zoom_out <= 1 <= self.zoom_in:
            raise ValueError(f"the zoom's limits must lie around 1: {self.zoom_out}, {self.zoom_in}")

    @cached_property
    def low(self) -> AxisValues:
        return np.array(
            (
                -self.pan,
                -self.tilt,
                -self.roll,
                -self.sideways,
                -self.vertical,
                -self.backward,
                math.log(self.zoom_out),
            )
        )

    @cached_property
    def high(self) -> AxisValues:
        return np.array(
            (
                self.pan,
                self.tilt,
                self.roll,
                self.sideways,
                self.vertical,
                self.forward,
                math.log(self.zoom_in),
            )
        )

    def clamp(self, values: AxisValues) -> AxisValues:
        return np.minimum(np.maximum(values, self.low), self.high)

    def beyond(self, values: AxisValues) -> AxisFlags:
        """Which axes lie outside. ``values`` may have leading dimensions."""
        return (values < self.low - ROUNDING) | (values > self.high + ROUNDING)

    def reached(self, values: AxisValues) -> tuple[str, ...]:
        """The axes that stand at a limit; one that has no range at all, or is at home, does not count."""
        near = AT_LIMIT * (self.high - self.low)
        at = ((values <= self.low + near) | (values >= self.high - near)) & (np.abs(values) > near)
        return names(at)
