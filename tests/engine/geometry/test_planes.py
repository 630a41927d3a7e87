from __future__ import annotations

import cv2
import numpy as np
import pytest

from engine.geometry.planes import Planes

GRID = (192, 108)
FOCAL = 166.0  # cells
WALL, FLOOR_NEAREST = 0.22, 0.75  # 1/m


def wobble(seed, share=0.08):
    grain = cv2.GaussianBlur(np.random.default_rng(seed).normal(0, 1, GRID[::-1]), (0, 0), 9)
    return np.exp(grain * share / grain.std()).astype(np.float32)


def wall_and_floor():
    y, x = np.indices(GRID[::-1], np.float32)
    wall = WALL * (1 + 0.2 * x / GRID[0])
    floor = FLOOR_NEAREST * (2 * y / GRID[1] - 1)
    return np.maximum(wall, floor)


def learnt(depth, error, times=1):
    planes = Planes(GRID)
    for _ in range(times):
        planes.learn(depth, np.full_like(depth, error))
    return planes


def bend_px(depth, rows, truck_m=0.4, width_px=1280):
    """How far a camera that trucks sees lines on these rows' plane from straight, in pixels at 720p."""
    part = depth[rows]
    y, x = np.indices(part.shape)
    basis = np.stack([x.ravel(), y.ravel(), np.ones(part.size)], 1)
    straight = basis @ np.linalg.lstsq(basis, part.ravel(), rcond=None)[0]
    return np.abs(part.ravel() - straight) * truck_m * FOCAL * width_px / GRID[0]


@pytest.mark.parametrize("seed", range(4))
def test_straight_lines_stay_straight_when_depth_wobbles(seed):
    depth = wall_and_floor() * wobble(seed)
    flat = learnt(depth, 0.08).flattened(depth)
    wall, floor = slice(0, 64), slice(78, 108)
    assert np.quantile(bend_px(depth, wall), 0.9) > 12 and np.quantile(bend_px(flat, wall), 0.9) < 4
    assert np.median(bend_px(flat, floor)) < 0.5 * np.median(bend_px(depth, floor))


def test_a_depth_without_error_is_left_alone():
    depth = wall_and_floor() * wobble(2)
    assert np.allclose(learnt(depth, 0.0).flattened(depth), depth, rtol=1e-5)


def test_what_stands_out_by_more_than_the_error_keeps_its_own_depth():
    truth = wall_and_floor()
    truth[30:60, 40:80] = 0.6
    depth = truth * wobble(3)
    flat = learnt(depth, 0.08).flattened(depth)
    inside = (slice(33, 57), slice(43, 77))
    assert np.median(np.abs(flat[inside] / 0.6 - 1)) < 0.08
    assert np.abs(flat[inside] / 0.6 - 1).max() < 0.25  # the wall behind it is 60 % off
    assert np.abs(flat[5:25, 40:80] / truth[5:25, 40:80] - 1).max() < 0.05


def test_planes_hold_still_while_the_depth_shivers():
    truth = wall_and_floor()
    planes = Planes(GRID)
    shown = []
    for seed in range(12):
        depth = truth * wobble(seed)
        planes.learn(depth, np.full_like(depth, 0.08))
        shown.append(planes.flattened(depth))
    steps = np.abs(np.diff(np.array(shown[4:]), axis=0)) / truth
    assert np.median(steps) < 0.01  # the depth itself: 0.06


def test_planes_follow_a_scene_that_changes():
    first = wall_and_floor()
    planes = learnt(first, 0.08)
    after = np.full_like(first, 0.4)
    for _ in range(12):
        planes.learn(after, np.full_like(after, 0.08))
    assert np.abs(planes.flattened(after * wobble(4)) / after - 1).max() < 0.05


def test_nothing_learnt_or_forgotten_changes_nothing():
    depth = wall_and_floor() * wobble(5)
    planes = Planes(GRID)
    assert (planes.flattened(depth) == depth).all()
    planes.learn(depth, np.full_like(depth, 0.08))
    assert (planes.flattened(depth) != depth).any()
    planes.reset()
    assert (planes.flattened(depth) == depth).all()


@pytest.mark.parametrize("grid", [(192, 108), (64, 36), (16, 9), (40, 90)])
def test_any_grid_will_do(grid):
    planes = Planes(grid)
    depth = np.full(grid[::-1], 0.3, np.float32)
    planes.learn(depth, np.full_like(depth, 0.1))
    assert np.allclose(planes.flattened(depth * 1.1), 0.3, rtol=0.01)
