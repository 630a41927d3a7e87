from __future__ import annotations

import logging
import threading
from fractions import Fraction

import cv2
import numpy as np
import pytest

from engine.camera.director import Director, Limits
from engine.camera.geometry import IDENTITY, Intrinsics, Pose, plane_homography
from engine.camera.trajectory import orbit
from engine.engines.base import EngineSettings
from engine.engines.depth import DepthEngine, Scene
from engine.errors import WeightsError
from engine.frames import RGB, Frame
from engine.geometry.background import Background
from engine.geometry.depth_estimator import Depth, surface_m
from plugin.colour import nv12_to_rgb
from plugin.compositor import Compositor
from plugin.config import CameraConfig, PictureConfig
from plugin.control.commands import parse
from plugin.control.switcher import Switcher
from plugin.engine_process import build_engine
from plugin.library import PresetLibrary
from plugin.shared_frames import SharedPicture
from plugin.sinks.base import OutputFormat

SIZE = (320, 180)
DISTANCE_M = 2.5
LENS = Intrinsics.from_horizontal_fov(*SIZE, np.radians(60))
SETTINGS = EngineSettings(
    name="depth", size=SIZE, horizontal_fov=float(np.radians(60)), subject_distance_m=DISTANCE_M
)
TRUCK = Pose(translation=(0.4, 0.0, 0.0))
DOLLY = Pose(translation=(0.0, 0.0, 0.6))
ARC = Pose.from_angles(pan=-0.26, translation=(0.48, 0.0, 0.7))
TURN = Pose.from_angles(pan=0.1, tilt=-0.05, roll=0.02, zoom=1.4)


class Truth:
    """Stands for the network: knows the room, and errs as it is told to."""

    def __init__(self, traced, *, noise=0.0, confidence=1.0):
        self.traced = traced
        self._noise, self._confidence = noise, confidence
        self._random = np.random.default_rng(3)
        self.resets = 0
        self.estimated: list[tuple[str, float]] = []  # by which thread, and what the frame's mean was

    def __call__(self, width, height):
        return self

    def estimate(self, frame):
        self.estimated.append((threading.current_thread().name, float(frame.mean())))
        size = (224, 128)
        inverse = cv2.resize(1 / self.traced.depth_m, size, interpolation=cv2.INTER_AREA)
        matte = cv2.resize(self.traced.matte / np.float32(255), size, interpolation=cv2.INTER_AREA)
        grain = cv2.GaussianBlur(self._random.normal(0, 1, size[::-1]), (0, 0), 4)
        grain *= self._noise / grain.std()
        inverse = (inverse * np.exp(grain)).astype(np.float32)
        return Depth(
            inverse, matte, np.full_like(inverse, self._confidence), subject=1 / surface_m(DISTANCE_M)
        )

    def reset(self):
        self.resets += 1


@pytest.fixture(scope="module")
def source(room):
    return room().trace(LENS)


def shown(rendered, pose):
    """What the compositor makes of it: reprojected from the pose that it shows to the one that is wanted."""
    to_output = plane_homography(LENS, LENS, pose, DISTANCE_M)
    to_picture = plane_homography(LENS, LENS, rendered.pose, DISTANCE_M)
    return cv2.warpPerspective(
        rendered.pixels, to_output @ np.linalg.inv(to_picture), SIZE, borderMode=cv2.BORDER_REPLICATE
    )


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


def best_plane(frame, pose, target):
    homographies = (plane_homography(LENS, LENS, pose, metres) for metres in np.geomspace(1.5, 8, 12))
    return max(
        psnr(cv2.warpPerspective(frame, one, SIZE, borderMode=cv2.BORDER_REPLICATE), target)
        for one in homographies
    )


@pytest.mark.parametrize("pose", [TRUCK, DOLLY, ARC], ids=["truck", "dolly", "arc"])
def test_a_travelling_camera_sees_more_truly_than_through_any_plane(room, source, pose):
    engine = DepthEngine(SETTINGS, Truth(source))
    target = room().trace(LENS, pose).colour
    picture = shown(engine.step([source.colour], [pose])[0], pose)
    assert psnr(picture, target) > best_plane(source.colour, pose, target) + 1.5


