"""How the cameras of a scene move: ten synchronised paths that begin near one view, as functions of the
frame.

Knows the families of moves, MultiCamVideo's ranges (pan 5–45°, tilt 5–30°, arc 15–75°, translation ¼–1 ×
the subject's distance; half at constant speed, half eased) and the small moves of a live show, which have
most of the mass. Knows nothing of rooms: `clear` says where a camera may be, and a path that would leave it
is shortened.

A path is an amplitude (nine numbers) times a course (a number per frame, 0 at the common view), plus a
hand's shake. T frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.camera.easing import exponential
from engine.camera.geometry import Matrix, Pose
from engine.data.splits import Split

Course = NDArray[np.float64]  # T, or T 6 of a shake
Clear = Callable[[NDArray[np.float64]], bool]

SMALL_TURN, SMALL_WAY_M = math.radians(20), 0.5  # what presets of a live show do
SHORTENED = (1.0, 0.75, 0.5, 0.35, 0.2)  # shares of an amplitude tried until a path is clear


@dataclass(frozen=True, kw_only=True)
class Amplitude:
    """Where a path leads: angles in radians (pan right, tilt up), metres along the first view's axes, and
    how far round the subject (``arc`` to the right, ``rise`` upwards). ``zoom`` is the logarithm of the
    focal length's ratio.
    """

    pan: float = 0.0
    tilt: float = 0.0
    roll: float = 0.0
    x_m: float = 0.0
    y_m: float = 0.0
    z_m: float = 0.0
    arc: float = 0.0
    rise: float = 0.0
    zoom: float = 0.0

    def scaled(self, share: float) -> Amplitude:
        return Amplitude(**{name: value * share for name, value in self.__dict__.items()})


@dataclass(frozen=True, kw_only=True, eq=False)
class Path:
    """One camera's whole way. ``second`` is a second amplitude with a course of its own (a figure of
    eight).
    """

    family: str
    amplitude: Amplitude
    course: Course  # T
    second: Amplitude | None = None
    second_course: Course | None = None
    shake: NDArray[np.float64] | None = None  # T 6: pan, tilt, roll, x, y, z


@dataclass(frozen=True, kw_only=True, eq=False)
class Flight:
    """A path in the world: ``camera_to_world`` T 4 4 and the focal length's ratio T."""

    family: str
    camera_to_world: NDArray[np.float64]
    zoom: NDArray[np.float64]


def flights(
    split: Split,
    generator: np.random.Generator,
    base: Matrix,
    subject_distance_m: float,
    frames: int,
    cameras: int,
    clear: Clear,
) -> list[Flight]:
    """The paths of one scene's cameras, from the view ``base`` (camera to world).

    In this order, so that few cameras are still useful: still, a small translation, a turn or a zoom, a
    moving source, a loop, a wide arc, small compounds, a zoom, a second loop, a wide move.
    """
    slots = _slots(split, generator)
    chosen = []
    for index in range(cameras):
        chosen.append(
            _clear_flight(generator, slots[index % len(slots)], base, subject_distance_m, frames, clear)
        )
    return chosen


def fly(path: Path, base: Matrix, subject_distance_m: float) -> Flight:
    """Place a path in the world: round the subject, then aside, then turned."""
    poses = np.empty((len(path.course), 4, 4))
    zoom = np.empty(len(path.course))
    for i, share in enumerate(path.course):
        at = path.amplitude.scaled(float(share))
        if path.second is not None and path.second_course is not None:
            at = _sum(at, path.second.scaled(float(path.second_course[i])))
        if path.shake is not None:
            at = _sum(at, Amplitude(**dict(zip(_SHAKEN, map(float, path.shake[i]), strict=True))))
        poses[i] = base @ _offset(at, subject_distance_m)
        zoom[i] = math.exp(at.zoom)
    return Flight(family=path.family, camera_to_world=poses, zoom=zoom)


_SHAKEN = ("pan", "tilt", "roll", "x_m", "y_m", "z_m")


