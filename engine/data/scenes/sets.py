"""Which kind of set a scene's number stands for, and the scene itself. How kinds look is in `rooms` and
`shows`.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.data.scenes import rooms, shows
from engine.data.scenes.dressing import SetPlan, room_of
from engine.data.scenes.furnish import SetBuilder
from engine.data.scenes.pack import Pack
from engine.data.scenes.scene import SIDES, Scene, lens_of, looking
from engine.data.splits import Split, scene_generator

CYCLE = (  # every run of sixteen scenes is the whole mixture
    "desk",
    "stage",
    "speaker",
    "desk",
    "interview",
    "room",
    "desk",
    "stage",
    "speaker",
    "desk",
    "studio",
    "speaker",
    "desk",
    "stage",
    "room",
    "studio",
)


def make_scene(split: Split, number: int, pack: Pack) -> Scene:
    """The scene of a number: the same always."""
    chance = scene_generator(split, number)
    b = SetBuilder(chance, pack, heldout=split.heldout)
    family = CYCLE[number % len(CYCLE)]
    made = KINDS[family](b)
    environments = pack.environments(heldout=split.heldout)
    outside = [e.credit.name for e in environments if not e.indoor] or [e.credit.name for e in environments]
    environment = str(chance.choice(outside)) if outside else None
    for person in b.people:
        b.block(*room_of(person))
    return Scene(
        family=family,
        heldout=split.heldout,
        low=b.low,
        high=b.high,
        sides=dict(zip(SIDES, made.wall, strict=True)),
        floor=made.floor,
        ceiling=made.ceiling,
        windows=tuple(b.windows),
        furnished=tuple(b.furnished),
        built=tuple(b.built),
        pictures=tuple(b.pictures),
        people=tuple(b.people),
        lights=tuple(b.lights[:2]),
        washes=tuple(b.washes[:4]),
        sky=made.sky,
        environment=environment,
        exposure_stops=b.between(-0.35, 0.35),
        haze=(2 * made.haze, 2 * made.haze, 2 * made.haze, made.haze),
        obstacles=tuple(b.obstacles),
        lens=lens_of(made.focal),
        focal=made.focal,
        first_view=tuple(tuple(float(v) for v in row) for row in looking(made.eye, made.at, made.roll)),
    )


KINDS: dict[str, Callable[[SetBuilder], SetPlan]] = {
    "desk": rooms.desk,
    "speaker": rooms.speaker,
    "interview": rooms.interview,
    "room": rooms.home,
    "stage": shows.stage,
    "studio": shows.studio,
}