@pytest.mark.parametrize("told_m", [DISTANCE_M, 4.0])
@pytest.mark.parametrize(
    ("preset", "pose"),
    [
        ("push", Pose(translation=(0.0, 0.0, 0.25 * DISTANCE_M))),
        ("orbit", orbit(0.2, 0.0, DISTANCE_M, DISTANCE_M)),
    ],
    ids=["push", "orbit"],
)
def test_a_push_and_an_orbit_stay_what_they_are_when_the_subjects_distance_is_told_anew(
    room, source, tmp_path, preset, pose, told_m
):
    """On air: from the command to the compositor's picture, which is made from a slightly older one."""
    (tmp_path / "mine.yaml").write_text(
        "family: Mine\npresets:\n"
        "  push: {move: push-in, amount: 0.25, duration_s: 2}\n"
        f"  orbit: {{move: orbit, angle_deg: {np.degrees(0.2)}, duration_s: 2}}\n"
    )
    library = PresetLibrary(tmp_path)
    switcher = Switcher(library, Director(Limits(), DISTANCE_M, library.find))
    switcher.apply(parse("/realcam/cam/subject_distance", [told_m]), 0.0)
    switcher.apply(parse(f"/realcam/preset/{preset}/go", [1.0]), 2.0)
    camera = CameraConfig(subject_distance_m=DISTANCE_M)
    compositor = Compositor(OutputFormat(*SIZE, Fraction(30)), camera, PictureConfig())
    (rendered,) = DepthEngine(SETTINGS, Truth(source)).step([source.colour], [switcher.view(3.8).pose])
    compositor.set_source(Frame(source.colour, 0, Fraction(1, 30), RGB, 3.8))
    compositor.set_engine_picture(SharedPicture(0, rendered.pixels, rendered.pose, 3.8))
    picture = nv12_to_rgb(compositor.compose(switcher.view(4.0), 1 / 30, 4.0))
    target = room().trace(LENS, pose).colour
    assert psnr(picture, target) > best_plane(source.colour, pose, target) + 1.5


@pytest.mark.parametrize("pose", [IDENTITY, TURN])
def test_a_camera_that_only_turns_is_left_to_the_compositor(source, pose):
    engine = DepthEngine(SETTINGS, Truth(source))
    rendered = engine.step([source.colour], [pose])[0]
    assert rendered.pixels is source.colour and rendered.pose == IDENTITY


@pytest.mark.parametrize("pose", [IDENTITY, TURN, Pose(zoom=1.5), Pose.from_angles(pan=0.3, zoom=0.8)])
def test_a_scene_that_is_turned_is_the_homography_and_says_where_it_ends(source, pose):
    scene = Scene(SIZE, Truth(source))
    scene.take(source.colour, DISTANCE_M)
    seen = scene.draw_seen(LENS, pose)
    homography = plane_homography(LENS, LENS, pose, 1.0) if pose != IDENTITY else np.eye(3)
    white = np.full(SIZE[::-1], 255, np.uint8)
    inside = cv2.warpPerspective(white, homography, SIZE)
    exact = cv2.warpPerspective(source.colour, homography, SIZE)
    well_inside = cv2.erode(inside, np.ones((3, 3)), borderValue=255) == 255
    assert (seen[..., :3] == exact)[well_inside].all()
    assert np.abs(seen[..., 3].astype(int) - inside).max() <= 1
    assert (scene.draw(LENS, pose) == seen[..., :3]).all()


def test_a_scene_says_what_it_has_seen(room, source):
    scene = Scene(SIZE, Truth(source))
    scene.take(source.colour, DISTANCE_M)
    seen = scene.draw_seen(LENS, TRUCK).copy()
    assert (scene.draw(LENS, TRUCK) == seen[..., :3]).all()
    target = room().trace(LENS, TRUCK)
    person = cv2.erode(target.matte, np.ones((9, 9))) > 0
    wall = round(LENS.fx * TRUCK.translation[0] / 5.0)
    uncovered = (target.depth_m > 4.9) & (np.roll(source.matte, -wall, axis=1) > 0)
    assert (seen[..., 3][person] == 255).all()
    assert seen[..., 3][cv2.erode(uncovered.astype(np.uint8), np.ones((5, 5))) > 0].mean() < 2
    assert (seen[60:120, -4:, 3] == 0).all()  # beyond the source's right edge


def test_a_move_begins_without_a_jump(source):
    engine = DepthEngine(SETTINGS, Truth(source))
    for _ in range(5):
        first = engine.step([source.colour], [Pose(translation=(0.001, 0.0, 0.0))])[0]
    assert psnr(first.pixels, source.colour) > 38


