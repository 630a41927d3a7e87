"""From the model's small picture to the show's: the colours of the one, the detail of the other.

The model paints x0 at its own size; the base is the same view at full size, sharp, fetched from the source by
geometry, but wrong where the geometry is. With D the average over the model's cells, U a smooth enlargement
and m how far the two agree,

    out = U(x0) + U(m) · (base − U(D(base)))  =  U(m) · (base + U(r)) + (1 − U(m)) · U(x0),  r = x0 − D(base).

But where the base was seen, and is trusted, it is delivered as it is, r = 0: what the camera sees is nearer
to the truth than what is painted.

What is small, r and m, is a :class:`Correction` of the base. Corrections can be faded, steadied along time
and carried over to the next view; a base without any is delivered as it is. Knows nothing of models or poses.

Shapes: H W the show's rows and columns, h w the model's.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from engine.camera.geometry import Matrix
from engine.geometry.pictures import Buffers, Bytes, Floats, Mask, Size, multiplied, shrunk, weighted

FINER = 3  # the mixture is made on a grid that is finer than the model's cells by this factor, then enlarged
CELLS = (3, 3)  # over which to agree: a picture that is only softer, or a little beside, is no other one
TOLERATED = (6.0, 4.0)  # levels of disagreement in luma and in chroma, where the picture is flat ...
TOLERATED_SHARE = 0.25  # ... and of the contrast around it, where it is not
DOUBT = 0.6  # times what is tolerated, from full trust to none
ABOUT = (5, 5)  # cells in which ...
DOUBTED_CELLS = (0.2, 0.5)  # ... this share, from doubt to disbelief, differs
MISTRUST_RATE, TRUST_RATE = 0.6, 0.2  # share of a new trust in the old one, where it falls and where it rises
STEADY_RATE = 0.2  # share of a new colour where the base is trusted: its detail must not shiver
MADE_UP = 0.8  # of the base's detail to keep where nobody ever saw: the model's alone would be a soft patch
TO_LUMA = np.array([[0.299, 0.587, 0.114]], np.float32)


@dataclass(frozen=True, slots=True)
class Small:
    """The base over the model's cells: its colours h w 3, 0…255, and the share h w that was really seen."""

    colour: Floats
    seen: Floats


@dataclass(frozen=True, slots=True)
class Correction:
    """``colour`` h w 3: what to add to the base's colours, in levels; ``trust`` h w, 0…1: how much of its
    detail to keep.
    """

    colour: Floats
    trust: Floats

    @classmethod
    def none(cls, size: Size) -> Correction:
        """The base as it is."""
        height, width = size[::-1]
        return cls(np.zeros((height, width, 3), np.float32), np.ones((height, width), np.float32))

    def mixed(self, other: Correction, share: Floats | float) -> Correction:
        """``other`` as far as ``share`` (h w, or one number) says."""
        wide = np.broadcast_to(np.asarray(share, np.float32), self.trust.shape)
        return Correction(
            self.colour + weighted(other.colour - self.colour, wide),
            self.trust + wide * (other.trust - self.trust),
        )

    def steadied(self, before: Correction) -> Correction:
        """Follows the one before: slowly where the base is trusted, at once where it is not."""
        rate = np.where(self.trust < before.trust, MISTRUST_RATE, TRUST_RATE).astype(np.float32)
        trust = before.trust + rate * (self.trust - before.trust)
        rate = 1 - np.float32(1 - STEADY_RATE) * trust
        return Correction(before.colour + weighted(self.colour - before.colour, rate), trust)

    def carried(self, homography: Matrix) -> Correction:
        """Over to another view; ``homography`` takes the pixels h w of this one to that one's."""
        height, width = self.trust.shape
        colour, trust = (
            cv2.warpPerspective(part, homography, (width, height), borderMode=cv2.BORDER_REPLICATE)
            for part in (self.colour, self.trust)
        )
        return Correction(colour, trust)


