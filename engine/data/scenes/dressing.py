"""Parts that kinds of sets share: who is on, what walls and floors are made of, what stands about, and the
light.

Knows how these look in real rooms. Knows nothing of a kind's layout (`rooms`, `shows`) or of drawing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from engine.data.layout import SENSOR_WIDTH_MM
from engine.data.render.mesh import Material
from engine.data.render.stage import Light
from engine.data.scenes.furnish import PLAIN_WALLS, SATURATED, SetBuilder, kelvin, tinted
from engine.data.scenes.motion import Walking
from engine.data.scenes.scene import Built, Person, Picture, Point, Surface

BEHIND = (  # what stands along walls; named twice, it is twice as frequent
    "shelf",
    "shelf",
    "shelf",
    "plant",
    "plant",
    "sofa",
    "sofa",
    "lamp",
    "decoration",
    "desk",
    "chair",
    "table",
    "kitchen",
    "bed",
    "board",
)
FACE_BELOW_TOP_M = 0.14
DARK_METAL = Material(colour=(0.03, 0.03, 0.033), roughness=0.35)


@dataclass(frozen=True, kw_only=True)
class SetPlan:
    """What a kind of set leaves to be known besides its things."""

    eye: Point
    at: Point
    focal: float  # in widths of the picture
    wall: tuple[Surface, ...]  # back, right, front, left
    floor: Surface
    ceiling: Surface
    sky: float = 0.0
    haze: float = 0.0
    roll: float = 0.0


def cast(b: SetBuilder, person: Person) -> None:
    """Someone comes on, and nothing is put where they are."""
    b.people.append(person)
    low, high = room_of(person)
    b.keep_free(low, high)


def room_of(person: Person) -> tuple[Point, Point]:
    """Where a person may be at any time."""
    reach, height = 0.38, 1.95
    places = [(0.0, 0.0)]
    if isinstance(person.motion, Walking):
        places = list(person.motion.path_m)
    c, s = math.cos(person.turn), math.sin(person.turn)
    xs = [person.x_m + c * x + s * z for x, z in places]
    zs = [person.z_m - s * x + c * z for x, z in places]
    low = (min(xs) - reach, person.y_m - height, min(zs) - reach)
    return low, (max(xs) + reach, person.y_m, max(zs) + reach)


def face_of(b: SetBuilder, person: Person) -> Point:
    """The middle of a person's face at the beginning."""
    who = b.pack.person(person.seed, heldout=b.heldout)
    positions, _ = who.pose(person.motion, 0.0)
    top = float(positions[:, 1].min())
    x, _, z = (float(v) for v in positions[positions[:, 1] < top + FACE_BELOW_TOP_M].mean(0))
    c, s = math.cos(person.turn), math.sin(person.turn)
    return (person.x_m + c * x + s * z, person.y_m + top + FACE_BELOW_TOP_M, person.z_m - s * x + c * z)


def focal(b: SetBuilder, *millimetres: float) -> float:
    """One of MultiCamVideo's lenses, a little off, in widths of the picture."""
    return float(b.chance.choice(millimetres)) / SENSOR_WIDTH_MM * b.between(0.93, 1.07)


def walls(b: SetBuilder, textured: float = 0.45) -> tuple[Surface, ...]:
    """The same all round, or an accent behind."""
    tint = b.one_of(PLAIN_WALLS)
    plain = b.surface("wall", tint, 0.85, textured)
    accent = b.surface("wall", b.one_of(PLAIN_WALLS), 0.8, 0.7) if b.likely(0.35) else plain
    return (accent, plain, plain, plain)


def floor(b: SetBuilder) -> Surface:
    return b.surface(
        "floor",
        b.one_of(((0.25, 0.17, 0.11), (0.3, 0.3, 0.3), (0.12, 0.12, 0.13))),
        b.between(0.25, 0.7),
        0.9,
    )


def ceiling(b: SetBuilder) -> Surface:
    return Surface(material=Material(colour=tinted((0.8, 0.79, 0.77), b.between(0.7, 1.0)), roughness=0.9))


def decorate(b: SetBuilder, fullness: float) -> None:
    """Models along the walls that are seen, pictures above, and what moves of itself."""
    b.along("back", BEHIND, fullness)
    b.along("left", BEHIND, fullness * 0.8)
    b.along("right", BEHIND, fullness * 0.8)
    (x0, _, _), (x1, _, z1) = b.low, b.high
    for _ in range(int(b.chance.integers(0, 4))):
        width = b.between(0.35, 1.0)
        b.poster(
            "back", b.between(x0 + 0.6, x1 - 0.6), b.between(1.35, 1.75), width, width * b.between(0.6, 1.4)
        )
    for side in ("left", "right"):
        if b.likely(0.5):
            width = b.between(0.35, 0.9)
            b.poster(
                side,
                b.between(0.0, max(0.1, z1 - 0.6)),
                b.between(1.35, 1.7),
                width,
                width * b.between(0.7, 1.3),
            )
    if b.likely(0.35):
        _moving_thing(b)


