"""Plays pictures that are there before they are due, by their stamps. Knows nothing of where they come from.

Where two pictures are far apart (a recorded screen that stood still), the earlier one is handed out again
meanwhile, since a still is no stall.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from engine.frames import Frame
from plugin.clock import LARGEST_STEP_S, Clock, Playback

LONGEST_STILL_S = 10.0  # a longer gap between two stamps is a jump, not a still


@dataclass(frozen=True, slots=True)
class Timeline:
    """Which instant the newest picture is due at. ``step_s``: the usual time between two."""

    playback: Playback
    media_s: float
    step_s: float

    @property
    def due_s(self) -> float:
        return self.playback.due_s(self.media_s)

    def following(self, media_s: float, now: float) -> Timeline:
        """The next picture's: by its stamp; after a jump of the stamps one step later; when the player
        fell behind, now."""
        playback = self.playback
        if not 0 < media_s - self.media_s <= LONGEST_STILL_S:
            playback = Playback(media_s, max(now, self.due_s + self.step_s))
        elif now - playback.due_s(media_s) > LARGEST_STEP_S:
            playback = Playback(media_s, now)
        return Timeline(playback, media_s, self.step_s)


class Player:
    """``fetch`` gives the next picture, or None when there are no more: then the last one stays."""

    def __init__(self, fetch: Callable[[], Frame | None], step_s: float, clock: Clock) -> None:
        self._fetch = fetch
        self._step_s = step_s
        self._clock = clock
        self._timeline: Timeline | None = None
        self._next: Frame | None = None
        self._shown: Frame | None = None

    def read(self, timeout_s: float) -> Frame | None:
        """The next picture when it is due; the one before it if that is not within ``timeout_s``."""
        called = self._clock.now()
        if self._next is None:
            self._next = self._scheduled(self._fetch())
        if self._next is None or self._timeline is None or self._timeline.due_s > called + timeout_s:
            self._clock.sleep_until(called + timeout_s)
        else:
            self._clock.sleep_until(self._timeline.due_s)
            self._shown, self._next = self._next, None
        return self._shown and replace(self._shown, arrived_s=self._clock.now())

    def _scheduled(self, frame: Frame | None) -> Frame | None:
        if frame is not None:
            now, media_s = self._clock.now(), frame.media_time_s
            first = Timeline(Playback(media_s, now), media_s, self._step_s)
            self._timeline = self._timeline.following(media_s, now) if self._timeline else first
        return frame
