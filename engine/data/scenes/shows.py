"""Sets of shows: a stage under spots, seen from the hall, and a studio's desk or backdrop.

Knows who is where, what is around them and where the camera stands. Knows nothing of drawing or of the
camera's later way.
"""

from __future__ import annotations

import numpy as np

from engine.data.render.mesh import Material
from engine.data.scenes.dressing import (
    DARK_METAL,
    SetPlan,
    cast,
    chair,
    face_of,
    floor,
    focal,
    led_wall,
    stand,
)
from engine.data.scenes.furnish import PLAIN_WALLS, SATURATED, Colour, SetBuilder, kelvin, tinted
from engine.data.scenes.motion import Motion, Presenting, Sitting, Walking
from engine.data.scenes.scene import Built, Person, Surface


def stage(b: SetBuilder) -> SetPlan:
    """A stage seen from the hall: a speaker, a band or a church service under spots."""
    half, rise = b.between(4.5, 7.5), b.between(0.3, 0.9)
    b.room(half, half, b.between(8.5, 11.0), b.between(2.4, 3.8), b.between(4.5, 6.5))
    back = b.high[2]
    wood = b.surface("floor", (0.08, 0.08, 0.085), b.between(0.15, 0.5), 0.6)
    b.box(
        Built(
            shape="box",
            size_m=(2 * half, rise, back + 1.8),
            material=wood.material,
            z_m=(back - 1.8) / 2,
            repeat_m=wood.repeat_m,
        )
    )
    count = int(b.chance.choice((1, 1, 2, 3, 4, 5)))
    for index in range(count):
        x = (
            0.0
            if index == 0
            else (1 if index % 2 else -1) * (0.9 + 0.75 * ((index - 1) // 2)) + b.between(-0.2, 0.2)
        )
        z = b.between(-0.7, 0.0) if index == 0 else b.between(0.0, 1.0)
        motion: Motion = Presenting(seed=b.seed(), energy=b.between(0.4, 1.0))
        if index == 0 and b.likely(0.3):
            motion = Walking(
                seed=b.seed(),
                path_m=((-b.between(0.5, 1.2), 0.0), (b.between(0.5, 1.2), 0.0)),
                speed_m_s=b.between(0.5, 1.0),
            )
        cast(
            b,
            Person(
                seed=b.seed(),
                motion=motion,
                x_m=x,
                z_m=z,
                y_m=-rise,
                turn=b.between(-0.5, 0.5) if not isinstance(motion, Walking) else 0.0,
            ),
        )
        if count > 1 and b.likely(0.6):
            stand(b, x + b.between(-0.1, 0.1), z - 0.5, -rise)
    if count == 1 and b.likely(0.4):
        lectern = Material(colour=tinted((0.5, 0.32, 0.18), b.between(0.3, 1.2)), roughness=0.4)
        b.box(
            Built(
                shape="box",
                size_m=(0.6, 1.05, 0.4),
                material=lectern,
                x_m=b.people[0].x_m,
                z_m=b.people[0].z_m - 0.5,
                y_m=-rise,
            )
        )
    colour = b.one_of(((0.02, 0.02, 0.022), (0.16, 0.02, 0.02), (0.03, 0.04, 0.08), (0.2, 0.2, 0.2)))
    if b.likely(0.75):
        cloth = Material(colour=colour, roughness=0.9)
        b.built.append(
            Built(shape="curtain", size_m=(2 * half, -b.low[1], 0.06), material=cloth, z_m=back - 0.15)
        )
    if b.likely(0.5):
        led_wall(b, rise)
    b.scatter(
        ("instrument", "electronics", "plant", "decoration"),
        int(b.chance.integers(1, 5)),
        (-3.0, -rise, 0.6),
        (3.0, -rise, back - 0.6),
    )
    for side in (-1.0, 1.0):
        if b.likely(0.6):
            b.box(
                Built(
                    shape="box",
                    size_m=(0.6, 1.3, 0.5),
                    material=DARK_METAL,
                    x_m=side * b.between(2.6, 3.6),
                    z_m=-0.8,
                    y_m=-rise,
                )
            )
    return _stage_light(b, rise)


def _stage_light(b: SetBuilder, rise: float) -> SetPlan:
    face = face_of(b, b.people[0])
    side = b.sign()
    front = (side * b.between(1.5, 3.5), b.low[1] + 0.4, -b.between(3.0, 5.5))
    b.lamp(front, face, b.between(8, 14), kelvin(b.between(3000, 5600)), b.between(0.4, 0.8), 0.004)
    rear = (-side * b.between(0.5, 3.0), b.low[1] + 0.3, b.high[2] - 0.5)
    b.lamp(rear, face, b.between(6, 18), b.one_of(SATURATED) if b.likely(0.7) else kelvin(4000), 0.9, 0.004)
    bright = b.likely(0.3)
    first, second = b.one_of(SATURATED), b.one_of(SATURATED)
    for index, x in enumerate(np.linspace(-3.0, 3.0, 4)):
        colour: Colour = (first, second)[index % 2] if not bright else kelvin(3500)
        b.wash(
            (float(x), -rise - 0.1, b.high[2] - 0.8),
            (float(x), -3.0, b.high[2]),
            b.between(3, 8) if bright else b.between(5, 16),
            colour,
            0.5,
        )
    distance = b.between(3.2, 7.0)
    eye = (b.between(-1.5, 1.5), -rise - b.between(0.6, 1.8), face[2] - distance)
    at = (face[0] + b.between(-0.4, 0.4), face[1] + distance * b.between(0.03, 0.13), face[2])
    dark = Surface(
        material=Material(colour=tinted(b.one_of(PLAIN_WALLS), 0.9 if bright else 0.15), roughness=0.9)
    )
    wall = b.surface("wall", (0.5, 0.45, 0.4), 0.9, 0.8) if b.likely(0.5) else dark
    overhead = Surface(
        material=Material(colour=(0.5, 0.48, 0.45) if bright else (0.02, 0.02, 0.022), roughness=0.9)
    )
    return SetPlan(
        eye=eye,
        at=at,
        focal=focal(b, 24, 35, 35, 50),
        wall=(wall, dark, dark, dark),
        floor=floor(b),
        ceiling=overhead,
        haze=b.between(0.0, 0.012),
    )


def studio(b: SetBuilder) -> SetPlan:
    """A news or e-sports desk before screens and coloured light, or a photographer's paper."""
    b.room(
        b.between(3.0, 4.5),
        b.between(3.0, 4.5),
        b.between(4.0, 5.5),
        b.between(1.6, 2.6),
        b.between(3.0, 4.0),
    )
    back = b.high[2]
    sheet = b.likely(0.3)
    count = 1 if sheet else int(b.chance.choice((1, 2, 2, 3)))
    desk = b.between(0.74, 0.8)
    for index in range(count):
        x = (index - (count - 1) / 2) * b.between(0.75, 0.9)
        if sheet:
            motion: Motion = Presenting(seed=b.seed(), energy=b.between(0.3, 1.0))
        else:
            motion = Sitting(seed=b.seed(), seat_m=0.48, desk_m=desk, speaks=index == 0 or b.likely(0.5))
            chair(b, x, 0.0)
        cast(b, Person(seed=b.seed(), motion=motion, x_m=x, turn=b.between(-0.25, 0.25)))
    face = face_of(b, b.people[0])
    middle = float(np.mean([person.x_m for person in b.people]))
    colour = b.one_of(SATURATED)
    if sheet:
        tint = b.one_of((*PLAIN_WALLS, (0.1, 0.35, 0.12), (0.7, 0.5, 0.1)))
        b.built.append(
            Built(
                shape="paper",
                size_m=(5.5, 3.6, back + 1.5),
                material=Material(colour=tint, roughness=0.95),
                z_m=back - 0.1,
            )
        )
    else:
        _studio_desk(b, desk, count, middle, colour)
        led_wall(b, 0.0)
    side = b.sign()
    b.lamp(
        (side * b.between(1.0, 2.2), -b.between(2.2, 2.8), -b.between(1.6, 2.6)),
        face,
        b.between(6, 10),
        kelvin(b.between(4200, 6500)),
        1.0,
        0.011,
    )
    b.lamp(
        (-side * b.between(0.8, 1.8), -2.7, back - 0.3),
        face,
        b.between(5, 12),
        colour if not sheet else kelvin(5500),
        0.9,
        0.008,
    )
    for x in (-2.4, 2.4):
        b.wash((x, -0.1, back - 0.5), (x, -1.8, back), b.between(4, 14), b.one_of(SATURATED), 0.7)
    distance = b.between(1.6, 3.2) + 0.4 * (count - 1)
    eye = (middle + b.between(-0.5, 0.5), -b.between(1.15, 1.7), face[2] - distance)
    at = (middle + b.between(-0.15, 0.15), face[1] + b.between(0.05, 0.25), face[2])
    dark = Surface(
        material=Material(colour=tinted(b.one_of(PLAIN_WALLS), b.between(0.15, 0.6)), roughness=0.8)
    )
    floor = Surface(
        material=Material(colour=tinted((1, 1, 1), b.between(0.02, 0.25)), roughness=b.between(0.1, 0.4))
    )
    ceiling = Surface(material=Material(colour=(0.03, 0.03, 0.03), roughness=0.9))
    return SetPlan(eye=eye, at=at, focal=focal(b, 24, 35, 35), wall=(dark,) * 4, floor=floor, ceiling=ceiling)


def _studio_desk(b: SetBuilder, desk: float, count: int, middle: float, colour: Colour) -> None:
    width = 0.9 * count + b.between(0.4, 1.0)
    z = -0.62
    white = Material(colour=tinted((1, 1, 1), b.between(0.1, 0.8)), roughness=0.2)
    glow = Material(colour=colour)
    b.box(Built(shape="box", size_m=(width, 0.04, 0.55), material=white, x_m=middle, y_m=-desk + 0.04, z_m=z))
    b.box(
        Built(shape="box", size_m=(width - 0.1, desk - 0.06, 0.06), material=white, x_m=middle, z_m=z - 0.2)
    )
    b.built.append(
        Built(
            shape="box",
            size_m=(width, 0.025, 0.02),
            material=glow,
            x_m=middle,
            y_m=-desk + 0.07,
            z_m=z - 0.28,
            emission=3.0,
        )
    )
    for side in (-1, 1):
        if b.likely(0.5):
            x = middle + side * (width / 2 - 0.25)
            b.box(
                Built(
                    shape="box",
                    size_m=(0.5, 0.32, 0.03),
                    material=DARK_METAL,
                    x_m=x,
                    y_m=-desk - 0.06,
                    z_m=z + 0.15,
                    turn=side * 0.4,
                )
            )
