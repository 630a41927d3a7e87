from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import pytest

from engine.camera.geometry import IDENTITY, Intrinsics, Pose, plane_homography
from engine.geometry.hints import HintMaker

SIZE = (112, 64)
LENS = Intrinsics.from_horizontal_fov(*SIZE, np.radians(60))
TRAVEL = Pose.from_angles(pan=-0.13, tilt=0.02, translation=(0.4, -0.1, 0.3), zoom=1.1)


def psnr(a, b, where=...):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float))[where] ** 2))


@lru_cache
def seen_by(room, pose=IDENTITY):
    """A frame and its inverse depth, sampled as the renderer does: colour averaged, depth at the middle."""
    fine = room.trace(LENS.scaled(SIZE[0] * 3, SIZE[1] * 3), pose)
    return cv2.resize(fine.colour, SIZE, interpolation=cv2.INTER_AREA), 1 / fine.depth_m[1::3, 1::3]


def test_true_depth_warps_to_the_target_view_and_beats_rotation(room):
    hints = HintMaker(*SIZE)
    made = hints.step(*seen_by(room()), LENS, TRAVEL)
    target, _ = seen_by(room(), TRAVEL)
    assert psnr(made.warped, target, made.visible > 0.95) > 30
    assert psnr(made.warped, target) > psnr(made.rotated, target) + 6
    assert made.warped.shape == made.rotated.shape == (*SIZE[::-1], 3)
    assert made.visible.dtype == np.float32 and 0 <= made.visible.min() <= made.visible.max() <= 1


def test_what_was_seen_before_the_person_came_is_visible_behind_them(room):
    hints = HintMaker(*SIZE)
    for _ in range(9):
        hints.step(*seen_by(room(person_x_m=None)), LENS, TRAVEL)
    remembering = hints.step(*seen_by(room()), LENS, TRAVEL)
    fresh = HintMaker(*SIZE).step(*seen_by(room()), LENS, TRAVEL)
    target, _ = seen_by(room(), TRAVEL)
    uncovered = (remembering.visible > 0.95) & (fresh.visible < 0.05)
    assert uncovered.sum() > 50
    assert psnr(remembering.warped, target, uncovered) > 28
    assert psnr(remembering.warped, target) > psnr(fresh.warped, target)


def test_what_is_uncovered_is_not_called_visible(room):
    made = HintMaker(*SIZE).step(*seen_by(room()), LENS, TRAVEL)
    source, target = room().trace(LENS), room().trace(LENS, TRAVEL)
    hidden = _hidden_from_source(source, target)
    assert made.visible[cv2.erode(hidden.astype(np.uint8), np.ones((3, 3))) > 0].mean() < 0.15


def _hidden_from_source(source, target):
    """Target pixels whose surface the source does not see, by their true depths."""
    y, x = np.indices(target.depth_m.shape)
    lens = LENS.zoomed(TRAVEL.zoom)
    rays = np.dstack([(x - lens.cx) / lens.fx, (y - lens.cy) / lens.fy, np.ones(x.shape)])
    points = (rays * target.depth_m[..., None]) @ TRAVEL.matrix().T + TRAVEL.translation
    u = points[..., 0] / points[..., 2] * LENS.fx + LENS.cx
    v = points[..., 1] / points[..., 2] * LENS.fy + LENS.cy
    there = cv2.remap(source.depth_m, u.astype(np.float32), v.astype(np.float32), cv2.INTER_NEAREST)
    return (there > 0) & (points[..., 2] > 1.1 * there)


def test_without_travel_both_hints_are_the_homography(room):
    frame, inverse_depth = seen_by(room())
    pose = Pose.from_angles(pan=0.1, roll=0.05, zoom=1.3)
    made = HintMaker(*SIZE).step(frame, inverse_depth, LENS, pose)
    homography = plane_homography(LENS, LENS, pose, 3.0)
    exact = cv2.warpPerspective(frame, homography, SIZE, borderMode=cv2.BORDER_REPLICATE)
    assert (made.rotated == exact).all() and (made.warped == exact).all()


def test_the_unmoved_frame_is_its_own_hint(room):
    frame, inverse_depth = seen_by(room())
    made = HintMaker(*SIZE).step(frame, inverse_depth, LENS, Pose())
    assert (made.warped == frame).all() and (made.rotated == frame).all() and (made.visible == 1).all()


def test_frames_and_depth_of_another_size_are_refused(room):
    with pytest.raises(ValueError, match="64 rows of 112"):
        HintMaker(*SIZE).step(np.zeros((64, 112, 3), np.uint8), np.ones((32, 56), np.float32), LENS, Pose())


def test_reset_forgets_the_background(room):
    hints = HintMaker(*SIZE)
    for _ in range(9):
        hints.step(*seen_by(room(person_x_m=None)), LENS, TRAVEL)
    hints.reset()
    again = hints.step(*seen_by(room()), LENS, TRAVEL)
    fresh = HintMaker(*SIZE).step(*seen_by(room()), LENS, TRAVEL)
    assert (again.warped == fresh.warped).all() and (again.visible == fresh.visible).all()
