"""What every sink is, and the thread that feeds one. Knows nothing of any device.

A sink only opens, writes and closes, and raises when it cannot; the runner owns the thread, the
queue of two, the reconnecting and the counters. Pushing never blocks, so a stalled reader of one
sink touches neither the pacer nor the other sinks.
"""

from __future__ import annotations

import logging
import queue
import threading
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.errors import SinkError
from plugin.worker import Backoff, State, is_news

log = logging.getLogger(__name__)

QUEUE_LENGTH = 2


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """What goes on air, constant for a session: even size in pixels, rate in frames a second."""

    width: int
    height: int
    rate: Fraction


@dataclass(frozen=True, slots=True)
class OutputFrame:
    """NV12, BT.709 limited: H·3/2 × W, shared by all sinks, so read-only. ``due_s`` is its deadline."""

    nv12: NDArray[np.uint8]
    index: int
    due_s: float


class Sink(Protocol):
    """Called from one thread only."""

    name: str
    """What the operator calls it: "virtual camera /dev/video10"."""

    def open(self, output: OutputFormat) -> None:
        """Connects, or raises :class:`SinkError`."""

    def write(self, frame: OutputFrame) -> str | None:
        """Sends one picture; may block; SinkError when the device is gone.

        Returns None when the picture went out. Without a reader it returns at once and says what
        it waits for ("OBS on port 9462").
        """

    def close(self) -> None:
        """Finishes and releases everything. May be called at any time after ``open`` was, also twice."""


@dataclass(frozen=True, slots=True)
class SinkStatus:
    name: str
    state: State
    detail: str = ""
    written: int = 0
    dropped: int = 0


class SinkRunner:
    """Feeds a sink from a thread of its own for as long as the show lasts, reopening for ever."""

    def __init__(self, sink: Sink, output: OutputFormat, *, backoff: Backoff | None = None) -> None:
        self._sink = sink
        self._output = output
        self._backoff = backoff or Backoff()
        self._queue: queue.Queue[OutputFrame] = queue.Queue(QUEUE_LENGTH)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._status = SinkStatus(sink.name, "idle")
        self._thread = threading.Thread(target=self._run, name=f"sink {sink.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def push(self, frame: OutputFrame) -> None:
        """Never blocks: when the sink is behind, the oldest queued frame is dropped and counted."""
        while True:
            try:
                self._queue.put_nowait(frame)
                return
            except queue.Full:
                try:
                    self._queue.get_nowait()
                except queue.Empty:
                    continue
                with self._lock:
                    self._status = replace(self._status, dropped=self._status.dropped + 1)

    def stop(self, timeout_s: float = 10.0) -> None:
        """Writes what is queued, closes the sink and waits; a stuck sink is left behind, and said so."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                log.warning("%s did not close in %.0f s and was left behind", self._sink.name, timeout_s)

    def status(self) -> SinkStatus:
        with self._lock:
            return self._status

    def _set(self, state: State, detail: str = "") -> None:
        with self._lock:
            if is_news(state, detail, self._status.state, self._status.detail):
                level = logging.WARNING if state == "lost" else logging.INFO
                log.log(level, "%s: %s %s", self._sink.name, state, detail)
            self._status = replace(self._status, state=state, detail=detail)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._set("connecting", self._status.detail)
            try:
                self._sink.open(self._output)
                self._set("live")
                self._write_until_lost()
            except SinkError as error:
                self._lost(str(error))
            except Exception as error:
                log.exception("%s failed in a way it should not", self._sink.name)
                self._lost(f"{type(error).__name__}: {error}")
            finally:
                self._close()
        self._set("stopped")

    def _write_until_lost(self) -> None:
        while True:
            try:
                frame = self._queue.get(timeout=0.1)
            except queue.Empty:
                if self._stop.is_set():
                    return
                continue
            waiting_for = self._sink.write(frame)
            self._backoff.succeeded()
            if waiting_for is not None:
                self._set("waiting", waiting_for)
                continue
            self._set("live")
            with self._lock:
                self._status = replace(self._status, written=self._status.written + 1)

    def _lost(self, detail: str) -> None:
        self._set("lost", detail)
        self._stop.wait(self._backoff.next_s())

    def _close(self) -> None:
        try:
            self._sink.close()
        except Exception:
            log.exception("%s failed to close", self._sink.name)
