import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugin.ladder import RECOVERED_AFTER_S, SLATE_AFTER_S, Health, Ladder, Rung, best_rung

GOOD = Health(source_age_s=0.02, engine_lag_s=0.03, engine_interval_s=0.033)
ENGINE_LATE = GOOD._replace(engine_lag_s=0.5)
ENGINE_GONE = GOOD._replace(engine_lag_s=5.0)
SOURCE_GONE = Health(SLATE_AFTER_S + 0.1, 0.0, 0.033)


@pytest.mark.parametrize(
    ("health", "rung"),
    [
        (GOOD, Rung.ENGINE),
        (ENGINE_LATE, Rung.HOLD),
        (ENGINE_GONE, Rung.CLEAN),
        (SOURCE_GONE, Rung.SLATE),
        (Health(math.inf, math.inf, 0.0), Rung.SLATE),
        (Health(0.02, math.inf, 0.0), Rung.CLEAN),
    ],
)
def test_each_health_has_its_rung(health: Health, rung: Rung) -> None:
    assert best_rung(health) is rung


def test_an_engine_that_is_slow_by_nature_is_not_stale() -> None:
    assert best_rung(Health(0.02, engine_lag_s=0.55, engine_interval_s=0.25)) is Rung.ENGINE


def test_down_is_at_once() -> None:
    assert Ladder(Rung.ENGINE).step(ENGINE_GONE, 10.0).rung is Rung.CLEAN


def test_up_takes_good_health_for_a_while() -> None:
    ladder = Ladder(Rung.CLEAN).step(GOOD, 10.0)
    assert ladder.rung is Rung.CLEAN
    assert ladder.step(GOOD, 10.0 + RECOVERED_AFTER_S / 2).rung is Rung.CLEAN
    assert ladder.step(GOOD, 10.0 + RECOVERED_AFTER_S).rung is Rung.ENGINE


def test_a_relapse_starts_the_wait_over() -> None:
    ladder = Ladder(Rung.CLEAN).step(GOOD, 10.0).step(ENGINE_GONE, 10.2).step(GOOD, 10.3)
    assert ladder.step(GOOD, 10.0 + RECOVERED_AFTER_S).rung is Rung.CLEAN


def test_hold_and_engine_show_the_same_picture_and_change_at_once() -> None:
    assert Ladder(Rung.HOLD).step(GOOD, 10.0).rung is Rung.ENGINE


@given(st.lists(st.sampled_from([GOOD, ENGINE_LATE, ENGINE_GONE, SOURCE_GONE]), max_size=60))
def test_what_is_on_air_is_never_better_than_the_pictures_allow(healths: list[Health]) -> None:
    ladder = Ladder(Rung.SLATE)
    for i, health in enumerate(healths):
        ladder = ladder.step(health, 0.1 * i)
        assert ladder.rung >= best_rung(health)
