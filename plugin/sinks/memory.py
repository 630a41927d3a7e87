"""Keeps the newest pictures in memory: for tests, for the benchmark, for anybody who embeds RealCam.

Knows nothing of files or devices, and never fails.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from plugin.clock import Clock, MonotonicClock
from plugin.sinks.base import OutputFormat, OutputFrame


@dataclass(frozen=True, slots=True)
class ReceivedFrame:
    frame: OutputFrame
    arrived_s: float


class MemorySink:
    """``on_frame(frame, now)`` is called on the sink's thread for each picture, before it is kept."""

    name = "memory"

    def __init__(
        self,
        length: int,
        *,
        on_frame: Callable[[OutputFrame, float], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._on_frame = on_frame
        self._clock = clock or MonotonicClock()
        self._changed = threading.Condition()
        self._frames: deque[ReceivedFrame] = deque(maxlen=length)
        self._count = 0
        self._output: OutputFormat | None = None

    def open(self, output: OutputFormat) -> None:
        self._output = output

    def write(self, frame: OutputFrame) -> None:
        now = self._clock.now()
        if self._on_frame is not None:
            self._on_frame(frame, now)
        with self._changed:
            self._frames.append(ReceivedFrame(frame, now))
            self._count += 1
            self._changed.notify_all()

    def close(self) -> None:
        """What was received stays readable."""

    @property
    def output(self) -> OutputFormat | None:
        return self._output

    def frames(self) -> list[ReceivedFrame]:
        """The newest pictures, oldest first."""
        with self._changed:
            return list(self._frames)

    def wait_for(self, count: int, timeout_s: float) -> bool:
        """Whether ``count`` pictures have come in since the start, waiting for them."""
        with self._changed:
            return self._changed.wait_for(lambda: self._count >= count, timeout_s)
