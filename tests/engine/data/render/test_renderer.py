"""Rendered views agree with each other, with their depth, poses and lenses, and with what is on the stage."""

import math
from collections.abc import Iterator
from dataclasses import replace

import cv2
import moderngl
import numpy as np
import pytest

from engine.camera.geometry import Intrinsics, Pose
from engine.data.render import gpu
from engine.data.render.mesh import Material, joined, placement
from engine.data.render.renderer import Renderer
from engine.data.render.stage import Light, Stage, Thing, View
from engine.data.scenes import shapes
from engine.errors import DataError

SIZE = (112, 64)
LOW, HIGH = (-2.0, -2.5, -2.0), (2.0, 0.0, 3.0)


@pytest.fixture(scope="module")
def renderer() -> Iterator[Renderer]:
    with Renderer(*SIZE) as made:
        yield made


def smooth_texture() -> np.ndarray:
    """Soft blobs: what two cameras sample a little differently must still look alike."""
    noise = np.random.default_rng(1).uniform(0, 255, (32, 32, 3)).astype(np.float32)
    tiled = np.tile(cv2.GaussianBlur(np.tile(noise, (3, 3, 1)), (0, 0), 1.5)[32:64, 32:64], (1, 1, 1))
    tiled = (tiled - tiled.min()) / (tiled.max() - tiled.min()) * 200 + 40
    return cv2.resize(tiled, (256, 256), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def stage_of(*things: Thing, lights: tuple[Light, ...] = ()) -> Stage:
    return Stage(
        things=things,
        textures={"blobs": smooth_texture()},
        lights=lights,
        low=LOW,
        high=HIGH,
        ambient=np.full((6, 2, 2, 2, 3), math.pi, np.float32),
        walls=np.zeros((6, 4, 4, 3), np.float32),
        surroundings=np.full((4, 8, 3), 0.5, np.float32),
        exposure=(0.6, 0.6, 0.6),
    )


def furnished_room(repeat_m: float = 2.5) -> tuple[Thing, ...]:
    """A textured room with two boxes before the camera."""
    look = Material(colour=(0.8, 0.8, 0.8), texture="blobs", roughness=1.0)
    (x0, y0, z0), (x1, y1, z1) = LOW, HIGH
    room = joined(
        [
            shapes.wall((x0, z1), (x1, z1), -y0, look, repeat_m),
            shapes.wall((x1, z1), (x1, z0), -y0, look, repeat_m),
            shapes.wall((x0, z0), (x0, z1), -y0, look, repeat_m),
            shapes.panel((x0, y1, z1), (x1 - x0, 0, 0), (0, 0, z0 - z1), look, repeat_m),
            shapes.panel((x0, y0, z0), (x1 - x0, 0, 0), (0, 0, z1 - z0), look, repeat_m),
        ]
    )
    boxes = [
        shapes.box(0.6, 1.2, 0.6, look, repeat_m=repeat_m).placed(placement(-0.6, 0.8, 0.4)),
        shapes.box(0.7, 0.7, 0.5, look, repeat_m=repeat_m).placed(placement(0.7, 1.4, -0.3)),
    ]
    return (Thing(mesh=room), *(Thing(mesh=box) for box in boxes))


def camera(
    x: float = 0.0, y: float = -1.2, z: float = -1.5, pan: float = 0.0, tilt: float = 0.0, focal: float = 0.9
) -> tuple[np.ndarray, Intrinsics]:
    pose = np.eye(4)
    pose[:3, :3] = Pose.from_angles(pan, tilt).matrix()
    pose[:3, 3] = x, y, z
    f = focal * SIZE[0]
    return pose, Intrinsics(f, f, (SIZE[0] - 1) / 2, (SIZE[1] - 1) / 2, *SIZE)


def reprojected(
    source: View,
    source_at: tuple[np.ndarray, Intrinsics],
    target: View,
    target_at: tuple[np.ndarray, Intrinsics],
) -> tuple[np.ndarray, np.ndarray]:
    """The source seen from the target by the target's depth (H W 3), and where the source saw the same
    point.
    """
    (source_pose, source_lens), (target_pose, target_lens) = source_at, target_at
    v, u = np.mgrid[0 : SIZE[1], 0 : SIZE[0]].astype(np.float64)
    rays = np.stack([u, v, np.ones_like(u)], -1) @ target_lens.inverse().T
    world = (rays * target.depth_m[..., None]) @ target_pose[:3, :3].T + target_pose[:3, 3]
    seen = (world - source_pose[:3, 3]) @ source_pose[:3, :3]
    at = seen @ source_lens.matrix().T
    x, y = (at[..., k] / at[..., 2] for k in range(2))
    maps = x.astype(np.float32), y.astype(np.float32)
    colour = cv2.remap(source.colour.astype(np.float32), *maps, cv2.INTER_CUBIC)
    inverse = cv2.remap(1 / source.depth_m, *maps, cv2.INTER_LINEAR)
    inside = (x > 1) & (x < SIZE[0] - 2) & (y > 1) & (y < SIZE[1] - 2) & (seen[..., 2] > 0)
    same = inside & (np.abs(inverse * seen[..., 2] - 1) < 0.01)
    jumps = cv2.morphologyEx(1 / target.depth_m, cv2.MORPH_GRADIENT, np.ones((3, 3))) > 0.05
    return colour, same & ~jumps


@pytest.mark.parametrize(
    ("move", "least_seen"),
    [
        (camera(x=0.35), 0.6),
        (camera(y=-1.5, tilt=0.12), 0.5),
        (camera(z=-1.0), 0.6),
        (camera(pan=0.2), 0.5),
        (camera(focal=1.25), 0.8),
        (camera(x=-0.5, y=-1.0, z=-1.3, pan=0.25, tilt=0.05, focal=1.1), 0.4),
    ],
    ids=["aside", "up", "forward", "pan", "zoom", "all"],
)
def test_one_view_reprojected_by_true_depth_and_poses_is_another_view(
    renderer: Renderer, move: tuple[np.ndarray, Intrinsics], least_seen: float
) -> None:
    source, target = renderer.render(stage_of(*furnished_room()), 0.0, [camera(), move])
    colour, visible = reprojected(source, camera(), target, move)
    assert visible.mean() > least_seen
    error = ((colour - target.colour.astype(np.float32)) ** 2)[visible].mean()
    assert 10 * math.log10(255**2 / error) > 30
    still = ((source.colour.astype(np.float32) - target.colour) ** 2)[visible].mean()
    assert 10 * math.log10(255**2 / still) < 22  # so that agreeing means something


def test_depth_is_along_the_axis_and_exact_on_a_slanted_wall(renderer: Renderer) -> None:
    wall = shapes.panel((-9, -9, 3), (18, 0, 6), (0, 18, 0), Material(colour=(0.5, 0.5, 0.5)))
    pose, lens = camera(x=0.0, y=0.0, z=0.0)
    (view,) = renderer.render(stage_of(Thing(mesh=wall)), 0.0, [(pose, lens)])
    ray = (np.arange(SIZE[0]) - lens.cx) / lens.fx  # x = z · ray, and on the wall z = 6 + x / 3
    np.testing.assert_allclose(view.depth_m, np.tile(6 / (1 - ray / 3), (SIZE[1], 1)), rtol=5e-5)


def test_nothing_is_infinitely_far_and_shows_the_surroundings(renderer: Renderer) -> None:
    (view,) = renderer.render(stage_of(), 0.0, [camera()])
    assert np.isinf(view.depth_m).all()
    assert view.colour.std() == 0 and view.colour[0, 0, 0] > 100
    assert not view.matte.any()


def test_the_matte_is_the_people_and_is_soft_at_their_edges_only(renderer: Renderer) -> None:
    ball = shapes.ball(0.8, 0.8, 0.8, Material(colour=(0.5, 0.3, 0.2))).placed(placement(0, 0.2, y_m=-0.8))
    things = (Thing(mesh=ball, person=True), *furnished_room())
    (view,) = renderer.render(stage_of(*things), 0.0, [camera()])
    person = view.depth_m < 1.75
    assert view.matte[person].min() > 0 and 0.02 < person.mean() < 0.5
    assert not view.matte[~cv2.dilate(person.astype(np.uint8), np.ones((3, 3))).astype(bool)].any()
    assert ((view.matte > 0) & (view.matte < 255)).mean() < 0.06


def test_what_moves_moves_and_the_rest_stays(renderer: Renderer) -> None:
    ball = shapes.ball(0.4, 0.4, 0.4, Material(colour=(0.9, 0.1, 0.1))).placed(placement(y_m=-0.2))
    rolling = Thing(mesh=ball, place=lambda t: placement(-0.5 + t, 0.0, y_m=-0.8))
    breathing = Thing(mesh=ball, shape=lambda t: (ball.positions * np.float32(1 + t), ball.normals))
    for thing in (rolling, breathing):
        stage = stage_of(thing, *furnished_room())
        (before,), (after,) = (renderer.render(stage, t, [camera()]) for t in (0.0, 0.7))
        changed = before.depth_m != after.depth_m
        assert 0.002 < changed.mean() < 0.2
    (again,) = renderer.render(stage, 0.0, [camera()])
    np.testing.assert_array_equal(again.colour, before.colour)


def test_a_lamp_casts_a_shadow_that_all_cameras_see_at_the_same_place(renderer: Renderer) -> None:
    white = Material(colour=(0.8, 0.8, 0.8), roughness=1.0)
    floor = shapes.panel((-2, 0, 3), (4, 0, 0), (0, 0, -5), white)
    block = shapes.box(0.4, 0.4, 0.4, white, y_m=-0.8)
    lamp = Light(place=(0.0, -2.4, 0.5), direction=(0.0, 1.0, 0.0), colour=(60.0, 60.0, 60.0), half_angle=0.9)
    things = (Thing(mesh=floor), Thing(mesh=block.placed(placement(0, 0.5))))
    stage = replace(stage_of(*things, lights=(lamp,)), exposure=(0.15, 0.15, 0.15))
    eyes = [camera(y=-1.4, tilt=-0.5), camera(x=0.8, y=-1.4, pan=-0.3, tilt=-0.5)]
    for (pose, lens), view in zip(eyes, renderer.render(stage, 0.0, eyes), strict=True):
        brightness = []
        for place in ((0.0, 0.0, 0.55), (0.55, 0.0, 0.5)):
            seen = lens.matrix() @ (np.linalg.inv(pose) @ [*place, 1.0])[:3]
            brightness.append(view.colour[round(seen[1] / seen[2]), round(seen[0] / seen[2])].mean())
        assert brightness[0] < brightness[1] - 30


def test_a_lens_of_another_size_is_refused(renderer: Renderer) -> None:
    pose, lens = camera()
    with pytest.raises(ValueError, match="224×128"):
        renderer.render(stage_of(), 0.0, [(pose, lens.scaled(224, 128))])


def test_a_machine_without_egl_is_told_which_packages_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise ImportError("libEGL.so not loaded")

    monkeypatch.setattr(moderngl, "create_context", fail)
    with pytest.raises(DataError, match=f"libEGL.so.*apt install {gpu.PACKAGES}"):
        Renderer(*SIZE)
