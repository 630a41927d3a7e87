"""A coarse matte of a person → a soft edge at the picture's size that follows the picture's own edges.

Knows nothing of depth or time. Shapes: H W the picture's rows and columns, h w the grid's.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from engine.geometry.pictures import Bytes, Corner, Floats, Mask, Size, around, enlarged_in

RADIUS = 5  # cells of the grid
FLATNESS = 2e-4  # variance of luma (0…1) under which there is no edge to follow
SOMEBODY = 0.45  # a cell from which on somebody may be there, ...
SURELY = 0.6  # ... if somebody surely is in one that it hangs together with
PERHAPS = 0.3  # the same of a hole in somebody
BAND = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))  # the matte is soft no farther from its edge
NEARBY = (3, 3)
EDGE = 0.35  # below a half: what may be a person goes with the person, rather than half of it staying behind
HARDNESS = 3.0  # of the guided edge, which the windows leave too soft


@dataclass(frozen=True, slots=True)
class GuidedMatte:
    """The share of a person in every pixel, as a function of its luma: He and Sun, *Fast guided filter*
    (2015): share ≈ a·luma + b in every window, with a and b found on the grid and applied anywhere.
    All h w; the share lies between ``least`` and ``most``.
    """

    slope: Floats
    offset: Floats
    least: Floats
    most: Floats
    on_grid: Floats  # the share itself, 0…1

    @classmethod
    def of(cls, matte: Floats, small: Bytes) -> GuidedMatte:
        """From a network's matte h w, 0…1, and the picture on the grid, h w 3."""
        guide = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
        window = (2 * RADIUS + 1, 2 * RADIUS + 1)
        mean_guide, mean_matte = cv2.blur(guide, window), cv2.blur(matte, window)
        variance = cv2.blur(guide * guide, window) - mean_guide * mean_guide
        covariance = cv2.blur(guide * matte, window) - mean_guide * mean_matte
        slope = covariance / (variance + np.float32(FLATNESS * 255**2))
        offset = mean_matte - slope * mean_guide
        slope, offset = cv2.blur(slope, window), cv2.blur(offset, window)
        somebody = _hangs_together(matte)
        most = cv2.dilate(somebody, BAND).astype(np.float32)
        least = cv2.erode(somebody, BAND).astype(np.float32)
        on_grid = np.clip(_hardened(slope * guide + offset), least, most)
        return cls(slope, offset, least, most, on_grid)

    def enlarged(self, half: Bytes, size: Size) -> tuple[Bytes, Corner]:
        """For the part of the picture of ``size`` where there is anybody, the share 0…255, and that part's
        first row and column; by the picture at half its size, H/2 W/2 4.
        """
        half_size = (half.shape[1], half.shape[0])
        part = around(self.most > 0, half_size)
        if part is None:
            return np.zeros((1, 1), np.uint8), (0, 0)
        luma = cv2.cvtColor(half[part], cv2.COLOR_RGBA2GRAY).astype(np.float32)
        numbers = cv2.merge([self.slope, self.offset, self.least, self.most])
        slope, offset, least, most = cv2.split(enlarged_in(numbers, half_size, part))
        slope *= luma
        slope += offset
        found = np.clip(_hardened(slope), least, most)
        share = (found * np.float32(255)).astype(np.uint8)
        rows, columns = (
            slice(2 * side.start, min(2 * side.stop, full))
            for side, full in zip(part, size[::-1], strict=True)
        )
        large = cv2.resize(share, (2 * share.shape[1], 2 * share.shape[0]))
        return large[: rows.stop - rows.start, : columns.stop - columns.start], (rows.start, columns.start)


def _hangs_together(matte: Floats) -> Bytes:
    """h w, 1 where somebody is: what may be a person and touches what surely is, and the holes in that which
    may be as well.
    """
    blurred = cv2.blur(matte, NEARBY)
    touches = _any_part(matte > SURELY, (blurred > SOMEBODY).view(np.uint8))
    return 1 - _any_part(blurred <= PERHAPS, 1 - touches)


def _any_part(those: Mask, of: Bytes) -> Bytes:
    """h w, 1 in every connected part of ``of`` that has one of those cells."""
    count, labels = cv2.connectedComponents(of)
    chosen = np.zeros(count, np.uint8)
    chosen[labels[those]] = 1
    chosen[0] = 0
    return np.asarray(chosen[labels])


def _hardened(share: Floats) -> Floats:
    harder: Floats = (share - np.float32(EDGE)) * np.float32(HARDNESS) + np.float32(0.5)
    return harder
