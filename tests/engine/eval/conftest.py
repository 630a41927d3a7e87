"""A room of textured planes, ray-traced exactly, and a held-out data set of it on disk."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from engine.camera.geometry import Intrinsics, Pose
from engine.data import layout
from engine.eval.baselines import Copy, Rotation, Truth
from engine.eval.cases import Shot
from engine.eval.evaluate import evaluate
from engine.eval.gallery import Gallery
from engine.eval.measure import Pace
from engine.eval.results import Protocol, Results

SUBJECT_M = 3.0
SIZE = (112, 64)
FRAMES = 16


def texture(seed: int) -> np.ndarray:
    """256×256 RGB in 0…255: noise of five octaves."""
    rng = np.random.default_rng(seed)
    total = np.zeros((256, 256, 3), np.float32)
    for cells, weight in ((4, 1.0), (9, 0.8), (20, 0.6), (45, 0.5), (110, 0.5)):
        total += weight * cv2.resize(
            rng.random((cells, cells, 3), np.float32), (256, 256), interpolation=cv2.INTER_CUBIC
        )
    total -= total.min(axis=(0, 1))
    return 255 * total / total.max(axis=(0, 1))


class Room:
    """A back wall, a floor, a side wall and boards in front of them, as a camera at the origin sees them."""

    def __init__(self, boards: bool = True) -> None:
        # each: a point, two edges (its texture's axes), half sizes in metres
        self._planes = [((0, 0, 5.0), (1, 0, 0), (0, 1, 0), (9, 6))]
        if boards:
            self._planes += [
                ((0, 1.3, 4.0), (1, 0, 0), (0, 0, 1), (9, 6)),
                ((-2.6, 0, 4.0), (0, 0, 1), (0, 1, 0), (6, 6)),
                ((0.1, 0.35, SUBJECT_M), (1, 0, 0), (0, 1, 0), (0.45, 1.0)),
                ((1.3, 0.5, 3.8), (0.9, 0, 0.44), (0, 1, 0), (0.5, 0.8)),
                ((-1.2, 0.7, 2.4), (0.97, 0, -0.24), (0, 1, 0), (0.3, 0.6)),
            ]
        self._textures = [texture(seed) for seed in range(len(self._planes))]

    def view(self, lens: Intrinsics, pose: Pose, finer: int = 3) -> tuple[np.ndarray, np.ndarray]:
        """H W 3 in bytes, and inverse depth H W: of the pixels' middles."""
        lens = lens.zoomed(pose.zoom)
        if finer == 1:
            colour, depth = self._trace(lens, pose)
            return np.rint(colour).astype(np.uint8), 1 / depth
        colour = self._trace(lens.scaled(lens.width * finer, lens.height * finer), pose)[0]
        picture = cv2.resize(colour, (lens.width, lens.height), interpolation=cv2.INTER_AREA)
        return np.rint(picture).astype(np.uint8), 1 / self._trace(lens, pose)[1]

    def _trace(self, lens: Intrinsics, pose: Pose) -> tuple[np.ndarray, np.ndarray]:
        y, x = np.mgrid[: lens.height, : lens.width]
        rays = np.stack([(x - lens.cx) / lens.fx, (y - lens.cy) / lens.fy, np.ones_like(x, float)], axis=2)
        rays = rays @ pose.matrix().T
        eye = np.array(pose.translation)
        colour = np.full((*x.shape, 3), 60, np.float32)
        nearest = np.full(x.shape, 50.0)
        for (point, u, v, half), image in zip(self._planes, self._textures, strict=True):
            normal = np.cross(u, v)
            facing = rays @ normal
            depth = ((np.array(point) - eye) @ normal) / np.where(np.abs(facing) < 1e-9, 1e-9, facing)
            hit = eye + rays * depth[..., None] - point
            a, b = hit @ np.array(u), hit @ np.array(v)
            seen = (depth > 0.05) & (depth < nearest) & (np.abs(a) < half[0]) & (np.abs(b) < half[1])
            at = [(40 * value).astype(np.float32) % 255 for value in (a, b)]
            sampled = cv2.remap(image.astype(np.float32), *at, cv2.INTER_LINEAR)
            colour[seen], nearest[seen] = sampled[seen], depth[seen]
        return colour, nearest


@pytest.fixture(scope="session")
def room() -> Room:
    return Room()


@pytest.fixture(scope="session")
def wall() -> Room:
    """One plane at 5 m."""
    return Room(boards=False)


def lens(width: int = SIZE[0], height: int = SIZE[1]) -> Intrinsics:
    return Intrinsics.from_horizontal_fov(width, height, math.radians(60))


@pytest.fixture(scope="session")
def small_lens() -> Intrinsics:
    return lens()


