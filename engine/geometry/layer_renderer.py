"""Two layers, drawn as from another camera.

The geometry is worked out on a grid over the target's picture; the pictures are fetched tile by tile, and of
each layer only what is seen of it there. Pictures have four channels, which OpenCV 5 remaps four times as
fast as three. Knows nothing of time, but that what it makes up must not flicker.

Shapes: H W the picture's rows and columns, h w the source grid's, th tw the target grid's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from engine.camera.geometry import Intrinsics, Matrix, Pose
from engine.geometry.forward_warp import FAR_OUTSIDE, Projection, in_picture, plane_positions, target_cell
from engine.geometry.layers import Layers, Surface
from engine.geometry.pictures import (
    Buffers,
    Bytes,
    Corner,
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
NEGLIGIBLE = 0.01  # cells that are looked past an edge
BEYOND_BLUR = 0.02  # of the width
OCCLUDES = 1.25  # the background is drawn over the front where it is nearer by this factor
ROUNDING = (5, 5)  # cells, off the corners of what occludes
TILE = 160  # pixels
FILL_RATE = np.float32(0.25)  # share of a new fill of holes in the old one
JUMP = 0.05  # of the width, between two pictures: the virtual camera was cut to another place
NEXT = np.ones((3, 3), np.uint8)
RIM = np.ones((7, 7), np.uint8)  # of the front, splatted as well, so that its soft edge has a place


@dataclass(frozen=True, slots=True)
class Box:
    """A part of the picture, and the cells that it is enlarged from: its own and one more on each side."""

    pixels: tuple[slice, slice]
    cells: tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class TargetGrid:
    """Cells of ``cell`` pixels over a picture of ``picture`` (width, height), and a rim of one cell around
    them, so that what is enlarged from the middles of cells reaches every pixel.
    """

    picture: Size
    cell: int

    @property
    def size(self) -> Size:
        return -(-self.picture[0] // self.cell) + 2, -(-self.picture[1] // self.cell) + 2

    def place(self, pixel: float) -> float:
        """Of a pixel's row or column on the grid."""
        return (pixel + 0.5) / self.cell + 0.5

    def lens(self, lens: Intrinsics) -> Intrinsics:
        """Sees the grid as ``lens`` sees the picture."""
        fx, fy = lens.fx / self.cell, lens.fy / self.cell
        return Intrinsics(fx, fy, self.place(lens.cx), self.place(lens.cy), *self.size)

    def whole(self) -> Box:
        columns, rows = self.size
        return self._box(1, 1, rows - 1, columns - 1)

    def around(self, cells: Mask) -> Box | None:
        """All that is enlarged from any of these cells; None: nothing is."""
        left, top, wide, tall = cv2.boundingRect(cells.view(np.uint8))
        columns, rows = self.size
        first_row, first_column = max(1, top - 1), max(1, left - 1)
        last_row, last_column = min(rows - 1, top + tall + 1), min(columns - 1, left + wide + 1)
        return self._box(first_row, first_column, last_row, last_column) if wide else None

    def tiles(self, cells: Mask) -> Iterator[Box]:
        """Parts of the picture that together hold all of these cells, and little else."""
        step = max(1, round(TILE / self.cell))
        columns, rows = (side - 2 for side in self.size)
        across, down = -(-columns // step), -(-rows // step)
        blocks = np.zeros((down * step, across * step), np.uint8)
        blocks[:rows, :columns] = cv2.dilate(cells.view(np.uint8), NEXT)[1:-1, 1:-1]
        wanted = blocks.reshape(down, step, across, step).max(axis=(1, 3))
        for row, column in np.argwhere(wanted):
            top, left = 1 + int(row) * step, 1 + int(column) * step
            yield self._box(top, left, min(top + step, rows + 1), min(left + step, columns + 1))

    def _box(self, top: int, left: int, bottom: int, right: int) -> Box:
        """Of these rows and columns of cells, of which none is in the rim."""
        rows, columns = (
            slice((first - 1) * self.cell, min((stop - 1) * self.cell, pixels))
            for first, stop, pixels in ((top, bottom, self.picture[1]), (left, right, self.picture[0]))
        )
        return Box((rows, columns), (slice(top - 1, bottom + 1), slice(left - 1, right + 1)))

    def enlarged(self, values: Floats | Bytes, box: Box, room: Floats | Bytes) -> Floats | Bytes:
        """``values`` th tw … at the box's pixels; made in ``room``, as large as the box's cells."""
        part = values[box.cells]
        size = (part.shape[1] * self.cell, part.shape[0] * self.cell)
        large = cv2.resize(part, size, dst=room)
        height, width = (side.stop - side.start for side in box.pixels)
        return large[self.cell : self.cell + height, self.cell : self.cell + width]

    def room(self, box: Box) -> tuple[int, int]:
        """Rows and columns of what a box is enlarged in."""
        rows, columns = (side.stop - side.start for side in box.cells)
        return rows * self.cell, columns * self.cell


@dataclass(frozen=True, slots=True)
class Textured:
    """A layer's picture and, for every cell th tw, the pixel there that it shows: at an edge, on the near
    side and on the far side (see :class:`Surface`).
    """

    picture: Bytes
    positions: Floats
    edge: Mask | None
    far_positions: Floats | None
    nearness: Bytes | None


@dataclass(frozen=True, slots=True)
class Cover:
    """What is drawn over a picture because it was not seen: ``colour`` th tw 4, times 1 − ``keep``, and
    ``keep`` th tw, 0…255.
    """

    colour: Bytes
    keep: Bytes

    @classmethod
    def of(cls, fill: Floats, keep: Floats) -> Cover:
        """``fill`` th tw 3 where ``keep`` th tw is less than 1."""
        red, green, blue = cv2.split(weighted(fill, 1 - keep))
        colour = cv2.merge([red, green, blue, np.zeros_like(red)])
        return cls(np.rint(colour).astype(np.uint8), np.rint(255 * keep).astype(np.uint8))


@dataclass(frozen=True, slots=True)
class Front:
    """The front's picture, the cells th tw where there may be something of it, and how far the background
    leaves it to be seen, 0…255; None: everywhere.
    """

    texture: Textured
    cells: Mask
    shown: Bytes | None


class LayerRenderer:
    """Draws pictures of one size (width, height), with geometry on a grid (width, height)."""

    def __init__(self, size: Size, grid: Size) -> None:
        self._size, self._grid = size, grid
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
        near = layers.nearness()
        grid = TargetGrid(self._size, target_cell(self._size[0] / self._grid[0], pose, near))
        source, target = lens.scaled(*self._grid), grid.lens(lens.zoomed(pose.zoom))
        forward, back = Projection.between(source, target, pose), Projection.back(source, target, pose)
        corners = _corners(grid, forward.at(near))
        if self._corner is None or np.abs(corners[0] - self._corner).max() > JUMP * self._grid[0]:
            self.reset()
        self._corner = corners[0]

        behind = Surface.splatted(layers.back_inverse_depth, None, forward, back, grid.size)
        positions, hole, open_hole, front = behind.positions, behind.hole, behind.hole, None
        if layers.front_share.any():
            kept = cv2.dilate((layers.front_share > 0).view(np.uint8), RIM).view(np.bool_)
            ahead = Surface.splatted(layers.front_inverse_depth, kept, forward, back, grid.size)
            share = fetched(layers.front_share, ahead.positions)
            occluded = behind.inverse_depth > OCCLUDES * ahead.inverse_depth
            front = self._front(layers, ahead, share > 0, occluded, grid)
            open_hole = hole & ((share < 0.99) | occluded)
            covered = (share > 0.5) & ~occluded
            positions = np.where(covered[..., None], ahead.positions, positions)
            hole = hole & ~covered
        texture = self._textured(layers.back, (0, 0), behind, grid)
        fill = self._filled(texture, behind.lends) if open_hole.any() else None
        holes = None if fill is None else Cover.of(fill, (~open_hole).astype(np.float32))
        pasts, beyond = _pasts(corners, self._grid), None
        if max(pasts) > NEGLIGIBLE:
            plane = plane_positions(near, forward, grid.size)
            beyond = self._beyond(layers.small, fill, positions, hole, plane, pasts)

        picture = self._buffers.bytes("picture", self._size[1], self._size[0], 4)
        self._fetch(texture, grid, grid.whole(), picture)
        self._cover(picture, grid, holes)
        if front is not None:
            self._draw_front(picture, grid, front)
        self._cover(picture, grid, beyond)
        return picture

    def _textured(self, picture: Bytes, corner: Corner, surface: Surface, grid: TargetGrid) -> Textured:
        """``corner`` of the source is the picture's first pixel."""

        def inside(positions: Floats) -> Floats:
            """Hardly outside, where fetching is slow: what is not in the picture will be covered."""
            there = cv2.split(in_picture(positions, self._grid, self._size, corner))
            for along, side in zip(there, picture.shape[1::-1], strict=True):
                np.clip(along, -grid.cell, side - 1 + grid.cell, out=along)
            return cv2.merge(there)

        far = None if surface.far_positions is None else inside(surface.far_positions)
        return Textured(picture, inside(surface.positions), surface.edge, far, surface.nearness)

    def _front(
        self, layers: Layers, surface: Surface, cells: Mask, occluded: Mask, grid: TargetGrid
    ) -> Front:
        shown = None
        if (occluded & cells).any():
            shown = cv2.blur(np.where(occluded, 0, 255).astype(np.uint8), ROUNDING)
            shown = cv2.addWeighted(shown, 3, shown, 0, -255)
        return Front(self._textured(layers.front, layers.front_corner, surface, grid), cells, shown)

    def _draw_front(self, picture: Bytes, grid: TargetGrid, front: Front) -> None:
        """Over what lies behind: front + back · (1 − share) (Porter and Duff 1984), premultiplied."""
        box = grid.around(front.cells)
        if box is None:
            return
        under = picture[box.pixels]
        drawn = self._fetch(front.texture, grid, box, self._buffers.bytes("drawn", *under.shape))
        if front.shown is not None:
            room = self._buffers.bytes("shown", *grid.room(box))
            multiplied(drawn, grid.enlarged(front.shown, box, room), drawn)
        multiplied(under, cv2.bitwise_not(cv2.extractChannel(drawn, 3)), under)
        cv2.add(under, drawn, dst=under)

    def _fetch(self, texture: Textured, grid: TargetGrid, box: Box, out: Bytes) -> Bytes:
        positions = grid.enlarged(
            texture.positions, box, self._buffers.floats("positions", *grid.room(box), 2)
        )
        if texture.edge is not None:
            assert texture.far_positions is not None and texture.nearness is not None
            for tile in grid.tiles(texture.edge):
                room = grid.room(tile)
                far = grid.enlarged(texture.far_positions, tile, self._buffers.floats("far", *room, 2))
                nearness = grid.enlarged(texture.nearness, tile, self._buffers.bytes("nearness", *room))
                is_far = cv2.threshold(nearness, 127, 255, cv2.THRESH_BINARY_INV)[1]
                cv2.copyTo(far, is_far, positions[tile.pixels])
        return fetched(texture.picture, positions, out=out)

    def _cover(self, picture: Bytes, grid: TargetGrid, cover: Cover | None) -> None:
        if cover is None:
            return
        for tile in grid.tiles(cover.keep < 255):
            part, room = picture[tile.pixels], grid.room(tile)
            keep = grid.enlarged(cover.keep, tile, self._buffers.bytes("keep", *room))
            multiplied(part, keep, part)
            large = self._buffers.bytes("cover", *room, 4)
            cv2.add(part, grid.enlarged(cover.colour, tile, large), dst=part)

    def _filled(self, back: Textured, lends: Mask) -> Floats:
        """Colours th tw 3 for holes: of what is farthest around them. What is made up follows slowly what it
        is made of: smooth as it is, only flicker would be seen.
        """
        colours = cv2.cvtColor(fetched(back.picture, back.positions), cv2.COLOR_RGBA2RGB)
        fill = push_pull(colours.astype(np.float32), lends.astype(np.float32))
        if self._fill is not None:
            before = cv2.resize(self._fill, fill.shape[1::-1])
            fill = before + FILL_RATE * (fill - before)
        self._fill = fill
        return fill

    def _beyond(
        self,
        small: Bytes,
        filled: Floats | None,
        positions: Floats,
        hole: Mask,
        plane: Floats,
        pasts: list[float],
    ) -> Cover | None:
        """Beyond the source's edges: its own mirrored blur, which the compositor shows there as well.

        ``plane``: positions th tw 2 as if all were in the subject's plane, which know no holes. ``filled``:
        what is next to the picture's soft edge where that ends at a hole.
        """
        keep = _softened(np.where(hole[..., None], plane, positions), self._grid, pasts)
        if keep.min() >= 1:
            return None
        blurred = cv2.GaussianBlur(cv2.pyrDown(small), (0, 0), max(0.5, BEYOND_BLUR * self._grid[0] / 2))
        fill = np.asarray(fetched(blurred, plane / np.float32(2), cv2.BORDER_REFLECT), np.float32)
        if filled is not None:
            fill = blended(fill, filled, _softened(plane, self._grid, pasts))
        return Cover.of(fill, keep)


def _corners(grid: TargetGrid, homography: Matrix) -> Floats:
    """4 2: where the target's corners come from on the source's grid, by a plane's homography between the
    grids; far outside where that is behind the source.
    """
    left, top = grid.place(-0.5), grid.place(-0.5)
    right, bottom = (grid.place(side - 0.5) for side in grid.picture)
    corners = np.array([[left, right, left, right], [top, top, bottom, bottom], [1, 1, 1, 1]])
    x, y, passed = np.linalg.solve(homography, corners)
    found = np.where(passed > 0, (x, y) / np.maximum(passed, 1e-9), FAR_OUTSIDE)
    return np.asarray(found.T, np.float32)


def _margins(positions: Floats, grid: Size) -> tuple[Floats, Floats, Floats, Floats]:
    """How far inside the picture's four edges."""
    x, y = positions[..., 0], positions[..., 1]
    return x + 0.5, grid[0] - 0.5 - x, y + 0.5, grid[1] - 0.5 - y


def _pasts(corners: Floats, grid: Size) -> list[float]:
    """How far the target looks past each edge of the source's picture."""
    return [max(0.0, -float(margin.min())) for margin in _margins(corners, grid)]


def _softened(positions: Floats, grid: Size, pasts: list[float]) -> Floats:
    """th tw: 1 in the source's picture, 0 beyond it, soft before its edges. Only sides that are looked past
    are softened, and by no more than that, so that an unmoved picture is left alone.
    """
    weights = np.ones(positions.shape[:2], np.float32)
    for margin, past in zip(_margins(positions, grid), pasts, strict=True):
        if past > NEGLIGIBLE:
            weights *= np.clip(margin / min(past, FEATHER * grid[0]), 0, 1)
    return weights
