"""What is evaluated: anything that turns a `Shot` into frames, one after another. Knows nothing of figures.

Wraps engines (the live path's own protocol, step by step) so that what is measured is what goes on air.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from engine.camera.geometry import (
    Intrinsics,
    Matrix,
    Pose,
    conjugate,
    multiply,
    plane_homography,
)
from engine.engines.base import Engine, EngineSettings
from engine.eval.cases import Case, Shot
from engine.frames import Pixels


class Method(Protocol):
    """``remembers``: a frame depends on the frames around it, so that the length matters. ``streams``: on
    none of the future and with a bounded memory, so that it can run for hours.
    """

    name: str
    about: str
    remembers: bool
    streams: bool

    def render(self, shot: Shot) -> Iterator[Pixels]:
        """One frame for each of the shot's, at the shot's size, as soon as it is there. What is slow and
        needs no frame (loading, compiling) is done before the first is asked for.
        """


class Oracle(Protocol):
    """Knows the answer: no method, but a bound for some of them."""

    name: str
    about: str

    def render(self, case: Case) -> Iterator[Pixels]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """Of one shot on this machine, without loading. ``first_s`` is from the first frame given to the first
    frame got; ``frame_s`` the median over what came after, or of the whole where all came at once.
    """

    first_s: float
    frame_s: float


def render_timed(method: Method, shot: Shot) -> tuple[Sequence[Pixels], Timing]:
    """All frames of a shot, and how long they took."""
    rendering = method.render(shot)
    frames: list[Pixels] = []
    arrivals = [time.perf_counter()]
    for frame in rendering:
        frames.append(frame)
        arrivals.append(time.perf_counter())
    if len(frames) != len(shot):
        raise ValueError(f"{method.name} made {len(frames)} frames of {len(shot)}")
    return frames, _timing(arrivals)


def _timing(arrivals: Sequence[float]) -> Timing:
    """Frames of a chunk arrive together: a step is a wait, shared by the frames that it brought."""
    first_s, total_s = arrivals[1] - arrivals[0], arrivals[-1] - arrivals[0]
    waits = np.diff(arrivals[1:])
    if total_s < 2 * first_s or len(waits) < 3:  # all at once, or too few to tell
        return Timing(first_s=first_s, frame_s=total_s / (len(arrivals) - 1))
    steps = np.flatnonzero(waits > 0.1 * waits.max())
    frames_per_step = max(1.0, (len(waits) - steps[0]) / len(steps))
    return Timing(first_s=first_s, frame_s=float(np.median(waits[steps]) / frames_per_step))


EngineMaker = Callable[[EngineSettings], Engine]


class EngineMethod:
    """An engine of the live path; a picture of another pose than asked for is reprojected, as on air."""

    remembers = True
    streams = True

    def __init__(self, name: str, about: str, make: EngineMaker, settings: Callable[[Shot], EngineSettings]):
        self.name = name
        self.about = about
        self._make = make
        self._settings = settings

    def render(self, shot: Shot) -> Iterator[Pixels]:
        engine = self._make(self._settings(shot))
        engine.warmup(lambda share, what: None)
        return self._stepped(engine, shot)

    def _stepped(self, engine: Engine, shot: Shot) -> Iterator[Pixels]:
        size = engine.size or shot.size
        last = len(shot) - 1
        for start in range(0, len(shot), engine.chunk):
            places = [min(start + k, last) for k in range(engine.chunk)]
            frames = [resized(shot.source[place], size) for place in places]
            rendered = engine.step(frames, [shot.poses[place] for place in places])
            for place, one in zip(places[: last - start + 1], rendered, strict=False):
                pixels = resized(one.pixels, shot.size)
                yield reprojected(
                    pixels, shot.lenses[place], one.pose, shot.poses[place], shot.distances_m[place]
                )


def engine_settings(name: str, shot: Shot, **extra: object) -> EngineSettings:
    """As an operator would set them: the lens and the subject's distance at the beginning."""
    width, height = shot.size
    return EngineSettings(
        name=name,
        size=shot.size,
        horizontal_fov=2 * math.atan(width / 2 / shot.lenses[0].fx),
        subject_distance_m=float(shot.distances_m[0]),
        aspect=width / height,
        **extra,  # type: ignore[arg-type]
    )


def reprojected(pixels: Pixels, lens: Intrinsics, shown: Pose, wanted: Pose, distance_m: float) -> Pixels:
    """From one pose to another, by a plane at the subject's distance: what the compositor does."""
    if shown == wanted:
        return pixels
    return warped(pixels, plane_homography(lens.zoomed(shown.zoom), lens, between(shown, wanted), distance_m))


def between(shown: Pose, wanted: Pose) -> Pose:
    """``wanted`` relative to ``shown``, with its own zoom."""
    back = Pose(conjugate(shown.rotation))
    way = back.matrix() @ (np.array(wanted.translation) - shown.translation)
    return Pose(multiply(back.rotation, wanted.rotation), tuple(way.tolist()), wanted.zoom)


def warped(pixels: Pixels, homography: Matrix) -> Pixels:
    """Source pixels → the same size, cubic; beyond the source's edge its last pixels go on."""
    if np.allclose(homography / homography[2, 2], np.eye(3), rtol=0, atol=1e-9):
        return pixels
    height, width = pixels.shape[:2]
    return np.asarray(
        cv2.warpPerspective(
            pixels, homography, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        ),
        np.uint8,
    )


def resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    if (pixels.shape[1], pixels.shape[0]) == size:
        return pixels
    way = cv2.INTER_AREA if size[0] < pixels.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, size, interpolation=way), np.uint8)
