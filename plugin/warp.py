"""Reprojection of a picture by a homography, in NV12, with a soft border where it ends.

Works on luma and chroma directly: half the work of RGB, and nothing left to convert between the warp and
the wire. Chroma is warped as four interleaved bytes, U V U V: OpenCV has a fast way for one byte and for
four, and a several times slower one for two. Knows nothing of poses or engines.

Chroma samples sit in the middle of their four luma samples (as :func:`plugin.colour.to_nv12` makes
them), so a luma position x is the chroma position (x − ½) / 2.

The border is computed on cells of GRID × GRID luma samples, and only drawn where it is seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.camera.geometry import Matrix

Plane = NDArray[np.uint8]
Floats = NDArray[np.floating]
Colour = tuple[int, int, int]
Window = tuple[slice, slice]  # rows and columns, in cells

GRID = 8  # luma samples to a cell's side
FEATHER = 0.05  # of the picture's width: how softly it ends, at most
BORDER_BLUR = 0.02  # of the width
HALVE_BELOW = 0.55  # scale under which a picture is halved first, so that fine lines do not shimmer


def _scaling(x: float, y: float) -> Matrix:
    """Pixel centres at whole numbers → the same of a picture scaled by that much."""
    return np.array([[x, 0.0, (x - 1) / 2], [0.0, y, (y - 1) / 2], [0.0, 0.0, 1.0]])


_TO_HALF = _scaling(0.5, 0.5)  # also from luma to chroma
_FROM_HALF = np.linalg.inv(_TO_HALF)


def _resize(plane: Plane, width: int, height: int, interpolation: int = cv2.INTER_AREA) -> Plane:
    resized: Plane = cv2.resize(plane, (width, height), interpolation=interpolation)  # type: ignore[assignment]
    return resized


@dataclass(frozen=True)
class Picture:
    """An NV12 picture: luma H W and chroma H/2 W/2 2, views of one buffer of H·3/2 rows."""

    nv12: Plane

    @property
    def width(self) -> int:
        return int(self.nv12.shape[1])

    @property
    def height(self) -> int:
        return int(self.nv12.shape[0]) * 2 // 3

    @property
    def luma(self) -> Plane:
        return self.nv12[: self.height]

    @property
    def chroma(self) -> Plane:
        return self.nv12[self.height :].reshape(self.height // 2, self.width // 2, 2)

    @classmethod
    def blank(cls, width: int, height: int) -> Picture:
        """Of that (even) size, with nothing in it yet."""
        return cls(np.empty((height * 3 // 2, width), np.uint8))

    @cached_property
    def wide_chroma(self) -> Plane:
        """H/2 W/2 4: U V U V."""
        pairs = _pairs(self.chroma)
        wide: Plane = cv2.merge([pairs, pairs]).view(np.uint8)
        return wide

    @cached_property
    def half(self) -> Picture:
        """At half the size, for reprojections that shrink."""
        width, height = self.width // 4 * 2, self.height // 4 * 2
        half = Picture.blank(width, height)
        half.luma[:] = _resize(self.luma, width, height)
        half.chroma[:] = _resize(self.chroma, width // 2, height // 2)
        return half

    @cached_property
    def blurred(self) -> Plane:
        """H/GRID W/GRID 4: Y U V Y, blurred: what the border is made from."""
        width, height = max(1, self.width // GRID), max(1, self.height // GRID)
        luma, chroma = (_resize(plane, width, height) for plane in (self.luma, self.chroma))
        small = cv2.merge([luma, chroma, luma])
        blurred: Plane = cv2.GaussianBlur(small, (0, 0), max(0.5, BORDER_BLUR * width))  # type: ignore[assignment]
        return blurred

    def prepare(self) -> Picture:
        """Makes now what reprojecting may need, to have it when time is short."""
        _ = self.wide_chroma, self.blurred
        return self


@dataclass(frozen=True, slots=True)
class _Border:
    """What a plane shows around the picture, in cells."""

    beyond: Plane
    """What lies beyond the picture's edge."""
    inside: Plane
    """How much of the picture itself is seen, of 255; the rest is ``beyond``."""
    windows: list[Window]
    """Together, where less than all of it is seen."""
    pitch: int
    """Samples to a cell's side."""


