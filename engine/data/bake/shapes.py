"""Draws adult bodies and faces from MakeHuman's morph targets.

Knows the targets' names and how race, gender, age, muscle, weight and height multiply. Knows nothing of
clothes, skeletons or of what is stored. Shapes: V vertices of the base mesh.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.data.bake.makehuman import Assets, Mesh

RACES = ("african", "asian", "caucasian")
HEIGHTS_M = (1.53, 1.94)  # bodies beyond are drawn again
FACE_DETAILS = (  # pairs decr/incr and the like, symmetric; how far a normal deviate of one goes
    ("head/head-scale-horiz", "decr", "incr", 0.25),
    ("head/head-scale-vert", "decr", "incr", 0.25),
    ("head/head-fat", "decr", "incr", 0.30),
    ("head/head-angle", "in", "out", 0.25),
    ("forehead/forehead-scale-vert", "decr", "incr", 0.30),
    ("forehead/forehead-temple", "decr", "incr", 0.30),
    ("chin/chin-width", "decr", "incr", 0.35),
    ("chin/chin-height", "decr", "incr", 0.30),
    ("chin/chin-prominent", "decr", "incr", 0.35),
    ("chin/chin-jaw-drop", "decr", "incr", 0.30),
    ("nose/nose-scale-vert", "decr", "incr", 0.30),
    ("nose/nose-scale-depth", "decr", "incr", 0.30),
    ("nose/nose-width1", "decr", "incr", 0.30),
    ("nose/nose-width3", "decr", "incr", 0.35),
    ("nose/nose-hump", "decr", "incr", 0.30),
    ("nose/nose-point", "down", "up", 0.30),
    ("mouth/mouth-scale-horiz", "decr", "incr", 0.30),
    ("mouth/mouth-lowerlip-volume", "decr", "incr", 0.40),
    ("mouth/mouth-upperlip-volume", "decr", "incr", 0.40),
    ("mouth/mouth-trans", "down", "up", 0.25),
    ("cheek/{side}-cheek-bones", "decr", "incr", 0.35),
    ("cheek/{side}-cheek-volume", "decr", "incr", 0.35),
    ("eyes/{side}-eye-scale", "decr", "incr", 0.25),
    ("eyes/{side}-eye-trans", "in", "out", 0.25),
    ("eyes/{side}-eye-height2", "decr", "incr", 0.25),
)


@dataclass(frozen=True, kw_only=True)
class Body:
    """One person's shape: the base mesh's vertices (V 3, decimetres, y up) and what colours the skin."""

    gender: str
    heldout: bool
    races: tuple[float, float, float]  # shares of RACES
    vertices: np.ndarray


def levels(value: float, names: tuple[str, str, str]) -> dict[str, float]:
    """Piecewise linear shares of three targets at 0, 1/2 and 1."""
    low, high = max(0.0, 1 - 2 * value), max(0.0, 2 * value - 1)
    return {names[0]: low, names[1]: 1 - low - high, names[2]: high}


class Shapes:
    """Draws bodies from MakeHuman's targets: race, gender, age, muscle, weight and height multiply."""

    def __init__(self, assets: Assets) -> None:
        self.assets, self.mesh = assets, Mesh(assets.find("3dobjs/base.obj"))
        self.skin = self.mesh.vertices_of("body")
        self.cache: dict[str, np.ndarray] = {}

    def target(self, name: str) -> np.ndarray:
        if name not in self.cache:
            self.cache[name] = self.assets.target(name, len(self.mesh.vertices))
        return self.cache[name]

    def draw(self, gender: str, heldout: bool, rng: np.random.Generator) -> Body:
        """An adult of usual height, looking like nobody in particular."""
        while True:
            body = self._any(gender, heldout, rng)
            heights = body.vertices[self.skin, 1]
            if HEIGHTS_M[0] < 0.1 * float(np.ptp(heights)) < HEIGHTS_M[1]:
                return body

    def _any(self, gender: str, heldout: bool, rng: np.random.Generator) -> Body:
        races = rng.dirichlet((0.25, 0.25, 0.25))
        old = rng.uniform(0.0, 0.7)
        muscle = levels(rng.uniform(0.25, 0.75), ("minmuscle", "averagemuscle", "maxmuscle"))
        weight = levels(rng.uniform(0.22, 0.80), ("minweight", "averageweight", "maxweight"))
        tall = rng.uniform(-0.3, 0.45)
        height = "maxheight" if tall > 0 else "minheight"
        base = self.mesh.vertices.copy()
        for age, of_age in (("young", 1 - old), ("old", old)):
            for race, share in zip(RACES, races, strict=True):
                base += share * of_age * self.target(f"macrodetails/{race}-{gender}-{age}.target.gz")
            for m, of_muscle in muscle.items():
                for w, of_weight in weight.items():
                    share = of_age * of_muscle * of_weight
                    if share > 0:
                        name = f"{gender}-{age}-{m}-{w}"
                        base += share * self.target(f"macrodetails/universal-{name}.target.gz")
                        base += abs(tall) * share * self.target(f"height/{name}-{height}.target.gz")
        for stem, less, more, spread in FACE_DETAILS:
            amount = float(np.clip(rng.normal(0.0, spread), -0.8, 0.8))
            for side in ("l", "r") if "{side}" in stem else ("",):
                name = f"{stem.format(side=side)}-{more if amount > 0 else less}.target.gz"
                base += abs(amount) * self.target(name)
        shares = (float(races[0]), float(races[1]), float(races[2]))
        return Body(gender=gender, heldout=heldout, races=shares, vertices=base)
