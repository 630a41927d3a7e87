"""The files of a scene in MultiCamVideo's layout: videos, depth, mattes, cameras, a description, and a
picture to look at.

Knows codecs. Knows nothing of who rendered what is in them. Colour is H.264 4:4:4, so that small pictures
lose no chroma, depth and matte FFV1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import cv2
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from engine.camera.geometry import Intrinsics, Matrix
from engine.data import layout
from engine.data.render.stage import View

Size = tuple[int, int]  # width, height

GOP = 12
CRF = 12
SHEET_TIMES = 5
SHEET_WIDTH = 224  # of one picture, at most
# x264's AVX-512 code makes another file of the same pictures in 4:4:4 each time; this costs a few per cent
REPRODUCIBLE = {"x264-params": "asm=0"}
BT601_LIMITED = np.array(  # ITU-T H.273, eq. 38 to 40: RGB in bytes → Y U V in bytes
    [
        [0.299 * 219 / 255, 0.587 * 219 / 255, 0.114 * 219 / 255, 16.0],
        [-0.299 / 1.772 * 224 / 255, -0.587 / 1.772 * 224 / 255, 0.5 * 224 / 255, 128.0],
        [0.5 * 224 / 255, -0.587 / 1.402 * 224 / 255, -0.114 / 1.402 * 224 / 255, 128.0],
    ]
)
BT601, LIMITED = 6, 1  # FFmpeg's AVCOL_SPC_SMPTE170M and AVCOL_RANGE_MPEG


class SceneFiles:
    """The video files of a scene, open for one frame of all cameras at a time, and its contact sheet: a
    column for each camera, a row for each of a few times.
    """

    def __init__(self, folder: Path, size: Size, frames: int, cameras: int) -> None:
        for name in ("videos", "depth", "matte", "cameras"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self._folder, self._frame = folder, 0
        self._colour, self._depth, self._matte = [], [], []
        for camera in range(cameras):
            self._colour.append(_Encoder(layout.video_path(folder, camera), size, "libx264", "yuv444p"))
            self._depth.append(_Encoder(layout.depth_path(folder, camera), size, "ffv1", "gray16le"))
            self._matte.append(_Encoder(layout.matte_path(folder, camera), size, "ffv1", "gray"))
        scale = min(1.0, SHEET_WIDTH / size[0])
        self._thumbnail = (round(size[0] * scale), round(size[1] * scale))
        self._rows = np.unique(np.linspace(0, frames - 1, SHEET_TIMES).round().astype(int)).tolist()
        w, h = self._thumbnail
        self._sheet = np.zeros((h * len(self._rows), w * cameras, 3), np.uint8)

    def __enter__(self) -> SceneFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for encoder in (*self._colour, *self._depth, *self._matte):
            encoder.close(flush=kind is None)
        if kind is None:
            cv2.imwrite(
                str(self._folder / "sheet.jpg"), self._sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88]
            )

    def add(self, views: Sequence[View]) -> None:
        """The next frame, as each camera sees it."""
        for camera, view in enumerate(views):
            self._colour[camera].add(to_yuv444(view.colour))
            self._depth[camera].add(layout.encode_depth(view.depth_m))
            self._matte[camera].add(view.matte)
        if self._frame in self._rows:
            w, h = self._thumbnail
            row = self._rows.index(self._frame) * h
            for camera, view in enumerate(views):
                small = cv2.resize(view.colour, self._thumbnail, interpolation=cv2.INTER_AREA)
                self._sheet[row : row + h, camera * w : (camera + 1) * w] = small
        self._frame += 1


class _Encoder:
    """One video file."""

    def __init__(self, path: Path, size: Size, codec: str, pixels: str) -> None:
        self._container = av.open(str(path), "w")
        stream = self._container.add_stream(codec, rate=layout.FPS)
        assert isinstance(stream, VideoStream)
        (stream.width, stream.height), stream.pix_fmt = size, pixels
        stream.time_base = Fraction(1, layout.FPS)
        stream.codec_context.thread_count = 1
        if codec == "libx264":
            stream.options = {"crf": str(CRF), "preset": "veryfast", "g": str(GOP), **REPRODUCIBLE}
            stream.codec_context.colorspace, stream.codec_context.color_range = BT601, LIMITED
        else:
            stream.options = {"level": "3", "slices": "4", "g": "1"}
        self._stream, self._pixels, self._count = stream, pixels, 0

    def add(self, planes: NDArray[Any]) -> None:
        frame = av.VideoFrame.from_ndarray(planes, format=self._pixels)
        if self._pixels == "yuv444p":
            frame.colorspace, frame.color_range = BT601, LIMITED
        frame.pts, self._count = self._count, self._count + 1
        frame.time_base = Fraction(1, layout.FPS)
        self._container.mux(self._stream.encode(frame))

    def close(self, flush: bool) -> None:
        if flush:
            self._container.mux(self._stream.encode(None))
        self._container.close()


def to_yuv444(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """H W 3 → 3 H W, the planes Y, U and V."""
    return np.ascontiguousarray(cv2.transform(rgb, BT601_LIMITED).transpose(2, 0, 1))


def write_cameras(
    folder: Path, camera_to_world: Sequence[Sequence[Matrix]], lenses: Sequence[Sequence[Intrinsics]]
) -> None:
    """For each camera, its pose and lens in every frame."""
    names = [layout.camera_name(camera) for camera in range(len(lenses))]
    extrinsics, intrinsics = {}, {}
    for frame in range(len(lenses[0])):
        name = layout.frame_name(frame)
        extrinsics[name] = {
            camera: layout.to_published(poses[frame])
            for camera, poses in zip(names, camera_to_world, strict=True)
        }
        intrinsics[name] = {
            camera: layout.normalised(lens[frame]) for camera, lens in zip(names, lenses, strict=True)
        }
    layout.intrinsics_path(folder).write_text(json.dumps(intrinsics))
    layout.extrinsics_path(folder).write_text(json.dumps(extrinsics))


def write_description(folder: Path, told: Mapping[str, object]) -> None:
    """Last of all: what is told, and the sizes of all files, by which a whole scene is known."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = {str(path.relative_to(folder)): path.stat().st_size for path in files}
    layout.description_path(folder).write_text(json.dumps({**told, "files": sizes}, indent=1))