class Reprojector:
    """Draws pictures into outputs of one size. Not for two threads at once: it keeps its working memory."""

    def __init__(self, width: int, height: int, border: Colour | None) -> None:
        """``border``: what is shown beyond a picture's edge, as Y, U, V; None: its own mirrored blur."""
        self._columns, self._rows = -(-width // GRID), -(-height // GRID)
        self._x = (np.arange(self._columns) + 0.5) * GRID - 0.5  # of the cells' middles
        self._y = (np.arange(self._rows)[:, None] + 0.5) * GRID - 0.5
        self._wide_chroma = np.empty((height // 2, width // 2, 4), np.uint8)
        self._beside = ThreadPoolExecutor(1, "chroma")  # drawn while luma is, a fifth sooner done
        self._colour: Plane | None = None
        if border is not None:
            y, u, v = border
            self._colour = np.tile(np.array([y, u, v, y], np.uint8), (self._rows, self._columns, 1))

    def draw(self, picture: Picture, homography: Matrix, out: Picture) -> None:
        """Fills ``out`` with ``picture`` as seen through ``homography`` (picture pixels → out pixels)."""
        if picture.width == out.width and picture.height == out.height and _is_identity(homography):
            np.copyto(out.nv12, picture.nv12)
            return
        inverse = np.linalg.inv(homography)
        if _scale_at_centre(inverse, out) < HALVE_BELOW and min(picture.width, picture.height) >= 128:
            picture, homography, inverse = picture.half, homography @ _FROM_HALF, _TO_HALF @ inverse
        luma_border, chroma_border = self._borders(picture, homography, inverse, out)
        to_chroma = _TO_HALF @ homography @ _FROM_HALF
        chroma = self._beside.submit(
            _draw_plane, picture.wide_chroma, to_chroma, self._wide_chroma, chroma_border
        )
        _draw_plane(picture.luma, homography, out.luma, luma_border)
        chroma.result()
        np.copyto(_pairs(out.chroma), self._wide_chroma.view(np.uint16)[..., 0])

    def _borders(
        self, picture: Picture, homography: Matrix, inverse: Floats, out: Picture
    ) -> tuple[_Border, _Border] | tuple[None, None]:
        """Luma's and chroma's; None where the whole output looks into the picture."""
        inside = self._inside(picture, inverse, out)
        if inside is None:
            return None, None
        beyond = self._mirrored(picture, homography) if self._colour is None else self._colour
        wide = np.empty_like(beyond)
        cv2.mixChannels([beyond], [wide], [1, 0, 2, 1, 1, 2, 2, 3])
        windows = _windows_beside(_largest_window(_settled(inside)), *inside.shape)
        return (
            _Border(cv2.extractChannel(beyond, 0), inside, windows, GRID),  # type: ignore[arg-type]
            _Border(wide, cv2.merge([inside] * 4), windows, GRID // 2),  # type: ignore[arg-type]
        )

    def _mirrored(self, picture: Picture, homography: Matrix) -> Plane:
        """Cells 4, Y U V Y: the picture's own blur, reflected at its edges."""
        rows, columns, _ = picture.blurred.shape
        from_blurred = _scaling(picture.width / columns, picture.height / rows)
        to_cells = _scaling(1 / GRID, 1 / GRID) @ homography @ from_blurred
        size = (self._columns, self._rows)
        cells: Plane = cv2.warpPerspective(picture.blurred, to_cells, size, borderMode=cv2.BORDER_REFLECT)  # type: ignore[assignment]
        return cells

    def _inside(self, picture: Picture, inverse: Floats, out: Picture) -> Plane | None:
        """Cells: 255 in the picture, 0 beyond it, soft in between; None: all inside.

        Only sides that the move looks past are softened, and by no more than it looks past them, so
        that the border grows out of nothing and an unmoved picture is left alone.
        """
        edges, depth = _edges(picture, inverse)
        right, bottom = out.width - 1.0, out.height - 1.0
        corners = np.array([[0.0, right, 0.0, right], [0.0, 0.0, bottom, bottom], [1.0, 1.0, 1.0, 1.0]])
        w = depth @ corners
        behind = w.min() <= 0
        past = np.full(4, float(picture.width)) if behind else -(edges @ corners / w).min(1)
        if past.max() < 0.01:
            return None
        in_front = self._at_cells(depth)
        inside = np.full(in_front.shape, 255, np.uint8)
        for edge, beyond in zip(edges, past, strict=True):
            if beyond > 0:
                margin = self._at_cells(edge / min(beyond, FEATHER * picture.width))
                share = cv2.divide(margin, in_front, scale=255, dtype=cv2.CV_8U)
                cv2.multiply(inside, share, dst=inside, scale=1 / 255)
        if behind:
            inside[in_front <= 0] = 0
        return inside

    def _at_cells(self, form: Floats) -> Floats:
        """Rows columns: a linear form of (x, y, 1) in the cells' middles."""
        values: Floats = self._x * form[0] + (self._y * form[1] + form[2])
        return values


def _draw_plane(source: Plane, homography: Matrix, target: Plane, border: _Border | None) -> None:
    mode = cv2.BORDER_REPLICATE if border is None else cv2.BORDER_TRANSPARENT
    pieces = [] if border is None else list(_pieces(target, border))
    for piece, beyond, _ in pieces:
        np.copyto(piece, beyond)  # the warp leaves alone what it has no picture for
    cv2.warpPerspective(
        source, homography, target.shape[1::-1], dst=target, flags=cv2.INTER_LINEAR, borderMode=mode
    )
    for piece, beyond, inside in pieces:
        _blend(piece, beyond, inside)


def _pieces(target: Plane, border: _Border) -> Iterator[tuple[Plane, Plane, Plane]]:
    """For each window: that part of ``target``, a view; what lies beyond the edge there; the share inside."""
    for window in border.windows:
        rows, columns = (slice(part.start * border.pitch, part.stop * border.pitch) for part in window)
        piece = target[rows, columns]
        height, width = piece.shape[:2]  # the last cells may reach over the target's end
        beyond, inside = (_grown(cells, window, border.pitch) for cells in (border.beyond, border.inside))
        yield piece, beyond[:height, :width], inside[:height, :width]


def _grown(cells: Plane, window: Window, pitch: int) -> Plane:
    """A window of ``cells``, each as pitch × pitch samples: the same as if all cells were grown together."""
    rows, columns = window
    top, left = max(rows.start - 1, 0), max(columns.start - 1, 0)
    around = cells[top : rows.stop + 1, left : columns.stop + 1]
    grown = _resize(around, around.shape[1] * pitch, around.shape[0] * pitch, cv2.INTER_LINEAR)
    skipped_rows, skipped_columns = (rows.start - top) * pitch, (columns.start - left) * pitch
    return grown[
        skipped_rows : skipped_rows + (rows.stop - rows.start) * pitch,
        skipped_columns : skipped_columns + (columns.stop - columns.start) * pitch,
    ]


def _blend(plane: Plane, beyond: Plane, inside: Plane) -> None:
    """``plane`` becomes p·w + b·(1 − w) in bytes, which is exact where w is 0 or 1 and within one code value
    between. Uses up the other two.
    """
    cv2.multiply(plane, inside, dst=plane, scale=1 / 255)
    cv2.bitwise_not(inside, dst=inside)
    cv2.multiply(beyond, inside, dst=beyond, scale=1 / 255)
    cv2.add(plane, beyond, dst=plane)


def _pairs(plane: Plane) -> NDArray[np.uint16]:
    """H W 2 → H W, two bytes in one: a view that is copied much faster."""
    return plane.view(np.uint16)[..., 0]


def _settled(inside: Plane) -> NDArray[np.bool_]:
    """The cells whose samples are all the picture's own: those between middles that are. What the outermost
    cells hold beyond their middles may not be.
    """
    least = cv2.erode(inside, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.equal(least, 255)


def _largest_window(full: NDArray[np.bool_]) -> Window:
    """Of nothing but full cells, which lie in one convex shape."""
    rows, columns = full.shape
    occupied = full.any(1)
    left = np.where(occupied, full.argmax(1), columns)
    right = np.where(occupied, columns - full[:, ::-1].argmax(1), 0)
    # Convex: between two rows the sides are nowhere further in than at one of the two.
    widths = np.minimum.outer(right, right) - np.maximum.outer(left, left)
    areas = np.maximum(widths, 0) * (1 + np.arange(rows) - np.arange(rows)[:, None])
    top, bottom = divmod(int(areas.argmax()), rows)
    if areas[top, bottom] <= 0:
        return slice(0, 0), slice(0, 0)
    sides = slice(int(max(left[top], left[bottom])), int(min(right[top], right[bottom])))
    return slice(top, bottom + 1), sides


def _windows_beside(window: Window, rows: int, columns: int) -> list[Window]:
    """All the rest of the cells: above, below, left and right of it."""
    across, down = window[1], window[0]
    rest = [
        (slice(0, down.start), slice(0, columns)),
        (slice(down.stop, rows), slice(0, columns)),
        (down, slice(0, across.start)),
        (down, slice(across.stop, columns)),
    ]
    return [(r, c) for r, c in rest if r.start < r.stop and c.start < c.stop]


def _is_identity(homography: Matrix) -> bool:
    """To less than a thousandth of a pixel over any picture in use."""
    return bool(np.abs(homography / homography[2, 2] - np.eye(3)).max() < 1e-7)


def _scale_at_centre(inverse: Floats, out: Picture) -> float:
    """Output pixels per picture pixel in the middle of the output: its Jacobian's root."""
    w = abs(inverse[2, 0] * out.width / 2 + inverse[2, 1] * out.height / 2 + inverse[2, 2])
    return float(np.sqrt(w**3 / abs(np.linalg.det(inverse))))


def _edges(picture: Picture, inverse: Floats) -> tuple[Floats, Floats]:
    """4 3 and 3: linear forms of an output pixel (x, y, 1). The first four, over the last, are how many
    pixels it lies inside the picture's left, right, upper and lower edge; the last is positive before the
    camera.
    """
    u, v, w = inverse * np.sign(np.linalg.det(inverse))
    return np.array([u, (picture.width - 1) * w - u, v, (picture.height - 1) * w - v]), w
