from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from engine.camera.axes import AxisValues, Limits, names
from engine.camera.easing import easing
from engine.camera.motion import FIT_STEPS, Shifted, fitted, phases
from engine.camera.moves import (
    Crane,
    DollyZoom,
    Handheld,
    Keyframes,
    Move,
    Orbit,
    Path,
    Reveal,
    Setting,
    Straight,
)

NARROW = Limits(sideways=0.3, pan=0.4)
FLY_BY = Keyframes(
    (
        (0.0, Straight(right=-0.5, pan=math.radians(26))),
        (0.5, Straight(forward=0.4, up=0.08, tilt=math.radians(-6))),
        (1.0, Straight(right=0.5, pan=math.radians(-26))),
    )
)


@dataclass
class Watched:
    """A path that knows how small it was made, and counts how often it or a smaller one was asked."""

    path: Path
    share: float = 1.0
    asked: list[float] = field(default_factory=list)

    def at(self, phase: float) -> AxisValues:
        self.asked.append(phase)
        return self.path.at(phase)

    def scaled(self, share: float) -> Watched:
        return Watched(self.path.scaled(share), self.share * share, self.asked)


def plainly_fitted(path: Path, phases: Sequence[float], limits: Limits) -> tuple[float, tuple[str, ...]]:
    """The share, by asking for every phase at every step."""
    beyond = limits.beyond(np.array([path.at(phase) for phase in phases]))
    if not beyond.any():
        return 1.0, ()
    fits, too_far = 0.0, 1.0
    for _ in range(FIT_STEPS):
        middle = (fits + too_far) / 2
        smaller = path.scaled(middle)
        if limits.beyond(np.array([smaller.at(phase) for phase in phases])).any():
            too_far = middle
        else:
            fits = middle
    return fits, names(beyond.any(axis=0))


def drawn_move(chance: random.Random) -> Move:
    some = chance.uniform
    moves: list[Callable[[], Move]] = [
        lambda: drawn_place(chance),
        lambda: Reveal(drawn_place(chance)),
        lambda: Orbit(some(-2.5, 2.5), some(-1, 1), some(-1, 1)),
        lambda: Crane(some(-2, 2), some(-3, 3), some(-1, 0.9)),
        lambda: DollyZoom(some(-2, 0.95)),
        lambda: Keyframes(tuple((at, drawn_place(chance)) for at in (0.2, some(0.3, 0.9), 1.0))),
        lambda: Handheld(some(0.05, 0.6), some(0, 0.4), seed=chance.randrange(99)),
    ]
    return chance.choice(moves)()


def drawn_place(chance: random.Random) -> Straight:
    pan, tilt, right, up, forward, log_zoom = (chance.uniform(-1.5, 1.5) for _ in range(6))
    return Straight(pan=pan, tilt=tilt, right=right, up=up, forward=forward, zoom=math.exp(log_zoom))


@pytest.mark.parametrize("seed", range(60))
def test_a_move_is_made_as_much_smaller_as_by_asking_for_every_phase_at_every_step(seed: int) -> None:
    chance = random.Random(seed)
    duration_s = chance.uniform(1, 20)
    path = drawn_move(chance).path(Setting(2.0, duration_s, False))
    if chance.random() < 0.3:
        path = Shifted(path, np.full(7, chance.uniform(-0.2, 0.2)))
    there_and_back = chance.random() < 0.5
    ways = phases(easing(chance.choice(["linear", "out-back"])), duration_s, True, there_and_back)
    limits = chance.choice([Limits(), NARROW])
    smaller, limited = fitted(Watched(path), ways, limits)
    assert isinstance(smaller, Watched)
    assert (smaller.share, limited) == plainly_fitted(path, ways, limits)


@pytest.mark.parametrize(("duration_s", "there_and_back"), [(9.0, False), (20.0, True)])
def test_a_move_that_must_be_made_smaller_is_hardly_slower_to_start(
    duration_s: float, there_and_back: bool
) -> None:
    """The output waits for it: it takes a fifth of asking for every phase at every step, or less."""
    path = Watched(FLY_BY.path(Setting(2.5, duration_s, False)))
    ways = phases(easing("in-out-sine"), duration_s, True, there_and_back)
    _, limited = fitted(path, ways, NARROW)
    assert limited == ("pan", "x")
    assert len(path.asked) <= (1 + FIT_STEPS) * len(ways) / 5
