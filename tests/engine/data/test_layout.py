"""Matrices, depth and names of the layout on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.camera.geometry import Intrinsics, Pose
from engine.data import layout
from engine.errors import DataError

# Frames 1 and 3 of two cameras of the trajectories that come with ReCamMaster, as they are there.
PUBLISHED = (
    "[0.99999 -0.00436331 0 0] [0.00436331 0.99999 0 0] [0 0 1 0] [11174.7 -3563.35 -50.4817 1]",
    "[0.999979 -0.0065449 2.14182e-05 0] [0.00654494 0.999973 -0.00327242 0] "
    "[0 0.00327249 0.999995 0] [11174.7 -3550.22 -50.4817 1]",
)


def random_pose(rng: np.random.Generator) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = Pose.from_angles(*rng.uniform(-1.5, 1.5, 3)).matrix()
    pose[:3, 3] = rng.uniform(-100, 100, 3)
    return pose


def recammaster_recipe(text: str) -> np.ndarray:
    """MODEL.md: transpose, columns [1, 2, 0, 3], negate column 1, translation / 100."""
    rows = [[float(v) for v in row.split()] for row in text.strip("[]").split("] [")]
    matrix = np.array(rows).T[:, [1, 2, 0, 3]]
    matrix[:3, 1] *= -1
    matrix[:3, 3] /= 100
    return matrix


def test_a_published_camera_that_looks_along_unreals_y_looks_to_the_right():
    # By hand: Unreal is left-handed, x forward, y right, z up. A camera turned right by 90° looks along +y,
    # its right is −x. It stands 1 m forward, 2 m right, 1.5 m up: right, down, forward are 2, −1.5, 1.
    text = "[0 1 0 0] [-1 0 0 0] [0 0 1 0] [100 200 150 1]"
    pose = layout.from_published(text)
    right, down, forward, centre = pose[:3].T
    np.testing.assert_array_equal(forward, [1, 0, 0])
    np.testing.assert_array_equal(right, [0, 0, -1])
    np.testing.assert_array_equal(down, [0, 1, 0])
    np.testing.assert_array_equal(centre, [2, -1.5, 1])
    np.testing.assert_allclose(pose[:3, :3], Pose.from_angles(pan=np.pi / 2).matrix(), atol=1e-12)
    assert layout.to_published(pose) == text


def test_relative_poses_are_those_of_recammasters_recipe_though_its_absolute_ones_are_mirrored():
    ours = [layout.from_published(text) for text in PUBLISHED]
    theirs = [recammaster_recipe(text) for text in PUBLISHED]
    assert [round(np.linalg.det(matrix)) for matrix in (*ours, *theirs)] == [1, 1, -1, -1]
    np.testing.assert_allclose(
        np.linalg.inv(ours[0]) @ ours[1], np.linalg.inv(theirs[0]) @ theirs[1], atol=1e-12
    )


@pytest.mark.parametrize("text", PUBLISHED)
def test_what_was_published_is_written_as_it_was_read(text):
    assert layout.to_published(layout.from_published(text)).replace("0.0000214182", "2.14182e-05") == text


def test_poses_survive_being_written_to_a_billionth():
    rng = np.random.default_rng(0)
    for _ in range(50):
        pose = random_pose(rng)
        text = layout.to_published(pose)
        np.testing.assert_allclose(layout.from_published(text), pose, atol=1e-9)
        assert layout.to_published(layout.from_published(text)) == text


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[-1 0 0 0] [0 1 0 0] [0 0 1 0] [0 0 0 1]", "mirrored"),
        ("[2 0 0 0] [0 1 0 0] [0 0 1 0] [0 0 0 1]", "right angles"),
        ("[1 0 0] [0 1 0] [0 0 1] [0 0 0]", "four rows"),
        ("", "four rows"),
    ],
)
def test_what_is_no_camera_is_refused(text, fault):
    with pytest.raises(DataError, match=fault):
        layout.from_published(text)


def test_depth_is_stored_as_its_inverse_to_half_a_step():
    depth_m = np.array([0.1, 0.25, 1, 3.7, 40, np.inf], np.float32)
    stored = layout.encode_depth(depth_m)
    assert stored.dtype == np.uint16
    assert stored[[0, 1, -1]].tolist() == [65535, 65535, 0]
    inverse = layout.decode_inverse_depth(stored)
    assert inverse.dtype == np.float32
    np.testing.assert_allclose(inverse[1:], 1 / depth_m[1:], atol=0.5001 * 4 / 65535)
    with pytest.raises(ValueError, match="positive"):
        layout.encode_depth(np.zeros(1, np.float32))


def test_a_lens_folder_says_the_view():
    lens = layout.lens_intrinsics("f24_aperture5", 1280, 1280)
    assert lens == Intrinsics(24 / 23.76 * 1280, 24 / 23.76 * 1280, 639.5, 639.5, 1280, 1280)
    with pytest.raises(DataError, match=r"f21.*f18_aperture10"):
        layout.lens_intrinsics("f21", 1280, 1280)


def test_normalised_lenses_fit_every_size():
    lens = Intrinsics(300, 290, 110, 70, 224, 128)
    values = layout.normalised(lens)
    assert layout.from_normalised(values, 224, 128) == lens
    half = layout.from_normalised(values, 112, 64)
    np.testing.assert_allclose(
        [half.fx, half.fy, half.cx, half.cy],
        [getattr(lens.scaled(112, 64), name) for name in ("fx", "fy", "cx", "cy")],
    )


def test_finished_scenes_are_listed_by_number_and_others_are_not(tmp_path: Path):
    lens = "f24_aperture5"
    for number in (2, 10, 3, 4):
        layout.extrinsics_path(layout.scene_folder(tmp_path, "train", lens, number)).parent.mkdir(
            parents=True
        )
    published = [layout.scene_folder(tmp_path, "train", lens, number) for number in (2, 10)]
    for scene in published:
        layout.extrinsics_path(scene).touch()
    ours, unfinished = (layout.scene_folder(tmp_path, "train", lens, number) for number in (3, 4))
    for scene in (ours, unfinished):
        layout.extrinsics_path(scene).touch()
        layout.intrinsics_path(scene).touch()
    layout.description_path(ours).touch()
    assert layout.scene_folders(tmp_path, "train") == [published[0], ours, published[1]]
    assert layout.scene_folders(tmp_path, "heldout") == []
