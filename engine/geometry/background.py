"""What the source camera would see without what stands in front, remembered from when it could be seen.

A plate of colour and inverse depth in the source camera's frame: today's picture wherever nothing stands in
front, the remembered one where something does, and where nobody ever saw, what is beside it goes on, and
deeper in smooth colours pulled in from around. When the camera moves, or the picture is cut, the memory is
let go. Knows nothing of virtual cameras, and not what makes something foreground.

Shapes: H W the picture's rows and columns, h w the grid's; grids may be of another size than pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from engine.geometry.patches import Patches
from engine.geometry.pictures import (
    Buffers,
    Bytes,
    Floats,
    Mask,
    Part,
    Size,
    around,
    enlarged_in,
    multiplied,
    push_pull,
    weighted,
)

SETTLED_AFTER = 4  # frames that something must be background before it is remembered
LEARN_EVERY = 6  # frames: then what is seen is learnt, and what is not known is made up anew
WATCH_EVERY = 3  # frames
MARGIN = 80  # of the width: what is nearer to the foreground may be its shadow, or be hidden before long
DEPTH_RATE = 0.06  # share of a new frame in the remembered depth, at least
RIM_RATE = 0.3  # the same beside the foreground
RATE_AT_AGE = np.maximum(1 / np.maximum(np.arange(256), 1), DEPTH_RATE).astype(np.float32)
NEXT = np.ones((3, 3), np.uint8)
STIRS, BARES = 0.5, 2.0  # cells that what hides is moved by: its edge is seen, and what was beside it
SOFT_EDGE = 2  # cells of what hides that would stay as an outline
FADED_IN = 6  # cells beside what hides: from here on what is known is shown as it is, and there is no seam
HALF = 0.5  # of a cell
BESIDE = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))  # so near, what the matte missed may stand
ROUNDING = (3, 3)  # cells, off the corners of masks before they are enlarged
FADE_REACH = np.ones((5, 5), np.uint8)  # cells over which what is known fades into what is made up
RELAXATIONS = 20  # of made up colours: they meet what is seen without an edge
FADE = 0.4  # share of the new fill in the old one: fills never jump
COARSE_WIDTH = 112  # of the pictures in which motion is looked for, and that fills are made of
MOVED_BY = 1 / 1000  # of the picture's width: the camera has moved
CUT_LEVELS = 24.0  # a pixel that differs by more is another picture's ...
CUT_SHARE = 0.35  # ... and so is the picture, if this many are


class CameraWatch:
    """Whether the source camera stands still, by one least-squares step of registration against a picture
    from before (Lucas and Kanade 1981): shift, zoom and roll at once with brightness, over the background.
    """

    def __init__(self, size: Size) -> None:
        width, height = size
        self._x = np.arange(width, dtype=np.float32) - (width - 1) / 2
        self._y = np.arange(height, dtype=np.float32)[:, None] - (height - 1) / 2
        self.reset()

    def reset(self) -> None:
        self._before: Floats | None = None

    def holds(self, grey: Floats, background: Mask) -> bool:
        """Is ``grey`` (h w, 0…255) taken from where the picture before was? If not, it is the new one."""
        grey = cv2.GaussianBlur(grey, (0, 0), 1.0)
        if self._before is None:
            self._before, self._background = grey, background
            return False
        common = background & self._background
        if common.mean() < 0.05:  # nothing to tell it by
            return True
        holds = self._stands_still(grey, common)
        # what changes slowly, as daylight does, is no motion
        slow = np.where(common, self._before + 0.02 * (grey - self._before), grey)
        self._before, self._background = (slow, background) if holds else (grey, background)
        return holds

    def _stands_still(self, grey: Floats, common: Mask) -> bool:
        assert self._before is not None
        dx, dy = (cv2.Scharr(self._before, cv2.CV_32F, *order, scale=1 / 32) for order in ((1, 0), (0, 1)))
        columns = (dx, dy, self._x * dx + self._y * dy, self._x * dy - self._y * dx, self._before)
        known = np.stack([column[common] for column in columns] + [np.ones(int(common.sum()), np.float32)], 1)
        wanted = (grey - self._before)[common]
        motion = _least_squares(known, wanted)
        off = np.abs(wanted - known @ motion)
        sure = off <= 3 * np.median(off) + 0.5
        motion = _least_squares(known[sure], wanted[sure])
        off = np.abs(wanted - known @ motion)
        width = len(self._x)
        shift = float(np.hypot(motion[0], motion[1]) + np.hypot(motion[2], motion[3]) * width / 4)
        return shift < MOVED_BY * width and float((off > CUT_LEVELS).mean()) < CUT_SHARE


def _least_squares(known: Floats, wanted: Floats) -> Floats:
    """A little weight on no motion at all, so that flat pictures have an answer."""
    normal = known.T @ known
    normal[np.diag_indices(len(normal))] += 1e-3 * np.trace(normal) / len(normal) / 100 + 1e-3
    return np.asarray(np.linalg.solve(normal, known.T @ wanted), np.float32)


class Parallax(NamedTuple):
    """By how many cells the background comes out from behind what hides it: to the ``right`` and ``down``
    (below 0: left and up), which is where the camera goes, and all ``around``, where it draws back.
    """

    right: float
    down: float
    around: float


@dataclass(frozen=True, slots=True)
class Plate:
    """``colour`` H W 4 (RGB, and 255 where it was really seen) and ``inverse_depth`` h w, both complete."""

    colour: Bytes
    inverse_depth: Floats


class Background:
    """For pictures of ``size`` and depth on a ``grid``: give it every frame, ask it for a plate."""

    def __init__(self, size: Size, grid: Size) -> None:
        self._size, self._grid = size, grid
        width = min(COARSE_WIDTH, grid[0])
        self._coarse = (width, max(2, round(width * grid[1] / grid[0])))
        self._margin = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (1 + 2 * round(grid[0] / MARGIN),) * 2)
        self._watch = CameraWatch(self._coarse)
        self._buffers = Buffers()
        self.reset()

    def reset(self) -> None:
        """Forget: the next frame belongs to another picture."""
        shape = self._grid[::-1]
        self._inverse_depth = np.zeros(shape, np.float32)
        self._age = np.zeros(shape, np.uint8)
        self._seen = np.zeros((self._size[1], self._size[0], 4), np.uint8)  # where it is known
        self._behind = self._seen  # the same and, where it is not known, the fill
        self._seen_small = np.zeros((*shape, 3), np.uint8)
        self._fill: Floats | None = None  # colour and inverse depth at the coarse size, complete
        self._patches: Patches | None = None
        self._made_up: Bytes | None = None  # H W 4
        self._made_up_before = np.zeros(shape, np.bool_)
        self._known = np.zeros(shape, np.bool_)
        self._lies_behind = np.zeros(shape, np.bool_)  # is no nearer than what hides something about there
        self._is_complete = False
        self._frames = 0
        self._watch.reset()

    def update(self, frame: Bytes, small: Bytes, inverse_depth: Floats, share: Floats | Mask) -> None:
        """Takes in a frame H W 4 and, on the grid, the same in small h w 3, its inverse depth and the share
        of foreground. What is learnt keeps a margin from what is, if only in part.
        """
        foreground = share > 0
        near = cv2.dilate(foreground.view(np.uint8), self._margin).view(np.bool_)
        clear = ~near
        step = self._frames % LEARN_EVERY
        self._frames += 1
        if step % WATCH_EVERY == 0 and not self._watch.holds(
            self._coarse_grey(small), self._share(clear) > 0.98
        ):
            self._known[:] = False
            self._age[:] = 0
            self._fill = self._made_up = None  # of what was elsewhere
            self._is_complete = False
        self._age[clear & (self._age < 255)] += 1
        self._age[near] = 0
        rate = RATE_AT_AGE[self._age]  # a running mean at first, then a slow one: a wall does not breathe
        rate[near] = 0
        rim = near & ~foreground & ~self._known  # shown, but its depth may be that of what is beside it
        rate[rim] = RIM_RATE
        seen = np.where(rim, cv2.erode(inverse_depth, self._margin), inverse_depth)
        self._inverse_depth = self._inverse_depth + rate * (seen - self._inverse_depth)
        if step == 0:
            self._learn(frame, small)
        if step == 1 or not self._is_complete:
            self._complete(frame, small, clear, np.where(foreground, inverse_depth, 0))
        self._now = frame, foreground, share > HALF

    def plate(self, parallax: Parallax) -> Plate:
        """Of the newest frame; until the next one. Where the background comes out, nothing of the edge of
        what hid it may stay, and what was made up fades into what is seen; on the other sides, what is seen
        begins right beside it, so that a view that is hardly moved is put together again as it was.
        """
        frame, foreground, mostly = self._now
        colour = self._buffers.bytes("plate", *frame.shape)
        np.copyto(colour, frame)
        wider = _white(mostly)
        reach = math.hypot(parallax.right, parallax.down)
        if reach > STIRS:
            wider |= _drawn_out(mostly, parallax, min(round(2 * reach), 1 + SOFT_EDGE))
        if reach > BARES:
            side = _drawn_out(mostly, parallax, min(round(reach), FADED_IN) + SOFT_EDGE)
            wider |= side & _white(self._lies_behind)
            wider |= _grown(foreground, min(round(reach - BARES), SOFT_EDGE))  # hair that the matte missed
        if parallax.around > STIRS:
            wider |= _grown(mostly, min(round(2 * parallax.around), 1 + SOFT_EDGE))
        part = around(wider > 0, self._size)
        if part is not None:
            hidden = enlarged_in(cv2.blur(wider, ROUNDING), self._size, part)
            hidden = cv2.threshold(hidden, 127, 255, cv2.THRESH_BINARY)[1]
            cv2.copyTo(self._behind[part], hidden, colour[part])
        if self._fill is None:
            return Plate(colour, self._inverse_depth)
        depth = cv2.resize(np.ascontiguousarray(self._fill[..., 3]), self._grid)
        return Plate(colour, np.where(foreground & ~self._known, depth, self._inverse_depth))

    def _learn(self, frame: Bytes, small: Bytes) -> None:
        """What has settled is known from now on."""
        settled = self._age >= SETTLED_AFTER
        self._known |= settled
        # each pixel goes with its nearest cell, so that what was learnt piece by piece has no cracks
        nearest = cv2.resize(settled.view(np.uint8), self._size, interpolation=cv2.INTER_NEAREST)
        cv2.copyTo(frame, nearest, self._seen)
        cv2.copyTo(small, settled.view(np.uint8), self._seen_small)

    def _complete(self, frame: Bytes, small: Bytes, clear: Mask, front: Floats) -> None:
        """What is not known is filled, and what is fades into that. ``front`` h w is the inverse depth of
        what hides it, 0 elsewhere.
        """
        self._is_complete = True
        within = cv2.erode(_white(self._known), FADE_REACH)
        part = around(within == 0, self._size)
        if part is None:
            self._fill, self._patches, self._made_up, self._behind = None, None, None, self._seen
            return
        hides = front > 0
        behind = self._lies_behind = self._behind_what_hides(front, hides)
        self._fill = self._filled(small, clear, hides, behind)
        self._behind = self._buffers.bytes("behind", *self._seen.shape)
        np.copyto(self._behind, self._seen)
        known = enlarged_in(cv2.blur(within, ROUNDING), self._size, part)
        fill = enlarged_in(_with_nothing_seen(self._fill[..., :3]), self._size, part)
        lends = (_seen_beside(hides) | self._known) & behind
        colours = cv2.copyTo(self._seen_small, (self._known & hides).view(np.uint8), small.copy())
        self._patches = Patches.of(lends, colours, self._patches)
        texture, share = self._patches.within(self._with_what_is_known(frame, hides), self._size, part)
        texture[..., 3] = 0
        cv2.add(multiplied(texture, share, texture), multiplied(fill, cv2.bitwise_not(share), fill), dst=fill)
        fill = self._followed(fill, ~lends, part)
        faded = multiplied(self._seen[part], known, self._behind[part])
        cv2.add(faded, multiplied(fill, cv2.bitwise_not(known), fill), dst=faded)

    def _followed(self, fill: Bytes, made_up: Mask, part: Part) -> Bytes:
        """What was made up before changes slowly into what is now."""
        if self._made_up is None:
            self._made_up = self._buffers.bytes("made up", *self._seen.shape)
            self._made_up_before = np.zeros_like(made_up)
        whole = self._made_up[part]
        slow = cv2.addWeighted(whole, 1 - FADE, fill, FADE, 0)
        is_old = cv2.resize(self._made_up_before.view(np.uint8), self._size, interpolation=cv2.INTER_NEAREST)
        np.copyto(whole, cv2.copyTo(slow, is_old[part], fill))
        self._made_up_before = made_up
        return whole

    def _behind_what_hides(self, front: Floats, hides: Mask) -> Mask:
        """No nearer than what hides: the table before somebody does not go on behind them."""
        if not hides.any():
            return np.ones_like(hides)
        limit = self._pulled(front[..., None], hides)[..., 0]
        return np.asarray(self._inverse_depth <= cv2.resize(limit, self._grid))

    def _filled(self, small: Bytes, clear: Mask, hides: Mask, behind: Mask) -> Floats:
        """Colour and inverse depth for what is not known, at the coarse size, from what is around it."""
        depth = self._pulled(self._inverse_depth[..., None], (clear | self._known) & behind)
        # colours go on from what is seen right beside what hides, or there would be a seam
        seen = _seen_beside(hides)
        colours = self._seen_small.copy()
        cv2.copyTo(small, seen.view(np.uint8), colours)
        colour = self._pulled(colours.astype(np.float32), (seen | self._known) & behind, RELAXATIONS)
        fill = cv2.merge([*cv2.split(colour), depth[..., 0]])
        return fill if self._fill is None else self._fill + FADE * (fill - self._fill)

    def _with_what_is_known(self, frame: Bytes, hides: Mask) -> Bytes:
        """The frame, and what is remembered of what is hidden in it."""
        picture = self._buffers.bytes("carried over", *frame.shape)
        np.copyto(picture, frame)
        known = cv2.resize((self._known & hides).view(np.uint8), self._size, interpolation=cv2.INTER_NEAREST)
        return cv2.copyTo(self._seen, known, picture)

    def _pulled(self, values: Floats, lends: Mask, relaxations: int = 0) -> Floats:
        """At the coarse size: the averages of ``values`` h w c where they lend, and smooth ones elsewhere."""
        share = self._share(lends)
        lent = cv2.copyTo(values, lends.view(np.uint8))
        coarse = cv2.resize(lent, self._coarse, interpolation=cv2.INTER_AREA).reshape(*share.shape, -1)
        certain = (share > 0.5).astype(np.float32)
        return push_pull(weighted(coarse, 1 / np.maximum(share, 0.5)), certain, relaxations)

    def _coarse_grey(self, small: Bytes) -> Floats:
        coarse = cv2.resize(small, self._coarse, interpolation=cv2.INTER_AREA)
        return cv2.cvtColor(coarse, cv2.COLOR_RGB2GRAY).astype(np.float32)

    def _share(self, mask: Mask) -> Floats:
        coarse = cv2.resize(mask.astype(np.float32), self._coarse, interpolation=cv2.INTER_AREA)
        return coarse


def _seen_beside(hides: Mask) -> Mask:
    """Where nothing hides, nor right beside."""
    return np.asarray(cv2.erode(_white(~hides), BESIDE) > 0)


def _white(mask: Mask) -> Bytes:
    white: Bytes = mask.view(np.uint8) * np.uint8(255)
    return white


def _grown(mask: Mask, cells: int) -> Bytes:
    """White where it is, and so many cells around."""
    side = 1 + 2 * cells
    return cv2.dilate(_white(mask), np.ones((side, side), np.uint8))


def _drawn_out(mask: Mask, parallax: Parallax, cells: int) -> Bytes:
    """White where it is, and so many cells on the side where the background comes out."""
    reach = math.hypot(parallax.right, parallax.down)
    along = np.array([parallax.right, parallax.down]) * (cells / reach)
    line = np.zeros((1 + 2 * cells, 1 + 2 * cells), np.uint8)
    cv2.line(line, (cells, cells), tuple(int(x) for x in np.rint(cells - along)), 1)
    return cv2.dilate(_white(mask), line)


def _with_nothing_seen(colour: Floats) -> Bytes:
    """h w 3 → h w 4 with 0 in the last channel."""
    whole = np.rint(np.dstack([colour, np.zeros_like(colour[..., :1])]))
    colours: Bytes = np.clip(whole, 0, 255).astype(np.uint8)
    return colours
