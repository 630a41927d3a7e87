from __future__ import annotations

import math

import numpy as np
import pytest

from engine.camera.axes import PAN, TILT, ZOOM, X, Y, Z, to_pose
from engine.camera.geometry import Intrinsics, plane_homography
from engine.camera.moves import (
    BASIC_MOVES,
    Crane,
    DollyZoom,
    Handheld,
    Keyframes,
    Metres,
    Move,
    Orbit,
    Reveal,
    Setting,
    Straight,
)

SETTING = Setting(subject_distance_m=2.0, duration_s=10.0, endless=False)
LENS = Intrinsics.from_horizontal_fov(640, 360, 1.0)
FROM_HOME: tuple[Move, ...] = (
    Straight(pan=0.3, right=0.2),
    Orbit(0.3, 0.1, 0.2),
    Crane(up=0.3),
    DollyZoom(0.3),
    Handheld(0.01, 0.01),
    Keyframes(((0.5, Straight(pan=0.2)), (1.0, Straight(zoom=2.0)))),
)


def seen_subject(move: Move, phase: float) -> tuple[np.ndarray, float]:
    """Where the subject's middle is in the picture, and how large it is there."""
    pose = to_pose(move.path(SETTING).at(phase), 2.0)
    homography = plane_homography(LENS, LENS, pose, 2.0)
    at = [homography @ (LENS.cx, LENS.cy + dy, 1.0) for dy in (-1.0, 0.0, 1.0)]
    top, middle, bottom = (p[:2] / p[2] for p in at)
    return middle, float(np.linalg.norm(bottom - top)) / 2


@pytest.mark.parametrize("move", FROM_HOME, ids=lambda m: type(m).__name__)
def test_moves_start_at_home(move: Move) -> None:
    assert np.allclose(move.path(SETTING).at(0.0), 0, atol=1e-9)


@pytest.mark.parametrize("move", FROM_HOME, ids=lambda m: type(m).__name__)
def test_a_move_scaled_to_nothing_stays_at_home(move: Move) -> None:
    path = move.path(SETTING).scaled(0.0)
    assert all(np.allclose(path.at(p), 0, atol=1e-12) for p in (0.0, 0.4, 1.0))


@pytest.mark.parametrize("move", [Orbit(0.5), Orbit(-0.4, 0.2, 0.3), Crane(up=0.4, right=0.3)])
def test_orbit_and_crane_keep_the_subject_in_the_middle(move: Move) -> None:
    for phase in (0.3, 1.0):
        assert np.allclose(seen_subject(move, phase)[0], (LENS.cx, LENS.cy), atol=1e-6)


def test_a_dolly_zoom_keeps_the_subjects_size() -> None:
    for phase in (0.3, 0.7, 1.0):
        assert seen_subject(DollyZoom(0.4), phase)[1] == pytest.approx(1.0)


def test_pushing_in_by_a_quarter_makes_the_subject_a_third_larger() -> None:
    assert seen_subject(Straight(forward=0.25), 1.0)[1] == pytest.approx(4 / 3)


def test_metres_are_metres_and_shares_scale_with_the_subject() -> None:
    end = Straight(right=Metres(0.5), up=0.25).path(SETTING).at(1.0)
    assert end[X] == pytest.approx(0.25)
    assert end[Y] == pytest.approx(-0.25)


def test_a_reveal_ends_at_home_and_starts_where_it_says() -> None:
    path = Reveal(Straight(pan=-0.3, zoom=2.0)).path(SETTING)
    assert path.at(0.0)[PAN] == pytest.approx(-0.3)
    assert path.at(0.0)[ZOOM] == pytest.approx(math.log(2))
    assert np.allclose(path.at(1.0), 0)


def test_handheld_has_the_strength_it_says_and_the_same_seed_the_same_noise() -> None:
    setting = Setting(2.0, 120.0, endless=True)
    path = Handheld(sway=0.01, seed=3).path(setting)
    noise = np.array([path.at(p) for p in np.linspace(0, 1, 6000, endpoint=False)])
    assert np.std(noise[:, PAN]) == pytest.approx(0.01, rel=0.1)
    assert np.std(noise[:, TILT]) == pytest.approx(0.01, rel=0.1)
    assert np.array_equal(path.at(0.37), Handheld(sway=0.01, seed=3).path(setting).at(0.37))
    assert not np.allclose(path.at(0.37), Handheld(sway=0.01, seed=4).path(setting).at(0.37))


def test_handheld_noise_is_band_limited() -> None:
    path = Handheld(sway=0.01, frequency_hz=0.8).path(Setting(2.0, 60.0, endless=True))
    noise = np.array([path.at(p)[PAN] for p in np.linspace(0, 1, 3600, endpoint=False)])
    spectrum = np.abs(np.fft.rfft(noise)) ** 2
    frequencies = np.fft.rfftfreq(3600, 60.0 / 3600)
    band = (frequencies > 0.8 / 6) & (frequencies < 0.8 * 2.1)
    assert spectrum[band].sum() / spectrum[1:].sum() > 0.999


def test_endless_handheld_ends_where_it_starts() -> None:
    path = Handheld(sway=0.01).path(Setting(2.0, 10.0, endless=True))
    assert np.allclose(path.at(0.0), path.at(1.0), atol=1e-9)


def test_the_basic_paths_are_recammasters() -> None:
    """Pan ±20°, tilt ±10°, dolly ±2 m, pedestal 1 m with 14° counter-tilt, arc ∓2 m, 0.53 m, ±30°, at 4 m."""
    ends = {name: move.path(SETTING).at(1.0) for name, move in BASIC_MOVES.items()}
    assert len(ends) == 10
    assert ends["pan-left"][PAN] == pytest.approx(math.radians(-20))
    assert ends["tilt-up"][TILT] == pytest.approx(math.radians(10))
    assert ends["dolly-in"][Z] * 4 == pytest.approx(2.0)
    assert ends["crane-up"][Y] * 4 == pytest.approx(-1.0)
    assert math.degrees(ends["crane-up"][TILT]) == pytest.approx(-14, abs=0.1)
    assert ends["arc-left"][X] * 4 == pytest.approx(-2.0)
    assert ends["arc-left"][Z] * 4 == pytest.approx(0.53, abs=0.01)
    assert math.degrees(ends["arc-left"][PAN]) == pytest.approx(30)
