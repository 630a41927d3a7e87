"""The moves: how far and which way, as paths through the axes. Knows nothing of seconds, easing or names.

Words and signs are the operators': right, up, forward, pan to the right, tilt up, roll clockwise.
Lengths are shares of the subject's distance, or :class:`Metres`. A path may be asked a little
outside [0, 1], where an easing overshoots.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from engine.camera.axes import AxisValues, axis_values, from_pose
from engine.camera.geometry import IDENTITY, Pose
from engine.camera.trajectory import Keyframe, Trajectory, around_subject, look_at


class Metres(NamedTuple):
    value: float


Length = float | Metres


class Setting(NamedTuple):
    """What a move must know to become a path. ``endless``: it will be repeated without a pause."""

    subject_distance_m: float
    duration_s: float
    endless: bool

    def shares(self, length: Length) -> float:
        return length.value / self.subject_distance_m if isinstance(length, Metres) else length


class Path(Protocol):
    """Where the camera is at a phase of the way."""

    def at(self, phase: float) -> AxisValues: ...

    def scaled(self, share: float) -> Path:
        """The same way, less far."""


class Move(Protocol):
    def path(self, setting: Setting) -> Path: ...


@dataclass(frozen=True)
class Straight:
    """From home to here, all axes together. Pan, tilt, roll, zoom, dolly, truck, pedestal are this."""

    pan: float = 0.0
    tilt: float = 0.0
    roll: float = 0.0
    right: Length = 0.0
    up: Length = 0.0
    forward: Length = 0.0
    zoom: float = 1.0

    def values(self, setting: Setting) -> AxisValues:
        right, up, forward = (setting.shares(length) for length in (self.right, self.up, self.forward))
        return axis_values(self.pan, self.tilt, self.roll, right, -up, forward, self.zoom)

    def path(self, setting: Setting) -> Path:
        return Line(self.values(setting))


@dataclass(frozen=True)
class Reveal:
    """From there back home."""

    start: Straight

    def path(self, setting: Setting) -> Path:
        return Homecoming(self.start.values(setting))


@dataclass(frozen=True)
class Orbit:
    """Around the subject, looking at it; ``closer`` is the share of the distance lost on the way."""

    angle: float
    rise: float = 0.0
    closer: float = 0.0

    def path(self, setting: Setting) -> Path:
        return OrbitPath(self.angle, self.rise, self.closer)


@dataclass(frozen=True)
class Crane:
    """Up (or down, sideways, forward) while looking at the subject."""

    up: Length
    right: Length = 0.0
    forward: Length = 0.0

    def path(self, setting: Setting) -> Path:
        return CranePath(setting.shares(self.right), -setting.shares(self.up), setting.shares(self.forward))


@dataclass(frozen=True)
class DollyZoom:
    """Forward (or back) while the zoom keeps the subject's size."""

    forward: Length

    def path(self, setting: Setting) -> Path:
        return DollyZoomPath(setting.shares(self.forward))


@dataclass(frozen=True)
class Keyframes:
    """Through these, at shares of the duration; from home, unless the first stands at 0."""

    frames: tuple[tuple[float, Straight], ...]

    def path(self, setting: Setting) -> Path:
        frames = [Keyframe(at, _unit_pose(target.values(setting))) for at, target in self.frames]
        if frames[0].at > 0:
            frames.insert(0, Keyframe(0.0, IDENTITY))
        first, last = frames[0].pose.to_array(), frames[-1].pose.to_array()
        return KeyframePath(Trajectory(frames, closed=bool(np.allclose(first, last))))


@dataclass(frozen=True)
class Handheld:
    """The unrest of a camera on a shoulder: ``sway`` (radians) and ``shift`` (shares) are RMS values."""

    sway: float
    shift: float = 0.0
    frequency_hz: float = 0.8
    seed: int = 1

    def path(self, setting: Setting) -> Path:
        return _handheld_path(self, setting)


def _unit_pose(values: AxisValues) -> Pose:
    pan, tilt, roll, x, y, z, log_zoom = values.tolist()
    return Pose.from_angles(pan, tilt, roll, (x, y, z), math.exp(log_zoom))


@dataclass(frozen=True)
class Line:
    goal: AxisValues

    def at(self, phase: float) -> AxisValues:
        return self.goal * phase

    def scaled(self, share: float) -> Line:
        return Line(self.goal * share)


@dataclass(frozen=True)
class Homecoming:
    start: AxisValues

    def at(self, phase: float) -> AxisValues:
        return self.start * (1 - phase)

    def scaled(self, share: float) -> Homecoming:
        return Homecoming(self.start * share)


