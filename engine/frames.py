"""Frames, and the time and colour that they carry. Knows nothing of where they come from or go.

Shapes: H height, W width in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # H W 3, RGB, C-contiguous, 0…255


@dataclass(frozen=True, slots=True)
class Colour:
    """What the numbers mean: the YUV matrix ("rgb": none) and whether they use the full 0…255."""

    matrix: Literal["rgb", "bt601", "bt709", "bt2020"]
    full_range: bool


RGB = Colour("rgb", full_range=True)
BT709_LIMITED = Colour("bt709", full_range=False)


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a source.

    ``pts`` counts in ``time_base`` (seconds) on the source's own clock; ``arrived_s`` is the
    process's monotonic clock (:mod:`plugin.clock`) at the instant the picture came in.
    """

    pixels: Pixels
    pts: int
    time_base: Fraction
    colour: Colour
    arrived_s: float

    @property
    def media_time_s(self) -> float:
        return float(self.pts * self.time_base)

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])