def _sum(a: Amplitude, b: Amplitude) -> Amplitude:
    return Amplitude(**{name: value + getattr(b, name) for name, value in a.__dict__.items()})


def _offset(at: Amplitude, distance_m: float) -> Matrix:
    """4×4: first camera ← camera. Turning round the subject by arc moves to the right and looks left."""
    pivot = np.array([0.0, 0.0, distance_m])
    around = Pose.from_angles(pan=-at.arc, tilt=-at.rise).matrix()
    turn = around @ Pose.from_angles(pan=at.pan, tilt=at.tilt, roll=at.roll).matrix()
    offset = np.eye(4)
    offset[:3, :3] = turn
    offset[:3, 3] = pivot - around @ pivot + np.array([at.x_m, at.y_m, at.z_m])
    return offset


def _clear_flight(
    generator: np.random.Generator,
    families: tuple[str, ...],
    base: Matrix,
    distance_m: float,
    frames: int,
    clear: Clear,
) -> Flight:
    """A path of one of the families that stays clear: drawn anew, mirrored by chance, then shortened."""
    for _ in range(3):
        path = draw(generator, str(generator.choice(families)), distance_m, frames)
        for share in SHORTENED:
            second = path.second.scaled(share) if path.second else None
            shorter = replace(path, amplitude=path.amplitude.scaled(share), second=second)
            flight = fly(shorter, base, distance_m)
            if clear(flight.camera_to_world[:, :3, 3]):
                return flight
    return fly(Path(family="hold", amplitude=Amplitude(), course=np.zeros(frames)), base, distance_m)


def draw(generator: np.random.Generator, family: str, distance_m: float, frames: int) -> Path:
    """A path of a family, its amplitude and course drawn by chance."""
    if family not in FAMILIES:
        raise ValueError(f"there is no family of paths {family!r}")
    return FAMILIES[family](_Drawing(generator, family, distance_m, frames))


class _Drawing:
    """Chance, with the words in which families are described."""

    def __init__(self, generator: np.random.Generator, family: str, distance_m: float, frames: int) -> None:
        self._chance = generator
        self._family = family
        self._distance_m = distance_m
        self._frames = frames

    def between(self, low: float, high: float) -> float:
        return float(self._chance.uniform(low, high))

    def either(self, low: float, high: float) -> float:
        """Between low and high, to one side or the other."""
        return self.between(low, high) * float(self._chance.choice((-1.0, 1.0)))

    def turn(self, low_deg: float, high_deg: float) -> float:
        return self.either(math.radians(low_deg), math.radians(high_deg))

    def small(self) -> float:
        """Metres: a live show's translation, at most 0.4 of the subject's distance."""
        return self.either(0.08, min(SMALL_WAY_M, max(0.12, 0.4 * self._distance_m)))

    def far(self) -> float:
        """Metres: MultiCamVideo's translation, ¼–1 × the subject's distance."""
        return self.either(0.25 * self._distance_m, self._distance_m)

    def path(self, course: Course, shake: float = 0.0, **amplitude: float) -> Path:
        hand = self._hand(shake) if shake else None
        return Path(family=self._family, amplitude=Amplitude(**amplitude), course=course, shake=hand)

    def still(self) -> Course:
        return np.zeros(self._frames)

    def way(self) -> Course:
        """0 to 1: half at constant speed, half with ReCamMaster's easing; some start late or arrive early."""
        start, end = (
            (0.0, 1.0) if self.between(0, 1) < 0.6 else (self.between(0, 0.2), self.between(0.7, 1.0))
        )
        x = np.clip((np.linspace(0, 1, self._frames) - start) / (end - start), 0, 1)
        kind = self.between(0, 1)
        if kind < 0.5:
            return x
        if kind < 0.75:
            ease = exponential(self.either(1.0, 4.0))
            return np.array([ease(float(v)) for v in x])
        return _smooth(x)

    def loop(self) -> Course:
        """Leaves 0 and comes back to exactly 0 in forward time, with rests at both ends and on the way."""
        turns = 1 if self.between(0, 1) < 0.7 else 2
        lengths = np.array(
            [self.between(0.02, 0.12), *(self.between(a, b) for _ in range(turns) for a, b in _LEGS)]
        )
        times = np.concatenate([[0.0], np.cumsum(lengths / lengths.sum())])
        at = np.linspace(0, 1, self._frames)
        course = np.zeros(self._frames)
        for turn in range(turns):
            go, stay, back, _ = times[1 + 4 * turn : 5 + 4 * turn]
            end = times[4 + 4 * turn]
            course += _smooth(np.clip((at - go) / (stay - go), 0, 1)) - _smooth(
                np.clip((at - back) / (end - back), 0, 1)
            )
        course[np.abs(course) < 1e-12] = 0.0
        return course

    def wander(self) -> Course:
        """A slow, smooth way that begins at 0 and stays within ±1."""
        x = np.linspace(0, 1, self._frames)
        a, b = self.between(0.4, 1.1), self.between(1.2, 2.2)
        course = np.sin(2 * np.pi * a * x) + 0.5 * np.sin(2 * np.pi * b * x)
        return np.asarray(course / 1.5)

    def eight(self, distance: Amplitude, second: Amplitude) -> Path:
        x = 2 * np.pi * np.linspace(0, 1, self._frames)
        first, across = np.sin(x), np.sin(2 * x)
        first[-1] = across[-1] = 0.0
        return Path(
            family=self._family, amplitude=distance, course=first, second=second, second_course=across
        )

    def _hand(self, strength: float) -> NDArray[np.float64]:
        """A hand's or shoulder's sway: sines of 0.3–2.5 Hz, less of the faster ones, from 0."""
        seconds = np.arange(self._frames) / 15
        size = strength * np.array([0.012, 0.010, 0.005, 0.012, 0.010, 0.008])
        shake = np.zeros((self._frames, 6))
        for frequency in (0.3, 0.7, 1.3, 2.5):
            phase = self._chance.uniform(0, 2 * np.pi, 6)
            weight = self._chance.uniform(0.3, 1.0, 6) / (1 + frequency)
            shake += weight * (np.sin(2 * np.pi * frequency * seconds[:, None] + phase) - np.sin(phase))
        return shake * size


