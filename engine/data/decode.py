"""Frames of a video file by their number, cut out and area-averaged to a size.

Knows nothing of scenes, cameras or what a grey value means. YUV is turned to RGB here and by the file's own
tags, since swscale's matrices differ from one release to the next; planes are averaged first, so that a
picture at half its size costs a quarter and a 4:2:0 video loses no chroma.

Shapes: T frames asked for, H W rows and columns of the size asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import av
import av.error
import cv2
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from engine.errors import DataError

Size = tuple[int, int]  # width and height
Bytes = NDArray[np.uint8]

# ITU-T H.273, table 4: the weights of red and blue in luma, by FFmpeg's AVColorSpace.
BT601, BT709 = (0.299, 0.114), (0.2126, 0.0722)
LUMA_OF_TAG = {1: BT709, 4: BT601, 5: BT601, 6: BT601}
PLANAR = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p")
FULL_RANGE = 2  # FFmpeg's AVCOL_RANGE_JPEG


class Window(NamedTuple):
    """A part of a picture, in whole pixels from its upper left corner."""

    left: int
    top: int
    width: int
    height: int


def centred_window(stored: Size, wanted: Size) -> Window:
    """The largest window in the middle of a picture that has the wanted shape, on even pixels (4:2:0)."""
    width, height = stored
    scale = min(width / wanted[0], height / wanted[1])
    w, h = min(width, 2 * round(wanted[0] * scale / 2)), min(height, 2 * round(wanted[1] * scale / 2))
    return Window((width - w) // 4 * 2, (height - h) // 4 * 2, w, h)


def averaged(picture: NDArray[Any], window: Window, size: Size) -> NDArray[Any]:
    """H W or H W C, any type that OpenCV knows → the window at a size: averaged if it shrinks, else
    interpolated along straight lines, since depth must not overshoot.
    """
    left, top, width, height = window
    part = picture[top : top + height, left : left + width]
    if (width, height) == size:
        return np.ascontiguousarray(part)
    shrinks = size[0] <= width and size[1] <= height
    return cv2.resize(part, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def video_size(path: Path) -> Size:
    try:
        with av.open(str(path)) as container:
            context = container.streams.video[0].codec_context
            return context.width, context.height
    except (av.error.FFmpegError, OSError, IndexError) as error:
        raise DataError(f"{path} cannot be opened as a video: {error}") from error


def read_colour(path: Path, frames: Sequence[int], size: Size, window: Window) -> Bytes:
    """RGB, T H W 3. ``frames`` may repeat and run backwards; each is decoded once."""
    yuv = np.empty((len(frames), size[1], size[0], 3), np.uint8)
    to_rgb = None
    for frame, places in _decoded(path, frames):
        to_rgb = _rgb_matrix(frame) if to_rgb is None else to_rgb
        picture = cv2.merge([averaged(p, w, size) for p, w in _planes(path, frame, window)])
        for place in places:
            yuv[place] = picture
    assert to_rgb is not None
    return np.asarray(cv2.transform(yuv.reshape(-1, size[0], 3), to_rgb), np.uint8).reshape(yuv.shape)


def read_grey(path: Path, frames: Sequence[int], size: Size, window: Window) -> NDArray[Any]:
    """One channel, T H W, of the file's own type (uint8 or uint16)."""
    pictures: list[NDArray[Any] | None] = [None] * len(frames)
    for frame, places in _decoded(path, frames):
        if not frame.format.name.startswith("gray"):
            raise DataError(f"{path} must hold one channel (FFV1 gray or gray16le), not {frame.format.name}")
        picture = averaged(frame.to_ndarray(), window, size)
        for place in places:
            pictures[place] = picture
    return np.stack([picture for picture in pictures if picture is not None])


def _decoded(path: Path, frames: Sequence[int]) -> Iterator[tuple[av.VideoFrame, list[int]]]:
    """Each frame asked for, with its places in ``frames``. A frame's number is its rank in time."""
    places: dict[int, list[int]] = {}
    for place, number in enumerate(frames):
        places.setdefault(number, []).append(place)
    if not places:
        raise ValueError("ask for at least one frame")
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1  # the callers are many; a small picture is slower with more
            packets = [p for p in container.demux(stream) if p.pts is not None]
            times = sorted(int(p.pts or 0) for p in packets)
            if min(places) < 0 or max(places) >= len(times):
                raise DataError(f"{path} has {len(times)} frames, so no frame {max(places)}")
            wanted = {times[number]: number for number in places}
            first = max(i for i, p in enumerate(packets) if i == 0 or _opens_before(p, min(wanted)))
            for packet in [*packets[first:], None]:
                for frame in stream.codec_context.decode(packet):
                    number = wanted.pop(int(frame.pts or 0), -1)
                    if number >= 0:
                        yield frame, places[number]
                if not wanted:
                    return
    except (av.error.FFmpegError, OSError, IndexError) as error:
        raise DataError(f"{path} cannot be read as a video: {error}") from error
    raise DataError(f"{path} is damaged: {len(wanted)} of its frames cannot be decoded")


def _opens_before(packet: av.Packet[VideoStream], time: int) -> bool:
    """Whether decoding may begin with this packet to get the frame of that time."""
    return packet.is_keyframe and packet.pts is not None and packet.pts <= time


def _planes(path: Path, frame: av.VideoFrame, window: Window) -> Iterator[tuple[Bytes, Window]]:
    """Y, U and V, each with the window in its own pixels."""
    if frame.format.name not in PLANAR:
        raise DataError(f"{path} must be one of {', '.join(PLANAR)}, not {frame.format.name}")
    for plane in frame.planes:
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        across, down = frame.width // plane.width, frame.height // plane.height
        left, top, width, height = window
        yield (
            rows[:, : plane.width],
            Window(left // across, top // down, width // across, height // down),
        )


def _rgb_matrix(frame: av.VideoFrame) -> NDArray[np.float64]:
    """3×4, from Y U V 1 in bytes to RGB in bytes: ITU-T H.273, eq. 38 to 40. Untagged: as players guess."""
    guess = BT709 if frame.width >= 1280 or frame.height > 576 else BT601
    red, blue = LUMA_OF_TAG.get(int(frame.colorspace), guess)
    full = int(frame.color_range) == FULL_RANGE or frame.format.name.startswith("yuvj")
    black, luma, chroma = (0, 1.0, 1.0) if full else (16, 255 / 219, 255 / 224)
    green = 1 - red - blue
    v_red, u_blue = 2 * (1 - red) * chroma, 2 * (1 - blue) * chroma
    matrix = np.array(
        [
            [luma, 0.0, v_red],
            [luma, -u_blue * blue / green, -v_red * red / green],
            [luma, u_blue, 0.0],
        ]
    )
    return np.hstack([matrix, -matrix @ np.array([[black], [128], [128]])])