def _moving_thing(b: SetBuilder) -> None:
    """A hanging lamp that swings, a balloon, or a ball that rolls, behind the person."""
    (x0, y0, _), (x1, _, z1) = b.low, b.high
    x, z = b.between(x0 + 0.5, x1 - 0.5), b.between(0.6, max(0.7, z1 - 0.4))
    colour = b.one_of(SATURATED)
    bright = Material(colour=tinted(colour, 0.7), roughness=0.3)
    kind = int(b.chance.integers(3))
    period = b.between(2.0, 5.0)
    if kind == 0:
        size = (0.34, 0.22, 0.34)
        b.box(
            Built(
                shape="ball",
                size_m=size,
                material=Material(colour=(1.0, 0.85, 0.6)),
                x_m=x,
                y_m=y0 + 0.75,
                z_m=z,
                emission=b.between(2, 8),
                sway_m=(0.14, 0.0, 0.05),
                period_s=period,
            )
        )
    elif kind == 1:
        b.box(
            Built(
                shape="ball",
                size_m=(0.3, 0.36, 0.3),
                material=bright,
                x_m=x,
                y_m=-b.between(1.0, 1.7),
                z_m=z,
                sway_m=(0.25, 0.12, 0.1),
                period_s=period * 1.5,
            )
        )
    else:
        b.box(
            Built(
                shape="ball",
                size_m=(0.24, 0.24, 0.24),
                material=bright,
                x_m=x,
                z_m=z,
                sway_m=(0.7, 0.0, 0.2),
                period_s=period,
            )
        )


def screen(b: SetBuilder, x: float) -> None:
    """A wide screen on the back wall, whose picture may move."""
    width = b.between(1.2, 2.2)
    found = b.texture("poster")
    material = Material(colour=(0.9, 0.95, 1.0), texture=found[0] if found else None)
    scroll = (b.between(-0.05, 0.05), 0.0) if b.likely(0.3) else (0.0, 0.0)
    z = b.high[2]
    b.pictures.append(
        Picture(
            centre=(x, -1.55, z),
            width_m=width,
            height_m=width * 9 / 16,
            material=material,
            emission=b.between(0.8, 2.5),
            scroll_per_s=scroll,
            framed=True,
        )
    )
    b.block((x - width / 2, -1.55 - width * 0.3, z - 0.1), (x + width / 2, -1.55 + width * 0.3, z))


def led_wall(b: SetBuilder, rise: float) -> None:
    width = b.between(2.4, 5.0)
    height = width * b.between(0.4, 0.6)
    found = b.texture("poster")
    scroll = (b.between(-0.06, 0.06), 0.0) if b.likely(0.5) else (0.0, 0.0)
    b.pictures.append(
        Picture(
            centre=(b.between(-0.8, 0.8), -rise - 0.9 - height / 2, b.high[2] - 0.35),
            width_m=width,
            height_m=height,
            material=Material(colour=(0.9, 0.9, 1.0), texture=found[0] if found else None),
            emission=b.between(0.8, 2.2),
            scroll_per_s=scroll,
            framed=True,
        )
    )


def chair(b: SetBuilder, x: float, turn: float) -> None:
    """A seat and a back; the back shows behind the shoulders of a tall one."""
    c, s = math.cos(turn), math.sin(turn)
    cloth = Material(
        colour=b.one_of(((0.03, 0.03, 0.035), (0.35, 0.35, 0.36), (0.3, 0.06, 0.05), (0.06, 0.1, 0.2))),
        roughness=0.8,
    )
    back = b.between(0.5, 0.95)
    b.built.append(Built(shape="box", size_m=(0.48, 0.08, 0.46), material=cloth, x_m=x, y_m=-0.36, turn=turn))
    b.built.append(
        Built(
            shape="box",
            size_m=(0.46, back - 0.15, 0.07),
            material=cloth,
            x_m=x + s * 0.27,
            y_m=-0.5,
            z_m=c * 0.27,
            turn=turn,
        )
    )
    b.built.append(Built(shape="cylinder", size_m=(0.07, 0.36, 0.07), material=DARK_METAL, x_m=x))


