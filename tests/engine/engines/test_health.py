from __future__ import annotations

import cv2
import numpy as np
import pytest

from engine.engines.health import DriftWatch, Figures, Limits
from engine.geometry.delivery import Small

SHAPE = (64, 112)
FRAME_S = 1 / 12


@pytest.fixture
def small():
    rough = np.random.default_rng(0).uniform(20, 235, (16, 28, 3)).astype(np.float32)
    return Small(cv2.resize(rough, SHAPE[::-1]), np.ones(SHAPE, np.float32))


def first_alarm(paint, small, seconds=20.0):
    """When the watch first says something, and what; ``paint`` makes the picture of a time."""
    watch = DriftWatch()
    for number in range(round(seconds / FRAME_S)):
        now = number * FRAME_S
        if said := watch.see(now, paint(now), small):
            return now, said
    return None


def noisy(picture, levels=8.0, seed=1):
    return picture + np.random.default_rng(seed).normal(0, levels, picture.shape).astype(np.float32)


def test_a_student_that_paints_the_source_with_some_noise_never_alarms(small):
    assert first_alarm(lambda now: noisy(small.colour, seed=round(now * 12)), small) is None


@pytest.mark.parametrize(
    ("drift", "said"),
    [
        (lambda picture, now: picture + 2.0 * now * np.float32([1, 0, 0]), "colours"),
        (lambda picture, now: cv2.GaussianBlur(picture, (0, 0), 0.1 + 0.3 * now), "soft"),
        (lambda picture, now: noisy(picture, 6 * now), "harsh"),
        (lambda picture, now: np.roll(picture, round(now), axis=1), "differs"),
    ],
    ids=["colour", "softness", "noise", "error"],
)
def test_a_slow_drift_is_found_and_named(drift, said, small):
    alarm = first_alarm(lambda now: drift(small.colour, now).astype(np.float32), small)
    assert alarm is not None
    assert said in alarm[1]


def test_a_short_disturbance_is_no_drift(small):
    def paint(now):
        return small.colour + (80 if 5 < now < 5.4 else 0)

    assert first_alarm(paint, small) is None


def test_after_a_remedy_it_is_given_time(small):
    watch = DriftWatch()
    alarms = []
    for number in range(200):
        now = number * FRAME_S
        if watch.see(now, small.colour + 60, small):
            alarms.append(now)
            watch.reset()
    assert len(alarms) > 3
    assert np.diff(alarms).min() >= 2.0


def test_what_was_not_seen_is_not_judged(small):
    hidden = Small(small.colour, np.zeros(SHAPE, np.float32))
    assert Figures.of(small.colour + 90, hidden) is None
    half = small.seen.copy()
    half[:, :56] = 0
    painted = small.colour.copy()
    painted[:, :56] = 0
    assert Figures.of(painted, Small(small.colour, half)).error == 0


def test_the_figures_of_a_perfect_picture_are_none_off(small):
    figures = Figures.of(small.colour, small)
    assert (figures.error, figures.sharpness, figures.colour) == (0, pytest.approx(1), 0)
    assert figures.worst(Limits())[0] < 0.01
