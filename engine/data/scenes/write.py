"""Renders scenes into MultiCamVideo's layout: videos, depth, mattes, cameras, a description, and a picture
to look at.

Knows codecs and when a scene is finished: it is made in a hidden folder and moved into place whole, so that
a name ``scene{N}`` is always complete, and a stopped run goes on where it was. Knows nothing of how a scene
is made up or drawn. Colour is H.264 4:4:4, so that small pictures lose no chroma, depth and matte FFV1.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import cv2
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from engine.camera.geometry import Intrinsics
from engine.data import layout
from engine.data.render.renderer import Renderer, View
from engine.data.scenes.build import Set, build
from engine.data.scenes.pack import Pack
from engine.data.scenes.paths import Flight, flights
from engine.data.scenes.scene import Scene
from engine.data.scenes.sets import make_scene
from engine.data.splits import Split, scene_generator

REVISION = 1  # of what scenes look like; scenes of another revision are made anew
GOP = 12
CRF = 12
SHEET_TIMES = 5
NEAREST_CHEST_M = 0.2  # a camera that has turned away from the person still has a distance
PATHS_PURPOSE = 1  # of chance: the scene itself is 0
BT601_LIMITED = np.array(  # ITU-T H.273, eq. 38 to 40: RGB in bytes → Y U V in bytes
    [
        [0.299 * 219 / 255, 0.587 * 219 / 255, 0.114 * 219 / 255, 16.0],
        [-0.299 / 1.772 * 224 / 255, -0.587 / 1.772 * 224 / 255, 0.5 * 224 / 255, 128.0],
        [0.5 * 224 / 255, -0.587 / 1.402 * 224 / 255, -0.114 / 1.402 * 224 / 255, 128.0],
    ]
)
BT601, LIMITED = 6, 1  # FFmpeg's AVCOL_SPC_SMPTE170M and AVCOL_RANGE_MPEG


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How much of a scene is rendered."""

    width: int = layout.SIZE[0]
    height: int = layout.SIZE[1]
    frames: int = layout.FRAMES
    cameras: int = layout.CAMERAS

    def __post_init__(self) -> None:
        if self.width < 16 or self.height < 16 or self.width % 2 or self.height % 2:
            raise ValueError(f"width and height are even and at least 16, not {self.width}×{self.height}")
        if self.frames < 1 or self.cameras < 1:
            raise ValueError(f"at least one frame and one camera, not {self.frames} and {self.cameras}")


def finished_scene(root: Path, split: Split, number: int, shape: Shape) -> Path | None:
    """The folder of a scene that is whole: everything that scene.json names is there at its size."""
    for folder in sorted((root / split.name).glob(f"*/scene{number}")):
        if _is_whole(folder, shape):
            return folder
    return None


