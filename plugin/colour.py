"""The one conversion on the way in and the one on the way out. Knows nothing of sources or sinks.

In: whatever a decoder gives → RGB. Out: RGB → NV12, BT.709 limited. Both are one matrix in fixed point,
within one code value of the exact result. Chroma is repeated on the way in and averaged over 2×2 pixels
on the way out, so a picture that passes through again and again loses its chroma's sharpness only once.

Only matrix and range are undone. Primaries and transfer curve (HDR) stay as they come.

Shapes: H height, W width in pixels; NV12 is H·3/2 W: H rows of luma, then H/2 rows of U and V in turns.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Literal, cast

import av
import cv2
import numpy as np
from av.video.plane import VideoPlane
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from engine.frames import BT709_LIMITED, RGB, Colour, Pixels

Plane = NDArray[np.uint8]
MatrixName = Literal["rgb", "bt601", "bt709", "bt2020"]

LUMA_OF_RED_AND_BLUE: dict[MatrixName, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}

# FFmpeg's AVColorSpace and AVColorRange (libavutil/pixfmt.h).
MATRIX_OF_TAG: dict[int, MatrixName] = {
    1: "bt709",
    4: "bt601",
    5: "bt601",
    6: "bt601",
    7: "bt709",
    9: "bt2020",
    10: "bt2020",
}
FULL_OF_TAG = {1: False, 2: True}
# swscale only unpacks: its matrices and ranges differ from one PyAV to the next, and with its default flags
# chroma is blurred. Point sampling, chroma at full size, accurate rounding (swscale.h).
SWS_UNPACK = 0x10 | 0x2000 | 0x40000

PLANAR = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p")
FIXED_POINT = 1024  # of cv2.transform for three bytes to three
LUMA_AT = {"yuyv422": 0, "uyvy422": 1}  # of the two bytes of a pixel


class Workspace(threading.local):
    """What a thread keeps between pictures: fresh memory costs more than the arithmetic done in it."""

    def __init__(self) -> None:
        self.reformatter = VideoReformatter()
        self._arrays: dict[str, Plane] = {}

    def array(self, use: str, *shape: int) -> Plane:
        """The same array as last time, if it was of this shape."""
        kept = self._arrays.get(use)
        if kept is None or kept.shape != shape:
            kept = self._arrays[use] = np.empty(shape, np.uint8)
        return kept


_workspace = Workspace()


def colour_of(frame: av.VideoFrame, untagged: Colour | None = None) -> Colour:
    """What the frame's numbers mean: its own tags first, then ``untagged``, then the usual guess.

    The guess is the players': BT.709 above standard definition, else BT.601; limited range but for
    JPEG's formats and greys.
    """
    if frame.format.is_rgb or frame.format.has_palette:
        return RGB
    assumed = untagged or guessed_colour(frame.width, frame.height, _is_full(frame.format.name))
    return Colour(
        MATRIX_OF_TAG.get(int(frame.colorspace), assumed.matrix),
        FULL_OF_TAG.get(int(frame.color_range), assumed.full_range),
    )


def guessed_colour(width: int, height: int, full_range: bool = False) -> Colour:
    return Colour("bt709" if width >= 1280 or height > 576 else "bt601", full_range)


def to_rgb(frame: av.VideoFrame, untagged: Colour | None = None) -> Pixels:
    """Any pixel format, any size. ``untagged``: what to take a picture for that does not say."""
    name = frame.format.name
    if frame.format.is_rgb or frame.format.has_palette or name.startswith("gray"):
        return cast(Pixels, np.ascontiguousarray(_unpacked_by_swscale(frame, "rgb24").to_ndarray()))
    colour = colour_of(frame, untagged)
    if any(plane.line_size < 0 for plane in frame.planes):  # bottom-up: PyAV 15 reads it from the wrong end
        frame = _unpacked_by_swscale(frame, "yuv444p10le")
    planes = _eight_bit_planes(frame)
    if planes is None:  # the same range on both sides, so that swscale leaves it alone
        full = "j" if name.startswith("yuvj") else ""
        planes = _planar(_unpacked_by_swscale(frame, f"yuv{full}{_subsampling(frame)}p"))
    return _by_matrix(*planes, colour)


def packed_to_rgb(packed: Plane, luma_at: int, colour: Colour) -> Pixels:
    """H W 2, 4:2:2: luma in byte ``luma_at`` of each pixel, U and V in turns in the other."""
    return _by_matrix(*_unpacked(packed, luma_at), colour)


def nv12_to_rgb(nv12: Plane) -> Pixels:
    """BT.709 limited, the inverse of :func:`to_nv12`."""
    luma, chroma = split_nv12(nv12)
    return _by_matrix(luma, _channel(chroma, 0), _channel(chroma, 1), BT709_LIMITED)


def split_nv12(nv12: Plane) -> tuple[Plane, Plane]:
    """Views: luma H W, and chroma H/2 W/2 2."""
    height, width = nv12.shape[0] * 2 // 3, nv12.shape[1]
    return nv12[:height], nv12[height:].reshape(height // 2, width // 2, 2)


def to_nv12(rgb: Pixels, out: Plane | None = None) -> Plane:
    """H W 3 → H·3/2 W, BT.709 limited; H and W even. ``out`` is filled and returned if given."""
    height, width = rgb.shape[:2]
    if height % 2 or width % 2:
        raise ValueError(f"NV12 has even sides, not {width}×{height}")
    shape = (height * 3 // 2, width)
    if out is None:
        out = np.empty(shape, np.uint8)
    elif out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise ValueError(f"out must be contiguous uint8 {shape}, not {out.dtype} {out.shape}")
    luma, chroma = split_nv12(out)
    to_yuv = _to_yuv(BT709_LIMITED)
    yuv = _workspace.array("yuv", height, width, 3)
    cv2.extractChannel(cv2.transform(rgb, to_yuv, dst=yuv), 0, dst=luma)
    half = _workspace.array("half", height // 2, width // 2, 3)
    cv2.resize(rgb, (width // 2, height // 2), dst=half, interpolation=cv2.INTER_AREA)
    half_yuv = _workspace.array("half_yuv", height // 2, width // 2, 3)
    cv2.mixChannels([cv2.transform(half, to_yuv, dst=half_yuv)], [chroma], [1, 0, 2, 1])
    return out


@cache
def _to_yuv(colour: Colour) -> NDArray[np.float64]:
    """3×4. ITU-R BT.709-6, items 3.2 to 3.4: E'Y, E'CB = (B − Y)/(2 − 2·kb), E'CR, then their codes."""
    red, blue = LUMA_OF_RED_AND_BLUE[colour.matrix]
    y = np.array([red, 1 - red - blue, blue])
    cb = (np.array([0.0, 0.0, 1.0]) - y) / (2 - 2 * blue)
    cr = (np.array([1.0, 0.0, 0.0]) - y) / (2 - 2 * red)
    luma_span, chroma_span, black = (255, 255, 0) if colour.full_range else (219, 224, 16)
    linear = np.stack([y * luma_span, cb * chroma_span, cr * chroma_span]) / 255
    return np.column_stack([linear, [black, 128, 128]])


