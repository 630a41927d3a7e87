"""Two tiny data sets of one analytic world, a slanted plane that changes colour: ours and MultiCamVideo's."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.camera.geometry import Intrinsics, Matrix, Pose
from engine.data import layout

FRAMES = 16
PLANE_NORMAL, PLANE_DISTANCE_M = np.array([0.25, 0.1, 0.96]), 4.0
WIDE = (112, 64)
SQUARE = (96, 96)


def place(x: float, y: float, z: float, pan: float = 0.0, tilt: float = 0.0) -> Matrix:
    camera_to_world = np.eye(4)
    camera_to_world[:3, :3] = Pose.from_angles(pan, tilt).matrix()
    camera_to_world[:3, 3] = x, y, z
    return camera_to_world


def rig_at(frame: int) -> list[tuple[Matrix, float]]:
    """Poses and zooms: still; leaves the first's place; zooms beside it; meets the second at frame 6."""
    second = place(0.04 * frame, -1.5, 0.01 * frame, pan=-0.01 * frame)
    away = 0.03 * (frame - 6)
    return [
        (place(0.0, -1.5, 0.0), 1.0),
        (second, 1.0),
        (place(-0.3, -1.6 + 0.01 * frame, 0.1, pan=0.05, tilt=0.02), 1.0 + 0.02 * frame),
        (second @ place(0.0, away, away), 1.0),
    ]


def lens_at(size: tuple[int, int], zoom: float = 1.0, focal: float = 1.01) -> Intrinsics:
    return Intrinsics(focal * size[0], focal * size[0], (size[0] - 1) / 2, (size[1] - 1) / 2, *size).zoomed(
        zoom
    )


@dataclass(frozen=True)
class Picture:
    colour: NDArray[np.uint8]
    depth_m: NDArray[np.float32]


def rendered(camera_to_world: Matrix, lens: Intrinsics, frame: int) -> Picture:
    """Each pixel is the mean of 2×2 rays, as a sensor's is."""
    fine = lens.scaled(2 * lens.width, 2 * lens.height)
    depth_m, points = on_plane(camera_to_world, fine)
    phases = (
        points @ np.array([[5.0, 3.0, 2.0], [-2.0, 4.0, 6.0], [1.0, -2.0, 3.0]])
        + 0.2 * frame
        + np.array([0, 1, 2])
    )
    colour = 128 + 50 * np.sin(phases) + 40 * np.sin(0.4 * phases[..., ::-1])
    size = (lens.width, lens.height)
    mean = cv2.resize(colour, size, interpolation=cv2.INTER_AREA)
    inverse = cv2.resize(1 / depth_m, size, interpolation=cv2.INTER_AREA)
    return Picture(np.rint(mean).astype(np.uint8), (1 / inverse).astype(np.float32))


