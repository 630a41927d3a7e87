"""When a picture is due, without a camera, a file or a second of waiting."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest

from engine.frames import RGB, Frame
from plugin.clock import FakeClock
from plugin.sources.player import LONGEST_STILL_S, Player

START = 1000.0


def frame(media_s: float) -> Frame:
    pts = round(media_s * 1_000_000)
    return Frame(np.zeros((2, 2, 3), np.uint8), pts, Fraction(1, 1_000_000), RGB, 0.0)


def shown(
    stamps: list[float], clock: FakeClock, fetch_s: dict[int, float] | None = None
) -> list[tuple[float, float]]:
    """(stamp, instant after the start) of every new picture; picture i takes ``fetch_s[i]`` to fetch."""

    def fetched() -> Iterator[Frame]:
        for index, stamp in enumerate(stamps):
            clock.advance((fetch_s or {}).get(index, 0.0))
            yield frame(stamp)

    pictures = fetched()
    player = Player(lambda: next(pictures, None), 0.04, clock)
    result: list[tuple[float, float]] = []
    for _ in range(200):
        picture = player.read(0.5)
        assert picture is not None
        if not result or picture.media_time_s != result[-1][0]:
            result.append((picture.media_time_s, pytest.approx(picture.arrived_s - START, abs=1e-6)))
    return result


def test_pictures_come_at_their_stamps() -> None:
    stamps = [0.0, 0.04, 0.1, 0.11, 0.5]
    assert shown(stamps, FakeClock(START)) == [(s, s) for s in stamps]


def test_stamps_need_not_start_at_zero() -> None:
    assert shown([7.0, 7.04], FakeClock(START)) == [(7.0, 0.0), (7.04, 0.04)]


def test_a_long_still_is_waited_out_and_handed_out_again_meanwhile() -> None:
    clock = FakeClock(START)
    pictures = iter([frame(0.0), frame(3.0)])
    player = Player(lambda: next(pictures, None), 0.04, clock)
    arrivals = [player.read(0.5) for _ in range(7)]
    assert [p.media_time_s for p in arrivals if p] == [0.0] * 6 + [3.0]
    assert [p.arrived_s - START for p in arrivals if p] == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5, 3])


@pytest.mark.parametrize("jump", [-5.0, -0.02, LONGEST_STILL_S + 0.05, 3600.0])
def test_after_a_jump_of_the_stamps_play_goes_on_one_step_later(jump: float) -> None:
    again = 0.04 + jump
    result = shown([0.0, 0.04, again, again + 0.04], FakeClock(START))
    assert [at for _, at in result] == [0.0, 0.04, 0.08, 0.12]


def test_falling_behind_a_little_is_caught_up() -> None:
    result = shown([0.0, 0.04, 0.08, 0.12, 0.16, 0.2], FakeClock(START), {1: 0.1})
    assert [at for _, at in result] == [0.0, 0.1, 0.1, 0.12, 0.16, 0.2]


def test_after_falling_far_behind_play_goes_on_from_there() -> None:
    result = shown([0.0, 0.04, 0.08], FakeClock(START), {1: 30.0})
    assert [at for _, at in result] == [0.0, 30.0, 30.04]


def test_the_last_picture_stays() -> None:
    clock = FakeClock(START)
    pictures = iter([frame(0.0)])
    player = Player(lambda: next(pictures, None), 0.04, clock)
    assert [p.arrived_s - START for _ in range(4) if (p := player.read(0.5))] == pytest.approx(
        [0, 0.5, 1, 1.5]
    )
