"""What the warps of pictures share: shrinking, filling gaps, and memory that is kept.

Knows nothing of depth or cameras. Shapes: H W a picture's rows and columns, h w a small one's.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# OpenCV's stubs do not say what kind of numbers come back.
Bytes = NDArray[Any]  # uint8
Floats = NDArray[Any]  # float32
Mask = NDArray[np.bool_]
Size = tuple[int, int]  # width, height
Corner = tuple[int, int]  # row, column
Part = tuple[slice, slice]  # rows and columns of a picture

ENLARGE = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


class Buffers:
    """Arrays by use, the same at every frame: fresh megabytes cost more than the arithmetic done in them."""

    def __init__(self) -> None:
        self._kept: dict[str, Bytes] = {}

    def bytes(self, use: str, *shape: int) -> Bytes:
        """uint8, with whatever was in it. Larger arrays are kept for smaller ones of the same use."""
        return self._array(use, shape, 1).view(np.uint8)

    def floats(self, use: str, *shape: int) -> Floats:
        return self._array(use, shape, 4).view(np.float32)

    def _array(self, use: str, shape: tuple[int, ...], itemsize: int) -> Bytes:
        wanted = math.prod(shape) * itemsize
        kept = self._kept.get(use)
        if kept is None or kept.size < wanted:
            kept = self._kept[use] = np.empty(wanted, np.uint8)
        return kept[:wanted].reshape(*shape[:-1], shape[-1] * itemsize)


def shrunk(picture: Bytes, size: Size) -> Bytes:
    """The averages over a grid of ``size``; halving is what OpenCV does fast."""
    while picture.shape[1] >= 2 * size[0] and picture.shape[0] % 2 == picture.shape[1] % 2 == 0:
        half = (picture.shape[1] // 2, picture.shape[0] // 2)
        picture = cv2.resize(picture, half, interpolation=cv2.INTER_AREA)
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def around(cells: Mask, size: Size) -> Part | None:
    """The part of a picture of ``size`` that holds all that is enlarged from these cells h w; None: there are
    none.
    """
    left, top, wide, tall = cv2.boundingRect(cells.view(np.uint8))
    if not wide:
        return None
    height, width = cells.shape
    across, down = size[0] / width, size[1] / height
    return (
        slice(max(0, math.floor((top - 1) * down)), min(size[1], math.ceil((top + tall + 1) * down))),
        slice(max(0, math.floor((left - 1) * across)), min(size[0], math.ceil((left + wide + 1) * across))),
    )


def enlarged_in(values: Bytes, size: Size, part: Part) -> Bytes:
    """What ``values`` h w … enlarged to a picture of ``size`` have in that part of it."""
    height, width = values.shape[:2]
    across, down = width / size[0], height / size[1]
    rows, columns = part
    there = np.array(
        [
            [across, 0, (columns.start + 0.5) * across - 0.5],
            [0, down, (rows.start + 0.5) * down - 0.5],
        ]
    )
    of = (columns.stop - columns.start, rows.stop - rows.start)
    return cv2.warpAffine(values, there, of, flags=ENLARGE, borderMode=cv2.BORDER_REPLICATE)


def fetched(
    picture: Bytes | Floats, positions: Floats, border: int = cv2.BORDER_REPLICATE, out: Bytes | None = None
) -> Bytes | Floats:
    """H W …: ``picture`` at positions (x, y) H W 2, into ``out`` if it is given."""
    return cv2.remap(picture, positions, None, cv2.INTER_LINEAR, dst=out, borderMode=border)  # type: ignore[call-overload,no-any-return]


def multiplied(picture: Bytes, weights: Bytes, out: Bytes) -> Bytes:
    """H W 4 by weights H W of 0…255: exact where they are 0 or 255, within one level between."""
    wide = cv2.merge([weights] * 4)
    return cv2.multiply(picture, wide, dst=out, scale=1 / 255)


def weighted(values: Floats, weights: Floats) -> Floats:
    """h w c by h w; numpy's broadcasting over a short last axis is many times slower."""
    channels = values.shape[2]
    return values * cv2.merge([weights] * channels).reshape(values.shape)


def blended(values: Floats, others: Floats, share: Floats) -> Floats:
    """``others`` as far as ``share`` h w says, else ``values``; both h w c."""
    return values + weighted(others - values, share)


def push_pull(values: Floats, weights: Floats, relaxations: int = 0) -> Floats:
    """``values`` h w c where ``weights`` h w is 1; elsewhere smooth values from around there.

    Gortler et al., *The Lumigraph* (1996), section 3.4: averages on ever coarser grids, and from the
    coarsest back, each hole takes what the next coarser grid has for it. With some ``relaxations`` on each
    grid it comes near to the membrane over its rim (Laplace's equation): there is no edge there.
    """
    height, width = weights.shape
    if min(height, width) <= 3 or weights.min() >= 1:
        mean = weights.ravel() @ values.reshape(weights.size, -1) / max(float(weights.sum()), 1e-6)
        return mean + weighted(values - mean, weights)
    half = ((width + 1) // 2, (height + 1) // 2)
    known = cv2.resize(weights, half, interpolation=cv2.INTER_AREA)
    sums = cv2.resize(weighted(values, weights), half, interpolation=cv2.INTER_AREA)
    averages = weighted(sums.reshape(half[1], half[0], -1), 1 / np.maximum(known, np.float32(1e-6)))
    coarse = push_pull(averages, np.minimum(2 * known, 1), relaxations)
    found = blended(cv2.resize(coarse, (width, height)).reshape(values.shape), values, weights)
    for _ in range(relaxations):
        found = blended(cv2.blur(found, (3, 3)).reshape(values.shape), values, weights)
    return found


def smooth_around(values: Floats, weights: Floats) -> Floats:
    """The same found at half the size: h w c, smooth everywhere."""
    half = push_pull(values[::2, ::2], np.ascontiguousarray(weights[::2, ::2]))
    return cv2.resize(half, values.shape[1::-1]).reshape(values.shape)
