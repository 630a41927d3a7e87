"""The pose of a small picture by direct alignment with the source, of which the true depth is known.

Shapes: N points, pictures H W 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.camera.geometry import Pose, exponential, logarithm
from engine.eval.camera_view import Floats, Projection, View, depth_edges, moved
from engine.frames import Pixels

BLURS_PX = (6.0, 3.0, 1.5, 0.7, 0.4)  # coarse to fine, for a picture of 112 pixels' width
BLUR_WIDTH = 112
FINE = 2  # the blur to begin with where coarse ones mislead: they mix what is near with what it hides
STEPS = 10  # of Gauss-Newton for each blur, at most
SMALL_STEP, LARGEST_STEP = 1e-4, 0.3  # radians, and shares of the distance
COARSE_BLUR_PX, COARSE_EVERY = 3.0, 4  # from this blur on, every fourth point will do
DAMPING = 1e-3  # of the diagonal (Levenberg and Marquardt): some scenes tell zoom from forward only faintly
OUTLIER = 4.685  # Tukey's, in standard deviations: 95 % efficient for Gaussian errors
NOISE_FLOOR = 1.0  # code values: below it no residual is an outlier
STARTS = (1.0, 0.75, 0.5, 0.25, 0.0)  # shares of the move asked for; the last is no move at all
SURE_AGREEMENT = 0.98  # nothing better is looked for
LEAST_OVERLAP = 0.2  # of the picture, in both directions
HOPELESS_AGREEMENT = 0.3  # of coarse pictures
LEAST_AGREEMENT = 0.7  # correlation of what was aligned; other scenes' pictures reach about 0.5
EXPLAINED_CODES = 12.0


def align(view: View, picture: Pixels, wanted: Pose) -> Pose | None:
    """Direct alignment: Gauss-Newton on pose, zoom and brightness, from coarse to fine, with outliers
    weighted down (Kerl et al., *Robust Odometry Estimation for RGB-D Cameras*, eqs. 5 to 15).
    """
    levels = _levels(view, picture)
    best: tuple[float, Pose] | None = None
    for share, coarsest in product(STARTS, (0, FINE)):
        found = _descended(levels[coarsest:], _part_of(wanted, share))
        if found is None:
            continue
        agreement = _agreement(levels[-1], found)
        score = agreement * _explained(levels[-1], found)
        if agreement >= LEAST_AGREEMENT and (best is None or score > best[0]):
            best = score, found
        if agreement >= SURE_AGREEMENT:
            break
    return None if best is None else best[1]


def _part_of(wanted: Pose, share: float) -> Pose:
    """A camera that went only some of the way."""
    x, y, z = (share * v for v in logarithm(wanted.rotation))
    tx, ty, tz = (share * v for v in wanted.translation)
    return Pose(exponential((x, y, z)), (tx, ty, tz), wanted.zoom**share)


def _points(view: View) -> Floats:
    """Every pixel of the source in its camera's axes, in subject's distances: N 3."""
    i = view.intrinsics
    y, x = np.mgrid[: i.height, : i.width].reshape(2, -1)
    depth = 1 / np.maximum(view.inverse_depth.reshape(-1).astype(np.float64) * view.distance_m, 1e-3)
    return np.stack([(x - i.cx) / i.fx * depth, (y - i.cy) / i.fy * depth, depth], axis=1)


def _luma(picture: Pixels, blur_px: float) -> Floats:
    luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(luma, (0, 0), blur_px))


@dataclass(frozen=True, slots=True)
class _Level:
    """The source's points with their brightness N, and the picture H W with its slopes, blurred alike."""

    problem: Projection
    shown: Floats
    picture: Floats
    slopes: tuple[Floats, Floats]


def _levels(view: View, picture: Pixels) -> list[_Level]:
    """From coarse, with some of the points, to fine, with all of them."""
    points, known = _points(view), ~depth_edges(view.inverse_depth).reshape(-1)
    found = []
    for blur in BLURS_PX:
        blur_px = blur * view.intrinsics.width / BLUR_WIDTH
        every = COARSE_EVERY if blur >= COARSE_BLUR_PX else 1
        blurred = _luma(picture, blur_px)
        x, y = (
            np.asarray(cv2.Sobel(blurred, cv2.CV_32F, dx, 1 - dx, scale=1 / 8), np.float32) for dx in (1, 0)
        )
        shown = _luma(view.source, blur_px).reshape(-1)[known][::every]
        found.append(_Level(Projection(view, points[known][::every]), shown, blurred, (x, y)))
    return found