@cache
def _from_yuv(colour: Colour) -> NDArray[np.float64]:
    """3×4, in whole steps of the fixed point, so that the offsets cancel to the bit: grey stays grey."""
    there = _to_yuv(colour)
    back = np.round(np.linalg.inv(there[:, :3]) * FIXED_POINT) / FIXED_POINT
    return np.column_stack([back, -back @ there[:, 3]])


def _by_matrix(luma: Plane, u: Plane, v: Plane, colour: Colour) -> Pixels:
    """Chroma may be of half width, or half width and height, rounded up."""
    height, width = luma.shape
    down, across = -(-height // u.shape[0]), -(-width // u.shape[1])
    size = (u.shape[1] * across, u.shape[0] * down)
    full = [_workspace.array(use, *reversed(size)) for use in ("u", "v")]
    for chroma, large in zip((u, v), full, strict=True):
        cv2.resize(chroma, size, dst=large, interpolation=cv2.INTER_NEAREST)
    yuv = _workspace.array("yuv", height, width, 3)
    cv2.merge([luma, *(large[:height, :width] for large in full)], dst=yuv)
    return cast(Pixels, cv2.transform(yuv, _from_yuv(colour)))


def _eight_bit_planes(frame: av.VideoFrame) -> tuple[Plane, Plane, Plane] | None:
    """Y, U and V of the formats that live sources send; None where swscale has to unpack."""
    name = frame.format.name
    if name in PLANAR:
        return _planar(frame)
    if name == "nv12":
        chroma = _rows(frame.planes[1], frame.planes[1].width * 2)
        pairs = chroma.reshape(chroma.shape[0], -1, 2)
        return _rows(frame.planes[0], frame.width), _channel(pairs, 0), _channel(pairs, 1)
    if name in LUMA_AT and frame.width % 2 == 0:
        packed = _rows(frame.planes[0], frame.width * 2)
        return _unpacked(packed.reshape(frame.height, frame.width, 2), LUMA_AT[name])
    return None


def _planar(frame: av.VideoFrame) -> tuple[Plane, Plane, Plane]:
    y, u, v = (_rows(plane, plane.width) for plane in frame.planes)
    return y, u, v


def _rows(plane: VideoPlane, row_bytes: int) -> Plane:
    data = np.frombuffer(memoryview(plane), np.uint8)
    return data.reshape(plane.height, plane.line_size)[:, :row_bytes]


def _unpacked(packed: Plane, luma_at: int) -> tuple[Plane, Plane, Plane]:
    height, width = packed.shape[:2]
    pairs = packed.reshape(height, width // 2, 4)
    u_at = 1 - luma_at
    return _channel(packed, luma_at), _channel(pairs, u_at), _channel(pairs, u_at + 2)


def _channel(picture: Plane, index: int) -> Plane:
    return cast(Plane, cv2.extractChannel(picture, index))


def _subsampling(frame: av.VideoFrame) -> str:
    chroma = frame.format.chroma_width(64), frame.format.chroma_height(64)
    return {(32, 32): "420", (32, 64): "422"}.get(chroma, "444")


def _unpacked_by_swscale(frame: av.VideoFrame, format_name: str) -> av.VideoFrame:
    return _workspace.reformatter.reformat(frame, format=format_name, interpolation=SWS_UNPACK)


def _is_full(format_name: str) -> bool:
    return format_name.startswith(("yuvj", "gray"))
