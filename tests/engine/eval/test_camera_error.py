"""The pose that a picture shows, on scenes where it is known exactly."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from engine.camera.geometry import Pose
from engine.eval.camera_error import estimate, pose_error
from engine.eval.camera_view import View

SUBJECT_M = 3.0
POSES = {
    "pan": Pose.from_angles(pan=math.radians(-14)),
    "zoom": Pose(zoom=1.4),
    "sideways": Pose.from_angles(pan=math.radians(-10), translation=(0.7, 0.0, 0.1)),
    "forward and tilted": Pose.from_angles(
        tilt=math.radians(5), roll=math.radians(3), translation=(0.1, 0.1, 0.8)
    ),
}


def view_of(room, lens, finer=3) -> View:
    source, inverse_depth = room.view(lens, Pose(), finer)
    return View(source=source, inverse_depth=inverse_depth, intrinsics=lens, distance_m=SUBJECT_M)


@pytest.fixture(scope="module")
def small(room, small_lens) -> View:
    return view_of(room, small_lens)


@pytest.fixture(scope="module")
def large(room, large_lens) -> View:
    return view_of(room, large_lens, finer=2)


@pytest.mark.parametrize("name", POSES)
def test_a_small_picture_gives_its_pose_within_a_tenth_of_a_degree(name, room, small_lens, small):
    pose = POSES[name]
    found = estimate(small, room.view(small_lens, pose)[0], pose)
    assert found is not None
    error = pose_error(found, pose, SUBJECT_M)
    assert error.rotation_deg < 0.1
    assert error.translation < 0.01
    assert error.zoom < 0.01


def test_a_large_picture_gives_its_pose_within_a_tenth_of_a_degree(room, large_lens, large):
    pose = POSES["sideways"]
    found = estimate(large, room.view(large_lens, pose, finer=2)[0], pose)
    assert found is not None
    error = pose_error(found, pose, SUBJECT_M)
    assert error.rotation_deg < 0.1
    assert error.translation < 0.005
    assert error.direction_deg < 1


def test_what_was_asked_for_does_not_decide_what_is_found(room, small_lens, small):
    """A camera that went only half of the way, and one that did not move at all."""
    asked = POSES["sideways"]
    half = Pose.from_angles(pan=math.radians(-5), translation=(0.35, 0.0, 0.05))
    for shown in (half, Pose()):
        found = estimate(small, room.view(small_lens, shown)[0], asked)
        assert found is not None
        assert pose_error(found, shown, SUBJECT_M).rotation_deg < 0.1


def test_brightness_does_not_matter(room, small_lens, small):
    pose = POSES["pan"]
    dim = (0.7 * room.view(small_lens, pose)[0] + 20).astype(np.uint8)
    found = estimate(small, dim, pose)
    assert found is not None
    assert pose_error(found, pose, SUBJECT_M).rotation_deg < 0.1


@pytest.mark.parametrize("kind", ["noise", "smooth noise", "grey", "upside down"])
@pytest.mark.parametrize("size", ["small", "large"])
def test_garbage_fails(kind, size, request):
    view = request.getfixturevalue(size)
    noise = np.random.default_rng(3).integers(0, 256, view.source.shape, dtype=np.uint8)
    picture = {
        "noise": noise,
        "smooth noise": cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 5), None, 0, 255, cv2.NORM_MINMAX),
        "grey": np.full_like(noise, 90),
        "upside down": np.ascontiguousarray(view.source[::-1]),
    }[kind]
    assert estimate(view, picture, POSES["sideways"]) is None


def test_pose_errors_are_those_of_the_definition():
    wanted = Pose.from_angles(pan=0.2, translation=(1.0, 0.0, 0.0), zoom=1.0)
    found = Pose.from_angles(pan=0.2 + math.radians(3), translation=(0.0, 0.0, 1.0), zoom=1.1)
    error = pose_error(found, wanted, 4.0)
    assert error.rotation_deg == pytest.approx(3)
    assert error.direction_deg == pytest.approx(90)
    assert error.translation == pytest.approx(math.sqrt(2) / 4)
    assert error.zoom == pytest.approx(0.1)
    assert math.isnan(pose_error(found, Pose(), 4.0).direction_deg)  # no move, no direction