@dataclass(frozen=True)
class OrbitPath:
    angle: float
    rise: float
    closer: float

    def at(self, phase: float) -> AxisValues:
        radius = 1 - self.closer * phase
        return _aimed(around_subject(self.angle * phase, self.rise * phase, radius, 1.0))

    def scaled(self, share: float) -> OrbitPath:
        return OrbitPath(self.angle * share, self.rise * share, self.closer * share)


@dataclass(frozen=True)
class CranePath:
    x: float
    y: float
    z: float

    def at(self, phase: float) -> AxisValues:
        return _aimed((self.x * phase, self.y * phase, self.z * phase))

    def scaled(self, share: float) -> CranePath:
        return CranePath(self.x * share, self.y * share, self.z * share)


def _aimed(position: tuple[float, float, float]) -> AxisValues:
    return axis_values(*look_at(position, 1.0), *position)


@dataclass(frozen=True)
class DollyZoomPath:
    z: float

    def at(self, phase: float) -> AxisValues:
        z = min(self.z * phase, 0.95)
        return axis_values(z=z, zoom=1 - z)

    def scaled(self, share: float) -> DollyZoomPath:
        return DollyZoomPath(self.z * share)


@dataclass(frozen=True)
class KeyframePath:
    trajectory: Trajectory
    share: float = 1.0

    def at(self, phase: float) -> AxisValues:
        return from_pose(self.trajectory.at(phase), 1.0) * self.share

    def scaled(self, share: float) -> KeyframePath:
        return KeyframePath(self.trajectory, self.share * share)


@dataclass(frozen=True)
class NoisePath:
    """A sum of sines with whole numbers of turns, so that the end meets the start.

    ``amplitudes`` and ``offsets`` are partial × axis; ``turns`` has one number for each partial.
    ``edge`` is the share of the way over which it swells and dies; 0 for an endless one.
    """

    turns: AxisValues
    amplitudes: AxisValues
    offsets: AxisValues
    edge: float

    def at(self, phase: float) -> AxisValues:
        waves = np.sin(2 * math.pi * phase * self.turns[:, None] + self.offsets)
        total: AxisValues = np.einsum("pa,pa->a", self.amplitudes, waves) * self._strength(phase)
        return total

    def scaled(self, share: float) -> NoisePath:
        return NoisePath(self.turns, self.amplitudes * share, self.offsets, self.edge)

    def _strength(self, phase: float) -> float:
        if self.edge == 0:
            return 1.0
        u = min(1.0, max(0.0, min(phase, 1 - phase) / self.edge))
        return u**3 * (10 - 15 * u + 6 * u * u)


PARTIALS = 7
SWELL_S = 1.5
ROLL_TO_SWAY = 0.4  # a shoulder rolls less than it turns


def _handheld_path(move: Handheld, setting: Setting) -> NoisePath:
    """Partials from a fifth of the frequency up to twice it, weaker as they get faster."""
    centre = move.frequency_hz * setting.duration_s
    wanted = np.unique(np.maximum(1, np.round(np.geomspace(centre / 5, centre * 2, PARTIALS))))
    weights = 1 / np.sqrt(wanted)
    weights *= math.sqrt(2) / math.sqrt(float(np.sum(weights**2)))  # RMS 1 together
    roll = move.sway * ROLL_TO_SWAY
    rms = np.array((move.sway, move.sway, roll, move.shift, move.shift, move.shift / 2, 0.0))
    offsets = np.random.default_rng(move.seed).uniform(0, 2 * math.pi, (len(wanted), len(rms)))
    edge = 0.0 if setting.endless else min(0.3, SWELL_S / setting.duration_s)
    return NoisePath(wanted, weights[:, None] * rms, offsets, edge)


BASIC_MOVES: dict[str, Move] = {
    "pan-right": Straight(pan=math.radians(20)),
    "pan-left": Straight(pan=math.radians(-20)),
    "tilt-up": Straight(tilt=math.radians(10)),
    "tilt-down": Straight(tilt=math.radians(-10)),
    "dolly-in": Straight(forward=0.5),
    "dolly-out": Straight(forward=-0.5),
    "crane-up": Crane(up=0.25),
    "crane-down": Crane(up=-0.25),
    "arc-left": Orbit(math.radians(-30)),
    "arc-right": Orbit(math.radians(30)),
}
"""ReCamMaster's ten basic paths in its order; its lengths (2 m, 1 m) taken at its subject's 4 m."""
