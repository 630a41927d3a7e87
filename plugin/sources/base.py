"""What every source is, and the thread that keeps one alive. Knows nothing of any device.

A source only opens, reads and closes, and raises when it cannot; the runner owns the thread, the
reconnecting, the newest frame and the counters, so that these exist once.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from engine.errors import SourceError
from engine.frames import Frame
from plugin.clock import Clock
from plugin.worker import Backoff, State, is_news

log = logging.getLogger(__name__)

READ_TIMEOUT_S = 0.5
STALLED_AFTER_S = 2.0


class Source(Protocol):
    """Called from one thread only."""

    name: str
    """What the operator calls it: "file presenter.mp4", "OBS source Camera 1"."""

    def open(self) -> None:
        """Connects, or raises :class:`SourceError`. Must return within ten seconds."""

    def read(self, timeout_s: float) -> Frame | None:
        """The next picture when it is due; None when none came in time; SourceError when it is gone."""

    def close(self) -> None:
        """Releases everything. May be called at any time after ``open`` was, also twice."""


@runtime_checkable
class HasTally(Protocol):
    """A source with a lamp: it is told when its picture is on program or in preview, from any thread."""

    def set_tally(self, program: bool, preview: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class SourceStatus:
    name: str
    state: State
    detail: str = ""
    width: int = 0
    height: int = 0
    fps: float = 0.0
    frames: int = 0
    dropped: int = 0
    reconnects: int = 0


class FrameRing:
    """Hands the newest frame from one thread to another: newest wins, the rest are counted."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._count = 0
        self._taken = 0
        self.dropped = 0

    def put(self, frame: Frame) -> None:
        with self._changed:
            if self._count > self._taken:
                self.dropped += 1
            self._frame = frame
            self._count += 1
            self._changed.notify_all()

    def take(self, timeout_s: float) -> Frame | None:
        """The newest frame once, waiting for it; None after the time-out."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._count > self._taken, timeout_s):
                return None
            self._taken = self._count
            return self._frame


class SourceRunner:
    """Runs a source in a thread for as long as the show lasts, reconnecting for ever."""

    def __init__(self, source: Source, clock: Clock, *, backoff: Backoff | None = None) -> None:
        self.frames = FrameRing()
        self._source = source
        self._clock = clock
        self._backoff = backoff or Backoff()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._arrivals: deque[float] = deque(maxlen=60)
        self._status = SourceStatus(source.name, "idle")
        self._thread = threading.Thread(target=self._run, name=f"source {source.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Asks the thread to end and waits. A source stuck in a driver is left behind, and said so."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                log.warning("%s did not close in %.0f s and was left behind", self._source.name, timeout_s)

    def status(self) -> SourceStatus:
        """Says by itself that no pictures come: the thread may be stuck in a driver and unable to."""
        with self._lock:
            silent_s = self._clock.now() - self._arrivals[-1] if self._arrivals else 0.0
            if self._status.state in ("live", "waiting") and silent_s > STALLED_AFTER_S:
                why, dropped = _no_picture_for(silent_s), self.frames.dropped
                return replace(self._status, state="waiting", detail=why, fps=0.0, dropped=dropped)
            span = self._arrivals[-1] - self._arrivals[0] if len(self._arrivals) > 1 else 0.0
            fps = (len(self._arrivals) - 1) / span if span > 0 else 0.0
            return replace(self._status, fps=fps, dropped=self.frames.dropped)

    def set_tally(self, program: bool, preview: bool) -> None:
        if isinstance(self._source, HasTally):
            self._source.set_tally(program, preview)

    def _set(self, state: State, detail: str = "") -> None:
        with self._lock:
            if is_news(state, detail, self._status.state, self._status.detail):
                level = logging.WARNING if state == "lost" else logging.INFO
                log.log(level, "%s: %s %s", self._source.name, state, detail)
            self._status = replace(self._status, state=state, detail=detail)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._set("connecting", self._status.detail)
            try:
                self._source.open()
                self._read_until_lost()
            except SourceError as error:
                self._lost(str(error))
            except Exception as error:
                log.exception("%s failed in a way it should not", self._source.name)
                self._lost(f"{type(error).__name__}: {error}")
            finally:
                self._close()
        self._set("stopped")

    def _read_until_lost(self) -> None:
        last_frame_s = self._clock.now()
        while not self._stop.is_set():
            frame = self._source.read(READ_TIMEOUT_S)
            now = self._clock.now()
            if frame is None:
                if now - last_frame_s > STALLED_AFTER_S:
                    self._set("waiting", _no_picture_for(now - last_frame_s))
                continue
            last_frame_s = now
            self._backoff.succeeded()
            self._count(frame)
            self.frames.put(frame)

    def _count(self, frame: Frame) -> None:
        with self._lock:
            self._arrivals.append(frame.arrived_s)
            self._status = replace(
                self._status, frames=self._status.frames + 1, width=frame.width, height=frame.height
            )
        self._set("live")

    def _lost(self, detail: str) -> None:
        with self._lock:
            self._arrivals.clear()
            self._status = replace(self._status, reconnects=self._status.reconnects + 1)
        self._set("lost", detail)
        self._stop.wait(self._backoff.next_s())

    def _close(self) -> None:
        try:
            self._source.close()
        except Exception:
            log.exception("%s failed to close", self._source.name)


def _no_picture_for(seconds: float) -> str:
    return f"no picture for {seconds:.0f} s"
