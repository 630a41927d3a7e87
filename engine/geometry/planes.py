"""A room is made of planes: inverse depth, drawn to the few planes that explain it within its own error.

The inverse depth of a plane is affine in the pixel, so what lies on one has straight lines that stay straight
from wherever they are seen, however much the depth that was guessed for it wobbles. What stands out by more
than the guess may be off keeps its own depth, and a depth without error all of it. Knows nothing of pictures.

Shapes: h w the grid's rows and columns, c the coarser cells that planes are fitted to, K planes.
"""

from __future__ import annotations

import cv2
import numpy as np

from engine.geometry.pictures import Floats, Size

CELLS_ACROSS = 48
PLANES = 5
REACH = 2.5  # times the expected error: what is farther from a plane is not on it
STANDS_OUT = 1.5  # tolerances: what is farther from its neighbours' plane is left alone
LARGEST_ERROR = 0.35  # relative: nothing is so unsure that all of it is one plane
LEAST_SHARE = 0.03  # of the picture that a plane explains
FOLLOW = 0.3  # share of a newly fitted plane in the old one
STEPS = 2  # of reweighted least squares, each time
FIRST_STEPS = 6
REGIONS = ((1, 1), (1, 2), (2, 1), (2, 3), (4, 6))  # rows and columns of what new planes are looked for in
SMOOTHING = (5, 5)  # cells: neighbours are on the same plane


