"""The heartbeat of the output: one picture at every deadline, whatever happens elsewhere.

Two threads. One composes the picture for the next deadline, as late as it safely can, so that the
newest frame and the newest command are in it; the other sends at the deadline what there is, and
repeats the last picture rather than miss one. Knows nothing of what is in the pictures.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from plugin.clock import Clock, Pacing
from plugin.sinks.base import OutputFrame, SinkRunner

log = logging.getLogger(__name__)

Compose = Callable[[float], NDArray[np.uint8]]  # the instant that it is shown at → NV12

LEAD_MARGIN_S = 0.001
GRACE_S = 0.001  # a picture that comes this late is waited for: it is seen, and a repeated one is, too
LEAST_LEAD_S = 0.004
LARGEST_LEAD = 0.85  # of the interval
DURATIONS = 90  # pictures that the lead is estimated from


def lead_s(durations_s: Sequence[float], interval_s: float) -> float:
    """How long before its deadline a picture is begun: what most of the last ones took, or the last two if
    they took longer, and a little more; the sender's grace covers the rest. What is left of the interval is
    time in which frames and commands may still come in.
    """
    longest = sorted(durations_s)[round(0.9 * (len(durations_s) - 1))] if durations_s else interval_s / 2
    if len(durations_s) > 1:
        longest = max(longest, min(durations_s[-1], durations_s[-2]))  # a fade, a zoom out: not only a hiccup
    return min(max(longest + LEAD_MARGIN_S, LEAST_LEAD_S), LARGEST_LEAD * interval_s)


@dataclass(frozen=True, slots=True)
class PacerStatus:
    """``repeated``: deadlines at which no new picture was ready; ``missed``: at which none was sent."""

    sent: int
    repeated: int
    missed: int
    fps: float
    compose_ms: float
    lead_ms: float
    error: str


class Pacer:
    def __init__(self, rate: Fraction, clock: Clock, compose: Compose, sinks: Sequence[SinkRunner]) -> None:
        self._clock = clock
        self._compose = compose
        self._sinks = sinks
        self._start = Pacing(0.0, rate)
        self._stop = threading.Event()
        self._newest: tuple[int, NDArray[np.uint8]] | None = None
        self._composed = threading.Condition()  # guards _newest
        self._durations: deque[float] = deque(maxlen=DURATIONS)
        self._sent_s: deque[float] = deque(maxlen=DURATIONS)
        self._sent = self._repeated = self._missed = 0
        self._error = ""
        self._threads = [
            threading.Thread(target=self._compose_loop, name="compositor", daemon=True),
            threading.Thread(target=self._send_loop, name="pacer", daemon=True),
        ]

    def start(self) -> None:
        self._start = Pacing(self._clock.now() + self._start.interval_s, self._start.rate)
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(2.0)

    def status(self) -> PacerStatus:
        sent, durations = list(self._sent_s), list(self._durations)
        span = sent[-1] - sent[0] if len(sent) > 1 else 0.0
        return PacerStatus(
            sent=self._sent,
            repeated=self._repeated,
            missed=self._missed,
            fps=(len(sent) - 1) / span if span else 0.0,
            compose_ms=1000 * float(np.median(durations)) if durations else 0.0,
            lead_ms=1000 * lead_s(durations, self._start.interval_s),
            error=self._error,
        )

    def _compose_loop(self) -> None:
        pacing = self._start
        while not self._stop.is_set():
            self._clock.sleep_until(pacing.deadline_s - lead_s(self._durations, pacing.interval_s))
            begun = self._clock.now()
            try:
                picture = self._compose(pacing.deadline_s)
                with self._composed:
                    self._newest = (pacing.index, picture)
                    self._composed.notify()
                self._error = ""
            except Exception as error:  # on air nothing may stop the output: the last picture goes on
                if not self._error:
                    log.exception("a picture could not be composed")
                self._error = f"{type(error).__name__}: {error}"
            now = self._clock.now()
            self._durations.append(now - begun)
            pacing, _ = pacing.after(now)

    def _send_loop(self) -> None:
        pacing = self._start
        last = -1
        while not self._stop.is_set():
            self._clock.sleep_until(pacing.deadline_s)
            newest = self._newest_for(pacing.index)
            now = self._clock.now()
            if newest is not None:
                index, nv12 = newest
                for sink in self._sinks:
                    sink.push(OutputFrame(nv12, pacing.index, pacing.deadline_s))
                self._sent += 1
                self._repeated += index == last
                last = index
                self._sent_s.append(now)
            following, missed = pacing.after(now)
            self._missed += missed if newest is not None else 0
            pacing = following

    def _newest_for(self, index: int) -> tuple[int, NDArray[np.uint8]] | None:
        """The picture for this deadline, or within the grace what there is."""
        with self._composed:
            self._composed.wait_for(lambda: self._newest is not None and self._newest[0] >= index, GRACE_S)
            return self._newest
