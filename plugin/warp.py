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
    def half(self) -> Picture:
        """At half the size, for reprojections that shrink."""
        width, height = self.width // 4 * 2, self.height // 4 * 2
        half = Picture.blank(width, height)
        half.luma[:] = _resize(self.luma, width, height)
        half.chroma[:] = _resize(self.chroma, width // 2, height // 2)
        return half

    @cached_property
    def blurred(self) -> tuple[Plane, Plane]:
        """Luma and chroma at 1/GRID of the size, blurred: what the border is made from."""
        width, height = self.width // GRID, self.height // GRID
        sigma = max(0.5, BORDER_BLUR * width)
        return (
            cv2.GaussianBlur(_resize(self.luma, width, height), (0, 0), sigma),
            cv2.GaussianBlur(_resize(self.chroma, width, height), (0, 0), sigma),
        )  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Border:
    """What is shown beyond the picture's edge: its own mirrored blur, or a colour (Y, U, V)."""

    colour: tuple[int, int, int] | None = None


def reproject(picture: Picture, homography: Matrix, out: Picture, border: Border) -> None:
    """Fills ``out`` with ``picture`` as seen through ``homography`` (picture pixels → out pixels)."""
    if picture.width == out.width and picture.height == out.height and _is_identity(homography):
        np.copyto(out.nv12, picture.nv12)
        return
    if _scale_at_centre(homography, out) < HALVE_BELOW and min(picture.width, picture.height) >= 128:
        picture, homography = picture.half, homography @ np.linalg.inv(_TO_HALF)
    inside = _inside_weights(homography, picture, out)
    if inside is None:
        _warp(picture, homography, out, cv2.BORDER_REPLICATE)
        return
    beyond = _beyond(picture, homography, out, border)
    np.copyto(out.nv12, beyond.nv12)  # the warp leaves alone what it has no picture for
    _warp(picture, homography, out, cv2.BORDER_TRANSPARENT)
    for plane, beyond_plane in ((out.luma, beyond.luma), (out.chroma, beyond.chroma)):
        height, width = plane.shape[:2]
        weights = cv2.resize(inside, (width, height), interpolation=cv2.INTER_LINEAR)
        cv2.blendLinear(plane, beyond_plane, weights, 1 - weights, dst=plane)


def _warp(picture: Picture, homography: Matrix, out: Picture, border_mode: int) -> None:
    for plane, target, matrix in (
        (picture.luma, out.luma, homography),
        (picture.chroma, out.chroma, _TO_CHROMA @ homography @ _FROM_CHROMA),
    ):
        height, width = target.shape[:2]
        cv2.warpPerspective(
            plane,
            matrix,
            (width, height),
            dst=target,
            flags=cv2.INTER_LINEAR,
            borderMode=border_mode,
        )


def _is_identity(homography: Matrix) -> bool:
    """To less than a thousandth of a pixel over any picture in use."""
    return bool(np.allclose(homography / homography[2, 2], np.eye(3), rtol=0, atol=1e-7))


def _to_picture(homography: Matrix, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Output pixels → picture pixels u, v and the depth's sign w, stacked in front."""
    inverse = np.linalg.inv(homography)
    inverse /= np.abs(inverse).max()
    u, v, w = (inverse[i, 0] * x + inverse[i, 1] * y + inverse[i, 2] for i in range(3))
    facing = np.sign(np.linalg.det(homography)) * w  # positive in front of the camera
    safe = np.where(np.abs(w) < 1e-12, 1e-12, w)
    return np.stack([u / safe, v / safe, facing])


def _scale_at_centre(homography: Matrix, out: Picture) -> float:
    """Output pixels per picture pixel in the middle of the output."""
    x = np.array([0.0, 1.0, 0.0]) + out.width / 2
    y = np.array([0.0, 0.0, 1.0]) + out.height / 2
    u, v, _ = _to_picture(homography, x, y)
    area = abs((u[1] - u[0]) * (v[2] - v[0]) - (u[2] - u[0]) * (v[1] - v[0]))
    return float(1 / np.sqrt(max(area, 1e-12)))


def _inside_weights(homography: Matrix, picture: Picture, out: Picture) -> NDArray[np.float32] | None:
    """1 in the picture, 0 beyond it, soft in between, on the output's coarse grid; None: all inside.

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
    grid_y, grid_x = np.mgrid[0 : out.height // GRID, 0 : out.width // GRID].astype(float)
    u, v, w = _to_picture(homography, (grid_x + 0.5) * GRID - 0.5, (grid_y + 0.5) * GRID - 0.5)
    weights: NDArray[np.float32] = (w > 0).astype(np.float32)
    for margin, past in zip((u, picture.width - 1 - u, v, picture.height - 1 - v), beyond, strict=True):
        if past > 0:
            feather = min(past, FEATHER * picture.width)
            weights *= np.clip((margin / feather).astype(np.float32), 0, 1)
    return weights


def _beyond(picture: Picture, homography: Matrix, out: Picture, border: Border) -> Picture:
    """What lies beyond the picture's edge, for the whole output."""
    beyond = Picture.blank(out.width, out.height)
    if border.colour is not None:
        beyond.luma[:] = border.colour[0]
        beyond.chroma[:] = border.colour[1:]
        return beyond
    blurred_luma, blurred_chroma = picture.blurred
    width, height = out.width // GRID, out.height // GRID
    small_in = np.diag([blurred_luma.shape[1] / picture.width, blurred_luma.shape[0] / picture.height, 1.0])
    small_out = np.diag([width / out.width, height / out.height, 1.0])
    small = small_out @ homography @ np.linalg.inv(small_in)
    for source, target in ((blurred_luma, beyond.luma), (blurred_chroma, beyond.chroma)):
        warped = cv2.warpPerspective(source, small, (width, height), borderMode=cv2.BORDER_REFLECT)
        cv2.resize(warped, (target.shape[1], target.shape[0]), dst=target, interpolation=cv2.INTER_LINEAR)
    return beyond