def agreement(colour: Floats, small: Small) -> Floats:
    """m h w: 0 where a correction is large beside the contrast around it, in luma or in chroma, not in a cell
    here and there but all about; else 1. Beside what was seen, its detail is the edge to what was not;
    farther away, whatever the base has is made up, and ``MADE_UP``.
    """
    grey = cv2.transform(small.colour, TO_LUMA)
    mean = cv2.blur(grey, CELLS)
    contrast = np.sqrt(np.maximum(cv2.blur(grey * grey, CELLS) - mean * mean, 0))
    off = cv2.blur(colour, CELLS)
    luma = cv2.transform(off, TO_LUMA)
    red, green, blue = cv2.split(off)
    chroma = np.maximum(np.maximum(np.abs(red - luma), np.abs(green - luma)), np.abs(blue - luma))
    doubt = np.zeros_like(luma)
    for amount, floor in zip((np.abs(luma), chroma), TOLERATED, strict=True):
        tolerated = np.float32(floor) + np.float32(TOLERATED_SHARE) * contrast
        doubt = np.maximum(doubt, (amount / tolerated - 1) / np.float32(DOUBT))
    doubted = cv2.blur(np.clip(doubt, 0, 1) * small.seen, ABOUT)
    few, most = DOUBTED_CELLS
    trust = 1 - np.clip((doubted - np.float32(few)) / np.float32(most - few), 0, 1)
    beside: Floats = np.minimum(trust, np.clip(2 * cv2.blur(small.seen, ABOUT), MADE_UP, 1))
    return beside


class Delivery:
    """From the ``model``'s size (width, height) to ``size``."""

    def __init__(self, size: Size, model: Size) -> None:
        self.size, self._model = size, model
        self._fine = (min(size[0], FINER * model[0]), min(size[1], FINER * model[1]))
        self._buffers = Buffers()

    def small(self, base: Bytes) -> Small:
        """D of the base H W 4: colours, and in the last channel how far they were really seen, 0…255."""
        averages = shrunk(base, self._model).astype(np.float32)
        return Small(np.ascontiguousarray(averages[..., :3]), averages[..., 3] * np.float32(1 / 255))

    def correction(self, painted: Floats, small: Small) -> Correction:
        """What makes the base the picture that was painted, h w 3 in 0…255."""
        colour = painted - small.colour
        if self.size == self._model:  # there is no detail to keep
            return Correction(colour, np.zeros_like(small.seen))
        trust = agreement(colour, small)
        return Correction(weighted(colour, 1 - trust * small.seen), trust)

    def draw(self, base: Bytes, small: Small, correction: Correction) -> Bytes:
        """H W 3: the base H W 4, corrected. At the model's own size, that is what was painted."""
        painted = small.colour + correction.colour
        if self.size == self._model:
            return _levels(painted)
        kept = np.rint(255 * np.clip(self._finer(correction.trust), 0, 1))  # as bytes will be multiplied by
        added = self._finer(correction.colour)
        added += weighted(self._finer(painted) - added, 1 - kept / np.float32(255))
        return self._combined(base, kept.astype(np.uint8), added)

    def _combined(self, base: Bytes, kept: Bytes, added: Floats) -> Bytes:
        """kept/255 · base + added, the latter two enlarged."""
        height, width = base.shape[:2]
        picture = self._buffers.bytes("picture", height, width, 4)
        whole = np.rint(cv2.merge([*cv2.split(added), np.zeros(kept.shape, np.float32)])).astype(np.int16)
        is_added = whole.view(np.uint64)[..., 0] > 0  # of all four channels at once
        part = self._part((kept < 255) | is_added)
        if picture[part].shape != picture.shape:
            np.copyto(picture, base)
        share = self._buffers.bytes("share", height, width)
        cv2.resize(kept, self.size, dst=share)
        multiplied(base[part], share[part], picture[part])
        large = self._buffers.bytes("added", height, width, 8).view(np.int16)  # four channels are faster
        cv2.resize(whole, self.size, dst=large)
        cv2.add(picture[part], large[part], dst=picture[part], dtype=cv2.CV_8U)
        out: Bytes = cv2.cvtColor(picture, cv2.COLOR_RGBA2RGB)
        return out

    def _part(self, cells: Mask) -> tuple[slice, slice]:
        """Rows and columns of the picture that are enlarged from these cells of the finer grid."""
        left, top, columns, rows = cv2.boundingRect(cells.view(np.uint8))
        across, down = (side / fine for side, fine in zip(self.size, self._fine, strict=True))
        return (
            slice(max(0, int((top - 1) * down)), int((top + rows + 1) * down) + 1),
            slice(max(0, int((left - 1) * across)), int((left + columns + 1) * across) + 1),
        )

    def _finer(self, values: Floats) -> Floats:
        return cv2.resize(values, self._fine, interpolation=cv2.INTER_CUBIC)


def _levels(values: Floats) -> Bytes:
    whole: Bytes = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return whole
