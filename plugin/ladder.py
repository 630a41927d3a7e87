"""Which picture is good enough to be on air, as a pure function of ages and time.

Knows nothing of pixels. Down the ladder at once, up again only after a while of good health, so that
a flapping engine or cable does not flicker on air.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

STALE_AFTER_S = 0.4  # how far an engine that keeps up may be behind its source
# … and one that is slow by nature, in its own intervals: it may take a frame an interval before it draws it,
# draw for another, and what it made is shown for a third
STALE_AFTER_INTERVALS = 3.5
HOLD_S = 0.4  # the engine's last picture, before the clean feed is better
SLATE_AFTER_S = 3.0  # the source's last picture, before it is better to say that it is gone
RECOVERED_AFTER_S = 0.5


class Rung(IntEnum):
    """What is on air, best first."""

    ENGINE = 0
    HOLD = 1
    CLEAN = 2
    SLATE = 3


class Health(NamedTuple):
    """Ages in seconds; infinite where there has been no picture at all."""

    source_age_s: float
    engine_lag_s: float  # how long the engine has owed an answer when the newest source picture arrived
    engine_interval_s: float  # between the engine's pictures, 0 if not known


@dataclass(frozen=True, slots=True)
class Ladder:
    """``better_since_s``: since when a higher rung has been possible, if it has."""

    rung: Rung
    better_since_s: float | None = None

    def step(self, health: Health, now: float) -> Ladder:
        wanted = best_rung(health)
        if wanted >= self.rung or {wanted, self.rung} == {Rung.ENGINE, Rung.HOLD}:
            return Ladder(wanted)
        since = now if self.better_since_s is None else self.better_since_s
        if now - since >= RECOVERED_AFTER_S:
            return Ladder(wanted)
        return Ladder(self.rung, since)


def best_rung(health: Health) -> Rung:
    """The highest rung that the pictures there are allow."""
    if health.source_age_s > SLATE_AFTER_S:
        return Rung.SLATE
    fresh_s = max(STALE_AFTER_S, STALE_AFTER_INTERVALS * health.engine_interval_s)
    if health.engine_lag_s <= fresh_s:
        return Rung.ENGINE
    if health.engine_lag_s <= fresh_s + HOLD_S:
        return Rung.HOLD
    return Rung.CLEAN