def _is_whole(folder: Path, shape: Shape) -> bool:
    try:
        told = json.loads(layout.description_path(folder).read_text())
        wanted = [REVISION, [shape.width, shape.height], shape.frames, shape.cameras]
        sizes = {name: (folder / name).stat().st_size for name in told["files"]}
        found = [told["revision"], told["size"], told["frames"], told["cameras"]]
        return bool(found == wanted and sizes == told["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write_scene(
    root: Path, split: Split, number: int, shape: Shape, pack: Pack, renderer: Renderer
) -> Iterator[float]:
    """Renders one scene, replacing any broken one; yields the share that is done. Closing it half-way
    leaves nothing.
    """
    scene = make_scene(split, number, pack)
    final = layout.scene_folder(root, split.name, scene.lens, number)
    folder = final.with_name(f".scene{number}.partial")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield from _render(folder, split, number, scene, shape, pack, renderer)
        for old in (root / split.name).glob(f"*/scene{number}"):
            shutil.rmtree(old)
        folder.replace(final)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _render(
    folder: Path, split: Split, number: int, scene: Scene, shape: Shape, pack: Pack, renderer: Renderer
) -> Iterator[float]:
    made = build(scene, pack)
    ways = _ways(split, number, scene, made, shape)
    lenses = [_lenses(scene, way, shape) for way in ways]
    distances: list[list[float]] = [[] for _ in ways]
    sheet = _Sheet(shape)
    for name in ("videos", "depth", "matte", "cameras"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with _Files(folder, shape) as files:
        for frame in range(shape.frames):
            time_s = frame / layout.FPS
            cameras = [
                (way.camera_to_world[frame], lens[frame]) for way, lens in zip(ways, lenses, strict=True)
            ]
            views = renderer.render(made.stage, time_s, cameras)
            files.add(views)
            sheet.add(frame, views)
            chest = np.append(made.chest(time_s), 1.0)
            for camera, (pose, _) in enumerate(cameras):
                distances[camera].append(
                    round(max(NEAREST_CHEST_M, float((np.linalg.inv(pose) @ chest)[2])), 4)
                )
            yield (frame + 1) / shape.frames
    cv2.imwrite(str(folder / "sheet.jpg"), sheet.picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    _write_cameras(folder, ways, lenses)
    _describe(folder, split, number, scene, made, shape, ways, distances)


def _ways(split: Split, number: int, scene: Scene, made: Set, shape: Shape) -> list[Flight]:
    chest = np.linalg.inv(scene.base) @ np.append(made.chest(0.0), 1.0)
    chance = scene_generator(split, number, PATHS_PURPOSE)
    return flights(split, chance, scene.base, float(chest[2]), shape.frames, shape.cameras, scene.clear)


def _lenses(scene: Scene, way: Flight, shape: Shape) -> list[Intrinsics]:
    focal = scene.focal * shape.width
    middle = ((shape.width - 1) / 2, (shape.height - 1) / 2)
    return [
        Intrinsics(focal * z, focal * z, *middle, shape.width, shape.height) for z in map(float, way.zoom)
    ]


class _Files:
    """The video files of a scene, open for one frame of all cameras at a time."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        self._colour, self._depth, self._matte = [], [], []
        for camera in range(shape.cameras):
            self._colour.append(_Encoder(layout.video_path(folder, camera), shape, "libx264", "yuv444p"))
            self._depth.append(_Encoder(layout.depth_path(folder, camera), shape, "ffv1", "gray16le"))
            self._matte.append(_Encoder(layout.matte_path(folder, camera), shape, "ffv1", "gray"))

    def __enter__(self) -> _Files:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for encoder in (*self._colour, *self._depth, *self._matte):
            encoder.close(flush=kind is None)

    def add(self, views: list[View]) -> None:
        for camera, view in enumerate(views):
            self._colour[camera].add(to_yuv444(view.colour))
            self._depth[camera].add(layout.encode_depth(view.depth_m))
            self._matte[camera].add(view.matte)


class _Encoder:
    """One video file."""

    def __init__(self, path: Path, shape: Shape, codec: str, pixels: str) -> None:
        self._container = av.open(str(path), "w")
        stream = self._container.add_stream(codec, rate=layout.FPS)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = shape.width, shape.height, pixels
        stream.time_base = Fraction(1, layout.FPS)
        stream.codec_context.thread_count = 1
        if codec == "libx264":
            stream.options = {"crf": str(CRF), "preset": "veryfast", "g": str(GOP)}
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


class _Sheet:
    """A contact sheet: a column for each camera, a row for each of a few times."""

    def __init__(self, shape: Shape) -> None:
        self._scale = min(1.0, 224 / shape.width)
        self._size = (round(shape.width * self._scale), round(shape.height * self._scale))
        self._rows = np.unique(np.linspace(0, shape.frames - 1, SHEET_TIMES).round().astype(int)).tolist()
        w, h = self._size
        self.picture = np.zeros((h * len(self._rows), w * shape.cameras, 3), np.uint8)

    def add(self, frame: int, views: list[View]) -> None:
        if frame not in self._rows:
            return
        w, h = self._size
        row = self._rows.index(frame) * h
        for camera, view in enumerate(views):
            small = cv2.resize(view.colour, self._size, interpolation=cv2.INTER_AREA)
            self.picture[row : row + h, camera * w : (camera + 1) * w] = small


def _write_cameras(folder: Path, ways: list[Flight], lenses: list[list[Intrinsics]]) -> None:
    names = [layout.camera_name(camera) for camera in range(len(ways))]
    extrinsics, intrinsics = {}, {}
    for frame in range(len(lenses[0])):
        name = layout.frame_name(frame)
        extrinsics[name] = {
            camera: layout.to_published(way.camera_to_world[frame])
            for camera, way in zip(names, ways, strict=True)
        }
        intrinsics[name] = {
            camera: layout.normalised(lens[frame]) for camera, lens in zip(names, lenses, strict=True)
        }
    layout.intrinsics_path(folder).write_text(json.dumps(intrinsics))
    layout.extrinsics_path(folder).write_text(json.dumps(extrinsics))


def _describe(
    folder: Path,
    split: Split,
    number: int,
    scene: Scene,
    made: Set,
    shape: Shape,
    ways: list[Flight],
    distances: list[list[float]],
) -> None:
    names = [layout.camera_name(camera) for camera in range(shape.cameras)]
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    told = {
        "number": number,
        "seed": [split.key, number],
        "split": split.name,
        "family": scene.family,
        "renderer": "moderngl",
        "revision": REVISION,
        "fps": layout.FPS,
        "size": [shape.width, shape.height],
        "frames": shape.frames,
        "cameras": shape.cameras,
        "lens": scene.lens,
        "people": [person.seed for person in scene.people],
        "paths": dict(zip(names, (way.family for way in ways), strict=True)),
        "subject_distance_m": dict(zip(names, distances, strict=True)),
        "assets": [vars(credit) for credit in made.credits],
        "files": {str(path.relative_to(folder)): path.stat().st_size for path in files},
    }
    layout.description_path(folder).write_text(json.dumps(told, indent=1))
