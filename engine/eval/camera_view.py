"""The source of one instant with its true depth, and its points as seen from any pose.

Shapes: N points; pictures H W 3; depth is inverse (1/m) along the optical axis, 0 = infinitely far.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.camera.geometry import Intrinsics, Pose, exponential, multiply
from engine.frames import Pixels

Floats = NDArray[np.floating]

EDGE = 0.1  # of the depth, between neighbours
LARGEST_ZOOM = 4.0


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """The source of one instant with its true depth, and the lens before the zoom of whoever looks at it."""

    source: Pixels
    inverse_depth: Floats
    intrinsics: Intrinsics
    distance_m: float  # of the subject: the scale of translations


@dataclass(frozen=True, slots=True)
class Projection:
    """The points, projected into a picture at any pose."""

    view: View
    points: Floats  # N 3

    def project(self, pose: Pose) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """In the virtual camera's axes N 3, in its pixels N 2, and which of them it sees."""
        i = self.view.intrinsics
        centre = np.array(pose.translation) / self.view.distance_m
        local = (self.points - centre) @ pose.matrix()
        depth = np.where(local[:, 2] > 0.02, local[:, 2], np.inf)
        pixels = np.stack(
            [
                i.fx * pose.zoom * local[:, 0] / depth + i.cx,
                i.fy * pose.zoom * local[:, 1] / depth + i.cy,
            ],
            axis=1,
        )
        inside = (pixels >= 0).all(axis=1) & (pixels <= (i.width - 1, i.height - 1)).all(axis=1)
        seen = inside & np.isfinite(depth)
        seen[seen] = ~self._hidden(pixels[seen], depth[seen])
        return local, pixels, seen

    def _hidden(self, pixels: Floats, depth: Floats) -> NDArray[np.bool_]:
        """Points that lie behind others: a depth buffer of whole pixels, its holes closed."""
        i = self.view.intrinsics
        column, row = np.rint(pixels).astype(int).T
        nearest = np.full((i.height, i.width), np.inf, np.float32)
        np.minimum.at(nearest, (row, column), depth.astype(np.float32))
        front = cv2.erode(nearest, np.ones((3, 3), np.uint8))
        return np.asarray(depth > (1 + EDGE) * front[row, column])


def moved(pose: Pose, step: Floats, distance_m: float) -> Pose:
    """The points move by ``step`` in the virtual camera's axes, so the camera moves the other way."""
    rotation = np.array(multiply(pose.rotation, exponential(tuple(-step[3:6]))))
    turned = Pose(tuple((rotation / np.linalg.norm(rotation)).tolist()))
    place = np.array(pose.translation) - turned.matrix() @ step[:3] * distance_m
    zoom = float(np.clip(pose.zoom * math.exp(step[6]), 1 / LARGEST_ZOOM, LARGEST_ZOOM))
    return Pose(turned.rotation, tuple(place.tolist()), zoom)


def depth_edges(inverse_depth: Floats) -> NDArray[np.bool_]:
    """H W: pixels that mix near and far, or may be hidden by the smallest move."""
    near = inverse_depth.astype(np.float32)
    window = np.ones((5, 5), np.uint8)
    return np.asarray(cv2.dilate(near, window) - cv2.erode(near, window) > EDGE * near)
