from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from engine.errors import SinkError
from plugin.sinks.base import OutputFormat, OutputFrame, SinkRunner
from plugin.sinks.memory import MemorySink
from plugin.worker import Backoff

Picture = Callable[[int], OutputFrame]


class StubbornSink:
    """A memory sink whose faults are switched on from outside."""

    name = "stubborn"

    def __init__(self) -> None:
        self.received = MemorySink(100)
        self.writing = threading.Event()
        self.may_write = threading.Event()
        self.may_write.set()
        self.faults: list[Exception] = []
        self.waiting_for: str | None = None
        self.opened = 0
        self.closed = 0

    def open(self, output: OutputFormat) -> None:
        self.opened += 1

    def write(self, frame: OutputFrame) -> str | None:
        self.writing.set()
        self.may_write.wait(10)
        if self.faults:
            raise self.faults.pop()
        if self.waiting_for is None:
            self.received.write(frame)
        return self.waiting_for

    def close(self) -> None:
        self.closed += 1

    def indices(self) -> list[int]:
        return [received.frame.index for received in self.received.frames()]


@pytest.fixture
def sink() -> StubbornSink:
    return StubbornSink()


def start(sink: StubbornSink, output: OutputFormat) -> SinkRunner:
    runner = SinkRunner(sink, output, backoff=Backoff(first_s=0.01))
    runner.start()
    return runner


def wait_for(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "the condition did not come true in time"
        time.sleep(0.005)


def test_pushing_to_a_stuck_sink_never_blocks_and_counts_what_it_drops(
    sink: StubbornSink, output: OutputFormat, picture: Picture
) -> None:
    sink.may_write.clear()
    runner = start(sink, output)
    runner.push(picture(0))
    assert sink.writing.wait(5)  # picture 0 is stuck in the sink
    started_s = time.monotonic()
    for index in range(1, 11):
        runner.push(picture(index))
    assert time.monotonic() - started_s < 1.0
    assert runner.status().dropped == 8

    sink.may_write.set()
    runner.stop()
    assert sink.indices() == [0, 9, 10]  # the newest survive
    assert runner.status().written == 3


def test_a_sink_that_lost_its_device_is_closed_and_reopened(
    sink: StubbornSink, output: OutputFormat, picture: Picture
) -> None:
    sink.faults = [SinkError("the device was unplugged")]
    runner = start(sink, output)
    runner.push(picture(0))
    wait_for(lambda: sink.opened == 2)
    assert runner.status().detail == "the device was unplugged" or runner.status().state == "live"
    runner.push(picture(1))
    wait_for(lambda: sink.indices() == [1])
    assert runner.status().state == "live"
    runner.stop()
    assert sink.opened == sink.closed == 2


def test_a_defect_of_a_sink_ends_neither_the_thread_nor_the_show(
    sink: StubbornSink, output: OutputFormat, picture: Picture
) -> None:
    sink.faults = [ZeroDivisionError("a defect")]
    runner = start(sink, output)
    runner.push(picture(0))
    wait_for(lambda: sink.opened == 2)
    runner.push(picture(1))
    wait_for(lambda: sink.indices() == [1])
    runner.stop()
    assert runner.status().state == "stopped"


def test_a_sink_without_a_reader_says_what_it_waits_for_and_counts_nothing(
    sink: StubbornSink, output: OutputFormat, picture: Picture
) -> None:
    sink.waiting_for = "OBS on port 9462"
    runner = start(sink, output)
    runner.push(picture(0))
    wait_for(lambda: runner.status().state == "waiting")
    assert runner.status().detail == "OBS on port 9462"
    assert runner.status().written == 0

    sink.waiting_for = None
    runner.push(picture(1))
    wait_for(lambda: runner.status().written == 1)
    assert (runner.status().state, runner.status().detail) == ("live", "")
    runner.stop()
