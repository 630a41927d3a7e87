from __future__ import annotations

import cv2
import numpy as np
import pytest

from engine.geometry.matte import FLATNESS, RADIUS, GuidedMatte, guided_weights

GRID, SIZE = (192, 108), (960, 540)
BRIGHT, DARK = (210, 210, 210), (40, 40, 40)
SKIN, WALL = (200, 110, 110), (110, 148, 149)  # as bright as one another


def scene(edge_px=400, left=BRIGHT, right=DARK):
    """Two colours with a sharp edge between them; and the network's soft matte of the left one."""
    half = np.full((SIZE[1] // 2, SIZE[0] // 2, 4), 255, np.uint8)
    half[..., :3] = right
    half[:, : edge_px // 2, :3] = left
    small = cv2.resize(half, GRID, interpolation=cv2.INTER_AREA)[..., :3].copy()
    matte = np.zeros(GRID[::-1], np.float32)
    matte[:, : edge_px // 5 + 1] = 1  # a cell too far
    return half, small, cv2.blur(matte, (5, 5))


@pytest.mark.parametrize(("left", "right"), [(BRIGHT, DARK), (DARK, BRIGHT), (SKIN, WALL)])
def test_the_edge_follows_the_pictures_own(left, right):
    half, small, soft = scene(left=left, right=right)
    share, (top, left) = GuidedMatte.of(soft, small).enlarged(half, SIZE)
    whole = np.zeros(SIZE[::-1], np.uint8)
    whole[top : top + share.shape[0], left : left + share.shape[1]] = share
    edge = (whole[100:-100] > 127).sum(1)
    assert np.abs(edge - 400).max() <= 3
    assert share.shape[1] < 480  # only where there may be somebody


def test_the_weights_are_the_mean_of_every_windows_regression():
    random = np.random.default_rng(0)
    colours = cv2.GaussianBlur(random.uniform(0, 255, (48, 56, 3)).astype(np.float32), (0, 0), 1.5)
    matte = cv2.blur((colours[..., 0] > 128).astype(np.float32), (3, 3))

    def regression(row, column):
        window = (slice(row - RADIUS, row + RADIUS + 1), slice(column - RADIUS, column + RADIUS + 1))
        inside, wanted = colours[window].reshape(-1, 3).astype(float), matte[window].ravel().astype(float)
        covariance = np.cov(inside.T, bias=True) + FLATNESS * 255**2 * np.eye(3)
        a = np.linalg.solve(covariance, ((inside - inside.mean(0)).T * wanted).mean(1))
        return np.append(a, wanted.mean() - a @ inside.mean(0))

    found = guided_weights(colours, matte)
    reach = range(-RADIUS, RADIUS + 1)
    for row, column in ((20, 20), (24, 33), (30, 28)):
        mean = np.mean([regression(row + y, column + x) for y in reach for x in reach], axis=0)
        np.testing.assert_allclose(found[row, column], mean, rtol=1e-2, atol=1e-5)


def test_what_is_far_from_somebody_changes_nothing():
    _, small, soft = scene()
    other = small.copy()
    other[:, -60:] = 200
    for name in ("weights", "on_grid"):
        np.testing.assert_array_equal(
            getattr(GuidedMatte.of(soft, other), name), getattr(GuidedMatte.of(soft, small), name)
        )


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
