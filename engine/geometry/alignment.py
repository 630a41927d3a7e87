"""Where in a base that geometry drew is what the model painted: geometry's small errors of place, measured.

A depth that is a little off puts an edge a little beside; the model, which has seen many rooms, paints it
where it belongs. Dense inverse search (Kroeger et al., *Fast optical flow using dense inverse search*, 2016)
between the two finds by how much, and is believed where it explains the difference.

Shapes: h w the model's rows and columns.
"""

from __future__ import annotations

import cv2
import numpy as np

from engine.geometry.pictures import Bytes, Floats, Size, fetched, weighted

LARGER = 1.5  # the search has patches of 8 pixels, which is a lot of such a small picture
STRIDE = 4
DESCENTS = 12
FARTHEST = 4.0  # cells: what is found farther away is something else
CELLS = (5, 5)
BELIEVED_AT = 0.25  # of the difference that is explained
NOISE = 2.0  # levels of difference that need no explanation
SMOOTH = (5, 5)


class Aligner:
    """For pictures of one size (width, height)."""

    def __init__(self, size: Size) -> None:
        self._size = size
        self._larger = (round(LARGER * size[0]), round(LARGER * size[1]))
        self._search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._search.setFinestScale(0)
        self._search.setPatchStride(STRIDE)
        self._search.setGradientDescentIterations(DESCENTS)
        self._search.setVariationalRefinementIterations(0)

    def offset(self, painted: Floats, base: Floats) -> Floats:
        """h w 2, in cells: the colours ``painted`` h w 3 at a place are those of ``base`` at it + offset."""
        flow: Floats = self._search.calc(self._grey(painted), self._grey(base), None)  # type: ignore[call-overload]
        scale = np.array([one / many for one, many in zip(self._size, self._larger, strict=True)], np.float32)
        flow = cv2.resize(flow, self._size, interpolation=cv2.INTER_AREA) * scale
        flow = np.clip(flow, -FARTHEST, FARTHEST)
        before, after = (_difference(painted, one) for one in (base, moved(base, flow)))
        explained = (before - after) / (before + np.float32(NOISE))
        belief = np.clip(explained / np.float32(BELIEVED_AT), 0, 1)
        share = cv2.blur(belief, SMOOTH)
        smooth = cv2.blur(weighted(flow, belief), SMOOTH)  # what is not believed has no say
        return weighted(smooth, np.minimum(belief, share) / np.maximum(share, np.float32(1e-3)))

    def _grey(self, picture: Floats) -> Bytes:
        grey = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), self._larger)
        levels: Bytes = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
        return levels


def moved(picture: Floats, offset: Floats) -> Floats:
    """``picture`` h w or h w c as it is found at each place + offset."""
    height, width = offset.shape[:2]
    y, x = np.indices((height, width), np.float32)
    return fetched(picture, np.dstack([x, y]) + offset)


def _difference(one: Floats, other: Floats) -> Floats:
    difference: Floats = cv2.blur(cv2.cvtColor(np.abs(one - other), cv2.COLOR_RGB2GRAY), CELLS)
    return difference