def _descended(levels: Sequence[_Level], pose: Pose) -> Pose | None:
    """None where even the coarse pictures have nothing in common."""
    for number, level in enumerate(levels):
        for _ in range(STEPS):
            step = _step(level, pose)
            if step is None:
                return None
            pose = moved(pose, step, level.problem.view.distance_m)
            if np.abs(step).max() < SMALL_STEP:
                break
        if number == 1 and _agreement(level, pose) < HOPELESS_AGREEMENT:
            return None
    return pose


def _step(level: _Level, pose: Pose) -> Floats | None:
    """One of Gauss-Newton: translation 3 and rotation 3 in the virtual camera's axes, and log zoom."""
    problem = level.problem
    local, pixels, seen = problem.project(pose)
    if seen.mean() < LEAST_OVERLAP / 2:
        return None
    local, at = local[seen], pixels[seen].astype(np.float32)
    found, slope_x, slope_y = (_sampled(plane, at) for plane in (level.picture, *level.slopes))
    shown = level.shown[seen]
    x, y, z = local.T
    fx, fy = (f * pose.zoom for f in (problem.view.intrinsics.fx, problem.view.intrinsics.fy))
    gx, gy = slope_x * fx / z, slope_y * fy / z
    gz = -(gx * x + gy * y) / z
    # columns: the six of an infinitesimal rigid move of the points, log zoom, and gain and offset of
    # brightness
    jacobian = np.stack(
        [
            gx,
            gy,
            gz,
            gz * y - gy * z,
            gx * z - gz * x,
            gy * x - gx * y,
            gx * x + gy * y,
            -shown,
            -np.ones_like(shown),
        ],
        axis=1,
    )
    gain, offset = _brightness(shown, found)
    residual = found - gain * shown - offset
    spread = max(NOISE_FLOOR, 1.4826 * float(np.median(np.abs(residual))))
    weight = np.clip(1 - (residual / (OUTLIER * spread)) ** 2, 0, None) ** 2
    normal = jacobian.T @ (weight[:, None] * jacobian)
    normal += np.diag(DAMPING * np.diag(normal) + 1e-9)
    step: Floats = np.linalg.solve(normal, -jacobian.T @ (weight * residual))
    largest = np.abs(step[:7]).max()
    return np.asarray(step[:7] * min(1.0, LARGEST_STEP / max(largest, 1e-12)))


def _brightness(shown: Floats, found: Floats) -> tuple[float, float]:
    """Gain and offset that make the source's pixels most like the picture's."""
    centred = shown - shown.mean()
    power = float(centred @ centred)
    gain = float(centred @ (found - found.mean())) / power if power > 0 else 1.0
    gain = min(2.0, max(0.5, gain))
    return gain, float(found.mean() - gain * shown.mean())


def _agreement(level: _Level, pose: Pose) -> float:
    """Correlation where the two overlap; 0 if they hardly do."""
    problem, picture = level.problem, level.picture
    _, pixels, seen = problem.project(pose)
    cells = np.unique((pixels[seen] / (problem.view.intrinsics.width / 16)).astype(int), axis=0)
    covered = len(cells) / (16 * math.ceil(16 * picture.shape[0] / picture.shape[1]))
    if min(seen.mean(), covered) < LEAST_OVERLAP:
        return 0.0
    shown = level.shown[seen]
    found = _sampled(picture, pixels[seen].astype(np.float32))
    if min(shown.std(), found.std()) < 1:
        return 0.0
    return float(np.corrcoef(shown, found)[0, 1])


def _explained(level: _Level, pose: Pose) -> float:
    """The share of the source's points that the picture shows with their brightness: of two poses that agree,
    the one with less out of view is right.
    """
    _, pixels, seen = level.problem.project(pose)
    shown = level.shown[seen]
    found = _sampled(level.picture, pixels[seen].astype(np.float32))
    gain, offset = _brightness(shown, found)
    return float((np.abs(found - gain * shown - offset) < EXPLAINED_CODES).sum() / len(seen))


def _sampled(plane: NDArray[np.integer | np.floating], at: Floats) -> Floats:
    """Bilinear values at N 2 pixel positions."""
    values = cv2.remap(
        plane, at[None, :, 0], at[None, :, 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(values[0], np.float64)
