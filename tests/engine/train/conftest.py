"""A tiny data set: a coloured pattern that three cameras see, each a little further to the right."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from engine.camera.geometry import Intrinsics
from engine.data import layout
from engine.train.loop import LoopSettings
from engine.train.teacher import TeacherSettings, recipe

FRAMES, CAMERAS, SIZE = 12, 3, (32, 24)


def write_scene(root: Path, split: str, number: int) -> Path:
    scene = layout.scene_folder(root, split, "f24_aperture5", number)
    rng = np.random.default_rng(number)
    colours = rng.uniform(1, 4, (3, 3))
    for camera in range(CAMERAS):
        path = layout.video_path(scene, camera)
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=layout.FPS, options={"crf": "4"})
            stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
            for frame in range(FRAMES):
                y, x = np.mgrid[: SIZE[1], : SIZE[0]] / 8.0
                phase = np.stack([x + 0.5 * camera, y, np.full_like(x, 0.2 * frame)], -1) @ colours
                picture = np.rint(128 + 100 * np.sin(phase)).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
            container.mux(stream.encode(None))
    lens = Intrinsics(32.0, 32.0, 15.5, 11.5, *SIZE)

    def table(value):
        cameras = {layout.camera_name(camera): value(camera) for camera in range(CAMERAS)}
        return json.dumps({layout.frame_name(frame): cameras for frame in range(FRAMES)})

    def pose(camera):
        matrix = np.eye(4)
        matrix[0, 3] = 0.2 * camera
        return matrix

    layout.extrinsics_path(scene).parent.mkdir(parents=True)
    layout.extrinsics_path(scene).write_text(table(lambda camera: layout.to_published(pose(camera))))
    layout.intrinsics_path(scene).write_text(table(lambda camera: layout.normalised(lens)))
    distances = {layout.camera_name(camera): [2.0] * FRAMES for camera in range(CAMERAS)}
    layout.description_path(scene).write_text(json.dumps({"subject_distance_m": distances}))
    return scene


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    for split, number in (("train", 1), ("train", 2), ("heldout", 3)):
        write_scene(root, split, number)
    return root


@pytest.fixture
def settings(scenes: Path, tmp_path: Path) -> TeacherSettings:
    """The tiny size, made in this process."""
    return tiny_settings(scenes, tmp_path / "run")


def tiny_settings(scenes: Path, out: Path) -> TeacherSettings:
    from dataclasses import replace

    loop = LoopSettings(out=out, batch=4, steps=6, precision="fp32", warmup=2, log_every=1, look_every=1000)
    return replace(recipe("tiny", scenes, loop), frames=4, workers=0, augment=False, loop_share=0.0)


@pytest.fixture(autouse=True)
def one_thread():
    """Sums in one order, and no fight for the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
