"""The hints that a clip is trained with: what the live engine would have drawn of it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from engine.camera.geometry import Intrinsics, Pose
from engine.data.loopaug import straight
from engine.data.pairs import Clip
from engine.engines.depth import Scene
from engine.geometry.pictures import shrunk
from engine.train.clips import ClipSettings, hints_of

SIZE = (112, 64)
READ_SIZE = (224, 128)
LENS = Intrinsics.from_horizontal_fov(*READ_SIZE, np.radians(60))
TRAVEL = Pose.from_angles(pan=-0.13, tilt=0.02, translation=(0.4, -0.1, 0.3), zoom=1.1)
DISTANCE_M = 2.5
FRAMES = 3


def settings(estimated_depth: bool) -> ClipSettings:
    return ClipSettings(
        data=Path(),
        split="train",
        size=SIZE,
        frames=FRAMES,
        stride=1,
        seed=0,
        estimated_depth=estimated_depth,
    )


def traced(room, pose=None):
    """Colour averaged, depth and matte at the pixels' middles, as the renderer samples them."""
    fine = room().trace(LENS.scaled(READ_SIZE[0] * 3, READ_SIZE[1] * 3), pose or Pose())
    colour = cv2.resize(fine.colour, READ_SIZE, interpolation=cv2.INTER_AREA)
    return colour, (1 / fine.depth_m[1::3, 1::3]).astype(np.float32), fine.matte[1::3, 1::3]


def clip(room, pose: Pose, is_depth_known: bool) -> Clip:
    colour, inverse_depth, matte = traced(room)

    def repeated(picture):
        return np.stack([picture] * FRAMES)

    return Clip(
        source=repeated(colour),
        target=repeated(traced(room, pose)[0]),
        poses=[pose] * FRAMES,
        source_intrinsics=[LENS] * FRAMES,
        target_intrinsics=[LENS.zoomed(pose.zoom)] * FRAMES,
        subject_distance_m=np.full(FRAMES, DISTANCE_M, np.float32),
        source_inverse_depth=repeated(inverse_depth) if is_depth_known else None,
        source_matte=repeated(matte) if is_depth_known else None,
        scene=Path(),
        plan=straight(0, 0, 0, FRAMES, 1),
    )


def psnr(a, b):
    return 10 * np.log10(255**2 / max(np.mean((a.astype(float) - b.astype(float)) ** 2), 1e-9))


def test_true_depth_with_errors_still_beats_rotation_and_says_what_it_did_not_see(room):
    one = clip(room, TRAVEL, is_depth_known=True)
    hints, seen = hints_of(settings(estimated_depth=False), one, 5)
    assert hints.shape == (FRAMES, 2, *SIZE[::-1], 3) and seen.shape == (FRAMES, *SIZE[::-1])
    (rotated, warped), target = hints[-1], shrunk(one.target[-1], SIZE)
    assert psnr(warped, target) > psnr(rotated, target) + 3
    assert 0.02 < (seen[-1] < 128).mean() < 0.5


@pytest.mark.parametrize("pose", [Pose(), Pose.from_angles(pan=0.1, roll=0.05, zoom=1.3)])
def test_without_travel_both_hints_are_the_turned_frame(room, pose):
    """But for where it was shrunk: before it was turned, or afterwards."""
    hints, _ = hints_of(settings(estimated_depth=False), clip(room, pose, is_depth_known=True), 5)
    for rotated, warped in hints:
        assert psnr(rotated, warped) > (99 if pose == Pose() else 30)


def test_with_the_network_they_are_what_the_live_engine_draws(room):
    from engine.geometry.depth_estimator import DepthEstimator

    one = clip(room, TRAVEL, is_depth_known=False)
    hints, seen = hints_of(settings(estimated_depth=True), one, 5)
    scene = Scene(READ_SIZE, DepthEstimator(*READ_SIZE))
    for frame, (_, warped), share in zip(one.source, hints, seen, strict=True):
        scene.take(frame, DISTANCE_M)
        view = shrunk(scene.draw_seen(LENS, TRAVEL), SIZE)
        np.testing.assert_array_equal(view, np.dstack([warped, share]))
