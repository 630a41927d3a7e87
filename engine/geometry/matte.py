"""A coarse matte of a person → a soft edge at the picture's size that follows the picture's own edges.

Knows nothing of depth or time. Shapes: H W the picture's rows and columns, h w the grid's.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from engine.geometry.pictures import Bytes, Corner, Floats, Mask, Part, Size, around, enlarged_in

RADIUS = 5  # cells of the grid
FLATNESS = 1e-4  # variance of a colour (0…1) under which there is no edge to follow
SOMEBODY = 0.45  # a cell from which on somebody may be there, ...
SURELY = 0.6  # ... if somebody surely is in one that it hangs together with
PERHAPS = 0.3  # the same of a hole in somebody
BAND = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))  # the matte is soft no farther from its edge
NEARBY = (3, 3)
EDGE = 0.45  # below a half: what may be a person goes with the person, rather than half of it staying behind
HARDNESS = 3.0  # of the guided edge, which the windows leave too soft


@dataclass(frozen=True, slots=True)
class GuidedMatte:
    """The share of a person in every pixel, as a function of its colour: He, Sun and Tang, *Guided image
    filtering* (2013), section 3.5: share ≈ a·colour + b in every window, with a and b found on the grid and
    applied anywhere (He and Sun, *Fast guided filter*, 2015).

    ``weights`` h w 4: a and b. All others h w; the share lies between ``least`` and ``most``.
    """

    weights: Floats
    least: Floats
    most: Floats
    on_grid: Floats  # the share itself, 0…1

    @classmethod
    def of(cls, matte: Floats, small: Bytes) -> GuidedMatte:
        """From a network's matte h w, 0…1, and the picture on the grid, h w 3."""
        somebody = _hangs_together(matte)
        most = cv2.dilate(somebody, BAND)
        least = cv2.erode(somebody, BAND).astype(np.float32)
        weights, on_grid = np.zeros((*matte.shape, 4), np.float32), np.zeros_like(matte)
        part = _around(most, 2 * RADIUS)
        most = most.astype(np.float32)
        if part is not None:
            weights[part] = guided_weights(small[part].astype(np.float32), matte[part])
            found = _hardened(_applied(weights[part], cv2.cvtColor(small[part], cv2.COLOR_RGB2RGBA)))
            on_grid[part] = np.clip(found, least[part], most[part])
        return cls(weights, least, most, on_grid)

    def enlarged(self, half: Bytes, size: Size) -> tuple[Bytes, Corner]:
        """For the part of the picture of ``size`` where there is anybody, the share 0…255, and that part's
        first row and column; by the picture at half its size, H/2 W/2 4.
        """
        half_size = (half.shape[1], half.shape[0])
        part = around(self.most > 0, half_size)
        if part is None:
            return np.zeros((1, 1), np.uint8), (0, 0)
        found = _hardened(_applied(enlarged_in(self.weights, half_size, part), half[part]))
        bounds = enlarged_in(cv2.merge([self.least, self.most]), half_size, part)
        share = (np.clip(found, *cv2.split(bounds)) * np.float32(255)).astype(np.uint8)
        rows, columns = (
            slice(2 * side.start, min(2 * side.stop, full))
            for side, full in zip(part, size[::-1], strict=True)
        )
        large = cv2.resize(share, (2 * share.shape[1], 2 * share.shape[0]))
        return large[: rows.stop - rows.start, : columns.stop - columns.start], (rows.start, columns.start)


def guided_weights(colours: Floats, matte: Floats) -> Floats:
    """a and b, h w 4: the regression of the matte h w on the colours h w 3 in the windows around each cell,
    averaged over the windows that a cell is in.
    """

    def mean(values: Floats) -> Floats:
        return cv2.blur(values, (2 * RADIUS + 1, 2 * RADIUS + 1))

    def split_mean(*values: Floats) -> list[Floats]:
        return list(cv2.split(mean(cv2.merge(values))))

    red, green, blue = cv2.split(colours)
    r, g, b, share = split_mean(red, green, blue, matte)
    rr, gg, bb = split_mean(red * red, green * green, blue * blue)
    rg, rb, gb = split_mean(red * green, red * blue, green * blue)
    to_r, to_g, to_b = split_mean(red * matte, green * matte, blue * matte)
    flat = np.float32(FLATNESS * 255**2)
    rr, gg, bb = rr - r * r + flat, gg - g * g + flat, bb - b * b + flat
    rg, rb, gb = rg - r * g, rb - r * b, gb - g * b
    to_r, to_g, to_b = to_r - r * share, to_g - g * share, to_b - b * share
    # the symmetric matrix's cofactors
    c_rr, c_gg, c_bb = gg * bb - gb * gb, rr * bb - rb * rb, rr * gg - rg * rg
    c_rg, c_rb, c_gb = gb * rb - rg * bb, rg * gb - gg * rb, rb * rg - rr * gb
    scale = 1 / (rr * c_rr + rg * c_rg + rb * c_rb)
    a_r = (c_rr * to_r + c_rg * to_g + c_rb * to_b) * scale
    a_g = (c_rg * to_r + c_gg * to_g + c_gb * to_b) * scale
    a_b = (c_rb * to_r + c_gb * to_g + c_bb * to_b) * scale
    return mean(cv2.merge([a_r, a_g, a_b, share - a_r * r - a_g * g - a_b * b]))


def _applied(weights: Floats, colours: Bytes) -> Floats:
    """a·colour + b, h w, of weights h w 4 and colours h w 4, of which the last channel is overwritten."""
    numbers = colours.astype(np.float32)
    numbers[..., 3] = 1
    numbers *= weights
    return cv2.transform(numbers, np.ones((1, 4), np.float32))


def _around(cells: Bytes, margin: int) -> Part | None:
    """The cells that are not 0 and so many around them; None: there are none."""
    left, top, wide, tall = cv2.boundingRect(cells)
    if not wide:
        return None
    rows = slice(max(0, top - margin), top + tall + margin)
    return rows, slice(max(0, left - margin), left + wide + margin)


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
