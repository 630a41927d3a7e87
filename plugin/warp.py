"""Reprojection of a picture by a homography, in NV12, with a soft border where it ends.

Works on the luma and chroma planes directly: half the work of RGB, and nothing left to convert
between the warp and the wire. Knows nothing of poses or engines.

Chroma samples sit in the middle of their four luma samples (as :func:`plugin.colour.to_nv12` makes
them), so a luma position x is the chroma position (x − ½) / 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.camera.geometry import Matrix

Plane = NDArray[np.uint8]
Floats = NDArray[np.floating]
Colour = tuple[int, int, int]

GRID = 8  # the border is computed on a grid this much coarser than the output
FEATHER = 0.05  # of the picture's width: how softly it ends, at most
BORDER_BLUR = 0.02  # of the width
HALVE_BELOW = 0.55  # scale under which a picture is halved first, so that fine lines do not shimmer

_TO_CHROMA = np.array([[0.5, 0.0, -0.25], [0.0, 0.5, -0.25], [0.0, 0.0, 1.0]])
_FROM_CHROMA = np.linalg.inv(_TO_CHROMA)
_TO_HALF = _TO_CHROMA  # a picture of half the size has its pixels where chroma has its samples


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
    def planes(self) -> tuple[Plane, Plane, Plane]:
        """Luma, U and V apart: single planes warp twice as fast as interleaved ones."""
        u, v = cv2.split(self.chroma)
        return self.luma, u, v  # type: ignore[return-value]

    @cached_property
    def half(self) -> Picture:
        """At half the size, for reprojections that shrink."""
        width, height = self.width // 4 * 2, self.height // 4 * 2
        half = Picture.blank(width, height)
        half.luma[:] = _resize(self.luma, width, height)
        half.chroma[:] = _resize(self.chroma, width // 2, height // 2)
        return half

    @cached_property
    def blurred(self) -> tuple[Plane, ...]:
        """The three planes at 1/GRID of the size, blurred: what the border is made from."""
        width, height = self.width // GRID, self.height // GRID
        sigma = max(0.5, BORDER_BLUR * width)
        small = [_resize(plane, width, height) for plane in self.planes]
        return tuple(cv2.GaussianBlur(plane, (0, 0), sigma) for plane in small)  # type: ignore[misc]

    def prepare(self) -> Picture:
        """Makes now what reprojecting may need, to have it when time is short."""
        _ = self.planes, self.blurred
        return self


class Reprojector:
    """Draws pictures into outputs of one size. Not for two threads at once: it keeps its working memory,
    as fetching megabytes afresh for every picture takes longer than filling them.
    """

    def __init__(self, width: int, height: int, border: Colour | None) -> None:
        """``border``: what is shown beyond a picture's edge, as Y, U, V; None: its own mirrored blur."""
        self._width, self._height = width, height
        self._border = border
        sizes = ((height, width), (height // 2, width // 2), (height // 2, width // 2))
        self._chroma = [np.empty(size, np.uint8) for size in sizes[1:]]
        self._beyond = [np.empty(size, np.uint8) for size in sizes]
        self._weights = [np.empty(size, np.uint8) for size in sizes]

    def draw(self, picture: Picture, homography: Matrix, out: Picture) -> None:
        """Fills ``out`` with ``picture`` as seen through ``homography`` (picture pixels → out pixels)."""
        if picture.width == out.width and picture.height == out.height and _is_identity(homography):
            np.copyto(out.nv12, picture.nv12)
            return
        if _scale_at_centre(homography, out) < HALVE_BELOW and min(picture.width, picture.height) >= 128:
            picture, homography = picture.half, homography @ np.linalg.inv(_TO_HALF)
        inside = _inside_weights(homography, picture, out)
        planes = [out.luma, *self._chroma]
        if inside is None:
            _warp(picture, homography, planes, cv2.BORDER_REPLICATE)
        else:
            self._draw_beyond(picture, homography)
            for plane, beyond in zip(planes, self._beyond, strict=True):
                np.copyto(plane, beyond)  # the warp leaves alone what it has no picture for
            _warp(picture, homography, planes, cv2.BORDER_TRANSPARENT)
            self._blend(planes, inside)
        cv2.merge(self._chroma, dst=out.chroma)

    def _draw_beyond(self, picture: Picture, homography: Matrix) -> None:
        """What lies beyond the picture's edge, for the whole output."""
        if self._border is not None:
            for plane, value in zip(self._beyond, self._border, strict=True):
                plane[:] = value
            return
        rows, columns = picture.blurred[0].shape
        width, height = self._width // GRID, self._height // GRID
        small_in = np.diag([columns / picture.width, rows / picture.height, 1.0])
        small_out = np.diag([width / self._width, height / self._height, 1.0])
        small = small_out @ homography @ np.linalg.inv(small_in)
        for blurred, plane in zip(picture.blurred, self._beyond, strict=True):
            warped = cv2.warpPerspective(blurred, small, (width, height), borderMode=cv2.BORDER_REFLECT)
            cv2.resize(warped, plane.shape[::-1], dst=plane)

    def _blend(self, planes: list[Plane], inside: Plane) -> None:
        """``planes`` where there is a picture, what lies beyond where not: p·w + b·(1 − w) in bytes, which
        is exact where w is 0 or 1 and within one code value between.
        """
        for plane, beyond, weights in zip(planes, self._beyond, self._weights, strict=True):
            cv2.resize(inside, weights.shape[::-1], dst=weights)
            cv2.multiply(plane, weights, dst=plane, scale=1 / 255)
            cv2.bitwise_not(weights, dst=weights)
            cv2.multiply(beyond, weights, dst=beyond, scale=1 / 255)
            cv2.add(plane, beyond, dst=plane)


def _warp(picture: Picture, homography: Matrix, planes: list[Plane], border_mode: int) -> None:
    to_chroma = _TO_CHROMA @ homography @ _FROM_CHROMA
    for source, target, matrix in zip(
        picture.planes, planes, (homography, to_chroma, to_chroma), strict=True
    ):
        cv2.warpPerspective(
            source, matrix, target.shape[::-1], dst=target, flags=cv2.INTER_LINEAR, borderMode=border_mode
        )


def _is_identity(homography: Matrix) -> bool:
    """To less than a thousandth of a pixel over any picture in use."""
    return bool(np.allclose(homography / homography[2, 2], np.eye(3), rtol=0, atol=1e-7))


def _to_picture(homography: Matrix, x: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    """Output pixels → picture pixels u, v, and w, which is positive in front of the camera. x and y are
    broadcast against one another.
    """
    inverse = np.linalg.inv(homography)
    inverse /= np.abs(inverse).max()
    u, v, w = (inverse[i, 0] * x + (inverse[i, 1] * y + inverse[i, 2]) for i in range(3))
    safe = np.where(np.abs(w) < 1e-12, 1e-12, w)
    return u / safe, v / safe, w if np.linalg.det(homography) > 0 else -w


def _scale_at_centre(homography: Matrix, out: Picture) -> float:
    """Output pixels per picture pixel in the middle of the output."""
    x = np.array([0.0, 1.0, 0.0]) + out.width / 2
    y = np.array([0.0, 0.0, 1.0]) + out.height / 2
    u, v, _ = _to_picture(homography, x, y)
    area = abs((u[1] - u[0]) * (v[2] - v[0]) - (u[2] - u[0]) * (v[1] - v[0]))
    return float(1 / np.sqrt(max(area, 1e-12)))


def _inside_weights(homography: Matrix, picture: Picture, out: Picture) -> Plane | None:
    """255 in the picture, 0 beyond it, soft in between, on the output's coarse grid; None: all inside.

    Only sides that the move looks past are softened, and by no more than it looks past them, so
    that the border grows out of nothing and an unmoved picture is left alone.
    """
    corners_x = np.array([0.0, out.width - 1, 0.0, out.width - 1])
    corners_y = np.array([0.0, 0.0, out.height - 1, out.height - 1])
    u, v, w = _to_picture(homography, corners_x, corners_y)
    far = float(picture.width)
    margins = [u, picture.width - 1 - u, v, picture.height - 1 - v]
    beyond = [far if (w <= 0).any() else float(max(0.0, -margin.min())) for margin in margins]
    if max(beyond) < 0.01:
        return None
    grid_x = (np.arange(out.width // GRID) + 0.5) * GRID - 0.5
    grid_y = (np.arange(out.height // GRID)[:, None] + 0.5) * GRID - 0.5
    u, v, w = _to_picture(homography, grid_x, grid_y)
    weights = (w > 0).astype(np.float32)
    for margin, past in zip((u, picture.width - 1 - u, v, picture.height - 1 - v), beyond, strict=True):
        if past > 0:
            feather = min(past, FEATHER * picture.width)
            weights *= np.clip((margin / feather).astype(np.float32), 0, 1)
    return np.rint(255 * weights).astype(np.uint8)
