"""Everything that was measured, one record for each clip (or frame) and method, and the tables made of it.

The records go into the JSON, so that every figure of the report can be made again, or otherwise. Knows
nothing of pictures.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from engine.eval.statistics import Summary, Value, paired, summarise

Section = Literal[
    "fidelity", "time", "camera", "loop", "identity", "length", "drift", "steps", "speed", "footage"
]
Table = dict[str, dict[str, Summary]]  # row (a method, mostly) → figure → summary


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """``figures``: nan where there was nothing to measure, inf where the attempt failed. ``at`` tells records
    of one case apart: a frame, a length, a number of steps.
    """

    section: Section
    method: str
    case: str
    scene: str
    family: str
    move: str
    figures: dict[str, float] = field(default_factory=dict)
    at: int = 0

    def as_json(self) -> dict[str, object]:
        figures = {
            name: "failed" if math.isinf(value) else None if math.isnan(value) else float(f"{value:.6g}")
            for name, value in self.figures.items()
        }
        own = {name: getattr(self, name) for name in ("section", "method", "case", "family", "move", "at")}
        return {**own, **figures}


Key = Callable[[Record], str]


def table(records: Iterable[Record], section: Section, row: Key = lambda record: record.method) -> Table:
    """Every figure of a section, summarised over the records of each row."""
    values: dict[str, dict[str, list[Value]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        if record.section == section:
            for figure, value in record.figures.items():
                values[row(record)][figure].append(Value(scene=record.scene, value=value))
    return {
        name: {figure: summarise(found) for figure, found in figures.items()}
        for name, figures in values.items()
    }


def advantage(records: Iterable[Record], section: Section, figure: str, over: str) -> dict[str, Summary]:
    """Each method's figure minus that of the method ``over``, over the cases that both did."""
    values: dict[str, dict[str, Value]] = defaultdict(dict)
    for record in records:
        if record.section == section and figure in record.figures:
            key = f"{record.case} {record.at}"
            values[record.method][key] = Value(scene=record.scene, value=record.figures[figure])
    return {method: paired(found, values[over]) for method, found in values.items() if method != over}


def series(records: Iterable[Record], section: Section, figure: str) -> dict[str, dict[int, Summary]]:
    """Method → ``at`` → summary: a curve over time, length or steps."""
    values: dict[str, dict[int, list[Value]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        if record.section == section and figure in record.figures:
            values[record.method][record.at].append(Value(scene=record.scene, value=record.figures[figure]))
    return {
        method: {at: summarise(found) for at, found in sorted(places.items())}
        for method, places in values.items()
    }
