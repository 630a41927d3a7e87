"""A coarse matte of a person → a soft edge at the picture's size that follows the picture's own edges.

Knows nothing of depth or time. Shapes: H W the picture's rows and columns, h w the grid's.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from engine.geometry.pictures import Bytes, Floats

RADIUS = 5  # cells of the grid
FLATNESS = 2e-4  # variance of luma (0…1) under which there is no edge to follow
NOBODY, SOMEBODY = 0.08, 0.9  # a cell beyond these, it is certain, whatever the guide says
AROUND = np.ones((3, 3), np.uint8)
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
        most = cv2.dilate((matte > NOBODY).astype(np.float32), AROUND)
        least = cv2.erode((matte > SOMEBODY).astype(np.float32), AROUND)
        on_grid = np.clip(_hardened(slope * guide + offset), least, most)
        return cls(slope, offset, least, most, on_grid)

    def enlarged(self, frame: Bytes, out: Bytes) -> None:
        """Into ``out`` H W, 0…255, for the picture itself, H W 3; found at half its size."""
        height, width = out.shape
        half = ((width + 1) // 2, (height + 1) // 2)
        share = np.zeros(half[::-1], np.uint8)
        most = cv2.resize(self.most, half)
        x, y, columns, rows = cv2.boundingRect((most > 0).view(np.uint8))
        box = (slice(y, y + rows), slice(x, x + columns))
        if columns > 0:
            luma = cv2.cvtColor(
                cv2.resize(frame, half, interpolation=cv2.INTER_AREA)[box], cv2.COLOR_RGB2GRAY
            )
            slope, offset, least = (cv2.resize(p, half)[box] for p in (self.slope, self.offset, self.least))
            found = np.clip(_hardened(slope * luma + offset), least, most[box])
            share[box] = found * np.float32(255)
        cv2.resize(share, (width, height), dst=out)


def _hardened(share: Floats) -> Floats:
    harder: Floats = (share - np.float32(EDGE)) * np.float32(HARDNESS) + np.float32(0.5)
    return harder