@pytest.fixture(scope="session")
def large_lens() -> Intrinsics:
    return lens(480, 270)


def course(frame: int) -> list[Pose]:
    """Of three cameras: still; to the side and back; a turn."""
    away = math.sin(math.pi * frame / (FRAMES - 1))
    return [
        Pose(),
        Pose.from_angles(pan=math.radians(-4 * away), translation=(0.5 * away, 0.0, 0.0)),
        Pose.from_angles(pan=math.radians(0.8 * frame)),
    ]


def write_scene(folder: Path, room: Room) -> None:
    names = [layout.camera_name(camera) for camera in range(3)]
    for camera in range(3):
        views = [room.view(lens(), course(frame)[camera], finer=1) for frame in range(FRAMES)]
        write_video(layout.video_path(folder, camera), [colour for colour, _ in views], "libx264", "yuv444p")
        depths = [layout.encode_depth((1 / inverse).astype(np.float32)) for _, inverse in views]
        write_video(layout.depth_path(folder, camera), depths, "ffv1", "gray16le")
    layout.extrinsics_path(folder).parent.mkdir(parents=True)
    layout.extrinsics_path(folder).write_text(
        json.dumps(table(lambda pose: layout.to_published(matrix(pose))))
    )
    layout.intrinsics_path(folder).write_text(json.dumps(table(lambda _: layout.normalised(lens()))))
    described = {
        "family": "room",
        "paths": dict(zip(names, ("tripod", "there-and-back", "glance"), strict=True)),
        "subject_distance_m": dict.fromkeys(names, [SUBJECT_M] * FRAMES),
    }
    layout.description_path(folder).write_text(json.dumps(described))


def table(value) -> dict[str, dict[str, object]]:
    return {
        layout.frame_name(frame): {
            layout.camera_name(camera): value(pose) for camera, pose in enumerate(course(frame))
        }
        for frame in range(FRAMES)
    }


def matrix(pose: Pose) -> np.ndarray:
    camera_to_world = np.eye(4)
    camera_to_world[:3, :3] = pose.matrix()
    camera_to_world[:3, 3] = pose.translation
    return camera_to_world


def write_video(path: Path, pictures: list[np.ndarray], codec: str, pixels: str) -> None:
    """Without loss, but for the rounding of RGB to YUV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=layout.FPS, options={"qp": "0"} if "264" in codec else {})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixels
        stream.codec_context.time_base = Fraction(1, layout.FPS)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24" if picture.ndim == 3 else pixels)
            frame = frame.reformat(format=pixels, dst_colorspace="ITU601")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two held-out scenes of three cameras, 16 frames."""
    root = tmp_path_factory.mktemp("data")
    for number, boards in enumerate((True, False), start=1):
        write_scene(layout.scene_folder(root, "heldout", "f24_aperture5", number), Room(boards))
    return root


class Fading:
    """Shows the source, darker by one code value and slower after every ten frames: a method that drifts."""

    name = "fading"
    about = "a method that drifts"
    remembers = True
    streams = True

    def render(self, shot: Shot) -> Iterator[np.ndarray]:
        for index, source in enumerate(shot.source):
            time.sleep(1e-5 * (index // 10) ** 2)
            yield (source.astype(int) - index // 10).clip(0, 255).astype(np.uint8)


class Noise:
    """Shows nothing at all."""

    name = "noise"
    about = "a method that shows nothing"
    remembers = False
    streams = True

    def render(self, shot: Shot) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(0)
        for source in shot.source:
            yield rng.integers(0, 256, source.shape, dtype=np.uint8)


@dataclass
class Evaluated:
    protocol: Protocol
    results: Results
    gallery: Gallery
    shares: list[float]  # that were reported


@pytest.fixture(scope="session")
def evaluated(data: Path) -> Evaluated:
    protocol = Protocol(
        name="tiny",
        size=SIZE,
        scenes=2,
        pairs=1,
        frames=FRAMES,
        pace=Pace(psnr=4, look=16, vgg=99, camera=16),
        loop_cases=1,
        identity_cases=1,
        length_cases=1,
        lengths=(8, 16, 40),
        drift_cases=1,
        drift_from=10,
        drift_to=100,
        step_cases=1,
        steps=(1, 2),
    )
    gallery = Gallery(most=1)
    shares: list[float] = []
    results = evaluate(
        data,
        protocol,
        [Copy(), Rotation(), Fading(), Noise()],
        [Truth()],
        keeper=gallery,
        at_steps=lambda steps: [Fading()],
        report=lambda share, what: shares.append(share),
    )
    return Evaluated(protocol, results, gallery, shares)


@pytest.fixture(scope="session")
def noise() -> Noise:
    return Noise()
