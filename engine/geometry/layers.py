"""Two layers of one picture, what stands in front and what lies behind, drawn as from another camera.

Each layer is a surface of its own, so its picture is fetched whole and sharp, and the edge between them is
the front's own soft one: no rubber sheet from one to the other. Pictures have four channels, which OpenCV 5
remaps four times as fast as three. Knows nothing of time, and not where the layers come from.

Shapes: H W the picture's rows and columns, h w the source grid's, th tw the target grid's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from engine.camera.geometry import Intrinsics, Pose
from engine.geometry.background import Plate
from engine.geometry.forward_warp import (
    FARTHEST,
    Projection,
    in_picture,
    plane_positions,
    refine,
    source_positions,
    splat,
    target_grid,
)
from engine.geometry.pictures import (
    Buffers,
    Bytes,
    Floats,
    Mask,
    Size,
    blended,
    fetched,
    multiplied,
    push_pull,
    weighted,
)

FEATHER = 0.05  # of the picture's width: how softly it ends, at most (as the compositor does it)
BEYOND_BLUR = 0.02  # of the width
OCCLUDES = 1.25  # the background is drawn over the front where it is nearer by this factor
BEHIND = 1.3  # what is nearer than the farthest around it by more lends a hole no colour
EDGE = 0.1  # neighbouring cells whose inverse depths differ by more, relatively, are of two surfaces
NEXT = np.ones((3, 3), np.uint8)
AROUND = np.ones((7, 7), np.uint8)
ENLARGE = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
ROUNDING = (5, 5)  # cells: their corners are taken off the edges of what is enlarged
REPLICATE = cv2.BORDER_REPLICATE
PAD = 160  # of the width
TILE = 160  # pixels: parts of the picture are completed only where there is something to complete
SURROUNDINGS = np.ones((25, 25), np.uint8)
CORE = np.ones((3, 3), np.uint8)
NEARBY = np.ones((15, 15), np.uint8)
FILL_RATE = np.float32(0.25)  # share of a new fill of holes in the old one
JUMP = 0.05  # of the width, between two pictures: the virtual camera was cut to another place
SAY = np.float32(0.05)
RIM = np.ones((7, 7), np.uint8)  # of the front, splatted as well, so that its soft edge has a place


Corner = tuple[int, int]  # row, column


@dataclass(frozen=True, slots=True)
class Layers:
    """``front``: colour times share, and share, H W 4 cut down to what is not empty, with its first row and
    column in ``front_corner``; ``back`` H W 4: colour, and 255 where it is known.

    Inverse depths h w are complete: the front's goes on smoothly where there is no front.
    ``front_share`` h w is the front's share on the grid, 0…1; ``small`` h w 3 is the undivided picture.
    """

    front: Bytes
    front_corner: Corner
    front_share: Floats
    front_inverse_depth: Floats
    back: Bytes
    back_inverse_depth: Floats
    small: Bytes

    @classmethod
    def of(
        cls,
        frame: Bytes,
        small: Bytes,
        share: Bytes,
        small_share: Floats,
        front_inverse_depth: Floats,
        background: Plate,
    ) -> Layers:
        """From a picture H W 4 (and h w 3 on the grid), the front's ``share`` H W in 0…255 (and h w in 0…1)
        and inverse depth, and the background that the picture was taken into.
        """
        front, corner = _lifted(frame, share, background.colour)
        return cls(
            front=front,
            front_corner=corner,
            front_share=small_share,
            front_inverse_depth=front_inverse_depth,
            back=background.colour,
            # what lies behind is not nearer, whatever was pulled in from around it
            back_inverse_depth=np.minimum(
                background.inverse_depth, np.where(small_share > 0.5, front_inverse_depth, np.inf)
            ),
            small=small,
        )


def _lifted(frame: Bytes, share: Bytes, back: Bytes) -> tuple[Bytes, Corner]:
    """The front by itself, times its share: what is left of the mixture I = αF + (1 − α)B without B; and its
    first row and column.

    So a soft edge carries nothing of the old background along, and the two layers, put together again
    unmoved, give the picture that they were made of, whatever the matte's mistakes.
    """
    height, width = share.shape
    x, y, columns, rows = cv2.boundingRect(share)
    top, left = max(0, y - 1), max(0, x - 1)  # a rim of nothing, but for the picture's own edges
    box = (slice(top, min(height, y + rows + 1)), slice(left, min(width, x + columns + 1)))
    alpha = np.ascontiguousarray(share[box])
    front = multiplied(back[box], cv2.bitwise_not(alpha), np.empty((*alpha.shape, 4), np.uint8))
    cv2.subtract(frame[box], front, dst=front)
    cv2.min(front, cv2.merge([alpha] * 4), dst=front)
    return front, (top, left)


def front_depth(inverse_depth: Floats, share: Floats) -> Floats:
    """That of the front's core, going on smoothly beyond it: at the very edge, depth is of neither layer.
    What is far from any core, as it is thin or unsure, has a say as well.
    """
    core = cv2.erode((share > 0.9).astype(np.float32), CORE)
    apart = (share > 0) & (cv2.dilate(core, NEARBY) <= 0)
    return push_pull(inverse_depth[..., None], np.where(apart, SAY, core))[..., 0]


@dataclass(frozen=True, slots=True)
class Surface:
    """A layer in the target's grid th tw: its inverse depth, and where each cell comes from.

    At an edge there are two answers, that of the near side and that of the far side; ``nearness`` says which
    holds. Each is smooth across the edge, so it may be enlarged, and the edge is then drawn by nearness.
    """

    inverse_depth: Floats
    hole: Mask  # nothing of the layer falls here
    lends: Mask  # what is not a hole, nor near for its surroundings: fills holes
    positions: Floats  # th tw 2, on the source's grid
    far_positions: Floats | None = None  # None: there are no edges, and positions are all there is
    nearness: Bytes | None = None  # 0 or 255

    @classmethod
    def splatted(
        cls, inverse_depth: Floats, keep: Mask | None, forward: Projection, back: Projection, grid: Size
    ) -> Surface:
        """The layer of a source's inverse depth h w, or of what of it is kept."""
        found = splat(inverse_depth, forward, grid, keep)
        hole = found <= 0
        lends = ~hole
        if hole.any():
            if keep is None:  # what is uncovered is what lies behind
                farthest = cv2.erode(np.where(hole, np.float32(np.inf), found), SURROUNDINGS)
                lends &= found / BEHIND < farthest
            spread = push_pull(found[..., None], lends.astype(np.float32))[..., 0]
            found = np.where(hole, np.maximum(spread, FARTHEST), found)
        found = np.where(hole, found, refine(found, inverse_depth, back))
        near, far = cv2.dilate(found, NEXT), cv2.erode(found, NEXT)
        edge = near - far > EDGE * near
        if keep is not None or not edge.any():
            return cls(found, hole, lends, source_positions(found, back))
        middle = cv2.dilate(found, AROUND) + cv2.erode(found, AROUND)
        nearness = np.where(2 * found > middle, 255, 0).astype(np.uint8)
        near, far = np.where(edge, near, found), np.where(edge, far, found)
        return cls(found, hole, lends, source_positions(near, back), source_positions(far, back), nearness)


