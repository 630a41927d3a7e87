"""What is trained on and what is held out, fixed here for good: seeds, kinds of camera path, and the pack's
items.

Held-out scenes share no seed, no texture, no furniture, no person, no surroundings and no family of paths
with training scenes (a pack's item says itself on which side it is). Never train on `heldout`, and never
move anything across.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Split:
    """One side. ``key`` starts every seed; ``heldout`` chooses the pack's items."""

    name: str
    key: int
    heldout: bool
    families: tuple[str, ...]  # of camera paths, see `paths.FAMILIES`


SPLITS = {
    "train": Split(
        name="train",
        key=0x7261696E,
        heldout=False,
        families=(
            "hold",
            "handheld",
            "drift",
            "pan",
            "tilt",
            "slide",
            "pedestal",
            "dolly",
            "zoom",
            "arc",
            "compound",
            "loop",
            "view-loop",
            "wide-pan",
            "wide-arc",
            "wide-slide",
        ),
    ),
    "heldout": Split(
        name="heldout",
        key=0x68656C64,
        heldout=True,
        families=(
            "tripod",
            "shoulder",
            "creep",
            "diagonal",
            "glance",
            "truck-and-turn",
            "crane",
            "push-in",
            "punch-in",
            "orbit",
            "dolly-zoom",
            "there-and-back",
            "figure-eight",
            "wide-diagonal",
            "wide-orbit",
            "wide-crane",
        ),
    ),
}


def split_named(name: str) -> Split:
    if name not in SPLITS:
        raise DataError(f"there is no split {name!r}: choose {' or '.join(SPLITS)}")
    return SPLITS[name]


def scene_generator(split: Split, number: int, purpose: int = 0) -> np.random.Generator:
    """Chance for one purpose in one scene: the same numbers always, and other ones for every scene and
    side.
    """
    return np.random.default_rng(np.random.SeedSequence([split.key, number, purpose]))
