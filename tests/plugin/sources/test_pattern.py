from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from plugin.clock import FakeClock
from plugin.sources.pattern import PatternSource
from plugin.stamps import read_stamp

RATE = Fraction(30000, 1001)


def source(clock: FakeClock) -> PatternSource:
    pattern = PatternSource(320, 180, RATE, clock)
    pattern.open()
    return pattern


def test_pictures_come_at_a_constant_rate_stamped_with_their_instant() -> None:
    clock = FakeClock(500.0)
    pattern = source(clock)
    for index in range(5):
        frame = pattern.read(0.5)
        assert frame is not None
        assert frame.arrived_s == pytest.approx(500 + float(index / RATE))
        assert frame.media_time_s == pytest.approx(float(index / RATE))
        stamp = read_stamp(frame.pixels)
        assert stamp is not None
        assert stamp.age_s(frame.arrived_s) == pytest.approx(0, abs=1e-4)


def test_none_is_returned_when_no_picture_is_due_in_time() -> None:
    pattern = source(FakeClock())
    assert pattern.read(0.01)
    assert pattern.read(0.01) is None


def test_after_a_long_sleep_the_missed_pictures_are_skipped() -> None:
    clock = FakeClock(500.0)
    pattern = source(clock)
    assert pattern.read(0.5)
    clock.advance(10)
    frames = [pattern.read(0.5) for _ in range(10)]
    arrivals = [frame.arrived_s - 510 for frame in frames if frame]
    assert arrivals[-1] > 7 / float(RATE)


def test_something_moves_outside_the_stamp() -> None:
    clock = FakeClock()
    pattern = source(clock)
    one, other = pattern.read(0.5), pattern.read(0.5)
    assert one is not None and other is not None
    assert np.abs(one.pixels[:60].astype(int) - other.pixels[:60]).max() > 30