def test_the_background_seen_earlier_is_there_when_it_is_uncovered(room, source):
    empty = room(person_x_m=None).trace(LENS)
    truth = Truth(empty)
    engine = DepthEngine(SETTINGS, truth)
    for _ in range(8):
        engine.step([empty.colour], [IDENTITY])
    truth.traced = source
    target = room().trace(LENS, TRUCK)
    remembering = engine.step([source.colour], [TRUCK])[0]
    fresh = DepthEngine(SETTINGS, Truth(source)).step([source.colour], [TRUCK])[0]
    wall = round(LENS.fx * TRUCK.translation[0] / 5.0)  # pixels that the wall goes to the left
    uncovered = (target.depth_m > 4.9) & (np.roll(source.matte, -wall, axis=1) > 0)
    assert uncovered.sum() > 500
    was_seen, was_not = (
        psnr(one.pixels[uncovered], target.colour[uncovered]) for one in (remembering, fresh)
    )
    assert was_seen > 32 and was_seen > was_not + 6


@pytest.mark.parametrize(
    ("translation", "comes_out"),
    [
        ((0.3, 0.0, 0.0), lambda parallax: parallax.right > 2 and parallax.down == parallax.around == 0),
        ((-0.3, -0.2, 0.0), lambda parallax: parallax.right < -2 and parallax.down < -1),
        ((0.0, 0.0, 0.5), lambda parallax: parallax == (0, 0, 0)),
        ((0.0, 0.0, -0.5), lambda parallax: parallax.around > 2 and parallax.right == 0),
    ],
)
def test_the_background_comes_out_where_the_camera_goes(source, monkeypatch, translation, comes_out):
    asked = []
    plate = Background.plate

    def told(background, parallax):
        asked.append(parallax)
        return plate(background, parallax)

    monkeypatch.setattr(Background, "plate", told)
    DepthEngine(SETTINGS, Truth(source)).step([source.colour], [Pose(translation=translation)])
    assert comes_out(asked[-1]), asked


def test_a_still_picture_with_a_noisy_depth_hardly_flickers(source):
    """Of 2 %, new in every frame: less than half a level on average, a silhouette's edge by a few."""
    engine = DepthEngine(SETTINGS, Truth(source, noise=0.02))
    pictures = [engine.step([source.colour], [TRUCK])[0].pixels.astype(int) for _ in range(20)][8:]
    steps = np.abs(np.diff(pictures, axis=0))
    assert steps.mean() < 0.25
    assert np.quantile(steps, 0.999) < 25


def test_straight_lines_stay_straight_when_the_depth_wobbles(room):
    """Lines on a wall, seen by a network that knows it may be off by some per cent."""
    empty = room(person_x_m=None, box=False).trace(LENS)
    frame = np.full_like(empty.colour, 200)
    columns = range(60, 300, 30)
    for column in columns:
        frame[:, column - 1 : column + 2] = 40
    wall = (slice(70, 125), slice(None))  # between the ceiling and the floor

    def bend(noise, confidence):
        engine = DepthEngine(SETTINGS, Truth(empty, noise=noise, confidence=confidence))
        for _ in range(3):
            picture = engine.step([frame], [TRUCK])[0].pixels[wall][..., 1]
        dark = 200 - picture.astype(float)
        shift = round(LENS.fx * TRUCK.translation[0] / 5.0)
        off = []
        for column in columns:
            near = slice(column - shift - 10, column - shift + 11)
            off.append(np.std((dark[:, near] * np.arange(21)).sum(1) / dark[:, near].sum(1)))
        return np.median(off)

    assert bend(noise=0.08, confidence=1.0) > 0.4  # px of 320: four times that at 720p
    assert bend(noise=0.08, confidence=0.95) < 0.15


def test_where_the_depth_is_unsure_the_scene_is_the_subjects_plane(source):
    engine = DepthEngine(SETTINGS, Truth(source, noise=0.2, confidence=0.0))
    picture = shown(engine.step([source.colour], [TRUCK])[0], TRUCK)
    to_plane = plane_homography(LENS, LENS, TRUCK, DISTANCE_M)
    plane, person = (cv2.warpPerspective(one, to_plane, SIZE) for one in (source.colour, source.matte))
    told = cv2.dilate(person, np.ones((11, 11))) == 0  # a person's rim is made up
    told[:, 200:] = False  # the truck looks past the right edge
    off = np.abs(picture.astype(int) - plane)[told | (person == 255)]
    assert np.quantile(off, 0.99) <= 4


def test_the_pose_that_is_shown_is_the_wanted_one_and_at_most_a_little_wider(source):
    engine = DepthEngine(SETTINGS, Truth(source))
    for pose in (TRUCK, DOLLY, ARC):
        shows = engine.step([source.colour], [pose])[0].pose
        assert (shows.rotation, shows.translation) == (pose.rotation, pose.translation)
        assert 0.94 * pose.zoom <= shows.zoom <= pose.zoom
    assert engine.step([source.colour], [TRUCK])[0].pose.zoom == 1  # no sharpness is given away


