"""What a hidden part of a picture may look like: what is seen beside it, carried over as it is.

So shelves, books and brickwork go on, and stay straight, where a smooth fill would leave a smear. Each side
of what hides is continued by one shift, again and again, the one with which the picture goes on best at the
seam (shift maps; Pritch et al., *Shift-Map Image Editing*, 2009), and it is kept while it is good enough, so
nothing swims when people move, in the light that there is at the seam. It is a guess that grows worse with
the way, so deep inside it gives way to a smooth fill. Knows nothing of depth or of what hides.

Shapes: H W the picture's rows and columns, h w the grid's.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.geometry.pictures import Bytes, Floats, Mask, Part, Size, enlarged_in, weighted

REACH = 0.09  # of the width: deeper inside, nothing is guessed ...
FADING = 0.6  # ... and from this share of the way back on it is shown as it is
MOST_REGIONS = 4
LEAST = 0.06  # of the width: a shorter shift would show as a pattern
FARTHER = 20  # cells: shifts that are tried beyond the least
ASLANT = 1  # rows up and down
SEAM = 2  # cells along which the picture must go on
FEWEST_CELLS = 12  # of a seam that says anything
COMPARABLE = 0.6  # of a seam's cells must have something to be compared with
NEARER = 0.01  # of its error, by which each further cell makes a shift worse
KEPT = 1.25  # times worse than the best, and the shift before is kept
BESIDE = 4  # cells beside the seam, and ...
ROWS = 13  # ... rows around each, that tell what is usual there
UNUSUAL, PLAIN = 5.0, 30.0  # times their variance, and squared levels: what is farther off fades
BROAD = 0.04  # of the width: what is wider is light and colour, not detail
SOFTENED = (3, 3)  # cells
FINER, ROUNDING = 3, 5  # times, and parts of cells: off the corners of what comes from one place
NEXT = np.ones((3, 3), np.uint8)
Cells = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Patches:
    """For every cell h w: ``which`` of the ``shifts`` (columns, rows; the first is none) says where its
    texture comes from; how much is to be thought of it, ``share`` 0…1; and ``light`` h w 4, what to add to
    the texture's colours, in levels.
    """

    shifts: list[tuple[int, int]]
    which: Bytes
    share: Floats
    light: NDArray[np.int16]

    @classmethod
    def of(cls, lends: Mask, colours: Bytes, before: Patches | None) -> Patches:
        """Cells ``lends`` h w are seen, in ``colours`` h w 3."""
        seen = colours.astype(np.float32)
        broad = _broad(seen, lends)
        detail = seen - broad
        x = np.arange(lends.shape[1], dtype=np.float32)
        left, right = _nearest(lends, x)
        depth, span = np.minimum(x - left, right - x), right - left
        share = np.clip((1 - depth / np.minimum(REACH * len(x), np.maximum(span, 1) / 2)) / FADING, 0, 1)
        share = np.where(lends, 0, share).astype(np.float32)
        shifts, which = [(0, 0)], np.zeros(lends.shape, np.uint8)
        likely, lights = np.ones_like(share), [np.zeros((len(lends), 3), np.float32)]
        count, regions, facts, _ = cv2.connectedComponentsWithStats((~lends).view(np.uint8), connectivity=4)
        for region in 1 + np.argsort(-facts[1:count, cv2.CC_STAT_AREA])[:MOST_REGIONS]:
            near = (regions == region) & (share > 0)
            for edge, way in ((left, -1), (right, 1)):
                hidden = np.nonzero(near & (np.abs(x - edge) <= depth))
                seam = _Seam.beside(lends, hidden, edge[hidden], way)
                if seam is None:
                    continue
                shift = seam.goes_on(detail, None if before is None else before._usual(*hidden))
                if shift is None:
                    continue
                times = np.ceil(depth[hidden] / abs(shift[0])).astype(np.intp)
                lighter = seam.lighter(broad, shift)
                y, from_x = hidden[0] + times * shift[1], hidden[1] + times * shift[0]
                lent = _lent(lends, y, from_x)
                brought = seen[np.where(lent, y, 0), np.where(lent, from_x, 0)]
                brought = brought + times[:, None] * lighter[hidden[0]]
                which[hidden] = len(shifts) - 1 + times
                likely[hidden] = lent * seam.likely(seen, brought, hidden[0])
                for n in range(1, int(times.max()) + 1):
                    shifts.append((n * shift[0], n * shift[1]))
                    lights.append(n * lighter)
        share[which == 0] = 0
        share = cv2.blur(share, SOFTENED) * cv2.blur(cv2.erode(likely, NEXT), SOFTENED)
        # each goes on a little around its cells, so that what is enlarged from both is of one
        grown = cv2.dilate(which, NEXT, iterations=2)
        which = np.where(which > 0, which, grown)
        light = np.zeros((*lends.shape, 4), np.int16)
        light[..., :3] = np.rint(np.stack(lights)[which, np.arange(len(lends))[:, None]])
        return cls(shifts, which, share, light)

    def within(self, picture: Bytes, size: Size, part: Part) -> tuple[Bytes, Bytes]:
        """In that part of a picture H W 4 of ``size``: what is carried over, and the share 0…255."""
        finer = cv2.resize(self.which, None, fx=FINER, fy=FINER, interpolation=cv2.INTER_NEAREST)
        which = cv2.resize(cv2.medianBlur(finer, ROUNDING), size, interpolation=cv2.INTER_NEAREST)[part]
        texture = picture[part].copy()
        scale = size[0] / self.which.shape[1], size[1] / self.which.shape[0]
        for number, (along, down) in enumerate(self.shifts[1:], 1):
            rows = _overlap(part[0], round(scale[1] * down), size[1])
            columns = _overlap(part[1], round(scale[0] * along), size[0])
            here = rows[0], columns[0]
            cv2.copyTo(picture[rows[1], columns[1]], cv2.inRange(which[here], number, number), texture[here])
        light = cv2.resize(self.light, size)  # all of it, as that is much faster than a part by enlarged_in
        cv2.add(texture, light[part], dst=texture, dtype=cv2.CV_8U)
        return texture, (255 * enlarged_in(self.share, size, part)).astype(np.uint8)

    def _usual(self, y: Cells, x: Cells) -> tuple[int, int] | None:
        """The shift of most of these cells, if they have one; most are shifted but once."""
        counts = np.bincount(self.which[y, x], minlength=len(self.shifts))
        counts[0] = 0
        return self.shifts[int(counts.argmax())] if counts.any() else None


@dataclass(frozen=True, slots=True)
class _Seam:
    """Cells ``y``, ``x`` that are seen, right beside others that are to be made up from the left (``way`` −1)
    or the right (1). ``lends`` h w: all that are seen.
    """

    lends: Mask
    y: Cells
    x: Cells
    way: int

    @classmethod
    def beside(cls, lends: Mask, hidden: tuple[Cells, ...], edge: Floats, way: int) -> _Seam | None:
        """Of hidden cells (y, x) whose ``edge`` is in that column; None: none has one in the picture."""
        inside = (edge >= 0) & (edge < lends.shape[1])
        if not inside.any():
            return None
        at = np.zeros_like(lends)
        at[hidden[0][inside], edge[inside].astype(np.intp)] = True
        y, x = np.nonzero(at)
        return cls(lends, y, x, way)

    def strip(self, wide: int) -> tuple[Cells, Cells]:
        """The cells y, x along it that are seen, so many deep."""
        y, x = np.repeat(self.y, wide), (self.x[:, None] + self.way * np.arange(wide)).ravel()
        seen = _lent(self.lends, y, x)
        return y[seen], x[seen]

    def goes_on(self, detail: Floats, last: tuple[int, int] | None) -> tuple[int, int] | None:
        """With which shift, in columns and rows; None: there is none. ``last``: the one before."""
        rows, columns = self.lends.shape
        least = round(LEAST * columns)
        tried = [(s, r) for s in range(least, least + FARTHER) for r in range(-ASLANT, ASLANT + 1)]
        if last is not None and least <= self.way * last[0]:
            tried.append((abs(last[0]), last[1]))
        ways = np.array(tried)
        seam_y, seam_x = self.strip(SEAM)
        y, x = seam_y + ways[:, 1:], seam_x + self.way * ways[:, :1]
        usable = _lent(self.lends, y, x)
        there = detail[np.clip(y, 0, rows - 1), np.clip(x, 0, columns - 1)]
        off = np.abs(there - detail[seam_y, seam_x]).sum(axis=2)
        counted = usable.sum(axis=1)
        errors = (off * usable).sum(axis=1) / np.maximum(counted, 1)
        errors *= 1 + NEARER * (ways[:, 0] - least + np.abs(ways[:, 1]))
        errors[counted < max(FEWEST_CELLS, COMPARABLE * len(seam_x))] = np.inf
        best = int(errors.argmin())
        if not np.isfinite(errors[best]):
            return None
        if last is not None and tried[-1] == (abs(last[0]), last[1]) and errors[-1] <= KEPT * errors[best]:
            best = len(tried) - 1
        return self.way * int(ways[best, 0]), int(ways[best, 1])

    def lighter(self, broad: Floats, shift: tuple[int, int]) -> Floats:
        """h 3: by how many levels the seam is lighter than what goes on from it, around each row."""
        here = self.strip(SEAM)
        there = here[0] + shift[1], here[1] + shift[0]
        usable = _lent(self.lends, *there)
        more = broad[here][usable] - broad[there[0][usable], there[1][usable]]
        return _mean_around(more, here[0][usable], len(self.lends))

    def likely(self, colours: Floats, brought: Floats, row: Cells) -> Floats:
        """How likely colours n 3 that are ``brought`` to cells of these rows are what is hidden there, 0…1:
        not if they are far from what is usual beside the seam.
        """
        beside = self.strip(BESIDE)
        rows = len(self.lends)
        mean = _mean_around(colours[beside], beside[0], rows)
        spread = _mean_around(np.square(colours[beside] - mean[beside[0]]), beside[0], rows).sum(axis=1)
        off = np.square(brought - mean[row]).sum(axis=1)
        found: Floats = np.minimum(1, (UNUSUAL * spread[row] + PLAIN) / np.maximum(off, 1e-3))
        return found * found


def _mean_around(values: Floats, row: Cells, rows: int) -> Floats:
    """The means h c of the values n c that count for the ``ROWS`` around each row; 0 where none does."""
    around = np.ones(ROWS)
    counts, *sums = (
        np.convolve(np.bincount(row, weights, rows), around, "same") for weights in (None, *values.T)
    )
    means: Floats = np.stack(sums, axis=1) / np.maximum(counts, 1)[:, None]
    return means


def _broad(colours: Floats, lends: Mask) -> Floats:
    """h w 3: light and colours around each cell, of what is seen there."""
    around = (1 + 2 * round(BROAD * lends.shape[1]),) * 2
    share = cv2.blur(lends.astype(np.float32), around)
    seen = cv2.blur(cv2.copyTo(colours, lends.view(np.uint8)), around)
    return weighted(seen, 1 / np.maximum(share, np.float32(1e-3)))


def _lent(lends: Mask, y: Cells, x: Cells) -> Mask:
    """Which of these cells are in the picture, and seen."""
    rows, columns = lends.shape
    inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
    return np.asarray(inside & lends[np.clip(y, 0, rows - 1), np.clip(x, 0, columns - 1)])


def _overlap(part: slice, shift: int, side: int) -> tuple[slice, slice]:
    """Of a part, counted from its first, what has something ``shift`` pixels on; and that, in the whole."""
    first, last = max(part.start + shift, 0), min(part.stop + shift, side)
    last = max(first, last)
    return slice(first - shift - part.start, last - shift - part.start), slice(first, last)


def _nearest(lends: Mask, x: Floats) -> tuple[Floats, Floats]:
    """For every cell the column of the nearest that lends to its left and to its right; far away if none."""
    far = np.float32(4 * len(x))
    left = np.maximum.accumulate(np.where(lends, x, -far), axis=1)
    right = np.minimum.accumulate(np.where(lends, x, far)[:, ::-1], axis=1)[:, ::-1]
    return left, right
