"""How much of the student a machine can afford, now: levels from full quality down to none of it.

Down when steps have overrun the budget for a while, up again when there has been room for longer; a level
that did not hold is tried again ever later. Pure: durations and times are arguments. Knows nothing of models.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

WINDOW_S = 2.0  # over which steps are averaged
FULL_WINDOW = 0.75  # of it must be covered before it says anything
ROOMY = 0.85  # of the budget: what must be enough for a higher level
UP_AFTER_S = 4.0
LATEST_UP_S = 64.0
HELD_S = 20.0  # a level that holds for so long was not taken too soon
BUSY = "the machine is busy"


class Level(NamedTuple):
    """``steps`` of denoising on one of ``every`` frames; no steps: without the student."""

    steps: int
    every: int = 1

    def text(self) -> str:
        if not self.steps:
            return "depth only"
        often = "" if self.every == 1 else " every second frame"
        return f"student at {self.steps} step{'s' if self.steps > 1 else ''}{often}"


def levels_of(steps: Sequence[int]) -> tuple[Level, ...]:
    """Best first, for a student that can do with any of these numbers of steps."""
    return (*(Level(count) for count in sorted(steps, reverse=True)), Level(min(steps), 2), Level(0))


@dataclass(frozen=True, slots=True)
class Costs:
    """Of a step, in seconds, when the machine was measured: ``rest`` is all but waiting for the student."""

    rest_s: float
    student_s: Mapping[int, float]  # by its steps

    def of(self, level: Level) -> float:
        return self.rest_s + (self.student_s[level.steps] / level.every if level.steps else 0.0)

    def text(self) -> str:
        waits = (f"{1000 * one:.0f} ms for {Level(steps).text()}" for steps, one in self.student_s.items())
        return f"{1000 * self.rest_s:.0f} ms a frame, and waiting {', '.join(waits)}"


class _Spent(NamedTuple):
    now: float
    rest_s: float
    student_s: float
    expected_student_s: float


class Budget:
    """Keeps the ``level`` at which a step takes no longer than ``budget_s`` on average."""

    def __init__(self, budget_s: float, levels: Sequence[Level], costs: Costs) -> None:
        self._budget_s, self._levels, self._costs = budget_s, levels, costs
        self._at = self._affordable(costs, budget_s)
        self._window: deque[_Spent] = deque()
        self._roomy_since: float | None = None
        self._up_after_s = UP_AFTER_S
        self._risen: float | None = None

    @property
    def level(self) -> Level:
        return self._levels[self._at]

    def text(self) -> str:
        """The level in words, and why it is not the best one."""
        return self.level.text() + (f": {BUSY}" if self._at else "")

    def spend(self, now: float, rest_s: float, student_s: float | None) -> None:
        """One step's durations; ``student_s`` None: the student was not asked."""
        # what was waited for may have been begun at the level before, which had a student
        expected = 0.0 if student_s is None else self._costs.student_s.get(self.level.steps, 0.0)
        self._window.append(_Spent(now, rest_s, student_s or 0.0, expected))
        while now - self._window[0].now > WINDOW_S:
            self._window.popleft()
        if now - self._window[0].now < FULL_WINDOW * WINDOW_S:
            return
        costs = self._costs_now()
        spent_s = sum(one.rest_s + one.student_s for one in self._window) / len(self._window)
        if spent_s > self._budget_s and self._at < len(self._levels) - 1:
            fits = self._affordable(costs, self._budget_s) if costs.rest_s <= self._budget_s else 0
            # where not even the rest fits, that may be for the student working beside it
            self._fall(now, max(self._at + 1, fits))
        elif self._affordable(costs, ROOMY * self._budget_s) < self._at:
            self._roomy_since = now if self._roomy_since is None else self._roomy_since
            if now - self._roomy_since >= self._up_after_s:
                self._rise(now)
        else:
            self._roomy_since = None

    def _fall(self, now: float, at: int) -> None:
        too_soon = self._risen is not None and now - self._risen < HELD_S
        self._up_after_s = min(2 * self._up_after_s, LATEST_UP_S) if too_soon else UP_AFTER_S
        self._change(at)

    def _rise(self, now: float) -> None:
        """One level at a time."""
        self._risen = now
        self._change(self._at - 1)

    def _change(self, at: int) -> None:
        self._at = at
        self._window.clear()
        self._roomy_since = None

    def _costs_now(self) -> Costs:
        """What was measured, scaled by how much slower the machine is at the moment."""
        rest_s = sum(one.rest_s for one in self._window) / len(self._window)
        # of whole steps: a student that paints meanwhile is hardly waited for, and its share is all noise
        spent_s = sum(one.rest_s + one.student_s for one in self._window)
        slower = spent_s / sum(self._costs.rest_s + one.expected_student_s for one in self._window)
        return Costs(rest_s, {steps: slower * one for steps, one in self._costs.student_s.items()})

    def _affordable(self, costs: Costs, budget_s: float) -> int:
        fitting = (at for at, level in enumerate(self._levels) if costs.of(level) <= budget_s)
        return next(fitting, len(self._levels) - 1)