def on_plane(camera_to_world: Matrix, lens: Intrinsics) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Depth along the axis, H W, and points of the world, H W 3."""
    across, down = np.meshgrid(np.arange(lens.width), np.arange(lens.height))
    rays = np.stack([across, down, np.ones_like(across)], axis=-1) @ lens.inverse().T
    rays = rays @ camera_to_world[:3, :3].T
    depth_m = (PLANE_DISTANCE_M - camera_to_world[:3, 3] @ PLANE_NORMAL) / (rays @ PLANE_NORMAL)
    return depth_m, camera_to_world[:3, 3] + rays * depth_m[..., None]


def _write_video(
    path: Path, pictures: list[NDArray[np.uint8]], *, tag: int = 1, matrix: str = "ITU709"
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width, _ = pictures[0].shape
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=layout.FPS, options={"crf": "4", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.colorspace = tag
        stream.codec_context.thread_count = 1
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace=matrix)))
        container.mux(stream.encode(None))


def write_grey(path: Path, pictures: list[NDArray[np.generic]], pixel_format: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = pictures[0].shape
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=layout.FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.time_base = Fraction(1, layout.FPS)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, pixel_format)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_scene(scene: Path, lens: Callable[[float], Intrinsics], *, published: bool) -> None:
    rigs = [rig_at(frame) for frame in range(FRAMES)]
    cameras = 2 if published else len(rigs[0])
    for camera in range(cameras):
        pictures = [
            rendered(rig[camera][0], lens(1.0 if published else rig[camera][1]), frame)
            for frame, rig in enumerate(rigs)
        ]
        _write_video(layout.video_path(scene, camera), [picture.colour for picture in pictures])
        if published:
            continue
        depth = [layout.encode_depth(picture.depth_m) for picture in pictures]
        write_grey(layout.depth_path(scene, camera), depth, "gray16le")
        person = [(picture.depth_m < 4).astype(np.uint8) * 255 for picture in pictures]
        write_grey(layout.matte_path(scene, camera), person, "gray")

    def table(value: Callable[[Matrix, float], object]) -> str:
        return json.dumps(
            {
                layout.frame_name(frame): {layout.camera_name(c): value(*rig[c]) for c in range(cameras)}
                for frame, rig in enumerate(rigs)
            }
        )

    layout.extrinsics_path(scene).parent.mkdir(parents=True)
    layout.extrinsics_path(scene).write_text(table(lambda pose, _: layout.to_published(pose)))
    if published:
        return
    layout.intrinsics_path(scene).write_text(table(lambda _, zoom: layout.normalised(lens(zoom))))
    distances = {layout.camera_name(camera): [3.5] * FRAMES for camera in range(cameras)}
    layout.description_path(scene).write_text(json.dumps({"subject_distance_m": distances}))


@pytest.fixture(scope="session")
def rendered_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes in our layout: 4 cameras, 16 frames, 112×64, with depth, matte and lenses that zoom."""
    root = tmp_path_factory.mktemp("rendered")
    for number in (1, 2):
        scene = layout.scene_folder(root, "train", "f24_aperture5", number)
        write_scene(scene, lambda zoom: lens_at(WIDE, zoom), published=False)
    return root


@pytest.fixture(scope="session")
def published_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene as MultiCamVideo publishes it: square videos, extrinsics, and nothing else."""
    root = tmp_path_factory.mktemp("published")
    scene = layout.scene_folder(root, "train", "f24_aperture5", 1)
    focal = layout.LENSES["f24_aperture5"] / layout.SENSOR_WIDTH_MM
    write_scene(scene, lambda zoom: lens_at(SQUARE, zoom, focal), published=True)
    return root


@pytest.fixture(scope="session")
def write_video() -> Callable[..., None]:
    return _write_video


@pytest.fixture(scope="session")
def reprojection_psnr() -> Callable[..., float]:
    return _reprojection_psnr


def _reprojection_psnr(
    source: NDArray[np.uint8],
    target: NDArray[np.uint8],
    inverse_depth: NDArray[np.float32],
    pose: Pose,
    source_lens: Intrinsics,
    target_lens: Intrinsics,
) -> float:
    """How well the source is found in the target where depth and pose say that it is, in dB."""
    height, width, _ = source.shape
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    rays = np.stack([across, down, np.ones_like(across)], axis=-1) @ source_lens.inverse().T
    there = (rays / inverse_depth[..., None] - np.array(pose.translation)) @ pose.matrix()
    pixels = there @ target_lens.matrix().T
    x, y = (pixels[..., i] / pixels[..., 2] for i in (0, 1))
    inside = (x >= 1) & (x <= width - 2) & (y >= 1) & (y <= height - 2) & (there[..., 2] > 0)
    assert inside.mean() > 0.4, "too little of the source is seen from the target to say anything"
    found = cv2.remap(target, x.astype(np.float32), y.astype(np.float32), cv2.INTER_CUBIC)
    error = (found.astype(float) - source)[inside]
    return float(10 * np.log10(255**2 / max(float(np.mean(error**2)), 1e-6)))
