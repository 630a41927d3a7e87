from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.camera.axes import AXES, Limits
from engine.camera.glide import LONGEST_STOP_S, Glide, Legs, drive

LOW, HIGH, ACCELERATION = -1.0, 2.0, 1.5


def state(legs: Legs, t: float) -> tuple[float, float]:
    for leg in legs:
        if t < leg.duration_s:
            return leg.at(t) if math.isfinite(leg.duration_s) else (leg.position, 0.0)
        t -= leg.duration_s
    raise AssertionError("the last leg lasts for ever")


@settings(max_examples=150, deadline=None)
@given(
    st.floats(LOW, HIGH),
    st.floats(-2, 2),
    st.floats(-2, 2),
)
def test_an_axis_never_passes_a_limit_and_its_velocity_never_jumps(
    position: float, velocity: float, wanted: float
) -> None:
    # a velocity that can still be braked within twice the acceleration, as motions within limits have
    room = HIGH - position if velocity > 0 else position - LOW
    velocity = math.copysign(min(abs(velocity), math.sqrt(4 * ACCELERATION * room)), velocity)
    legs = drive(position, velocity, wanted, ACCELERATION, LOW, HIGH)
    t = np.linspace(0, 8, 1601)
    states = np.array([state(legs, each) for each in t])
    hardest = max(2 * ACCELERATION, abs(velocity) / LONGEST_STOP_S)
    assert states[:, 0].min() >= LOW - 1e-9
    assert states[:, 0].max() <= HIGH + 1e-9
    assert np.allclose(states[0], (position, velocity))
    assert np.abs(np.diff(states[:, 1])).max() <= hardest * t[1] + 1e-6
    assert np.allclose(
        np.diff(states[:, 0]) / t[1], (states[1:, 1] + states[:-1, 1]) / 2, atol=hardest * t[1]
    )


def test_a_held_joystick_ends_at_the_limit() -> None:
    assert drive(0.0, 0.0, 1.0, ACCELERATION, LOW, HIGH)[-1].position == HIGH
    assert drive(0.0, 0.0, -1.0, ACCELERATION, LOW, HIGH)[-1].position == LOW


def test_the_wanted_velocity_is_reached_in_its_time() -> None:
    legs = drive(0.0, -0.3, 0.6, ACCELERATION, -10, 10)
    position, velocity = state(legs, 0.9 / ACCELERATION + 0.2)
    assert velocity == 0.6
    assert position > 0


def test_braking_takes_no_longer_than_allowed() -> None:
    legs = drive(0.0, 10.0, 0.0, ACCELERATION, -100, 100)
    assert legs[0].duration_s <= LONGEST_STOP_S


def test_an_axis_without_room_stays() -> None:
    assert [leg.position for leg in drive(0.0, 0.0, 1.0, ACCELERATION, 0.0, 0.0)][-1] == 0.0


def test_a_glide_stands_still_before_its_start_and_after_its_end() -> None:
    limits = Limits()
    zeros = np.zeros(len(AXES))
    velocity = np.full(len(AXES), 0.1)
    glide = Glide.driven(zeros, velocity, zeros, np.full(len(AXES), 0.5), limits, 10.0)
    assert np.array_equal(glide.values(5.0), zeros)
    assert np.allclose(glide.values(glide.end_s + 1), glide.goal)
    assert np.array_equal(glide.velocity(glide.end_s + 1), zeros)