class Planes:
    """For inverse depth on one grid: give it a new one every now and then, ask it to flatten any."""

    def __init__(self, grid: Size) -> None:
        self._grid = grid
        width = min(CELLS_ACROSS, grid[0])
        self._cells = (width, max(2, round(width * grid[1] / grid[0])))
        self._basis = _basis(*self._cells)  # 3 c
        self._products = (self._basis[:, None] * self._basis).reshape(9, -1).T.copy()  # c 9
        self._large_basis = _basis(*grid).reshape(3, *grid[::-1])
        self._regions = _regions(*self._cells)
        self.reset()

    def reset(self) -> None:
        """Forget: the next depth is another picture's."""
        self._planes = np.empty((0, 3), np.float32)
        self._drawn: Floats | None = None  # h w: the planes' inverse depth, times how much they say ...
        self._own: Floats | None = None  # ... and how much is left to say

    def learn(self, inverse_depth: Floats, error: Floats) -> None:
        """Inverse depth and its expected relative error, both h w."""
        depth = cv2.resize(inverse_depth, self._cells, interpolation=cv2.INTER_AREA).ravel()
        off = cv2.resize(error, self._cells, interpolation=cv2.INTER_AREA).ravel()
        tolerance = _tolerance(depth, off)
        is_new = not len(self._planes)
        unexplained = np.ones_like(depth)
        found = []
        for plane in self._planes:
            fitted = self._fitted(plane, depth, tolerance, unexplained, STEPS)
            plane = plane + np.float32(FOLLOW) * (fitted - plane)
            explained = self._off(plane, depth, tolerance) < 1
            if (explained * unexplained).mean() > LEAST_SHARE:
                found.append(plane)
                unexplained[explained] = 0
        while len(found) < PLANES and unexplained.mean() > 2 * LEAST_SHARE:
            plane = self._looked_for(depth, tolerance, unexplained)
            plane = self._fitted(plane, depth, tolerance, unexplained, FIRST_STEPS)
            explained = self._off(plane, depth, tolerance) < 1
            if (explained * unexplained).mean() < 2 * LEAST_SHARE:
                break
            found.append(plane)
            unexplained[explained] = 0
            if not is_new:
                break
        self._planes = np.array(found, np.float32).reshape(-1, 3)
        self._drawn = self._own = None
        if found:
            self._drawn, share = self._mixture(depth, tolerance)
            off = np.abs(self._drawn - inverse_depth) / _tolerance(inverse_depth, error)
            share *= np.clip(2 * (STANDS_OUT - off), 0, 1)
            self._drawn *= share
            self._own = 1 - share

    def flattened(self, inverse_depth: Floats) -> Floats:
        """h w, drawn to the planes that were found."""
        if self._drawn is None or self._own is None:
            return inverse_depth
        flat: Floats = self._drawn + self._own * inverse_depth
        return flat

    def _mixture(self, depth: Floats, tolerance: Floats) -> tuple[Floats, Floats]:
        """h w: the inverse depth of the plane that a cell's neighbours are on, and how much it says here."""
        size = self._cells
        support = np.stack([self._support(plane, depth, tolerance) for plane in self._planes])
        near = np.stack([cv2.blur(one.reshape(size[::-1]), SMOOTHING).ravel() for one in support])
        weights = near**4 + np.float32(1e-12)
        numbers = np.vstack(
            [self._planes.T @ (weights / weights.sum(0)), np.minimum(2 * near.max(0), 1)[None]]
        )
        coarse = cv2.merge([one.reshape(size[::-1]) for one in numbers.astype(np.float32)])
        across, down, level, share = cv2.split(cv2.resize(coarse, self._grid))
        x, y, _ = self._large_basis
        return across * x + down * y + level, share

    def _support(self, plane: Floats, depth: Floats, tolerance: Floats) -> Floats:
        """c: 1 on the plane, 0 at the tolerance (Tukey's biweight)."""
        support: Floats = np.square(np.maximum(1 - np.square(self._off(plane, depth, tolerance)), 0))
        return support

    def _off(self, plane: Floats, depth: Floats, tolerance: Floats) -> Floats:
        """c: how far from the plane, in tolerances."""
        off: Floats = np.abs(plane @ self._basis - depth) / tolerance
        return off

    def _fitted(self, plane: Floats, depth: Floats, tolerance: Floats, share: Floats, steps: int) -> Floats:
        """By iteratively reweighted least squares, starting there."""
        for _ in range(steps):
            weights = self._support(plane, depth, tolerance) * share / np.square(tolerance)
            plane = self._solved(depth, weights[None])[0]
        return plane

    def _looked_for(self, depth: Floats, tolerance: Floats, share: Floats) -> Floats:
        """Of planes through regions of the picture, whichever explains the most of it."""
        weights = share / np.square(tolerance)
        candidates = self._solved(depth, weights * self._regions)
        off = np.abs(candidates @ self._basis - depth) / tolerance
        explained = ((off < 1) * share).sum(1)
        return np.asarray(candidates[explained.argmax()], np.float32)

    def _solved(self, depth: Floats, weights: Floats) -> Floats:
        """n 3: the planes nearest to the depth by n rows of weights c; level where there is no telling."""
        mean = weights.sum(1, keepdims=True) + np.float32(1e-12)
        normal = (weights @ self._products / mean).reshape(-1, 3, 3)
        wanted = (weights * depth) @ self._basis.T / mean
        normal[:, [0, 1], [0, 1]] += 1e-3
        normal[:, 2, 2] += 1e-6
        return np.asarray(np.linalg.solve(normal, wanted[..., None])[..., 0], np.float32)


def _tolerance(inverse_depth: Floats, error: Floats) -> Floats:
    """How far from its plane something on it may be."""
    tolerance: Floats = REACH * np.minimum(error, LARGEST_ERROR) * inverse_depth + np.float32(1e-9)
    return tolerance


def _regions(width: int, height: int) -> Floats:
    """n c: 1 in each part of the grid that planes are looked for in, 0 elsewhere."""
    y, x = np.indices((height, width))
    regions = []
    for rows, columns in REGIONS:
        number = (y * rows // height * columns + x * columns // width).ravel()
        regions.append(number == np.arange(rows * columns)[:, None])
    return np.vstack(regions).astype(np.float32)


def _basis(width: int, height: int) -> Floats:
    """3 h·w: x and y from −1 to 1 across the picture, at the cells' middles, and 1."""
    y, x = np.indices((height, width), np.float32)
    across, down = (2 * x + 1) / width - 1, (2 * y + 1) / height - 1
    return np.stack([across.ravel(), down.ravel(), np.ones(width * height)]).astype(np.float32)
