from __future__ import annotations

import cv2
import numpy as np
import pytest

from engine.camera.geometry import IDENTITY, Intrinsics, Pose, plane_homography
from engine.geometry.background import Plate
from engine.geometry.forward_warp import (
    Projection,
    in_picture,
    is_still,
    plane_positions,
    refine,
    rotation_homography,
    sharpened,
    source_positions,
    splat,
    target_cell,
)
from engine.geometry.layer_renderer import LayerRenderer, TargetGrid
from engine.geometry.layers import Layers
from engine.geometry.pictures import push_pull

LENS = Intrinsics.from_horizontal_fov(320, 180, np.radians(60))
TRAVEL = Pose.from_angles(pan=-0.13, tilt=0.02, translation=(0.4, -0.1, 0.3), zoom=1.1)


def psnr(a, b, where=...):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float))[where] ** 2))


def layers_of(frame, inverse_depth, share, plate):
    opaque = cv2.cvtColor(frame, cv2.COLOR_RGB2RGBA)
    return Layers.of(opaque, frame, share, (0, 0), share.astype(np.float32) / 255, inverse_depth, plate)


@pytest.fixture(scope="module")
def smooth(room):
    return room(person_x_m=None, box=False)


def warp_one(traced, pose, lens=LENS):
    """One layer, drawn by the renderer with its true depth."""
    nobody = np.zeros(traced.depth_m.shape, np.uint8)
    opaque = cv2.cvtColor(traced.colour, cv2.COLOR_RGB2RGBA)
    inverse_depth = 1 / traced.depth_m
    layers = layers_of(traced.colour, inverse_depth, nobody, Plate(opaque, inverse_depth))
    size = (lens.width, lens.height)
    return LayerRenderer(size, size).draw(layers, lens, pose)


def test_true_depth_reprojects_a_smooth_scene_to_30_db(smooth):
    picture = warp_one(smooth.trace(LENS), TRAVEL)
    seen = picture[..., 3] > 250
    assert seen.mean() > 0.8
    assert psnr(picture[..., :3], smooth.trace(LENS, TRAVEL).colour, seen) > 35


def test_a_surface_has_no_cracks_wherever_the_camera_goes(smooth):
    inverse_depth = 1 / smooth.trace(LENS).depth_m
    for pose in (
        Pose.from_angles(roll=0.5, translation=(0.0, 0.0, 1.2)),
        Pose.from_angles(pan=-0.3, translation=(0.8, 0.0, 0.3), zoom=1.7),
        Pose.from_angles(tilt=0.2, translation=(0.0, -0.6, 0.9)),
    ):
        grid = TargetGrid((320, 180), target_cell(1.0, pose, float(np.quantile(inverse_depth, 0.9))))
        forward = Projection.between(LENS, grid.lens(LENS.zoomed(pose.zoom)), pose)
        missing = splat(inverse_depth, forward, grid.size) <= 0
        count, _ = cv2.connectedComponents(missing.astype(np.uint8))
        border = missing.copy()
        border[1:-1, 1:-1] = False
        at_border, _ = cv2.connectedComponents((missing & _reached(missing, border)).astype(np.uint8))
        assert count == at_border, f"{pose} leaves a hole inside the picture"


