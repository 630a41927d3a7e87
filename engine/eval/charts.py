"""Charts as inline SVG, coloured by the page's style sheet, so that they follow its light and dark. Knows
nothing of what the numbers mean.

Every series has an index, which is its colour (CSS classes ``s0`` to ``s9``), and the same in every chart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 520, 300
LEFT, RIGHT, TOP, BOTTOM = 46, 124, 16, 44
ROW = 30  # of a chart of intervals
LABEL_GAP = 16  # between names at the lines' ends


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    name: str
    colour: int
    points: Sequence[Point]
    dashed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    name: str
    colour: int
    middle: float
    low: float | None
    high: float | None
    text: str


class _Scale:
    """Values → pixels, with round ticks."""

    def __init__(self, low: float, high: float, start: float, end: float, log: bool = False) -> None:
        self._log = log
        if log:
            low, high = math.log10(low), math.log10(high)
        if high - low < 1e-9:
            low, high = low - 0.5, high + 0.5
        self._low, self._high, self._start, self._end = low, high, start, end

    def __call__(self, value: float) -> float:
        at = math.log10(value) if self._log else value
        return self._start + (at - self._low) / (self._high - self._low) * (self._end - self._start)

    def ticks(self, about: int) -> list[float]:
        if self._log:
            first, last = math.ceil(self._low - 1e-9), math.floor(self._high + 1e-9)
            return [10.0**k for k in range(first, last + 1)]
        step = _round_step((self._high - self._low) / about)
        first = math.ceil(self._low / step - 1e-9)
        return [k * step for k in range(first, math.floor(self._high / step + 1e-9) + 1)]


def lines(
    series: Sequence[Line],
    *,
    title: str,
    x: str,
    y: str,
    log_x: bool = False,
    x_ticks: Sequence[float] | None = None,
    least_span: float = 0.0,
) -> str:
    """Curves with their names at their ends; a band where a point has an interval. ``least_span``: of the
    vertical axis, so that noise does not look like news.
    """
    points = [point for line in series for point in line.points]
    if not points:
        return ""
    xs = [point.x for point in points]
    low_y = min(point.y if point.low is None else point.low for point in points)
    high_y = max(point.y if point.high is None else point.high for point in points)
    margin = max(0.06 * (high_y - low_y or 1), (least_span - (high_y - low_y)) / 2)
    across = _Scale(min(xs), max(xs), LEFT, WIDTH - RIGHT, log_x)
    up = _Scale(low_y - margin, high_y + margin, HEIGHT - BOTTOM, TOP)
    parts = [_grid(across, up, x, y, x_ticks)]
    parts += [_band(line, across, up) for line in series]
    parts += [_curve(line, across, up) for line in series]
    parts += _names(series, up)
    return _svg(title, HEIGHT, parts)


def intervals(rows: Sequence[Interval], *, title: str, x: str, zero: bool = False) -> str:
    """One row each: the mean and its interval, and what it says in words at the right."""
    if not rows:
        return ""
    ends = [v for row in rows for v in (row.low, row.high, row.middle) if v is not None]
    low, high = min(ends + [0.0] * zero), max(ends + [0.0] * zero)
    margin = 0.06 * (high - low or 1)
    left, height = 132, TOP + ROW * len(rows) + BOTTOM
    across = _Scale(low - margin, high + margin, left, WIDTH - 92)
    bottom = height - BOTTOM + 4
    parts = []
    for tick in across.ticks(6):
        at = across(tick)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{_number(tick)}</text>')
    if zero:
        at = across(0)
        parts.append(f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{bottom}"/>')
    for index, row in enumerate(rows):
        parts.append(_interval(row, across, TOP + ROW * (index + 0.5), left))
    middle = (left + WIDTH - 92) / 2
    parts.append(f'<text class="label" x="{middle}" y="{height - 8}" text-anchor="middle">{escape(x)}</text>')
    return _svg(title, height, parts)


def _interval(row: Interval, across: _Scale, y: float, left: float) -> str:
    at = across(row.middle)
    bar = ""
    if row.low is not None and row.high is not None:
        bar = f'<line class="bar" x1="{across(row.low):.1f}" x2="{across(row.high):.1f}" y1="{y}" y2="{y}"/>'
    return (
        f'<g class="s{row.colour}"><title>{escape(row.name)}: {escape(row.text)}</title>{bar}'
        f'<circle cx="{at:.1f}" cy="{y}" r="5"/></g>'
        f'<text x="{left - 12}" y="{y + 4}" text-anchor="end">{escape(row.name)}</text>'
        f'<text class="value" x="{WIDTH - 4}" y="{y + 4}" text-anchor="end">{escape(row.text)}</text>'
    )


def _grid(across: _Scale, up: _Scale, x: str, y: str, x_ticks: Sequence[float] | None) -> str:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for tick in up.ticks(5):
        at = up(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{at + 4:.1f}" text-anchor="end">{_number(tick)}</text>')
    for tick in across.ticks(5) if x_ticks is None else x_ticks:
        at = across(tick)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{bottom}" y2="{bottom + 5}"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 19}" text-anchor="middle">{_number(tick)}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    middle = (LEFT + right) / 2
    parts.append(f'<text class="label" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x)}</text>')
    parts.append(f'<text class="label" x="{LEFT}" y="{TOP - 3}" text-anchor="start">{escape(y)}</text>')
    return "".join(parts)


def _band(line: Line, across: _Scale, up: _Scale) -> str:
    bounded = [p for p in line.points if p.low is not None and p.high is not None]
    if len(bounded) < 2:
        return ""
    there = [f"{across(p.x):.1f},{up(p.high or 0):.1f}" for p in bounded]
    back = [f"{across(p.x):.1f},{up(p.low or 0):.1f}" for p in reversed(bounded)]
    return f'<polygon class="band s{line.colour}" points="{" ".join(there + back)}"/>'


def _curve(line: Line, across: _Scale, up: _Scale) -> str:
    places = " ".join(f"{across(p.x):.1f},{up(p.y):.1f}" for p in line.points)
    kind = " dashed" if line.dashed else ""
    dots = ""
    if len(line.points) <= 8:
        dots = "".join(
            f'<circle cx="{across(p.x):.1f}" cy="{up(p.y):.1f}" r="3.5">'
            f"<title>{escape(line.name)}: {_number(p.y)} at {_number(p.x)}</title></circle>"
            for p in line.points
        )
    return (
        f'<g class="s{line.colour}{kind}"><title>{escape(line.name)}</title>'
        f'<polyline points="{places}"/>{dots}</g>'
    )


def _names(series: Sequence[Line], up: _Scale) -> list[str]:
    """At the curves' ends, moved apart where they would lie on one another."""
    ends = sorted(((up(line.points[-1].y), line) for line in series if line.points), key=lambda e: e[0])
    places: list[float] = []
    for y, _ in ends:
        places.append(max(y, places[-1] + LABEL_GAP) if places else max(y, TOP + 4.0))
    excess = places[-1] - (HEIGHT - BOTTOM + 8) if places else 0
    for index in range(len(places) - 1, -1, -1):
        if excess > 0:
            places[index] = min(places[index], HEIGHT - BOTTOM + 8 - LABEL_GAP * (len(places) - 1 - index))
    x = WIDTH - RIGHT + 8
    return [
        f'<text class="name s{line.colour}" x="{x}" y="{place + 4:.1f}">{escape(line.name)}</text>'
        for place, (_, line) in zip(places, ends, strict=True)
    ]


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    opening = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
    return opening + "".join(parts) + "</svg>"


def _round_step(rough: float) -> float:
    """The next of 1, 2, 5, 10 … that is no smaller."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def _number(value: float) -> str:
    if value and abs(value) >= 1000 and value % 1000 == 0:
        return f"{value / 1000:g}k"
    return f"{value:.4g}".replace("-", "−")
