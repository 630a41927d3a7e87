from __future__ import annotations

import cv2
import numpy as np

from engine.geometry.matte import GuidedMatte

GRID, SIZE = (192, 108), (960, 540)


def scene(edge_px=400):
    """Bright on the left, dark on the right, with a sharp edge; and the network's soft matte of the left."""
    half = np.full((SIZE[1] // 2, SIZE[0] // 2, 4), 40, np.uint8)
    half[:, : edge_px // 2] = 210
    half[..., 3] = 255
    small = cv2.resize(half, GRID, interpolation=cv2.INTER_AREA)[..., :3].copy()
    matte = np.zeros(GRID[::-1], np.float32)
    matte[:, : edge_px // 5 + 1] = 1  # a cell too far
    return half, small, cv2.blur(matte, (5, 5))


def test_the_edge_follows_the_pictures_own():
    half, small, soft = scene()
    share, (top, left) = GuidedMatte.of(soft, small).enlarged(half, SIZE)
    whole = np.zeros(SIZE[::-1], np.uint8)
    whole[top : top + share.shape[0], left : left + share.shape[1]] = share
    edge = (whole[100:-100] > 127).sum(1)
    assert np.abs(edge - 400).max() <= 3
    assert share.shape[1] < 480  # only where there may be somebody


def test_a_matte_is_soft_at_its_edge_and_nowhere_else():
    _, small, soft = scene()
    unsure = soft.copy()
    unsure[40:90, 20:60] = 0.55  # in the middle of somebody
    share = GuidedMatte.of(unsure, small).on_grid
    assert (share[45:85, 25:55] == 1).all()
    assert (share[:, 100:] == 0).all()


def test_what_is_half_taken_for_a_person_beside_one_is_none() -> None:
    _, small, soft = scene()
    soft[40:70, 83:170] = 0.5
    assert (GuidedMatte.of(soft, small).on_grid[:, 90:] == 0).all()


def test_what_may_be_a_person_but_touches_none_is_none():
    _, small, soft = scene()
    soft[40:70, 130:170] = 0.6
    assert (GuidedMatte.of(soft, small).on_grid[:, 120:] == 0).all()


def test_an_empty_picture_has_nobody():
    half, small, soft = scene()
    share, corner = GuidedMatte.of(np.zeros_like(soft), small).enlarged(half, SIZE)
    assert share.max() == 0 and corner == (0, 0)


def test_odd_sizes_are_covered_to_the_last_pixel():
    half, small, soft = scene()
    share, (top, left) = GuidedMatte.of(np.ones_like(soft), small).enlarged(half, (959, 539))
    assert (top, left) == (0, 0) and share.shape == (539, 959) and (share == 255).all()