def test_without_weights_the_engine_is_the_planar_one_and_says_so(source, caplog):
    def missing(width, height):
        raise WeightsError("the depth network's weights are not there")

    engine = DepthEngine(SETTINGS, missing)
    with caplog.at_level(logging.WARNING):
        engine.warmup(lambda share, what: None)
        rendered = engine.step([source.colour] * 2, [TRUCK] * 2)
    assert all(one.pixels is source.colour and one.pose == IDENTITY for one in rendered)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "weights are not there" in caplog.text


def test_a_reset_forgets_the_picture_and_tells_the_network(room, source):
    truth = Truth(room(person_x_m=None).trace(LENS))
    engine = DepthEngine(SETTINGS, truth)
    for _ in range(8):
        engine.step([truth.traced.colour], [TRUCK])
    engine.reset()
    truth.traced = source
    again = engine.step([source.colour], [TRUCK])[0]
    fresh = DepthEngine(SETTINGS, Truth(source)).step([source.colour], [TRUCK])[0]
    assert truth.resets == 1
    assert (again.pixels == fresh.pixels).all()


def test_frames_may_change_their_size(source):
    engine = DepthEngine(SETTINGS, Truth(source))
    engine.step([source.colour], [TRUCK])
    half = cv2.resize(source.colour, (160, 90))
    assert engine.step([half], [TRUCK])[0].pixels.shape == (90, 160, 3)


def brighter(frame, levels):
    return cv2.add(frame, np.full_like(frame, levels))


def test_what_is_begun_with_ahead_looks_the_same_and_is_done_beside_the_drawing(source):
    frames = [brighter(source.colour, 3 * number) for number in range(5)]
    plain, ahead = (Truth(source, noise=0.1) for _ in range(2))
    one_by_one, looking_ahead = DepthEngine(SETTINGS, plain), DepthEngine(SETTINGS, ahead)
    for number, frame in enumerate(frames):
        following = frames[number + 1 : number + 2]
        (wanted,) = one_by_one.step([frame], [TRUCK])
        (found,) = looking_ahead.step([frame], [TRUCK], lambda following=following: following)
        np.testing.assert_array_equal(found.pixels, wanted.pixels)
    assert [mean for _, mean in ahead.estimated] == [mean for _, mean in plain.estimated]
    assert [name.startswith("depth") for name, _ in ahead.estimated] == [False, True, True, True, True]
    assert not any(name.startswith("depth") for name, _ in plain.estimated)


def test_a_frame_that_was_expected_and_does_not_come_is_forgotten(source):
    first, expected, another = (brighter(source.colour, levels) for levels in (0, 10, 20))
    truth = Truth(source)
    engine = DepthEngine(SETTINGS, truth)
    engine.step([first], [TRUCK], lambda: [expected])
    (found,) = engine.step([another], [TRUCK])
    assert [mean for _, mean in truth.estimated] == [one.mean() for one in (first, expected, another)]
    plain = DepthEngine(SETTINGS, Truth(source))
    plain.step([first], [TRUCK])
    np.testing.assert_array_equal(found.pixels, plain.step([another], [TRUCK])[0].pixels)


def test_a_reset_forgets_what_was_begun_with(source):
    truth = Truth(source)
    engine = DepthEngine(SETTINGS, truth)
    engine.step([source.colour], [TRUCK], lambda: [source.colour])
    engine.reset()
    engine.step([source.colour], [TRUCK])
    assert len(truth.estimated) == 3


def test_a_network_that_gives_up_on_what_comes_next_leaves_the_planar_engine(source, caplog):
    class Failing(Truth):
        def estimate(self, frame):
            if self.estimated:
                raise WeightsError("the weights are gone")
            return super().estimate(frame)

    engine = DepthEngine(SETTINGS, Failing(source))
    assert engine.step([source.colour], [TRUCK], lambda: [source.colour])[0].pose == TRUCK
    (found,) = engine.step([source.colour], [TRUCK])
    assert found.pixels is source.colour
    assert found.pose == IDENTITY
    assert "the weights are gone" in caplog.text


def test_a_following_frame_of_another_size_waits_for_its_turn(source):
    half = cv2.resize(source.colour, (160, 90))
    engine = DepthEngine(SETTINGS, Truth(source))
    engine.step([source.colour], [TRUCK], lambda: [half])
    assert engine.step([half], [TRUCK])[0].pixels.shape == (90, 160, 3)


def test_the_engine_process_builds_it_by_name():
    assert isinstance(build_engine(SETTINGS), DepthEngine)
