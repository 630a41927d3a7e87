"""Loop closure: when the camera is back, is the picture back? Measured where the world itself has not
changed.

A closure is two instants at which the target's camera stands at one place with one lens, and between which it
was elsewhere, in forward time. Knows nothing of methods.

Shapes: T frames, H W rows and columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.camera.geometry import logarithm
from engine.data.rig import Rig
from engine.eval.cases import Case, Shot
from engine.eval.metrics import Mask, psnr
from engine.frames import Pixels

Floats = NDArray[np.floating]

SAME_PLACE = 0.004  # of the subject's distance, plus radians, plus the zoom's logarithm: half a pixel
AWAY, FARTHEST = 0.08, 0.6  # of the same; beyond, source and target have little in common
SHORTEST = 8  # frames
STATIC_CODES = 8.0  # the truth's own change, above its noise and compression and below anything that moved
STATIC_BLUR_PX = 1.0
LEAST_STATIC = 64  # pixels
MOST_CLOSURES = 6  # of one case: neighbouring ones say the same


@dataclass(frozen=True, slots=True)
class Closure:
    """``away``: how far the camera went in between, or is from the source's at its ends, the less of both."""

    before: int
    after: int
    away: float


def find_closures(case: Case) -> list[Closure]:
    """The farthest first, at most :data:`MOST_CLOSURES`, no two with an end in common."""
    shot = case.shot
    focals = np.array([lens.fx * pose.zoom for lens, pose in zip(shot.lenses, shot.poses, strict=True)])
    apart = _apart(case.camera_to_world, focals, float(shot.distances_m[0]))
    chosen: list[Closure] = []
    for one in _closures(apart, np.array([_size(case.shot, i) for i in range(len(shot))])):
        ends = {end for other in chosen for end in (other.before, other.after)}
        if len(chosen) < MOST_CLOSURES and not ends & {one.before, one.after}:
            chosen.append(one)
    return chosen


def closing_pair(rig: Rig, frames: int) -> tuple[int, int] | None:
    """Source and target: the target comes back within so many frames, as far from the source's view as may
    be. None if no camera does.

    A loop that closes where the source looks from proves nothing: there the output is the source.
    """
    sizes = rig.move_sizes(range(frames))
    best: tuple[float, tuple[int, int]] | None = None
    for target in range(rig.cameras):
        distance_m = float(rig.subject_distance_m[target, 0])
        apart = _apart(rig.camera_to_world[target, :frames], rig.lenses[target, :frames, 0], distance_m)
        for source in range(rig.cameras):
            found = _closures(apart, sizes[source, target]) if source != target else []
            away = found[0].away if found else 0.0
            if 0 < away <= FARTHEST and (best is None or away > best[0]):
                best = away, (source, target)
    return None if best is None else best[1]


def closure_figures(case: Case, frames: Sequence[Pixels], closures: Sequence[Closure]) -> dict[str, float]:
    """Means over the closures, in dB: the output against itself where the truth stood still (``closure_db``),
    what of it the source never showed (``closure_unseen_db``), the truth against itself there (``truth_db``),
    and the output when back against the truth (``back_db``).
    """
    figures: dict[str, list[float]] = {
        name: [] for name in ("closure_db", "closure_unseen_db", "truth_db", "back_db")
    }
    for one in closures:
        static = static_mask(case.truth[one.before], case.truth[one.after])
        unseen = static & ~case.seen[one.before] & ~case.seen[one.after]
        if static.sum() >= LEAST_STATIC:
            figures["closure_db"].append(psnr(frames[one.after], frames[one.before], static))
            figures["truth_db"].append(psnr(case.truth[one.after], case.truth[one.before], static))
            figures["back_db"].append(psnr(frames[one.after], case.truth[one.after], static))
        if unseen.sum() >= LEAST_STATIC:
            figures["closure_unseen_db"].append(psnr(frames[one.after], frames[one.before], unseen))
    return {name: float(np.mean(found)) if found else float("nan") for name, found in figures.items()}


def static_mask(before: Pixels, after: Pixels) -> Mask:
    """H W: where two true pictures from one place show the same."""
    change = np.abs(before.astype(np.float32) - after).max(axis=2)
    return np.asarray(cv2.GaussianBlur(change, (0, 0), STATIC_BLUR_PX) < STATIC_CODES)


def _closures(apart: Floats, from_source: Floats) -> list[Closure]:
    """All of them, the farthest first."""
    found = []
    for before in range(len(apart)):
        for after in range(before + SHORTEST, len(apart)):
            if apart[before, after] <= SAME_PLACE:
                away = min(apart[before, before:after].max(), from_source[[before, after]].min())
                if away >= AWAY:
                    found.append(Closure(before, after, float(away)))
    return sorted(found, key=lambda one: (-one.away, one.after - one.before, one.before))


def _size(shot: Shot, frame: int) -> float:
    """How different the target's view is from the source's at one instant."""
    pose = shot.poses[frame]
    way = math.hypot(*pose.translation) / shot.distances_m[frame]
    return math.hypot(*logarithm(pose.rotation)) + way + abs(math.log(pose.zoom))


def _apart(camera_to_world: Floats, focals: Floats, distance_m: float) -> Floats:
    """T T: how different the views of any two instants are."""
    rotations, places = camera_to_world[:, :3, :3], camera_to_world[:, :3, 3]
    cosines = (np.einsum("aij,bij->ab", rotations, rotations) - 1) / 2
    ways = np.linalg.norm(places[:, None] - places[None], axis=2) / distance_m
    logs = np.log(focals)
    apart: Floats = np.arccos(np.clip(cosines, -1, 1)) + ways + np.abs(logs[:, None] - logs[None])
    return apart