def armchair(b: SetBuilder, x: float, turn: float) -> None:
    cloth = Material(colour=tinted(b.one_of(PLAIN_WALLS), 0.8), roughness=0.85)
    c, s = math.cos(turn), math.sin(turn)
    for size, side, back, y in (
        ((0.62, 0.38, 0.6), 0.0, 0.0, 0.0),
        ((0.8, 0.82, 0.16), 0.0, 0.34, 0.0),
        ((0.13, 0.6, 0.62), 0.36, 0.02, 0.0),
        ((0.13, 0.6, 0.62), -0.36, 0.02, 0.0),
    ):
        b.built.append(
            Built(
                shape="box",
                size_m=size,
                material=cloth,
                x_m=x + c * side + s * back,
                z_m=-s * side + c * back,
                y_m=y,
                turn=turn,
            )
        )


def stand(b: SetBuilder, x: float, z: float, y: float) -> None:
    """A microphone on its stand."""
    b.built.append(
        Built(shape="cylinder", size_m=(0.022, 1.35, 0.022), material=DARK_METAL, x_m=x, z_m=z, y_m=y)
    )
    b.built.append(
        Built(shape="cylinder", size_m=(0.25, 0.02, 0.25), material=DARK_METAL, x_m=x, z_m=z, y_m=y)
    )
    b.built.append(
        Built(shape="ball", size_m=(0.055, 0.08, 0.055), material=DARK_METAL, x_m=x, z_m=z, y_m=y - 1.34)
    )


def light_room(b: SetBuilder, person: Point, window_side: float) -> float:
    """Daylight from a side, lamps, or an evening; returns the sky's radiance."""
    x, y, z = person
    kind = b.between(0, 1)
    (x0, y0, z0), (x1, _, z1) = b.low, b.high
    if kind < 0.5:
        side = "right" if window_side > 0 else "left"
        at = b.between(0.35, 0.7)
        middle = b.window(side, b.between(1.0, 2.4), b.between(1.0, 1.6), b.between(0.7, 1.0), at)  # type: ignore[arg-type]
        b.lamp(
            (middle[0] + 0.5 * window_side, middle[1] - 0.4, middle[2]),
            (x, y, z),
            b.between(3.0, 7.0),
            kelvin(b.between(6000, 8500)),
            1.2,
            0.011,
        )
        if b.likely(0.55):
            elevation, turn = b.between(0.35, 0.8), b.between(-0.7, 0.7)
            direction = (-window_side * math.cos(turn), math.tan(elevation), math.sin(turn))
            b.lights.append(
                Light(
                    direction=direction,
                    colour=tinted(kelvin(b.between(4000, 5500)), b.between(14, 34)),
                    softness=0.0015,
                )
            )
        else:
            _ceiling_lamp(b, person, b.between(1.0, 3.0))
        return b.between(3.0, 12.0)
    key = b.sign()
    reach = min(1.6, -x0 - 0.2 + x if key < 0 else x1 - x - 0.2)
    place = (
        x + key * b.between(0.6, max(0.7, reach)),
        max(y0 + 0.15, y - b.between(0.5, 1.1)),
        max(z0 + 0.15, z - b.between(0.7, 1.6)),
    )
    warmth = b.between(2900, 6800)
    if kind < 0.85:
        b.lamp(place, person, b.between(5, 9), kelvin(warmth), 1.05, b.between(0.004, 0.011))
        if b.likely(0.6):
            back = (
                x - key * b.between(0.5, 1.2),
                max(y0 + 0.15, y - b.between(0.6, 1.1)),
                min(z1 - 0.15, z + b.between(0.8, 1.6)),
            )
            b.lamp(back, person, b.between(3, 8), kelvin(b.between(2800, 8000)), 0.8, 0.006)
        else:
            _ceiling_lamp(b, person, b.between(1.5, 4))
    else:
        _ceiling_lamp(b, person, b.between(4, 7))
        b.lamp(
            place,
            person,
            b.between(1.5, 4),
            b.one_of(SATURATED) if b.likely(0.4) else kelvin(warmth),
            1.0,
            0.01,
        )
    if b.likely(0.4):
        side = "back" if b.likely(0.4) and not b.pictures else ("right" if window_side > 0 else "left")
        b.window(side, b.between(0.8, 1.8), b.between(0.9, 1.4), b.between(0.8, 1.1), b.between(0.2, 0.8))  # type: ignore[arg-type]
    if b.likely(0.3):
        colour = b.one_of(SATURATED)
        corner = (b.sign() * min(x1, -x0) * 0.7, -0.15, z1 - 0.4)
        b.wash(corner, (corner[0] * 0.8, -1.6, z1), b.between(3, 8), colour, 0.8)
    return b.between(0.05, 0.6) if b.likely(0.5) else b.between(2.0, 6.0)


def _ceiling_lamp(b: SetBuilder, person: Point, irradiance: float) -> None:
    x, _, z = person
    place = (x + b.between(-0.5, 0.5), b.low[1] + 0.06, z - b.between(0.1, 0.7))
    b.lamp(place, (x, 0.0, z), irradiance * 0.5, kelvin(b.between(2800, 5500)), 1.25, 0.01)
