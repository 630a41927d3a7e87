import threading
import time
from fractions import Fraction

import numpy as np
import pytest

from plugin.clock import MonotonicClock
from plugin.pacer import LARGEST_LEAD, LEAD_MARGIN_S, LEAST_LEAD_S, Pacer, lead_s
from plugin.sinks.base import OutputFormat, OutputFrame, SinkRunner
from plugin.sinks.memory import MemorySink

RATE = Fraction(50)
OUTPUT = OutputFormat(64, 64, RATE)


def nv12(value: int = 0) -> np.ndarray:
    return np.full((96, 64), value, np.uint8)


class Stage:
    """A pacer on the real clock with a memory sink."""

    def __init__(self, compose, extra_sinks=()) -> None:
        self.memory = MemorySink(1000)
        self.runners = [SinkRunner(sink, OUTPUT) for sink in (self.memory, *extra_sinks)]
        self.pacer = Pacer(RATE, MonotonicClock(), compose, self.runners)

    def __enter__(self) -> "Stage":
        for runner in self.runners:
            runner.start()
        self.pacer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.pacer.stop()
        for runner in self.runners:
            runner.stop(1.0)


def test_pictures_are_asked_for_the_instant_they_are_shown_at() -> None:
    asked = []
    with Stage(lambda due: asked.append(due) or nv12()) as stage:
        assert stage.memory.wait_for(10, 5.0)
    due = [received.frame.due_s for received in stage.memory.frames()]
    assert np.allclose(np.diff(due), 1 / float(RATE))
    assert set(due[1:9]) <= set(asked)


def test_the_rate_is_constant_when_composing_is_slow() -> None:
    """Composing takes two intervals and a half: pictures repeat, deadlines are kept."""

    def slow(due: float) -> np.ndarray:
        time.sleep(2.5 / float(RATE))
        return nv12()

    with Stage(slow) as stage:
        assert stage.memory.wait_for(40, 10.0)
        status = stage.pacer.status()
    indices = [received.frame.index for received in stage.memory.frames()]
    assert status.repeated > 15
    assert np.diff(indices).max() <= 2


def test_an_error_in_a_picture_does_not_stop_the_output() -> None:
    calls = iter(range(1000))

    def sometimes(due: float) -> np.ndarray:
        if (call := next(calls)) % 5 == 4:
            raise RuntimeError("no picture today")
        return nv12(call % 256)

    with Stage(sometimes) as stage:
        assert stage.memory.wait_for(40, 10.0)
        assert stage.pacer.status().repeated >= 5


def test_a_sink_that_hangs_touches_neither_the_pacer_nor_the_other_sinks() -> None:
    release = threading.Event()

    class Stuck:
        name = "stuck"

        def open(self, output: OutputFormat) -> None: ...
        def write(self, frame: OutputFrame) -> None:
            release.wait(10)

        def close(self) -> None: ...

    try:
        with Stage(lambda due: nv12(), [Stuck()]) as stage:
            assert stage.memory.wait_for(50, 5.0)
            assert stage.runners[0].status().dropped == 0
            assert stage.runners[1].status().dropped > 30
            release.set()
    finally:
        release.set()


@pytest.mark.parametrize(
    ("durations", "expected"),
    [
        ([], 0.5 / 30 + LEAD_MARGIN_S),
        ([0.005] * 50, 0.005 + LEAD_MARGIN_S),
        ([0.0] * 50, LEAST_LEAD_S),
        ([1.0] * 50, LARGEST_LEAD / 30),
        ([0.005] * 50 + [0.02], 0.005 + LEAD_MARGIN_S),
        ([0.005] * 50 + [0.012, 0.02], 0.012 + LEAD_MARGIN_S),
    ],
)
def test_the_lead_is_what_composing_takes_and_a_margin_within_bounds(
    durations: list[float], expected: float
) -> None:
    """One slow picture changes nothing, two in a row do at once."""
    assert lead_s(durations, 1 / 30) == pytest.approx(expected)
