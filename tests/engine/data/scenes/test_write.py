"""Scenes on disk: whole or not there, resumed, repaired, the same from the same seed, and as exact as
promised.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from engine.data import layout
from engine.data.render.renderer import Renderer
from engine.data.render.stage import View
from engine.data.scenes.files import SceneFiles, to_yuv444
from engine.data.scenes.pack import Pack
from engine.data.scenes.write import Shape, finished_scene, write_scene
from engine.data.splits import SPLITS

SHAPE = Shape(width=64, height=32, frames=3, cameras=2)
TRAIN = SPLITS["train"]


@pytest.fixture(scope="module")
def tools() -> Iterator[tuple[Pack, Renderer]]:
    with Renderer(SHAPE.width, SHAPE.height) as renderer:
        yield Pack.load(), renderer


@pytest.fixture(scope="module")
def scene(tools: tuple[Pack, Renderer], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("data"), tools)


def made(root: Path, tools: tuple[Pack, Renderer], number: int = 2) -> Path:
    shares = list(write_scene(root, TRAIN, number, SHAPE, *tools))
    assert shares[-1] == 1.0
    found = finished_scene(root, TRAIN, number, SHAPE)
    assert found is not None
    return found


def test_a_scene_has_everything_that_the_layout_names(scene: Path) -> None:
    assert (
        scene.name == "scene2" and scene.parent.name in layout.LENSES and scene.parent.parent.name == "train"
    )
    for camera in range(SHAPE.cameras):
        for path in (layout.video_path, layout.depth_path, layout.matte_path):
            with av.open(str(path(scene, camera))) as container:
                stream = container.streams.video[0]
                assert (stream.width, stream.height) == (SHAPE.width, SHAPE.height)
                assert stream.average_rate == layout.FPS
                assert sum(1 for _ in container.decode(video=0)) == SHAPE.frames
    told = json.loads(layout.description_path(scene).read_text())
    assert len(told["subject_distance_m"]["cam01"]) == SHAPE.frames
    assert all({"name", "author", "licence", "source"} <= set(asset) for asset in told["assets"])
    assert cv2.imread(str(scene / "sheet.jpg")).shape == (3 * SHAPE.height, 2 * SHAPE.width, 3)


def test_poses_on_disk_are_the_rendered_ones_and_the_first_view_is_common(scene: Path) -> None:
    extrinsics = json.loads(layout.extrinsics_path(scene).read_text())
    intrinsics = json.loads(layout.intrinsics_path(scene).read_text())
    assert list(extrinsics) == list(intrinsics) == [layout.frame_name(i) for i in range(SHAPE.frames)]
    first = [layout.from_published(text) for text in extrinsics["frame0"].values()]
    np.testing.assert_allclose(first[0], first[1], atol=1e-7)
    fx, fy, cx, cy = intrinsics["frame0"]["cam01"]
    assert fx * SHAPE.width == pytest.approx(fy * SHAPE.height) and (cx, cy) == (0.5, 0.5)


def test_depth_is_stored_losslessly_and_within_a_ten_thousandth_per_metre() -> None:
    depth = np.geomspace(0.26, 30, 1000, dtype=np.float32)
    back = layout.decode_inverse_depth(layout.encode_depth(depth))
    assert np.abs(back * depth - 1).max() < 1e-3
    assert np.abs(back - 1 / depth).max() <= 0.51 / layout.DEPTH_UNIT_PER_M * 1.01


def test_depth_and_matte_files_hold_what_the_renderer_saw(tmp_path: Path) -> None:
    rng, shape = np.random.default_rng(0), (SHAPE.height, SHAPE.width)
    view = View(
        colour=rng.integers(0, 256, (*shape, 3), np.uint8),
        depth_m=rng.uniform(0.3, 40, shape).astype(np.float32),
        matte=rng.integers(0, 256, shape, np.uint8),
    )
    with SceneFiles(tmp_path, (SHAPE.width, SHAPE.height), frames=1, cameras=1) as files:
        files.add([view])
    for path, kind, wanted in (
        (layout.depth_path(tmp_path, 0), "gray16le", layout.encode_depth(view.depth_m)),
        (layout.matte_path(tmp_path, 0), "gray", view.matte),
    ):
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
            assert frame.format.name == kind
            np.testing.assert_array_equal(frame.to_ndarray(), wanted)


def test_the_same_seed_writes_the_same_files(
    scene: Path, tools: tuple[Pack, Renderer], tmp_path: Path
) -> None:
    again = made(tmp_path, tools)
    for path in scene.rglob("*"):
        if path.suffix in (".mp4", ".json"):
            assert path.read_bytes() == (again / path.relative_to(scene)).read_bytes(), path.name


def test_a_finished_scene_is_found_and_one_of_another_shape_is_not(scene: Path) -> None:
    root = scene.parents[2]
    assert finished_scene(root, TRAIN, 2, SHAPE) == scene
    assert finished_scene(root, TRAIN, 3, SHAPE) is None
    assert finished_scene(root, SPLITS["heldout"], 2, SHAPE) is None
    assert finished_scene(root, TRAIN, 2, Shape(width=64, height=32, frames=4, cameras=2)) is None


def test_a_broken_scene_is_not_finished_and_is_replaced(tools: tuple[Pack, Renderer], tmp_path: Path) -> None:
    folder = made(tmp_path, tools)
    layout.video_path(folder, 1).write_bytes(b"short")
    assert finished_scene(tmp_path, TRAIN, 2, SHAPE) is None
    assert made(tmp_path, tools) == folder
    assert layout.video_path(folder, 1).stat().st_size > 100


def test_a_stopped_run_leaves_nothing_half_done(tools: tuple[Pack, Renderer], tmp_path: Path) -> None:
    work = write_scene(tmp_path, TRAIN, 2, SHAPE, *tools)
    next(work)
    work.close()  # type: ignore[attr-defined]
    assert [path for path in tmp_path.rglob("*") if path.is_file() or path.name.startswith(".")] == []


def test_colour_survives_the_way_to_yuv_and_back() -> None:
    picture = np.random.default_rng(0).integers(60, 200, (32, 64, 3)).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(to_yuv444(picture), "yuv444p")
    frame.colorspace, frame.color_range = 6, 1
    assert np.abs(frame.to_ndarray(format="rgb24").astype(int) - picture).mean() < 1


def test_an_odd_size_is_refused() -> None:
    with pytest.raises(ValueError, match="even"):
        Shape(width=63, height=32)
