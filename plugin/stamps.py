"""The time, drawn into a picture so that it can be read back from any later picture's pixels.

A grey panel in the middle: four coloured discs around two rows of black and white cells. The discs give the
projective map from the panel to the picture that is read, so the stamp survives scaling, 4:2:0 and a camera
move, and tells where its middle went to a fraction of a pixel (0.3 where the view is steep: a disc's image
is not centred on the image of its centre). Knows nothing of sources, sinks or clocks.

Everything is measured in units of 1/64 of the width (or 1/36 of the height, if that is less), from the
middle of the picture. Pixel centres are at whole numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.frames import Pixels
from plugin.colour import Plane, split_nv12, to_nv12

Points = NDArray[np.float64]  # N 2, x y

UNITS_ACROSS, UNITS_DOWN = 64, 36
COLUMNS, ROWS = 21, 2  # cells of 1 × 2 units; the first column is white over black
PANEL = (31.0, 10.0)
DISC_RADIUS = 1.5
DISCS: Points = np.array([[-13.0, -2.5], [13.0, -2.5], [13.0, 2.5], [-13.0, 2.5]])  # clockwise
DISC_RGB = ((225, 20, 20), (20, 40, 235), (20, 170, 20), (215, 20, 215))
BACKGROUND, BLACK, WHITE = 56, 16, 235

TICK_S = 1e-4
PERIOD_S = 2**32 * TICK_S  # five days, after which stamps start over
SATURATED = 44  # code values of chroma away from grey: nothing but discs is that colourful
SMALLEST_DISC = 2  # chroma samples across
MOST_OF_A_COLOUR = 4  # a mirrored border shows the panel more than once


@dataclass(frozen=True, slots=True)
class Stamp:
    """``time_s``: modulo PERIOD_S. ``centre``: the panel's middle, x y. ``angle``: radians clockwise.
    ``scale``: 1 where the whole picture is seen, 2 where half its width is."""

    time_s: float
    centre: tuple[float, float]
    angle: float
    scale: float

    def age_s(self, now: float) -> float:
        """Seconds from the stamp to ``now``, which may be a little before it."""
        return (now - self.time_s + PERIOD_S / 2) % PERIOD_S - PERIOD_S / 2


def draw_stamp(pixels: Pixels, now: float) -> None:
    """Draws into the middle of ``pixels``. Can be read again from about 8 pixels a unit down to 4."""
    height, width = pixels.shape[:2]
    unit = _unit(width, height)
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    _block(pixels, middle, PANEL[0] * unit, PANEL[1] * unit)[...] = BACKGROUND
    for place, colour in zip(DISCS, DISC_RGB, strict=True):
        x, y = np.round((middle + place * unit) * 16).astype(int)
        cv2.circle(
            pixels, (int(x), int(y)), round(DISC_RADIUS * unit * 16), colour, cv2.FILLED, cv2.LINE_AA, 4
        )
    cells = _block(pixels, middle, COLUMNS * unit, ROWS * 2 * unit)
    levels = np.where(_encode(now), WHITE, BLACK).astype(np.uint8)
    grown = cv2.resize(levels, cells.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    cells[...] = grown[..., None]


def read_stamp(picture: Plane | Pixels) -> Stamp | None:
    """From NV12 (H·3/2 W) or RGB (H W 3); None if there is no stamp, or it cannot be made out."""
    nv12 = to_nv12(picture) if picture.ndim == 3 else picture
    luma, chroma = split_nv12(nv12)
    height, width = luma.shape
    for corners in sorted(_panels(chroma), key=lambda c: _off_centre(c, width, height)):
        to_picture = _homography(corners)
        time_s = _decode(luma, to_picture)
        if time_s is not None:
            return _stamp(time_s, to_picture, _unit(width, height))
    return None


def _stamp(time_s: float, to_picture: NDArray[np.float64], unit: float) -> Stamp:
    marks = np.array([[0.0, 0.0], [DISCS[0, 0], 0.0], [DISCS[1, 0], 0.0]])
    centre, left, right = _mapped(marks, to_picture)
    across = right - left
    scale = float(np.hypot(*across)) / (DISCS[1, 0] - DISCS[0, 0]) / unit
    return Stamp(time_s, (float(centre[0]), float(centre[1])), math.atan2(across[1], across[0]), scale)


def _homography(corners: Points) -> NDArray[np.float64]:
    """From units to pixels."""
    found = cv2.getPerspectiveTransform(DISCS.astype(np.float32), corners.astype(np.float32))
    return found.astype(np.float64)


def _unit(width: int, height: int) -> float:
    return min(width / UNITS_ACROSS, height / UNITS_DOWN)


def _block(pixels: Pixels, middle: Points, width: float, height: float) -> Pixels:
    """A view of about this size around the middle."""
    left, top = np.ceil(middle + 0.5 - np.array([width, height]) / 2 - 0.5).astype(int)
    right, bottom = np.ceil(middle + 0.5 + np.array([width, height]) / 2 - 0.5).astype(int)
    return pixels[max(top, 0) : bottom, max(left, 0) : right]


def _encode(now: float) -> NDArray[np.bool_]:
    """ROWS COLUMNS; bits from the most significant, row by row: ticks, then their CRC."""
    ticks = round(now / TICK_S) % 2**32
    message = np.frombuffer(ticks.to_bytes(4, "big") + bytes([_crc8(ticks.to_bytes(4, "big"))]), np.uint8)
    bits = np.unpackbits(message).reshape(ROWS, COLUMNS - 1)
    return np.column_stack([[1, 0], bits]).astype(bool)


def _decode(luma: Plane, to_picture: NDArray[np.float64]) -> float | None:
    samples = _mapped(CELL_SAMPLES, to_picture)
    x, y = np.round(samples).astype(int).T
    if x.min() < 0 or y.min() < 0 or x.max() >= luma.shape[1] or y.max() >= luma.shape[0]:
        return None
    levels = luma[y, x].reshape(ROWS, COLUMNS, -1).mean(-1)
    if levels[0, 0] - levels[1, 0] < 60:
        return None
    bits = levels[:, 1:] > (levels[0, 0] + levels[1, 0]) / 2
    message = np.packbits(bits.ravel()).tobytes()
    return int.from_bytes(message[:4], "big") * TICK_S if _crc8(message[:4]) == message[4] else None


def _cell_samples() -> Points:
    """Nine points in the middle of each cell, row by row."""
    columns, rows = np.arange(COLUMNS) - (COLUMNS - 1) / 2, (np.arange(ROWS) - (ROWS - 1) / 2) * 2
    near = np.array([-0.2, 0.0, 0.2])
    grid = np.meshgrid(rows, columns, near * 2, near, indexing="ij")
    return np.stack([(grid[1] + grid[3]).ravel(), (grid[0] + grid[2]).ravel()], -1)


CELL_SAMPLES = _cell_samples()


def _mapped(points: Points, homography: NDArray[np.float64]) -> Points:
    x, y, w = homography @ np.vstack([points.T, np.ones(len(points))])
    return np.stack([x / w, y / w], -1)


def _panels(chroma: Plane) -> Iterator[Points]:
    """Every four discs, one of each colour, that lie around a convex shape in the right order."""
    discs = _discs(chroma)
    for corners in product(*discs):
        shape = np.array(corners)
        sides = np.roll(shape, -1, 0) - shape
        turns = sides[:, 0] * np.roll(sides[:, 1], -1) - sides[:, 1] * np.roll(sides[:, 0], -1)
        if (turns > 0).all():  # a mirrored panel turns the other way
            yield shape


def _discs(chroma: Plane) -> list[list[Points]]:
    """The middles of the discs of each colour, in luma pixels, the largest first."""
    u, v = cv2.split(cv2.absdiff(chroma, np.full(4, 128.0)))
    mask = cv2.inRange(cv2.max(u, v), SATURATED, 255)
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    found: list[list[Points]] = [[] for _ in DISC_RGB]
    for x, y, width, height in sorted(map(cv2.boundingRect, outlines), key=lambda box: -box[2] * box[3]):
        if min(width, height) < SMALLEST_DISC:
            continue
        cut = x == 0 or y == 0 or x + width == mask.shape[1] or y + height == mask.shape[0]
        kind = int(np.argmax(DIRECTIONS @ (chroma[y + height // 2, x + width // 2] - 128.0)))
        if not cut and len(found[kind]) < MOST_OF_A_COLOUR:
            found[kind].append(_middle(chroma, x, y, width, height, DIRECTIONS[kind]))
    return found


def _middle(chroma: Plane, x: int, y: int, width: int, height: int, direction: Points) -> Points:
    """The centroid, each sample weighted by how much of the disc's colour it holds."""
    left, top = max(x - 2, 0), max(y - 2, 0)
    around = chroma[top : y + height + 2, left : x + width + 2].astype(np.float64) - 128
    weight = np.clip(around @ direction - 4, 0, None)
    total = weight.sum()
    middle = [
        left + (weight.sum(0) @ np.arange(weight.shape[1])) / total,
        top + (weight.sum(1) @ np.arange(weight.shape[0])) / total,
    ]
    return np.array(middle) * 2 + 0.5  # a chroma sample stands for 2 × 2 pixels


def _directions() -> Points:
    """What each disc's chroma differs by from grey, of length one."""
    swatches = np.repeat(np.repeat(np.array([DISC_RGB], np.uint8), 2, 0), 2, 1)
    chroma = split_nv12(to_nv12(swatches))[1][0].astype(np.float64) - 128
    directions: Points = chroma / np.linalg.norm(chroma, axis=1, keepdims=True)
    return directions


DIRECTIONS = _directions()


def _off_centre(corners: Points, width: int, height: int) -> float:
    return float(np.hypot(*(corners.mean(0) - np.array([width - 1, height - 1]) / 2)))


def _crc8(message: bytes) -> int:
    """CRC-8, polynomial x⁸ + x² + x + 1, starting from all ones."""
    crc = 0xFF
    for byte in message:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07 if crc & 0x80 else crc << 1) & 0xFF
    return crc
