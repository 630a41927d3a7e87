"""The runner against sources that fail in every way they can."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from engine.errors import SourceError
from engine.frames import RGB, Frame
from plugin.clock import FakeClock, MonotonicClock
from plugin.sources.base import STALLED_AFTER_S, FrameRing, Source, SourceRunner, SourceStatus
from plugin.worker import Backoff

CLOCK = MonotonicClock()


def frame(pts: int = 0) -> Frame:
    return Frame(np.zeros((4, 6, 3), np.uint8), pts, Fraction(1, 30), RGB, CLOCK.now())


class Scripted:
    """Does what the script says at each open and read; counts what is called."""

    name = "scripted"

    def __init__(self, opens: Callable[[int], None], reads: Callable[[int], Frame | None]) -> None:
        self.opened = self.closed = self.reads = 0
        self._opens, self._reads = opens, reads

    def open(self) -> None:
        self.opened += 1
        self._opens(self.opened)

    def read(self, timeout_s: float) -> Frame | None:
        self.reads += 1
        time.sleep(0.001)
        return self._reads(self.reads)

    def close(self) -> None:
        self.closed += 1


def fine(count: int) -> None:
    """Opens."""


@pytest.fixture
def start() -> Iterator[Callable[[Source], SourceRunner]]:
    runners = []

    def run(source: Source) -> SourceRunner:
        runner = SourceRunner(source, CLOCK, backoff=Backoff(first_s=0.002, limit_s=0.01))
        runner.start()
        runners.append(runner)
        return runner

    yield run
    for runner in runners:
        runner.stop()


def until(runner: SourceRunner, condition: Callable[[SourceStatus], bool]) -> SourceStatus:
    deadline = CLOCK.now() + 5
    while not condition(runner.status()):
        assert CLOCK.now() < deadline, runner.status()
        time.sleep(0.002)
    return runner.status()


def test_a_source_that_never_opens_is_tried_for_ever(start: Callable[[Source], SourceRunner]) -> None:
    def refused(count: int) -> None:
        raise SourceError("camera 1: nobody is there")

    source = Scripted(refused, frame)
    status = until(start(source), lambda s: s.reconnects >= 20)
    assert status.detail == "camera 1: nobody is there"
    assert source.closed >= 19


def test_a_source_that_breaks_while_being_read_is_reopened(start: Callable[[Source], SourceRunner]) -> None:
    def reads(count: int) -> Frame:
        if count % 5 == 0:
            raise SourceError("gone")
        return frame(count)

    source = Scripted(fine, reads)
    status = until(start(source), lambda s: s.reconnects >= 4 and s.state == "live")
    assert status.frames >= 16
    assert source.opened >= 5


def test_a_defect_in_a_source_is_logged_and_does_not_end_its_thread(
    start: Callable[[Source], SourceRunner], caplog: pytest.LogCaptureFixture
) -> None:
    def reads(count: int) -> Frame:
        if count < 3:
            raise ZeroDivisionError("oops")
        return frame(count)

    until(start(Scripted(fine, reads)), lambda s: s.state == "live")
    assert "ZeroDivisionError: oops" in caplog.text
    assert "Traceback" in caplog.text


def test_a_source_that_is_stuck_in_its_driver_is_not_called_live() -> None:
    clock, freed = FakeClock(), threading.Event()

    def reads(count: int) -> Frame | None:
        if count > 5:
            freed.wait(5)
            return None
        clock.advance(1 / 30)
        return replace(frame(count), arrived_s=clock.now())

    runner = SourceRunner(Scripted(fine, reads), clock)
    runner.start()
    try:
        live = until(runner, lambda s: s.frames == 5 and s.state == "live")
        clock.advance(STALLED_AFTER_S + 1)
        stuck = runner.status()
    finally:
        freed.set()
        runner.stop()
    assert live.fps == pytest.approx(30)
    assert (stuck.state, stuck.detail, stuck.fps) == ("waiting", "no picture for 3 s", 0.0)
    assert (stuck.frames, stuck.width) == (5, 6)


def test_stopping_closes_the_source_and_ends_the_thread(start: Callable[[Source], SourceRunner]) -> None:
    source = Scripted(fine, frame)
    runner = start(source)
    until(runner, lambda s: s.state == "live")
    runner.stop()
    assert runner.status().state == "stopped"
    assert source.closed == source.opened == 1
    assert not [t for t in threading.enumerate() if t.name == "source scripted"]


def test_a_source_that_stays_away_is_logged_once_and_when_something_changes(
    start: Callable[[Source], SourceRunner], caplog: pytest.LogCaptureFixture
) -> None:
    def opens(count: int) -> None:
        if count <= 20:
            raise SourceError("camera 1: nobody is there")
        if count <= 30:
            raise SourceError("camera 1: another program has it")

    caplog.set_level(logging.INFO)
    until(start(Scripted(opens, frame)), lambda status: status.state == "live")
    assert [record.getMessage() for record in caplog.records] == [
        "scripted: connecting ",
        "scripted: lost camera 1: nobody is there",
        "scripted: lost camera 1: another program has it",
        "scripted: live ",
    ]


def test_stopping_while_waiting_to_reconnect_is_quick(start: Callable[[Source], SourceRunner]) -> None:
    def refused(count: int) -> None:
        raise SourceError("no")

    runner = SourceRunner(Scripted(refused, frame), CLOCK, backoff=Backoff(first_s=60.0, limit_s=60.0))
    runner.start()
    until(runner, lambda s: s.state == "lost")
    before = CLOCK.now()
    runner.stop()
    assert CLOCK.now() - before < 1


def test_a_slow_reader_gets_the_newest_frame_and_the_rest_are_counted() -> None:
    ring = FrameRing()
    for pts in range(5):
        ring.put(frame(pts))
    newest = ring.take(0.1)
    assert newest is not None and newest.pts == 4
    assert ring.dropped == 4
    assert ring.take(0.01) is None


def test_waiting_grows_to_its_limit_and_starts_over_after_a_success() -> None:
    backoff = Backoff(first_s=0.25, limit_s=5.0)
    waits = [backoff.next_s() for _ in range(8)]
    assert waits == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0]
    backoff.succeeded()
    assert backoff.next_s() == 0.25
