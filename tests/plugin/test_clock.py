from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugin.clock import LARGEST_STEP_S, FakeClock, Pacing, Playback

NTSC = [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60000, 1001)]


@pytest.mark.parametrize("rate", [*NTSC, Fraction(25), Fraction(30)])
def test_an_hour_of_deadlines_drifts_by_nothing(rate: Fraction) -> None:
    pacing = Pacing(100.0, rate)
    frames = int(3600 * rate)
    for _ in range(1000):
        pacing, missed = pacing.after(pacing.deadline_s)
        assert missed == 0
    assert pacing.due_s(frames) == pytest.approx(100.0 + float(frames / rate), abs=1e-9)


def test_a_late_frame_does_not_shift_the_next_deadline() -> None:
    pacing, missed = Pacing(0.0, Fraction(10), 5).after(0.58)
    assert (pacing.index, missed) == (6, 0)
    assert pacing.deadline_s == pytest.approx(0.6)


def test_a_machine_that_slept_does_not_send_a_burst() -> None:
    pacing, missed = Pacing(0.0, Fraction(10), 5).after(9.99)
    assert (pacing.index, missed) == (99, 93)


@given(st.lists(st.floats(0, 0.5), min_size=1, max_size=50), st.sampled_from([*NTSC, Fraction(30)]))
def test_whatever_is_late_the_index_rises_and_is_never_more_than_one_interval_overdue(
    delays: list[float], rate: Fraction
) -> None:
    pacing, now = Pacing(0.0, rate), 0.0
    for delay in delays:
        now = max(now, pacing.deadline_s) + delay
        following, missed = pacing.after(now)
        assert following.index == pacing.index + 1 + missed
        assert now - following.deadline_s <= pacing.interval_s + 1e-6
        pacing = following


def test_playback_follows_the_medias_own_time() -> None:
    playback = Playback(anchor_media_s=5.0, anchor_s=100.0)
    assert playback.due_s(5.25) == pytest.approx(100.25)
    assert playback.follow(5.25, 100.25) is playback


@pytest.mark.parametrize("media_s", [0.0, 500.0])
def test_playback_restarts_at_a_jump_of_the_stamps(media_s: float) -> None:
    playback = Playback(anchor_media_s=5.0, anchor_s=100.0).follow(media_s, 101.0)
    assert playback.due_s(media_s) == pytest.approx(101.0)


def test_playback_restarts_after_a_stall_instead_of_rushing() -> None:
    late = 100.0 + LARGEST_STEP_S + 0.5
    assert Playback(0.0, 100.0).follow(0.1, late).due_s(0.1) == pytest.approx(late)


def test_the_fake_clock_moves_only_when_told() -> None:
    clock = FakeClock(10.0)
    clock.sleep_until(12.0)
    clock.sleep_until(11.0)
    clock.advance(0.5)
    assert clock.now() == pytest.approx(12.5)
