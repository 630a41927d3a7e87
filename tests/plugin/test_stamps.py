"""The stamp against what happens to pictures between a camera and a viewer."""

from __future__ import annotations

import math
from fractions import Fraction

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.camera.geometry import Intrinsics, Pose, plane_homography
from engine.frames import Pixels
from plugin.clock import FakeClock
from plugin.colour import nv12_to_rgb, to_nv12
from plugin.sources.pattern import PatternSource
from plugin.stamps import PERIOD_S, Stamp, draw_stamp, read_stamp

NOW = 123_456.7891
WIDTH, HEIGHT = 1280, 720
POSES = {
    "pan": Pose.from_angles(pan=math.radians(12)),
    "tilt": Pose.from_angles(tilt=math.radians(-9)),
    "roll": Pose.from_angles(roll=math.radians(35)),
    "zoom in": Pose(zoom=1.7),
    "zoom out": Pose(zoom=0.5),
    "dolly": Pose(translation=(0.2, -0.1, 0.4)),
    "orbit": Pose.from_angles(pan=math.radians(-20), translation=(0.9, 0.0, 0.1)),
    "everything": Pose.from_angles(
        math.radians(6), math.radians(4), math.radians(-12), translation=(0.1, 0.1, 0.2), zoom=1.2
    ),
}


def card(now: float = NOW, width: int = WIDTH, height: int = HEIGHT) -> Pixels:
    source = PatternSource(width, height, Fraction(30), FakeClock(now))
    source.open()
    frame = source.read(1.0)
    assert frame is not None
    return frame.pixels


def seen(picture: Pixels, homography: NDArray[np.float64], size: tuple[int, int] | None = None) -> Pixels:
    size = size or (picture.shape[1], picture.shape[0])
    moved = cv2.warpPerspective(
        picture, homography, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return nv12_to_rgb(to_nv12(moved))  # type: ignore[arg-type]


def read(picture: Pixels) -> Stamp:
    stamp = read_stamp(picture)
    assert stamp is not None
    return stamp


@pytest.mark.parametrize(
    "size", [(1920, 1080), (1280, 720), (854, 480), (832, 480), (640, 480), (640, 360), (720, 1280)]
)
def test_the_stamp_reads_back_from_every_usual_size(size: tuple[int, int]) -> None:
    stamp = read(card(width=size[0], height=size[1]))
    assert stamp.time_s == pytest.approx(NOW, abs=1e-6)
    assert stamp.centre == pytest.approx(((size[0] - 1) / 2, (size[1] - 1) / 2), abs=0.05)
    assert (stamp.angle, stamp.scale) == pytest.approx((0, 1), abs=1e-3)


@pytest.mark.parametrize("name", POSES)
def test_a_camera_move_is_measured_from_pixels(name: str) -> None:
    lens = Intrinsics.from_horizontal_fov(WIDTH, HEIGHT, math.radians(60))
    homography = plane_homography(lens, lens, POSES[name], 2.5)
    stamp = read(seen(card(), homography))
    x, y, w = homography @ [(WIDTH - 1) / 2, (HEIGHT - 1) / 2, 1.0]
    assert stamp.time_s == pytest.approx(NOW, abs=1e-6)
    assert stamp.centre == pytest.approx((x / w, y / w), abs=0.3)


@pytest.mark.parametrize("angle_deg", [-170, -90, -30, 5, 45, 120])
def test_angle_and_scale_are_measured(angle_deg: float) -> None:
    turn = cv2.getRotationMatrix2D(((WIDTH - 1) / 2, (HEIGHT - 1) / 2), -angle_deg, 0.8)
    stamp = read(seen(card(), np.vstack([turn, [0.0, 0.0, 1.0]])))
    assert math.degrees(stamp.angle) == pytest.approx(angle_deg, abs=0.1)
    assert stamp.scale == pytest.approx(0.8, abs=0.002)


@pytest.mark.parametrize("quality", [60, 90])
@pytest.mark.parametrize("size", [(640, 360), (832, 480), (1920, 1080)])
def test_the_stamp_survives_scaling_and_jpeg(size: tuple[int, int], quality: int) -> None:
    small = cv2.resize(card(), size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
    stamp = read(picture)  # type: ignore[arg-type]
    assert stamp.time_s == pytest.approx(NOW, abs=1e-6)
    assert stamp.centre == pytest.approx(((size[0] - 1) / 2, (size[1] - 1) / 2), abs=0.2)


def test_every_instant_reads_back_as_itself() -> None:
    random = np.random.default_rng(7)
    picture = card()
    for now in [0.0, 1e-4, *random.uniform(0, PERIOD_S * 3, 60)]:
        draw_stamp(picture, now)
        assert read(picture).age_s(now) == pytest.approx(0, abs=6e-5)


def test_an_age_is_right_across_the_end_of_the_period() -> None:
    stamp = Stamp(PERIOD_S - 0.01, (0.0, 0.0), 0.0, 1.0)
    assert stamp.age_s(3 * PERIOD_S + 0.02) == pytest.approx(0.03, abs=1e-6)
    assert stamp.age_s(PERIOD_S - 0.015) == pytest.approx(-0.005, abs=1e-6)


def test_no_stamp_is_seen_where_there_is_none() -> None:
    grey = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    noise = np.random.default_rng(5).integers(0, 256, (360, 640, 3), dtype=np.uint8)
    covered = card()
    covered[300:420, 400:900] = 90
    assert [read_stamp(picture) for picture in (grey, noise, covered)] == [None, None, None]


def test_two_stamps_mixed_in_a_crossfade_are_not_taken_for_a_third() -> None:
    mixed = cv2.addWeighted(card(100.0), 0.5, card(77_777.7), 0.5, 0)
    stamp = read_stamp(mixed)  # type: ignore[arg-type]
    assert stamp is None


def test_a_mirrored_picture_has_no_stamp() -> None:
    assert read_stamp(np.ascontiguousarray(card()[:, ::-1])) is None
