from __future__ import annotations

import cv2
import numpy as np

from engine.camera.geometry import Intrinsics, Pose, plane_homography
from engine.geometry.hints import hints_of_view

SIZE = (112, 64)
LENS = Intrinsics.from_horizontal_fov(*SIZE, np.radians(60))


def test_the_view_is_handed_on_and_the_frame_turned_beside_it(room):
    frame = room().trace(LENS).colour
    view, seen = 255 - frame, np.full(SIZE[::-1], 0.5, np.float32)
    pose = Pose.from_angles(pan=0.1, roll=0.05, translation=(0.3, 0.0, 0.1), zoom=1.3)
    made = hints_of_view(frame, view, seen, LENS, pose)
    assert made.warped is view and made.visible is seen
    turned = plane_homography(LENS, LENS, Pose(pose.rotation, zoom=pose.zoom), 3.0)
    exact = cv2.warpPerspective(frame, turned, SIZE, borderMode=cv2.BORDER_REPLICATE)
    assert (made.rotated == exact).all()


def test_the_unmoved_frame_is_its_own_hint(room):
    frame = room().trace(LENS).colour
    made = hints_of_view(frame, frame, np.ones(SIZE[::-1], np.float32), LENS, Pose())
    assert (made.rotated == frame).all()
