"""The pose of a large picture, by features that it shares with the source, of which the true depth is known.

Shapes: N points, pictures H W 3.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.camera.geometry import Intrinsics, Matrix, Pose, conjugate, exponential
from engine.eval.camera_view import Floats, Projection, View, depth_edges, moved
from engine.frames import Pixels

FEATURES = 4000
CONTRAST = 0.01  # a quarter of SIFT's usual: rendered walls are smooth
RATIO = 0.8  # of Lowe's test
REPROJECTION_PX = 2.0  # at a width of 1280
LEAST_MATCHES = 24
STEPS, SMALL_STEP = 15, 1e-6  # of the refinement


def match(view: View, picture: Pixels, wanted: Pose) -> Pose | None:
    """Features matched and lifted by the true depth; pose from points (RANSAC), refined with the zoom."""
    sift = cv2.SIFT.create(FEATURES, contrastThreshold=CONTRAST)
    ours, theirs = (
        sift.detectAndCompute(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), None) for p in (view.source, picture)
    )
    pairs = _matched(ours, theirs)
    if len(pairs[0]) < LEAST_MATCHES:
        return None
    points, known = _lifted(view, pairs[0])
    points, seen = points[known], pairs[1][known]
    threshold = REPROJECTION_PX * view.intrinsics.width / 1280
    best: tuple[int, Pose, NDArray[np.intp]] | None = None
    for zoom in dict.fromkeys((wanted.zoom, 1.0)):
        found = _pose_from_points(points, seen, view.intrinsics.zoomed(zoom), threshold, zoom)
        if found is not None and (best is None or len(found[1]) > best[0]):
            best = len(found[1]), *found
    if best is None or best[0] < LEAST_MATCHES:
        return None
    return _refined(view, points[best[2]], seen[best[2]], best[1])


def _matched(ours: tuple[Any, Any], theirs: tuple[Any, Any]) -> tuple[Floats, Floats]:
    """Positions N 2 in the source and in the picture of the features that are each other's best."""
    none = np.empty((0, 2))
    if ours[1] is None or theirs[1] is None or min(len(ours[1]), len(theirs[1])) < 2:
        return none, none
    matcher = cv2.BFMatcher(cv2.NORM_L2)
    there = [
        pair[0]
        for pair in matcher.knnMatch(ours[1], theirs[1], k=2)
        if len(pair) == 2 and pair[0].distance < RATIO * pair[1].distance
    ]
    back = {m.trainIdx: m.queryIdx for m in matcher.match(theirs[1], ours[1])}
    back = {theirs_: ours_ for ours_, theirs_ in back.items()}
    mutual = [m for m in there if back.get(m.trainIdx) == m.queryIdx]
    return (
        np.array([ours[0][m.queryIdx].pt for m in mutual]).reshape(-1, 2),
        np.array([theirs[0][m.trainIdx].pt for m in mutual]).reshape(-1, 2),
    )


def _lifted(view: View, pixels: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Points in metres, and which of them have a depth that is finite and not at an edge."""
    i = view.intrinsics
    at = np.rint(pixels).astype(int)
    value = view.inverse_depth[at[:, 1], at[:, 0]].astype(np.float64)
    edge = depth_edges(view.inverse_depth)[at[:, 1], at[:, 0]]
    depth = 1 / np.maximum(value, 1e-6)
    points = np.stack(
        [(pixels[:, 0] - i.cx) / i.fx * depth, (pixels[:, 1] - i.cy) / i.fy * depth, depth], axis=1
    )
    return points, (value > 1e-3) & ~edge


def _pose_from_points(
    points: Floats, seen: Floats, lens: Intrinsics, threshold: float, zoom: float
) -> tuple[Pose, NDArray[np.intp]] | None:
    if len(points) < LEAST_MATCHES:
        return None
    cv2.setRNGSeed(0)
    ok, turn, shift, inliers = cv2.solvePnPRansac(
        points, seen, lens.matrix(), None, reprojectionError=threshold, iterationsCount=500, confidence=0.999
    )
    if not ok or inliers is None:
        return None
    return _from_opencv(np.ravel(turn), np.ravel(shift), zoom), np.ravel(inliers).astype(np.intp)


def _refined(view: View, points: Floats, seen: Floats, pose: Pose) -> Pose:
    """Gauss-Newton on the reprojection error of the inliers, with the zoom free."""
    problem = Projection(view, points / view.distance_m)
    for _ in range(STEPS):
        local, pixels, _ = problem.project(pose)
        x, y, z = local.T
        fx, fy = view.intrinsics.fx * pose.zoom / z, view.intrinsics.fy * pose.zoom / z
        zero = np.zeros_like(x)
        across = np.stack(
            [fx, zero, -fx * x / z, -fx * x * y / z, fx * (z + x * x / z), -fx * y, fx * x], axis=1
        )
        down = np.stack(
            [zero, fy, -fy * y / z, -fy * (z + y * y / z), fy * x * y / z, fy * x, fy * y], axis=1
        )
        jacobian = np.concatenate([across, down])
        residual = np.concatenate([pixels[:, 0] - seen[:, 0], pixels[:, 1] - seen[:, 1]])
        normal = jacobian.T @ jacobian
        step = np.linalg.solve(normal + np.diag(1e-6 * np.diag(normal)), -jacobian.T @ residual)
        pose = moved(pose, step, view.distance_m)
        if np.abs(step).max() < SMALL_STEP:
            break
    return pose


def _from_opencv(turn: Floats, shift: Floats, zoom: float) -> Pose:
    """OpenCV's pose takes points to the camera; ours takes the camera's points back."""
    rotation = conjugate(exponential(tuple(turn.tolist())))
    place: Matrix = -Pose(rotation).matrix() @ shift
    return Pose(rotation, tuple(place.tolist()), zoom)
