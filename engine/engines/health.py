"""Whether what the student paints has drifted away from what the source shows.

A model that lives on its own past can lose its way: colours wander, edges harden or melt, shapes stop being
the source's. Where the base shows what was really seen, all three can be told; they are watched as averages
over time, and a drift is one that stays. Pure: times are arguments. Knows nothing of models or of remedies.

Shapes: h w the model's rows and columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from engine.geometry.delivery import Small
from engine.geometry.pictures import Bytes, Floats

AVERAGED_S = 1.0  # of time: what is shorter is no drift
LASTS_S = 1.0  # before it is believed
SETTLING_S = 2.0  # after a remedy, before the next judgement
LEAST_SEEN = 0.15  # of the picture, for anything to be told
SEEN = 0.95
LEAST_DETAIL = 0.5  # levels per cell of the base: in a flatter picture sharpness means nothing
WELL_AGAIN = 0.8  # of a limit


@dataclass(frozen=True, slots=True)
class Figures:
    """``error``: root mean square against the source where they overlap, in levels. ``sharpness``: the
    student's gradients over the base's there, 1 if equal. ``colour``: the farthest of its mean colours, in
    levels.
    """

    error: float
    sharpness: float
    colour: float

    @classmethod
    def of(cls, painted: Floats, small: Small) -> Figures | None:
        """Of a picture h w 3 in 0…255; None where too little was seen."""
        seen = cv2.erode((small.seen > SEEN).astype(np.uint8), np.ones((3, 3), np.uint8))
        if float(seen.mean()) < LEAST_SEEN:
            return None
        off = painted - small.colour
        error = math.sqrt(sum(cv2.mean(off * off, seen)[:3]) / 3)
        colour = max(abs(value) for value in cv2.mean(off, seen)[:3])
        mine, its = _gradient(painted, seen), _gradient(small.colour, seen)
        return cls(error, mine / its if its > LEAST_DETAIL else 1.0, colour)

    def averaged(self, newer: Figures, share: float) -> Figures:
        return Figures(
            *(old + share * (new - old) for old, new in zip(self._all(), newer._all(), strict=True))
        )

    def worst(self, limits: Limits) -> tuple[float, str]:
        """How far towards a limit, 1 at it, and what that is in words."""
        softness = math.log(max(self.sharpness, 1e-3)) / math.log(limits.softest)
        hardness = math.log(max(self.sharpness, 1e-3)) / math.log(limits.hardest)
        return max(
            (self.error / limits.error, "it differs from the source"),
            (softness, "it has gone soft"),
            (hardness, "it has gone harsh"),
            (self.colour / limits.colour, "its colours have wandered"),
        )

    def as_dict(self) -> Mapping[str, float]:
        return {
            "error": round(self.error, 2),
            "sharpness": round(self.sharpness, 3),
            "colour": round(self.colour, 2),
        }

    def _all(self) -> tuple[float, float, float]:
        return self.error, self.sharpness, self.colour


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Beyond them, a student that still paints what it is shown does not come."""

    error: float = 36.0
    softest: float = 0.4
    hardest: float = 2.0
    colour: float = 14.0


class DriftWatch:
    """Give it every painted picture; it says when something must be done."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self.reset()

    def reset(self) -> None:
        """The student has begun anew, or was told to: it is given time to settle."""
        self.figures: Figures | None = None
        self._begun: float | None = None
        self._last = 0.0
        self._ill_since: float | None = None

    def see(self, now: float, painted: Floats, small: Small) -> str | None:
        """What has drifted, in words; None while all is well."""
        found = Figures.of(painted, small)
        if found is None:
            return None
        if self.figures is None:
            self.figures = found
        else:
            self.figures = self.figures.averaged(found, 1 - math.exp((self._last - now) / AVERAGED_S))
        self._last = now
        self._begun = now if self._begun is None else self._begun
        worst, what = self.figures.worst(self._limits)
        if worst > 1:
            self._ill_since = now if self._ill_since is None else self._ill_since
        elif worst < WELL_AGAIN:
            self._ill_since = None
        ill = self._ill_since is not None and now - self._ill_since >= LASTS_S
        return what if ill and now - self._begun >= SETTLING_S else None


def _gradient(picture: Floats, where: Bytes) -> float:
    """Mean absolute difference of neighbours, in levels."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    sideways, down = (cv2.Sobel(grey, cv2.CV_32F, *order, ksize=1, scale=0.5) for order in ((1, 0), (0, 1)))
    return cv2.mean(np.abs(sideways) + np.abs(down), where)[0]
