"""From a camera's inverse depth to another camera's view: which source pixel each target pixel shows.

The geometry is splatted with a z-buffer on a small grid; the pictures are then fetched through the positions
that come of it, so their sharpness does not depend on the grid's. Knows nothing of colours, layers or time.

Inverse depth is 1/z in 1/m, z along the optical axis; 0 means that there is nothing (what is infinitely far
has ``FARTHEST``). Shapes: h w rows and columns of a grid.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.camera.geometry import Intrinsics, Matrix, Pose, plane_homography
from engine.geometry.pictures import Floats, Mask, Size

FARTHEST = 1e-4  # 1/m; stands for infinity, as 0 stands for nothing
STILL_M = 1e-6
NEAREST_PASS = 0.05  # of a point's distance: what is left of it when the camera has all but reached it
SAME_SURFACE = 0.1  # inverse depths that differ by less, relatively, are of one surface
SPARE_DENSITY = 1.25  # source samples per target cell and axis, so that a surface has no cracks
COARSEST = 4.0  # times coarser than the source: what is magnified more may have cracks
REFINEMENTS = 1
STEP_SHARE, STEP_DEPTH = 0.25, 0.1  # an edge is steeper: relative to its near side, and in 1/m
STEP_REACH = np.ones((7, 7), np.uint8)  # cells that a network's edge is smeared over
FAR_OUTSIDE = -1e4
CRACK = np.ones((3, 3), np.uint8)


@dataclass(frozen=True, slots=True)
class Projection:
    """Pixels and inverse depth of one camera → pixels of another: q = turn·(x, y, 1) + shift·d.

    q₁/q₃ and q₂/q₃ are the pixel, d/q₃ its inverse depth there (Hartley and Zisserman, *Multiple View
    Geometry*, eq. 9.7). Where there is no translation, shift is 0 and turn the homography.
    """

    turn: Matrix
    shift: NDArray[np.float64]

    @classmethod
    def between(cls, source: Intrinsics, target: Intrinsics, pose: Pose) -> Projection:
        """Source → target; ``target`` is already zoomed."""
        turn = target.matrix() @ pose.matrix().T
        return cls(turn @ source.inverse(), -turn @ np.array(pose.translation))

    @classmethod
    def back(cls, source: Intrinsics, target: Intrinsics, pose: Pose) -> Projection:
        """Target → source."""
        turn = source.matrix() @ pose.matrix() @ target.inverse()
        return cls(turn, source.matrix() @ np.array(pose.translation))

    def at(self, inverse_depth: float) -> Matrix:
        """The homography of the plane that is as near everywhere."""
        homography: Matrix = self.turn.copy()
        homography[:, 2] += inverse_depth * self.shift
        return homography

    def apply(self, inverse_depth: Floats, corner: tuple[int, int] = (0, 0)) -> tuple[Floats, Floats, Floats]:
        """x and y of every pixel of the grid in the other camera, and q₃; x and y mean nothing if q₃ ≤ 0.
        ``corner``: the grid's first row and column, where only a part of it is given.
        """
        turn = self.turn.copy()
        turn[:, 2] += turn[:, 0] * corner[1] + turn[:, 1] * corner[0]
        q = np.multiply.outer(self.shift.astype(np.float32), inverse_depth.ravel())
        q += _turned_pixels(turn.tobytes(), *inverse_depth.shape)
        q1, q2, q3 = q.reshape(3, *inverse_depth.shape)
        q3[np.abs(q3) < 1e-6] = 1e-6
        return q1 / q3, q2 / q3, q3


@lru_cache(maxsize=8)
def _turned_pixels(turn: bytes, height: int, width: int) -> Floats:
    """3 by h·w: a matrix times every pixel; within a frame, the same again and again."""
    turned: Floats = np.frombuffer(turn).reshape(3, 3).astype(np.float32) @ _pixels(height, width)
    return turned


@lru_cache(maxsize=32)
def _pixels(height: int, width: int) -> Floats:
    """3 by h·w: x, y and 1 of every pixel."""
    y, x = np.indices((height, width), np.float32)
    return np.stack([x.ravel(), y.ravel(), np.ones(height * width, np.float32)])


def is_still(pose: Pose) -> bool:
    """Whether the camera only turns and zooms."""
    return max(abs(part) for part in pose.translation) < STILL_M


def still(pose: Pose) -> Pose:
    """The same rotation and zoom from where the real camera is."""
    return replace(pose, translation=(0.0, 0.0, 0.0))


def rotation_homography(source: Intrinsics, target: Intrinsics, pose: Pose) -> Matrix:
    """Source pixels → target pixels for rotation and zoom alone; ``target`` is not zoomed yet."""
    return plane_homography(source, target, still(pose), 1.0)


def target_cell(cell: float, pose: Pose, near: float) -> int:
    """Pixels along a cell of a grid over the target's picture, coarse enough for splats without cracks.

    ``cell``: of the source's grid; ``near``: the inverse depth of the subject, which the camera's approach
    magnifies.
    """
    approach = max(1 - pose.translation[2] * near, NEAREST_PASS)
    coarser = SPARE_DENSITY * min(max(1.0, pose.zoom / approach), COARSEST)
    return max(1, round(cell * coarser))


def sharpened(inverse_depth: Floats) -> Floats:
    """Smeared edges made steps: what lies between near and far is of neither, and would hang in shreds."""
    near, far = cv2.dilate(inverse_depth, STEP_REACH), cv2.erode(inverse_depth, STEP_REACH)
    step = near - far
    edge = (step > STEP_SHARE * near) & (step > STEP_DEPTH)
    nearer = 2 * inverse_depth > near + far
    return np.where(edge, np.where(nearer, near, far), inverse_depth)


def splat(inverse_depth: Floats, forward: Projection, size: Size, keep: Mask | None = None) -> Floats:
    """The target's inverse depth on its grid of ``size`` (width, height): the nearest of what falls into a
    cell, 0 where nothing does. ``keep`` h w: which source pixels take part.
    """
    corner = (0, 0)
    if keep is not None:
        left, top, columns, rows = cv2.boundingRect(keep.view(np.uint8))
        corner = (top, left)
        part = (slice(top, top + rows), slice(left, left + columns))
        inverse_depth, keep = inverse_depth[part], keep[part]
    width, height = size
    x, y, passed = forward.apply(inverse_depth, corner)
    inside = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5) & (passed > NEAREST_PASS)
    inside &= inverse_depth > 0
    if keep is not None:
        inside &= keep
    cell = np.rint(y[inside]).astype(np.intp) * width + np.rint(x[inside]).astype(np.intp)
    nearest = np.zeros(width * height, np.float32)
    np.maximum.at(nearest, cell, inverse_depth[inside] / passed[inside])
    # closing fills the cracks of stretched surfaces, and keeps the edges where they are
    closed = cv2.morphologyEx(nearest.reshape(height, width), cv2.MORPH_CLOSE, CRACK)
    return closed


def refine(target: Floats, inverse_depth: Floats, back: Projection) -> Floats:
    """Inverse depth of the target at its cells' very middles.

    A splat is up to half a cell beside its cell's middle. Looking up the source's inverse depth where
    the middle comes from, again and again, ends at the surface; a step to another surface is not taken.
    """
    for _ in range(REFINEMENTS):
        x, y, passed = back.apply(target)
        there = cv2.remap(inverse_depth, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        found = there * passed  # d_source = d_target / q₃
        same = (np.abs(found - target) < SAME_SURFACE * target) & (passed > 0)
        target = np.where(same, found, target)
    return target


def source_positions(target: Floats, back: Projection) -> Floats:
    """h w 2: the source grid's x and y for every cell; far outside where the surface is behind the source."""
    x, y, passed = back.apply(target)
    behind = passed <= 0
    if behind.any():
        x[behind] = y[behind] = FAR_OUTSIDE
    return np.asarray(cv2.merge([x, y]), np.float32)


def plane_positions(inverse_depth: float, forward: Projection, size: Size) -> Floats:
    """The same for a target's grid of ``size`` if the source is as near everywhere."""
    back = Projection(np.asarray(np.linalg.inv(forward.at(inverse_depth)), np.float64), np.zeros(3))
    return source_positions(np.zeros(size[::-1], np.float32), back)


def in_picture(positions: Floats, grid: Size, size: Size, corner: tuple[int, int] = (0, 0)) -> Floats:
    """Positions on a source grid → positions in its picture of ``size``, or in the part of it that begins at
    the row and column ``corner``.
    """
    across, down = np.float32(size[0] / grid[0]), np.float32(size[1] / grid[1])
    x, y = cv2.split(positions)
    x = x * across + np.float32((across - 1) / 2 - corner[1])
    y = y * down + np.float32((down - 1) / 2 - corner[0])
    return np.asarray(cv2.merge([x, y]), np.float32)
