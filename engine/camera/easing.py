"""Easing curves by the names of OBS's Move plugin. Knows nothing of poses or of time in seconds.

A curve maps the share of the time to the share of the way, 0 to 0 and 1 to 1. Some of them have
no finite speed (circ), a kinked one (bounce) or do not come to rest (linear, and all that are only
"in" or "out"). A camera has mass, so an :class:`Easing` is the curve under a short moving average:
it starts and ends at rest, and its speed is continuous, whatever the curve.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from engine.errors import ConfigError

Curve = Callable[[float], float]

HALF_WINDOW = 0.04  # of the duration: how far the moving average reaches to each side
CELLS = 512  # of the table of the curve's integral
BOUNCE_WIDTH = 2.75  # of Penner's bounce: the first fall takes 1 / 2.75 of the time


class Timing(Protocol):
    """Share of the way, and its derivative, at a share of the time in [0, 1]."""

    def value(self, x: float) -> float: ...

    def slope(self, x: float) -> float: ...


@dataclass(frozen=True)
class Easing:
    """A named curve, softened.

    With E the curve (0 before, 1 after), F its integral and w the half window, the value is
    (F(y + w) − F(y − w)) / 2w at y = x (1 + 2w) − w, so the slope is an exact difference of E.
    """

    name: str
    curve: Curve
    _integral: tuple[float, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_integral", _integrate(self.curve))

    def value(self, x: float) -> float:
        y = min(1.0, max(0.0, x)) * (1 + 2 * HALF_WINDOW)
        return (self._area(y) - self._area(y - 2 * HALF_WINDOW)) / (2 * HALF_WINDOW)

    def slope(self, x: float) -> float:
        if not 0.0 < x < 1.0:
            return 0.0
        y = x * (1 + 2 * HALF_WINDOW)
        rise = self._extended(y) - self._extended(y - 2 * HALF_WINDOW)
        return rise * (1 + 2 * HALF_WINDOW) / (2 * HALF_WINDOW)

    def _extended(self, y: float) -> float:
        if y <= 0.0:
            return 0.0
        return 1.0 if y >= 1.0 else self.curve(y)

    def _area(self, y: float) -> float:
        if y <= 0.0:
            return 0.0
        if y >= 1.0:
            return self._integral[-1] + y - 1.0
        cell = int(y * CELLS)
        start, end = cell / CELLS, (cell + 1) / CELLS
        return _hermite(
            y * CELLS - cell,
            self._integral[cell],
            self._integral[cell + 1],
            self.curve(start) / CELLS,
            self.curve(end) / CELLS,
        )


class Steady:
    """The even clock of endless loops: it neither starts nor ends."""

    def value(self, x: float) -> float:
        return x

    def slope(self, x: float) -> float:
        return 1.0


def _hermite(u: float, p0: float, p1: float, m0: float, m1: float) -> float:
    a = u * u * (3 - 2 * u)
    return p0 * (1 - a) + p1 * a + m0 * u * (1 - u) ** 2 - m1 * u * u * (1 - u)


def _integrate(curve: Curve) -> tuple[float, ...]:
    """The integral from 0 at each border of the table's cells, by Simpson's rule."""
    total, sums = 0.0, [0.0]
    for cell in range(CELLS):
        start, middle, end = cell / CELLS, (cell + 0.5) / CELLS, (cell + 1) / CELLS
        total += (curve(start) + 4 * curve(middle) + curve(end)) / (6 * CELLS)
        sums.append(total)
    return tuple(sums)


def _power(exponent: int) -> Curve:
    return lambda x: float(x**exponent)


def _expo(x: float) -> float:
    return (math.pow(2, 10 * x) - 1) / 1023


def _elastic(x: float) -> float:
    return math.sin(6.5 * math.pi * x) * math.pow(2, 10 * (x - 1))


def _back(x: float) -> float:
    return x**3 - x * math.sin(math.pi * x)


def _bounce_out(x: float) -> float:
    """Penner's four parabolas: each is (middle, height of its lowest point, end) over ``BOUNCE_WIDTH``."""
    width = x * BOUNCE_WIDTH
    parabolas = ((0.0, 0.0, 1.0), (1.5, 0.75, 2.0), (2.25, 0.9375, 2.5), (2.625, 0.984375, 3.0))
    middle, height, _ = next(p for p in parabolas if width < p[2])
    return (width - middle) ** 2 + height


def _mirrored(curve: Curve) -> Curve:
    """Turns "in" into "out" and back."""
    return lambda x: 1 - curve(1 - x)


def _both(curve: Curve) -> Curve:
    """Turns "in" into "in-out"."""
    return lambda x: curve(2 * x) / 2 if x < 0.5 else 1 - curve(2 - 2 * x) / 2


def exponential(a: float) -> Curve:
    """ReCamMaster's camera speed: (1 − e^(−a x)) / (1 − e^(−a)), a > 0."""
    return lambda x: math.expm1(-a * x) / math.expm1(-a)


_STARTS: dict[str, Curve] = {
    "sine": lambda x: 1 - math.cos(x * math.pi / 2),
    "quad": _power(2),
    "cubic": _power(3),
    "quart": _power(4),
    "quint": _power(5),
    "expo": _expo,
    "circ": lambda x: 1 - math.sqrt(max(0.0, 1 - x * x)),
    "elastic": _elastic,
    "bounce": _mirrored(_bounce_out),
    "back": _back,
}

CURVES: dict[str, Curve] = {
    "linear": lambda x: x,
    "decelerate": exponential(3.0),
    **{f"in-{name}": curve for name, curve in _STARTS.items()},
    **{f"out-{name}": _mirrored(curve) for name, curve in _STARTS.items()},
    **{f"in-out-{name}": _both(curve) for name, curve in _STARTS.items()},
}


@lru_cache(maxsize=len(CURVES))
def easing(name: str) -> Easing:
    """The easing of that name; a :class:`ConfigError` says which name is nearest."""
    if name not in CURVES:
        nearest = difflib.get_close_matches(name, CURVES, n=1, cutoff=0.0)[0]
        raise ConfigError(
            f'there is no easing "{name}"; the nearest is "{nearest}" '
            f"(linear, decelerate, or in-, out-, in-out- with {', '.join(_STARTS)})"
        )
    return Easing(name, CURVES[name])
