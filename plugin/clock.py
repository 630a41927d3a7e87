"""Time on the live path: one monotonic clock, and pacing as pure functions.

Knows nothing of frames. All instants are seconds on ``Clock.now()``, which all processes of one
machine share (``perf_counter`` is CLOCK_MONOTONIC on Linux, mach time on macOS and the performance
counter on Windows).
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Seconds, monotonic; the origin means nothing."""

    def sleep_until(self, instant: float) -> None:
        """Returns at ``instant`` or at once if it has passed."""


class MonotonicClock:
    def now(self) -> float:
        return time.perf_counter()

    def sleep_until(self, instant: float) -> None:
        while (left := instant - time.perf_counter()) > 0:
            time.sleep(left)


def ask_for_fine_timers() -> None:
    """Windows wakes sleepers every 15.6 ms unless a process asks for more, and a picture is due every 33."""
    if sys.platform == "win32":
        ctypes.windll.winmm.timeBeginPeriod(1)


class FakeClock:
    """A clock that moves only when told to, or when somebody sleeps on it."""

    def __init__(self, start: float = 1000.0) -> None:
        self._now = start
        self._lock = threading.Lock()

    def now(self) -> float:
        with self._lock:
            return self._now

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._now += seconds

    def sleep_until(self, instant: float) -> None:
        with self._lock:
            self._now = max(self._now, instant)


@dataclass(frozen=True, slots=True)
class Pacing:
    """A train of absolute deadlines: frame ``index`` is due at ``start_s + index / rate``.

    The rate is a fraction (30000/1001, not 29.97), so an hour of frames drifts by nothing.
    """

    start_s: float
    rate: Fraction
    index: int = 0

    @property
    def deadline_s(self) -> float:
        return self.due_s(self.index)

    @property
    def interval_s(self) -> float:
        return float(1 / self.rate)

    def due_s(self, index: int) -> float:
        return self.start_s + float(index / self.rate)

    def after(self, now: float) -> tuple[Pacing, int]:
        """The state for the next frame once this one went out at ``now``, and how many deadlines
        were missed. A late frame never shifts the train; whole missed intervals are skipped, so
        that a machine that was asleep does not send a burst.
        """
        elapsed = int((Fraction(now) - Fraction(self.start_s)) * self.rate)
        following = max(self.index + 1, elapsed)
        return replace(self, index=following), following - self.index - 1


LARGEST_STEP_S = 1.0  # between a stamp and the clock, before the stamp is not believed


@dataclass(frozen=True, slots=True)
class Playback:
    """Maps a source's own time to this machine's: which instant a picture of a file is due at."""

    anchor_media_s: float
    anchor_s: float

    def due_s(self, media_s: float) -> float:
        return self.anchor_s + media_s - self.anchor_media_s

    def follow(self, media_s: float, now: float) -> Playback:
        """Re-anchors at a jump of the media time (a loop, a seek, a broken stamp) or after a stall."""
        if abs(self.due_s(media_s) - now) > LARGEST_STEP_S:
            return Playback(media_s, now)
        return self