class LayerRenderer:
    """Draws pictures of one size (width, height), with geometry on a grid (width, height)."""

    def __init__(self, size: Size, grid: Size) -> None:
        self._size, self._grid = size, grid
        # positions are enlarged from the middles of cells, so the outermost must lie outside the picture
        self._pad = max(2, size[0] // PAD)
        self._wide = (size[0] + 2 * self._pad, size[1] + 2 * self._pad)
        self._tile_edges = [np.linspace(0, side, max(1, side // TILE) + 1).astype(int) for side in size]
        self._buffers = Buffers()
        self.reset()

    def reset(self) -> None:
        """Forget: the next picture is another one, or seen from somewhere else."""
        self._fill: Floats | None = None
        self._corner: Floats | None = None  # where the picture's first corner came from

    def draw(self, layers: Layers, lens: Intrinsics, pose: Pose) -> Bytes:
        """H W 4: the view of ``pose``, and in the last channel how far it shows what was really seen, 0…255.
        ``lens`` is the source's.
        """
        front = layers.front_share > 0
        subject = layers.front_inverse_depth[front] if front.any() else layers.back_inverse_depth
        near = float(np.median(subject))
        grid = target_grid(self._grid, pose, near)
        source = lens.scaled(*self._grid)
        target = _padded(lens.zoomed(pose.zoom), self._pad).scaled(*grid)
        forward, back = Projection.between(source, target, pose), Projection.back(source, target, pose)

        plane = plane_positions(near, forward, grid)
        if self._corner is None or np.abs(plane[0, 0] - self._corner).max() > JUMP * self._grid[0]:
            self.reset()
        self._corner = plane[0, 0]
        behind = Surface.splatted(layers.back_inverse_depth, None, forward, back, grid)
        width, height = self._size
        picture = self._buffers.bytes("picture", height, width, 4)
        fetched(layers.back, self._enlarged(behind, self._size), out=picture)
        positions, hole = behind.positions, behind.hole
        if not front.any():
            filled = self._fill_holes(picture, layers.back, behind, hole)
        else:
            kept = cv2.dilate(front.astype(np.uint8), RIM) > 0
            ahead = Surface.splatted(layers.front_inverse_depth, kept, forward, back, grid)
            share = fetched(layers.front_share, ahead.positions)
            occluded = behind.inverse_depth > OCCLUDES * ahead.inverse_depth
            open_hole = hole & ((share < 0.99) | occluded)
            filled = self._fill_holes(picture, layers.back, behind, open_hole)
            self._draw_front(picture, layers, ahead, share, occluded)
            covered = (share > 0.5) & ~occluded
            positions = np.where(covered[..., None], ahead.positions, positions)
            hole = hole & ~covered
        self._draw_beyond(picture, layers.small, filled, positions, hole, plane)
        return picture

    def _enlarged(self, surface: Surface, source: Size, corner: Corner = (0, 0)) -> Floats:
        """H W 2: positions in the part of the source that begins at ``corner`` and has that size."""
        positions = self._inside_positions(surface.positions, source, corner)
        if surface.far_positions is not None and surface.nearness is not None:
            half = (self._wide[0] // 2, self._wide[1] // 2)
            near = cv2.resize(positions, half)
            far = cv2.resize(self._inside_positions(surface.far_positions, source, corner), half)
            nearness = cv2.resize(cv2.blur(surface.nearness, ROUNDING), half)
            positions = cv2.copyTo(near, cv2.threshold(nearness, 127, 255, cv2.THRESH_BINARY)[1], far)
        width, height = self._wide
        large = self._buffers.floats("positions", height, width, 2)
        cv2.resize(positions, self._wide, dst=large)
        return large[self._inner]

    def _inside_positions(self, positions: Floats, source: Size, corner: Corner) -> Floats:
        """In that part of the picture, and hardly outside, where fetching is slow; what is not in it will be
        covered.
        """
        there = in_picture(positions, self._grid, self._size, corner)
        for axis in range(2):
            np.clip(there[..., axis], -self._pad, source[axis] - 1 + self._pad, out=there[..., axis])
        return there

    @property
    def _inner(self) -> tuple[slice, slice]:
        """Of something padded: the picture."""
        return slice(self._pad, self._pad + self._size[1]), slice(self._pad, self._pad + self._size[0])

    def _draw_front(
        self, picture: Bytes, layers: Layers, surface: Surface, share: Floats, occluded: Mask
    ) -> None:
        """Over what lies behind: front + back · (1 − share) (Porter and Duff 1984), premultiplied."""
        box = self._box(share > 0)
        if box is None:
            return
        under = picture[box]
        drawn = self._buffers.bytes("drawn", *under.shape)
        front_size = (layers.front.shape[1], layers.front.shape[0])
        fetched(layers.front, self._enlarged(surface, front_size, layers.front_corner)[box], out=drawn)
        if (occluded & (share > 0)).any():
            shown = cv2.resize(cv2.blur(np.where(occluded, 0, 255).astype(np.uint8), ROUNDING), self._wide)
            shown = shown[self._inner][box]
            multiplied(drawn, cv2.addWeighted(shown, 3, shown, 0, -255), drawn)
        multiplied(under, cv2.bitwise_not(cv2.extractChannel(drawn, 3)), under)
        cv2.add(under, drawn, dst=under)

    def _box(self, cells: Mask) -> tuple[slice, slice] | None:
        """The part of the picture (rows, columns) that may hold something of these cells."""
        left, top, columns, rows = cv2.boundingRect(cells.view(np.uint8))
        if columns == 0:
            return None
        across, down = self._wide[0] / cells.shape[1], self._wide[1] / cells.shape[0]
        return (
            _cut((top - 1) * down - self._pad, (top + rows + 1) * down - self._pad, self._size[1]),
            _cut((left - 1) * across - self._pad, (left + columns + 1) * across - self._pad, self._size[0]),
        )

    def _fill_holes(self, picture: Bytes, back: Bytes, behind: Surface, hole: Mask) -> Floats | None:
        """With the colours th tw 3 of what is farthest around them, which it returns; None: no hole."""
        if not hole.any():
            return None
        colours = fetched(back, in_picture(behind.positions, self._grid, self._size))[..., :3]
        fill = self._steadied(push_pull(colours.astype(np.float32), behind.lends.astype(np.float32)))
        self._cover(picture, fill, (~hole).astype(np.float32))
        return fill

    def _steadied(self, fill: Floats) -> Floats:
        """What is made up follows slowly what it is made of: smooth as it is, only flicker would be seen."""
        if self._fill is not None:
            before = cv2.resize(self._fill, fill.shape[1::-1])
            fill = before + FILL_RATE * (fill - before)
        self._fill = fill
        return fill

    def _draw_beyond(
        self,
        picture: Bytes,
        small: Bytes,
        filled: Floats | None,
        positions: Floats,
        hole: Mask,
        plane: Floats,
    ) -> None:
        """Beyond the source's edges: its own mirrored blur, which the compositor shows there as well.

        ``plane``: positions th tw 2 as if all were in the subject's plane, which know no holes. ``filled``:
        what is next to the picture's soft edge where that ends at a hole.
        """
        across, down = plane.shape[1] / self._wide[0], plane.shape[0] / self._wide[1]
        columns, rows = math.ceil(self._pad * across - 0.5), math.ceil(self._pad * down - 0.5)
        inner = (slice(rows, -rows or None), slice(columns, -columns or None))
        pasts = [max(0.0, -float(margin.min())) for margin in _margins(plane[inner], self._grid)]
        known = np.where(hole[..., None], plane, positions)
        keep = _softened(known, self._grid, pasts)[inner]
        if keep.min() >= 1:
            return
        blurred = cv2.GaussianBlur(cv2.pyrDown(small), (0, 0), max(0.5, BEYOND_BLUR * self._grid[0] / 2))
        beyond = fetched(blurred, plane / np.float32(2), cv2.BORDER_REFLECT)
        fill = np.asarray(beyond, np.float32)
        if filled is not None:
            fill = blended(fill, filled, _softened(plane, self._grid, pasts))
        self._cover(picture, fill, cv2.copyMakeBorder(keep, rows, rows, columns, columns, REPLICATE))

    def _cover(self, picture: Bytes, fill: Floats, keep: Floats) -> None:
        """Draws ``fill`` th tw 3 over the picture where ``keep`` th tw is less than 1; it was not seen."""
        over = np.rint(np.dstack([weighted(fill, 1 - keep), 255 * keep])).astype(np.uint8)
        across, down = keep.shape[1] / self._wide[0], keep.shape[0] / self._wide[1]
        for tile in self._tiles(keep < 1):
            part = picture[tile]
            y, x = (
                (side.start + self._pad + 0.5) * scale - 0.5
                for side, scale in zip(tile, (down, across), strict=True)
            )
            enlarge = np.array([[across, 0, x], [0, down, y]])
            large = self._buffers.bytes("over", *part.shape)
            cv2.warpAffine(over, enlarge, part.shape[1::-1], dst=large, flags=ENLARGE, borderMode=REPLICATE)
            multiplied(part, cv2.extractChannel(large, 3), part)
            cv2.insertChannel(np.zeros(part.shape[:2], np.uint8), large, 3)
            cv2.add(part, large, dst=part)

    def _tiles(self, cells: Mask) -> Iterator[tuple[slice, slice]]:
        """Parts of the picture (rows, columns) that together hold all of these cells, and little else."""
        columns, rows = self._tile_edges
        across, down = cells.shape[1] / self._wide[0], cells.shape[0] / self._wide[1]
        for top, bottom in pairwise(rows):
            band = np.any(cells[self._cells(top, bottom, down)], axis=0, keepdims=True)
            for left, right in pairwise(columns):
                if band[:, self._cells(left, right, across)].any():
                    yield slice(top, bottom), slice(left, right)

    def _cells(self, start: int, stop: int, scale: float) -> slice:
        """All that these pixels are enlarged from."""
        first = (start + self._pad + 0.5) * scale - 0.5
        last = (stop - 1 + self._pad + 0.5) * scale - 0.5
        return slice(max(0, math.floor(first)), math.ceil(last) + 1)


def _padded(lens: Intrinsics, pad: int) -> Intrinsics:
    """The lens of a picture that is larger by so many pixels on each side."""
    return Intrinsics(
        lens.fx, lens.fy, lens.cx + pad, lens.cy + pad, lens.width + 2 * pad, lens.height + 2 * pad
    )


def _cut(start: float, stop: float, length: int) -> slice:
    return slice(min(length, max(0, int(start))), max(0, min(length, int(stop) + 1)))


def _margins(positions: Floats, grid: Size) -> tuple[Floats, Floats, Floats, Floats]:
    """How far inside the picture's four edges."""
    x, y = positions[..., 0], positions[..., 1]
    return x + 0.5, grid[0] - 0.5 - x, y + 0.5, grid[1] - 0.5 - y


def _softened(positions: Floats, grid: Size, pasts: list[float]) -> Floats:
    """th tw: 1 in the source's picture, 0 beyond it, soft before its edges. Only sides that are looked past
    are softened, and by no more than that, so that an unmoved picture is left alone.
    """
    weights = np.ones(positions.shape[:2], np.float32)
    for margin, past in zip(_margins(positions, grid), pasts, strict=True):
        if past > 0.01:
            weights *= np.clip(margin / min(past, FEATHER * grid[0]), 0, 1)
    return weights
