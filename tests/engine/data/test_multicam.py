"""A scene's pictures and rig, whoever published it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from engine.camera.geometry import Pose
from engine.data import layout
from engine.data.decode import Window, centred_window, read_colour
from engine.data.multicam import MultiCamScene, PackedScene
from engine.data.rig import PUBLISHED_SUBJECT_DISTANCE_M, quaternion, read_rig
from engine.errors import DataError

SIZE = (56, 32)


@pytest.fixture
def scene(rendered_root: Path) -> Path:
    return layout.scene_folders(rendered_root, "train")[0]


@pytest.fixture
def published(published_root: Path) -> Path:
    return layout.scene_folders(published_root, "train")[0]


@pytest.fixture
def copy(scene: Path, tmp_path: Path) -> Path:
    """Of our scene, to break."""
    return Path(shutil.copytree(scene, tmp_path / "train" / scene.parent.name / scene.name))


def whole(scene: MultiCamScene | PackedScene) -> Window:
    return centred_window(scene.size, SIZE)


def test_a_point_of_one_view_is_found_in_another_where_pose_lens_and_depth_say(scene, reprojection_psnr):
    read = MultiCamScene(scene)
    for source, target, frame in ((0, 1, 15), (1, 0, 9), (0, 2, 15), (3, 2, 3)):
        lenses = [read.rig.intrinsics(camera, frame, SIZE) for camera in (source, target)]
        psnr = reprojection_psnr(
            read.colour(source, [frame], SIZE, whole(read))[0],
            read.colour(target, [frame], SIZE, whole(read))[0],
            read.inverse_depth(source, [frame], SIZE, whole(read))[0],
            read.rig.relative_pose(source, target, frame),
            *lenses,
        )
        assert psnr >= 36, f"camera {source} to {target} at frame {frame}: {psnr:.1f} dB"


def test_a_published_scene_reads_as_ours_does(scene, published, reprojection_psnr):
    theirs, ours = MultiCamScene(published), MultiCamScene(scene)
    np.testing.assert_array_equal(theirs.rig.camera_to_world, ours.rig.camera_to_world[:2])
    assert np.all(theirs.rig.subject_distance_m == PUBLISHED_SUBJECT_DISTANCE_M)
    # Squares are cut in the middle: across, all of the sensor is kept, so the focal length is the folder's.
    window = whole(theirs)
    assert window == (0, 20, 96, 54)
    rig = theirs.rig.seen_through(theirs.size, window)
    lens = rig.intrinsics(0, 15, SIZE)
    assert lens.fx == pytest.approx(24 / 23.76 * SIZE[0])
    assert (lens.cx, lens.cy) == pytest.approx(((SIZE[0] - 1) / 2, (SIZE[1] - 1) / 2), abs=0.6)
    inverse_depth = ours.inverse_depth(0, [15], SIZE, whole(ours))[
        0
    ]  # of nearly the same lens and the same plane
    psnr = reprojection_psnr(
        theirs.colour(0, [15], SIZE, window)[0],
        theirs.colour(1, [15], SIZE, window)[0],
        inverse_depth,
        rig.relative_pose(0, 1, 15),
        lens,
        rig.intrinsics(1, 15, SIZE),
    )
    assert psnr >= 32


def test_frames_come_in_the_order_asked_for_and_may_repeat(scene):
    read = MultiCamScene(scene)
    every = read.colour(1, range(16), SIZE, whole(read))
    picked = [9, 3, 3, 4, 15, 0]
    np.testing.assert_array_equal(read.colour(1, picked, SIZE, whole(read)), every[picked])


@pytest.mark.parametrize(("tag", "matrix"), [(1, "ITU709"), (6, "ITU601"), (2, "ITU601")])
def test_colours_are_read_by_the_tags_of_the_video_and_untagged_small_ones_as_bt601(
    tag, matrix, tmp_path, write_video
):
    colours = np.array([[200, 40, 60], [30, 180, 90], [20, 60, 210], [250, 250, 250]], np.uint8)
    picture = np.tile(np.repeat(colours, 16, axis=0), (64, 1, 1))  # four upright bars
    write_video(tmp_path / "bars.mp4", [picture] * 2, tag=tag, matrix=matrix)
    read = read_colour(tmp_path / "bars.mp4", [0], (64, 64), Window(0, 0, 64, 64))[0]
    error = np.abs(read[:, 7::16].astype(int) - picture[:, 7::16]).max()
    assert error <= 3


def test_a_packed_scene_gives_the_same_pictures_lenses_and_depth(scene, rendered_root, tmp_path):
    read, packed = MultiCamScene(scene), PackedScene(scene, tmp_path, SIZE)
    frames, all_of_it = [2, 5, 4], Window(0, 0, *SIZE)
    for kind in ("colour", "inverse_depth", "matte"):
        plain = getattr(read, kind)(1, frames, SIZE, whole(read))
        np.testing.assert_array_equal(getattr(packed, kind)(1, frames, SIZE, all_of_it), plain)
    assert packed.rig.intrinsics(2, 7, SIZE) == read.rig.intrinsics(2, 7, SIZE)
    assert packed.rig.relative_pose(0, 2, 7) == read.rig.relative_pose(0, 2, 7)
    assert PackedScene(scene, tmp_path, SIZE).pack("colour") is False
    assert not list(tmp_path.glob(".*"))


def test_a_cache_that_cannot_be_written_says_how_large_it_gets(scene, tmp_path):
    (tmp_path / "full").write_text("no folder")
    with pytest.raises(DataError, match=r"rig\.npz cannot be written: Not a directory.* 180 at 224×128"):
        PackedScene(scene, tmp_path / "full" / "scene0", SIZE)


def test_a_scene_that_was_rendered_anew_is_packed_anew(copy, tmp_path):
    cache = tmp_path / "cache"
    PackedScene(copy, cache, SIZE).pack("colour")
    later = (cache / "colour.npy").stat().st_mtime_ns + 10**9
    os.utime(layout.description_path(copy), ns=(later, later))
    assert PackedScene(copy, cache, SIZE).pack("colour") is True


def test_a_still_camera_moves_nowhere_and_a_zoom_is_a_move(scene):
    sizes = read_rig(scene).move_sizes((0, 6, 15))
    assert sizes.shape == (4, 4, 3)
    np.testing.assert_allclose(sizes[range(4), range(4)], 0, atol=1e-4)
    assert sizes[0, 1, 0] == pytest.approx(0, abs=1e-4)  # the second camera begins where the first stands
    assert sizes[1, 3, 1] == pytest.approx(0, abs=1e-4)  # and meets the fourth at frame 6
    assert sizes[0, 2, 2] - sizes[0, 2, 0] == pytest.approx(np.log(1.3), abs=0.05)


def test_a_quaternion_of_a_matrix_is_that_of_the_pose():
    for angles in ((0.3, -0.2, 0.1), (3.1, 0.1, 0.0), (-1.6, 1.5, 3.0), (0.0, 0.0, np.pi)):
        pose = Pose.from_angles(*angles)
        np.testing.assert_allclose(Pose(quaternion(pose.matrix())).matrix(), pose.matrix(), atol=1e-12)


def test_a_scene_without_a_video_says_which(copy):
    layout.video_path(copy, 2).unlink()
    scene = MultiCamScene(copy)
    with pytest.raises(DataError, match=r"cam03\.mp4"):
        scene.colour(2, [0], SIZE, whole(scene))


def test_a_video_that_is_too_short_says_how_long_it_is(scene):
    read = MultiCamScene(scene)
    with pytest.raises(DataError, match=r"cam01\.mp4 has 16 frames, so no frame 16"):
        read.colour(0, [16], SIZE, whole(read))


def test_a_damaged_video_is_named(copy):
    path = layout.video_path(copy, 0)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"cam01\.mp4"):
        MultiCamScene(copy)


def test_depth_that_was_never_published_is_asked_for_in_vain(published):
    read = MultiCamScene(published)
    with pytest.raises(DataError, match="has no depth"):
        read.inverse_depth(0, [0], SIZE, whole(read))


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda table: table["frame3"].pop("cam02"), "cam02"),
        (lambda table: table.pop("frame7"), "frame7"),
        (lambda table: table["frame1"].update(cam01="[1 0 0 0]"), "four rows"),
        (lambda table: table["frame0"].clear(), "no cameras"),
    ],
)
def test_a_broken_table_says_what_is_wrong(copy, spoil, fault):
    path = layout.extrinsics_path(copy)
    table = json.loads(path.read_text())
    spoil(table)
    path.write_text(json.dumps(table))
    with pytest.raises(DataError, match=f"camera_extrinsics.json.*{fault}"):
        read_rig(copy)


@pytest.mark.parametrize("distance", [[1.0] * 3, [0.0] * 16, None])
def test_a_subject_must_have_a_distance_above_zero_in_every_frame(copy, distance):
    cameras = [layout.camera_name(camera) for camera in range(4)]
    layout.description_path(copy).write_text(
        json.dumps({"subject_distance_m": dict.fromkeys(cameras, distance)})
    )
    with pytest.raises(DataError, match=r"scene\.json"):
        read_rig(copy)
