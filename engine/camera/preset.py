"""A preset: a move with a name, a duration, a manner and an ending. Knows nothing of files or of now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from engine.camera.easing import Steady, Timing, easing
from engine.camera.moves import Handheld, Move, Path, Setting

OnEnd = Literal["hold", "return", "loop", "ping-pong"]
Start = Literal["blend", "cut"]

SHORTEST_S = 0.05
SAME_PLACE = 1e-6


@dataclass(frozen=True)
class Choice:
    """One of these presets, by chance, each time."""

    of: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Preset:
    """What an operator fires.

    ``relative``: from wherever the camera is, instead of to a fixed place. ``start``: "blend" goes
    over to the move smoothly from the present pose, "cut" begins with a cut to where the move starts.
    ``on_end``: stay there, go the way back, start over (the move must end where it starts), go
    there and back for ever. ``next``: the preset that follows; only where ``on_end`` is "hold".
    ``speed`` divides the duration. ``kind``, ``label``, ``slot``, ``colour`` and ``family`` are for
    whoever shows it.
    """

    name: str
    move: Move | Choice
    duration_s: float = 3.0
    delay_s: float = 0.0
    easing: str = "in-out-sine"
    speed: float = 1.0
    reverse: bool = False
    relative: bool = False
    start: Start = "blend"
    on_end: OnEnd = "hold"
    next: str | None = None
    kind: str = ""
    label: str = ""
    slot: int | None = None
    colour: str = "#8b98a9"
    family: str = ""

    def __post_init__(self) -> None:
        if self.duration_s < SHORTEST_S:
            raise ValueError(f"a duration is at least {SHORTEST_S} s, not {self.duration_s:g}")
        if self.delay_s < 0:
            raise ValueError(f"a delay is never negative: {self.delay_s:g} s")
        if self.speed <= 0:
            raise ValueError(f"a speed is a factor above 0, not {self.speed:g}")
        if self.on_end not in get_args(OnEnd):
            raise ValueError(f"on_end is one of {', '.join(get_args(OnEnd))}, not {self.on_end!r}")
        if self.next is not None and self.on_end != "hold":
            raise ValueError(f'"next" never comes after a move that ends with "{self.on_end}"')
        if isinstance(self.move, Choice):
            if not self.move.of:
                raise ValueError("a choice needs presets to choose from")
            return
        easing(self.easing)
        if self.on_end == "loop" and not _is_closed(self.move):
            raise ValueError('only a move that ends where it starts can "loop"; try "ping-pong"')

    def path(self, subject_distance_m: float, duration_s: float) -> Path:
        if isinstance(self.move, Choice):
            raise ValueError(f"{self.name} is a choice: choose first")
        return self.move.path(Setting(subject_distance_m, duration_s, self.on_end == "loop"))

    def timing(self) -> Timing:
        """An endless linear loop has no stop at its seam; everything else starts and ends at rest."""
        if self.on_end == "loop" and self.easing == "linear":
            return Steady()
        return easing(self.easing)


def _is_closed(move: Move) -> bool:
    if isinstance(move, Handheld):
        return True
    path = move.path(Setting(1.0, 1.0, True))
    return bool(np.allclose(path.at(0.0), path.at(1.0), atol=SAME_PLACE))