def _reached(mask, start):
    """The parts of the mask that touch ``start``."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8))
    return np.isin(labels, np.unique(labels[start]))


def test_the_nearest_of_what_falls_into_a_cell_wins():
    inverse_depth = np.full((90, 160), 0.2, np.float32)
    inverse_depth[30:60, 20:50] = 0.5
    lens = LENS.scaled(160, 90)
    pose = Pose(translation=(-0.5, 0.0, 0.0))  # to the left: what is near goes to the right, over the rest
    found = splat(inverse_depth, Projection.between(lens, lens, pose), (160, 90))
    step = round(0.5 * lens.fx * 0.5)
    assert (found[32:58, 22 + step : 48 + step] == 0.5).all()
    uncovered = found[40, round(20 + 0.5 * lens.fx * 0.2) + 1 : 20 + step - 1]
    assert len(uncovered) > 15 and (uncovered == 0).all()


def test_the_way_there_and_back_ends_where_it_began(smooth):
    inverse_depth = 1 / smooth.trace(LENS).depth_m
    target = LENS.zoomed(TRAVEL.zoom).scaled(213, 120)
    forward, back = Projection.between(LENS, target, TRAVEL), Projection.back(LENS, target, TRAVEL)
    found = refine(splat(inverse_depth, forward, (213, 120)), inverse_depth, back)
    positions = source_positions(found, back)
    truth = 1 / smooth.trace(target.zoomed(1 / TRAVEL.zoom), TRAVEL).depth_m
    hit = found > 0
    assert np.abs(found - truth)[hit].max() < 0.02
    assert np.median(np.abs(found - truth)[hit] / truth[hit]) < 0.002
    there = cv2.remap(inverse_depth, positions, None, cv2.INTER_LINEAR)
    assert np.median(np.abs(there - inverse_depth.mean())[hit]) > 0  # a scene with depth, not a plane


@pytest.mark.parametrize(
    "pose",
    [Pose.from_angles(pan=0.2, tilt=-0.1, roll=0.1), Pose(zoom=1.6), Pose.from_angles(pan=-0.1, zoom=0.9)],
)
def test_rotation_and_zoom_are_the_homography_at_any_depth(room, pose):
    source = room().trace(LENS)
    drawn = warp_one(source, pose)
    size = (LENS.width, LENS.height)
    homography = rotation_homography(LENS, LENS, pose)
    exact = cv2.warpPerspective(source.colour, homography, size)
    well_inside = cv2.warpPerspective(np.full(size[::-1], 255, np.uint8), homography, size)
    well_inside = cv2.erode(well_inside, np.ones((35, 35)), borderValue=255) == 255  # not in the soft border
    off = np.abs(drawn[..., :3].astype(int) - exact)[well_inside]
    assert is_still(pose) and len(off) > 15_000
    assert off.max() <= 1


def test_the_unmoved_picture_comes_back_to_the_bit(room):
    source = room().trace(LENS)
    assert (warp_one(source, IDENTITY)[..., :3] == source.colour).all()


def test_a_plane_is_the_plane_homography():
    pose = Pose.from_angles(pan=-0.1, translation=(0.3, 0.1, 0.4), zoom=1.2)
    homography = plane_homography(LENS, LENS, pose, 2.5)
    forward = Projection.between(LENS, LENS.zoomed(pose.zoom), pose)
    assert np.allclose(forward.at(1 / 2.5), homography)
    x, y = plane_positions(1 / 2.5, forward, (320, 180))[70, 110]
    back = np.linalg.inv(homography) @ (110, 70, 1)
    assert np.allclose((x, y), back[:2] / back[2], atol=1e-3)


def test_smeared_edges_become_steps_and_slopes_stay():
    smeared = cv2.blur(
        np.repeat(np.where(np.arange(60) < 30, 0.5, 0.2)[None], 20, 0).astype(np.float32), (5, 5)
    )
    assert set(np.unique(sharpened(smeared).round(3))) == {np.float32(0.2), np.float32(0.5)}
    floor = np.repeat(np.linspace(0.1, 0.7, 60, dtype=np.float32)[:, None], 20, 1)
    assert (sharpened(floor) == floor).all()


def test_positions_on_the_grid_mean_the_same_place_in_the_picture():
    x, y = in_picture(np.array([[[0.0, 0.0]]], np.float32), (160, 90), (640, 360))[0, 0]
    assert (x, y) == (1.5, 1.5)


def test_gaps_take_smooth_values_from_around_them():
    ramp = np.repeat(np.linspace(0, 100, 64, dtype=np.float32)[None, :, None], 48, 0)
    known = np.ones((48, 64), np.float32)
    known[15:33, 20:44] = 0
    filled = push_pull(np.where(known[..., None] > 0, ramp, -1e6).astype(np.float32), known)
    assert (filled[known > 0] == ramp[known > 0]).all()
    assert filled.min() >= -1e-3 and filled.max() <= 100 + 1e-3
    assert np.abs(np.diff(filled[24, :, 0])).max() < 12
