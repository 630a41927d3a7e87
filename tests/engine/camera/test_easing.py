from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from engine.camera.easing import CURVES, HALF_WINDOW, Steady, easing, exponential
from engine.errors import ConfigError

FAMILIES = ("sine", "quad", "cubic", "quart", "quint", "expo", "circ", "elastic", "bounce", "back")
NAMES = sorted(CURVES)
X = np.linspace(0, 1, 2001)


def test_every_name_of_the_move_plugin_is_there() -> None:
    wanted = {f"{way}-{family}" for way in ("in", "out", "in-out") for family in FAMILIES}
    assert wanted | {"linear"} <= CURVES.keys()


@pytest.mark.parametrize("name", NAMES)
def test_a_curve_is_continuous_from_0_to_1(name: str) -> None:
    values = np.array([CURVES[name](x) for x in np.linspace(0, 1, 20001)])
    assert values[0] == pytest.approx(0, abs=1e-12)
    assert values[-1] == pytest.approx(1, abs=1e-12)
    assert np.abs(np.diff(values)).max() < 0.01


@pytest.mark.parametrize("name", NAMES)
def test_an_easing_starts_and_ends_at_rest(name: str) -> None:
    eased = easing(name)
    assert eased.value(0) == 0
    assert eased.value(1) == pytest.approx(1, abs=1e-12)
    assert eased.slope(0) == eased.slope(1) == 0
    assert abs(eased.slope(1e-6)) < 1e-3 / HALF_WINDOW
    assert abs(eased.slope(1 - 1e-6)) < 2e-2 / HALF_WINDOW


@pytest.mark.parametrize("name", NAMES)
def test_the_slope_is_the_derivative_and_has_no_jumps(name: str) -> None:
    eased = easing(name)
    slopes = np.array([eased.slope(x) for x in X])
    values = np.array([eased.value(x) for x in X])
    numeric = np.gradient(values, X)
    assert np.abs(slopes - numeric)[1:-1].max() < 0.2
    assert np.abs(np.diff(slopes)).max() < 0.8
    assert np.abs(slopes).max() < 16


@pytest.mark.parametrize("name", [f"in-out-{family}" for family in FAMILIES])
def test_in_out_is_symmetric(name: str) -> None:
    eased = easing(name)
    for x in (0.1, 0.3, 0.45):
        assert eased.value(x) == pytest.approx(1 - eased.value(1 - x), abs=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_out_is_in_turned_round(family: str) -> None:
    for x in (0.0, 0.2, 0.7, 1.0):
        assert CURVES[f"out-{family}"](x) == pytest.approx(1 - CURVES[f"in-{family}"](1 - x))


def test_softening_stays_close_to_the_curve() -> None:
    for name in ("in-out-sine", "in-out-cubic", "linear", "in-out-quad"):
        off = [abs(easing(name).value(x) - CURVES[name](x)) for x in X]
        assert max(off) < 0.045


def test_only_back_and_elastic_overshoot() -> None:
    for name in NAMES:
        values = [easing(name).value(x) for x in X]
        overshoots = min(values) < -1e-9 or max(values) > 1 + 1e-9
        assert overshoots == name.endswith(("back", "elastic")), name


def test_decelerating_is_recammasters_speed_curve() -> None:
    for a, x in itertools.product((0.5, 3.0, 8.0), (0.1, 0.5, 0.9)):
        assert exponential(a)(x) == pytest.approx((1 - math.exp(-a * x)) / (1 - math.exp(-a)))


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match='"in-out-cubic"'):
        easing("in-out-qubic")


def test_a_steady_clock_is_even() -> None:
    assert Steady().value(0.3) == 0.3
    assert Steady().slope(0.3) == 1.0
