from __future__ import annotations

from collections.abc import Callable

from plugin.clock import FakeClock
from plugin.sinks.base import OutputFormat, OutputFrame
from plugin.sinks.memory import MemorySink

Picture = Callable[[int], OutputFrame]


def test_the_newest_pictures_are_kept_with_their_arrival(output: OutputFormat, picture: Picture) -> None:
    clock = FakeClock(start=100.0)
    sink = MemorySink(2, clock=clock)
    sink.open(output)
    for index in range(3):
        clock.advance(1.0)
        sink.write(picture(index))
    sink.close()
    assert [(kept.frame.index, kept.arrived_s) for kept in sink.frames()] == [(1, 102.0), (2, 103.0)]
    assert sink.output == output


def test_waiting_counts_pictures_that_are_no_longer_kept(picture: Picture) -> None:
    sink = MemorySink(1)
    for index in range(3):
        sink.write(picture(index))
    assert sink.wait_for(3, timeout_s=0)
    assert not sink.wait_for(4, timeout_s=0.01)


def test_every_picture_is_shown_to_the_callback(picture: Picture) -> None:
    shown: list[tuple[int, float]] = []
    sink = MemorySink(
        1, on_frame=lambda frame, now: shown.append((frame.index, now)), clock=FakeClock(start=5.0)
    )
    sink.write(picture(0))
    sink.write(picture(1))
    assert shown == [(0, 5.0), (1, 5.0)]
