"""A smooth way through keyframes, and the ways around a subject. Knows nothing of seconds or easing.

Translations are in whatever unit the caller uses, as long as it is the same for the subject's
distance: metres, or shares of that distance. The subject is at (0, 0, distance).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.camera.geometry import Angles, Pose, Vector, conjugate, exponential, logarithm, multiply

Rates = NDArray[np.float64]  # 7: body rates x y z, translation x y z, log zoom, each per unit of phase


@dataclass(frozen=True, slots=True)
class Keyframe:
    """A pose at a phase of the way, in [0, 1]."""

    at: float
    pose: Pose


class Trajectory:
    """Through all keyframes, once differentiable, without overshoot in translation and zoom.

    Translation and log zoom: Fritsch and Carlson's monotone cubics (1980). Rotation: the cumulative
    Bézier quaternion curve of Kim, Kim and Shin, *A General Construction Scheme for Unit Quaternion
    Curves* (1995), with the same limited rates at the keyframes. Outside [0, 1] it goes straight on.
    A ``closed`` trajectory ends where it starts and passes that point without a corner.
    """

    def __init__(self, keyframes: Sequence[Keyframe], closed: bool = False) -> None:
        times = [k.at for k in keyframes]
        if len(times) < 2 or any(b <= a for a, b in itertools.pairwise(times)):
            raise ValueError(f"keyframes need rising times, at least two: {times}")
        poses = [k.pose for k in keyframes]
        rates = _rates(times, poses, closed)
        self._first = _Tangent(times[0], poses[0], rates[0])
        self._last = _Tangent(times[-1], poses[-1], rates[-1])
        self._intervals = [
            _Interval.between(*each)
            for each in zip(
                itertools.pairwise(times), itertools.pairwise(poses), itertools.pairwise(rates), strict=True
            )
        ]

    def at(self, phase: float) -> Pose:
        if phase < self._first.at:
            return self._first.follow(phase)
        if phase >= self._last.at:
            return self._last.follow(phase)
        return next(interval.pose(phase) for interval in self._intervals if phase < interval.end)


class _Tangent(NamedTuple):
    at: float
    pose: Pose
    rates: Rates

    def follow(self, phase: float) -> Pose:
        rx, ry, rz, x, y, z, log_zoom = (self.rates * (phase - self.at)).tolist()
        tx, ty, tz = self.pose.translation
        return Pose(
            multiply(self.pose.rotation, exponential((rx, ry, rz))),
            (tx + x, ty + y, tz + z),
            self.pose.zoom * math.exp(log_zoom),
        )


@dataclass(frozen=True, slots=True)
class _Interval:
    """A cubic between two keyframes: three turns one after the other, and a Hermite cubic for the rest.

    ``way`` is of x y z log_zoom: the difference, the first rate and minus the last rate.
    """

    start: float
    end: float
    origin: Pose
    turns: tuple[Vector, Vector, Vector]
    way: tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]

    @classmethod
    def between(
        cls, times: tuple[float, float], poses: tuple[Pose, Pose], rates: tuple[Rates, Rates]
    ) -> _Interval:
        start, end = times
        a, b = poses
        rate_a, rate_b = (rate * (end - start) for rate in rates)
        first, last = _vector(rate_a[:3] / 3), _vector(rate_b[:3] / 3)
        whole = multiply(conjugate(a.rotation), b.rotation)
        middle = multiply(multiply(conjugate(exponential(first)), whole), conjugate(exponential(last)))
        way = (_difference(a, b)[3:], rate_a[3:], -rate_b[3:])
        x, y, z = (tuple(w.tolist()) for w in way)
        return cls(start, end, a, (first, logarithm(middle), last), (x, y, z))

    def pose(self, phase: float) -> Pose:
        u = (phase - self.start) / (self.end - self.start)
        v = 1 - u
        b1, b2, b3 = 1 - v**3, u * u * (3 - 2 * u), u**3  # cumulative Bernstein polynomials
        rotation = self.origin.rotation
        for weight, (rx, ry, rz) in zip((b1, b2, b3), self.turns, strict=True):
            rotation = multiply(rotation, exponential((rx * weight, ry * weight, rz * weight)))
        h1, h2 = u * v * v, u * u * v  # Hermite's weights of the two rates
        x, y, z, log_zoom = (b2 * d + h1 * p + h2 * q for d, p, q in zip(*self.way, strict=True))
        tx, ty, tz = self.origin.translation
        return Pose(rotation, (tx + x, ty + y, tz + z), self.origin.zoom * math.exp(log_zoom))


def _vector(values: Rates) -> Vector:
    x, y, z = values.tolist()
    return (x, y, z)


def _difference(a: Pose, b: Pose) -> Rates:
    """From a to b: rotation vector in a's own axes, translation, log zoom."""
    turn = logarithm(multiply(conjugate(a.rotation), b.rotation))
    way = np.subtract(b.translation, a.translation)
    return np.array((*turn, *way, math.log(b.zoom / a.zoom)))


def _rates(times: Sequence[float], poses: Sequence[Pose], closed: bool) -> list[Rates]:
    h = np.diff(times)
    slopes = [_difference(a, b) / w for (a, b), w in zip(itertools.pairwise(poses), h, strict=True)]
    inner = [_limited(slopes[i], slopes[i + 1], float(h[i]), float(h[i + 1])) for i in range(len(slopes) - 1)]
    if closed:
        seam = _limited(slopes[-1], slopes[0], float(h[-1]), float(h[0]))
        return [seam, *inner, seam]
    return [slopes[0], *inner, slopes[-1]]


def _limited(before: Rates, after: Rates, h0: float, h1: float) -> Rates:
    """Weighted harmonic mean of two slopes; 0 where the direction turns (Fritsch and Butland 1984)."""
    w0, w1 = 2 * h1 + h0, h1 + 2 * h0
    turns = before * after <= 0
    weighted = np.where(turns, 1.0, w0 * after + w1 * before)
    mean = (w0 + w1) * before * after / weighted
    return np.where(turns, 0.0, mean)


def look_at(position: Vector, subject_distance: float) -> Angles:
    """Pan and tilt that bring the subject to the middle of the picture."""
    x, y, z = position
    forward = subject_distance - z
    return Angles(math.atan2(-x, forward), math.atan2(y, math.hypot(x, forward)), 0.0)


def around_subject(azimuth: float, elevation: float, radius: float, subject_distance: float) -> Vector:
    """A place on a sphere around the subject: azimuth to the camera's right, elevation upwards, radians."""
    ground = radius * math.cos(elevation)
    return (
        ground * math.sin(azimuth),
        -radius * math.sin(elevation),
        subject_distance - ground * math.cos(azimuth),
    )


def orbit(azimuth: float, elevation: float, radius: float, subject_distance: float) -> Pose:
    """On that sphere, looking at the subject."""
    position = around_subject(azimuth, elevation, radius, subject_distance)
    return Pose.from_angles(*look_at(position, subject_distance), position)
