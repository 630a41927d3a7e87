from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.camera.geometry import Pose, conjugate, exponential, logarithm, multiply
from engine.camera.trajectory import Keyframe, Trajectory, look_at, orbit

angle = st.floats(-1.5, 1.5)
poses = st.builds(
    Pose.from_angles,
    st.floats(-3, 3),
    angle,
    angle,
    st.tuples(angle, angle, angle),
    st.floats(0.5, 3.0),
)


@st.composite
def ways(draw: st.DrawFn) -> list[Keyframe]:
    count = draw(st.integers(2, 5))
    gaps = draw(st.lists(st.floats(0.2, 1.0), min_size=count - 1, max_size=count - 1))
    times = np.concatenate(([0.0], np.cumsum(gaps) / sum(gaps)))
    return [Keyframe(float(t), draw(poses)) for t in times]


def rates(trajectory: Trajectory, phase: float, h: float = 1e-6) -> np.ndarray:
    a, b = trajectory.at(phase), trajectory.at(phase + h)
    turn = logarithm(multiply(conjugate(a.rotation), b.rotation))
    way = np.subtract(b.translation, a.translation)
    return np.array((*turn, *way, math.log(b.zoom / a.zoom))) / h


@settings(max_examples=60, deadline=None)
@given(ways())
def test_a_trajectory_passes_its_keyframes_without_a_corner(way: list[Keyframe]) -> None:
    trajectory = Trajectory(way)
    for keyframe in way:
        here = trajectory.at(keyframe.at)
        assert np.allclose(here.matrix(), keyframe.pose.matrix(), atol=1e-6)
        assert np.allclose(here.translation, keyframe.pose.translation)
        assert here.zoom == pytest.approx(keyframe.pose.zoom)
        before, after = rates(trajectory, keyframe.at - 2e-6), rates(trajectory, keyframe.at + 1e-6)
        assert np.allclose(before, after, atol=0.02)


@settings(max_examples=40, deadline=None)
@given(ways())
def test_translation_and_zoom_never_overshoot_the_keyframes(way: list[Keyframe]) -> None:
    corners = np.array([(*k.pose.translation, k.pose.zoom) for k in way])
    trajectory = Trajectory(way)
    seen = [trajectory.at(p) for p in np.linspace(0, 1, 101)]
    values = np.array([(*pose.translation, pose.zoom) for pose in seen])
    assert (values >= corners.min(axis=0) - 1e-9).all()
    assert (values <= corners.max(axis=0) + 1e-9).all()
    assert np.allclose([np.linalg.norm(pose.rotation) for pose in seen], 1)


def test_two_keyframes_are_joined_by_the_shortest_turn() -> None:
    start, end = Pose.from_angles(pan=3.0), Pose.from_angles(pan=-3.0)
    middle = Trajectory([Keyframe(0, start), Keyframe(1, end)]).at(0.5)
    assert abs(middle.angles().pan) == pytest.approx(math.pi, abs=1e-9)


def test_straight_up_is_no_special_place() -> None:
    way = [Keyframe(0, Pose.from_angles(tilt=1.2)), Keyframe(1, Pose.from_angles(tilt=2.0))]
    trajectory = Trajectory(way)
    speeds = [np.linalg.norm(rates(trajectory, p)[:3]) for p in np.linspace(0.01, 0.99, 50)]
    assert np.allclose(speeds, 0.8, atol=1e-6)


def test_a_closed_trajectory_passes_its_seam_without_a_corner() -> None:
    corners = (Pose(), Pose(translation=(1, 0, 0)), Pose(translation=(1, 1, 0)), Pose())
    way = [Keyframe(i / 3, pose) for i, pose in enumerate(corners)]
    trajectory = Trajectory(way, closed=True)
    assert np.allclose(rates(trajectory, 1e-6), rates(trajectory, 1 - 2e-6), atol=1e-3)


def test_a_trajectory_goes_straight_on_outside_its_keyframes() -> None:
    trajectory = Trajectory([Keyframe(0, Pose()), Keyframe(1, Pose.from_angles(pan=0.5))])
    assert trajectory.at(1.1).angles().pan == pytest.approx(0.55)
    assert trajectory.at(-0.1).angles().pan == pytest.approx(-0.05)


def test_times_must_rise() -> None:
    with pytest.raises(ValueError, match="rising"):
        Trajectory([Keyframe(0.5, Pose()), Keyframe(0.5, Pose())])


@settings(deadline=None)
@given(angle, st.floats(-1.2, 1.2), st.floats(0.3, 2.0))
def test_an_orbit_looks_at_the_subject_from_its_radius(
    azimuth: float, elevation: float, radius: float
) -> None:
    pose = orbit(azimuth, elevation, radius, 2.5)
    away = np.subtract((0, 0, 2.5), pose.translation)
    assert np.linalg.norm(away) == pytest.approx(radius)
    assert np.allclose(pose.matrix()[:, 2], away / radius, atol=1e-9)


def test_orbiting_right_and_up_goes_right_and_up() -> None:
    x, y, _ = orbit(0.3, 0.2, 2.0, 2.0).translation
    assert x > 0 > y
    pan, tilt, _ = look_at((0.5, -0.5, 0.0), 2.0)
    assert pan < 0
    assert tilt < 0


@settings(deadline=None)
@given(poses)
def test_logarithm_and_exponential_undo_each_other(pose: Pose) -> None:
    again = exponential(logarithm(pose.rotation))
    assert np.allclose(Pose(again).matrix(), pose.matrix())