_LEGS = ((0.2, 0.4), (0.05, 0.3), (0.2, 0.4), (0.05, 0.3))  # go, stay, come back, stay


def _smooth(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x**3 * (10 - 15 * x + 6 * x * x)


def _compound(d: _Drawing, course: Course) -> Path:
    return d.path(
        course,
        pan=d.turn(2, 12),
        tilt=d.turn(1, 6),
        x_m=d.small(),
        y_m=d.either(0.02, 0.2),
        z_m=d.either(0.05, 0.4),
        zoom=d.either(0.0, 0.2),
    )


def _view_loop(d: _Drawing, course: Course) -> Path:
    """To another view of the subject and back, looking at the subject all the way."""
    return d.path(
        course, arc=d.turn(5, 25), rise=d.turn(0, 6), z_m=d.either(0.0, 0.3), zoom=d.either(0.0, 0.15)
    )


def _slots(split: Split, generator: np.random.Generator) -> list[tuple[str, ...]]:
    """Which families each camera of a scene draws from."""
    if split.heldout:
        source, moving = ("tripod",), ("shoulder", "creep")
        small, turn = ("truck-and-turn", "crane", "push-in", "orbit"), ("diagonal", "glance", "punch-in")
        loop, mixed = ("there-and-back", "figure-eight"), ("dolly-zoom", "push-in", "truck-and-turn")
        wide = ("wide-diagonal", "wide-orbit", "wide-crane")
    else:
        source, moving = ("hold",), ("handheld", "drift")
        small, turn = ("slide", "pedestal", "dolly", "arc"), ("pan", "tilt", "zoom")
        loop, mixed = ("loop", "view-loop"), ("compound", "zoom", "slide")
        wide = ("wide-pan", "wide-arc", "wide-slide")
    return [source, small, turn, moving, loop, small, mixed, turn, loop, wide]


FAMILIES: dict[str, Callable[[_Drawing], Path]] = {
    "hold": lambda d: d.path(d.still()),
    "handheld": lambda d: d.path(
        d.wander(), shake=d.between(0.5, 2.0), pan=d.turn(0, 3), x_m=d.either(0, 0.06)
    ),
    "drift": lambda d: d.path(d.way(), pan=d.turn(2, 10), x_m=d.either(0, 0.25)),
    "pan": lambda d: d.path(d.way(), pan=d.turn(5, 20)),
    "tilt": lambda d: d.path(d.way(), tilt=d.turn(5, 14)),
    "slide": lambda d: d.path(d.way(), x_m=d.small()),
    "pedestal": lambda d: d.path(d.way(), y_m=d.small() * 0.7, tilt=d.turn(0, 6)),
    "dolly": lambda d: d.path(d.way(), z_m=d.small()),
    "zoom": lambda d: d.path(d.way(), zoom=d.either(0.1, 0.6)),
    "arc": lambda d: d.path(d.way(), arc=d.turn(5, 20)),
    "compound": lambda d: _compound(d, d.way()),
    "loop": lambda d: _compound(d, d.loop()),
    "view-loop": lambda d: _view_loop(d, d.loop()),
    "wide-pan": lambda d: d.path(d.way(), pan=d.turn(15, 45), tilt=d.turn(0, 20)),
    "wide-arc": lambda d: d.path(d.way(), arc=d.turn(15, 75)),
    "wide-slide": lambda d: d.path(d.way(), x_m=d.far(), y_m=d.either(0, 0.3)),
    "tripod": lambda d: d.path(d.still()),
    "shoulder": lambda d: d.path(
        d.wander(), shake=d.between(0.5, 2.0), pan=d.turn(0, 4), z_m=d.either(0, 0.1)
    ),
    "creep": lambda d: d.path(d.way(), z_m=d.either(0.05, 0.25), pan=d.turn(0, 3)),
    "diagonal": lambda d: d.path(d.way(), pan=d.turn(4, 16), tilt=d.turn(3, 10)),
    "glance": lambda d: d.path(d.loop(), pan=d.turn(5, 20), tilt=d.turn(0, 5)),
    "truck-and-turn": lambda d: _truck(d, d.small()),
    "crane": lambda d: d.path(d.way(), y_m=d.small(), z_m=d.either(0, 0.2), tilt=d.turn(0, 8)),
    "push-in": lambda d: d.path(d.way(), z_m=abs(d.small()), zoom=d.between(0.0, 0.25), roll=d.turn(0, 3)),
    "punch-in": lambda d: d.path(d.way(), zoom=d.between(0.15, 0.6), pan=d.turn(0, 8), tilt=d.turn(0, 4)),
    "orbit": lambda d: d.path(d.way(), arc=d.turn(5, 20), rise=d.turn(1, 8)),
    "dolly-zoom": lambda d: _dolly_zoom(d),
    "there-and-back": lambda d: _view_loop(d, d.loop()),
    "figure-eight": lambda d: d.eight(
        Amplitude(x_m=d.small(), pan=d.turn(0, 6)), Amplitude(y_m=d.either(0.03, 0.15), tilt=d.turn(0, 3))
    ),
    "wide-diagonal": lambda d: d.path(d.way(), pan=d.turn(12, 40), tilt=d.turn(5, 25)),
    "wide-orbit": lambda d: d.path(d.way(), arc=d.turn(15, 75), rise=d.turn(0, 12)),
    "wide-crane": lambda d: d.path(d.way(), x_m=d.far(), z_m=d.far() / 2, pan=d.turn(0, 15)),
}


def _truck(d: _Drawing, way_m: float) -> Path:
    """Aside, turning back towards the subject."""
    return d.path(d.way(), x_m=way_m, pan=-math.copysign(d.between(0.02, 0.2), way_m))


def _dolly_zoom(d: _Drawing) -> Path:
    """Towards the subject while the lens widens, so that the subject keeps its size for a short way."""
    way_m = d.small()
    return d.path(d.way(), z_m=way_m, zoom=-0.4 * way_m)
