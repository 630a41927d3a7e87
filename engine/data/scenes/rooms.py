"""Sets in rooms: a desk before a webcam, someone who presents, an interview, people in a living room.

Knows who is where, what is around them and where the camera stands. Knows nothing of drawing or of the
camera's later way.
"""

from __future__ import annotations

import numpy as np

from engine.data.render.mesh import Material
from engine.data.scenes.dressing import (
    DARK_METAL,
    SetPlan,
    armchair,
    cast,
    ceiling,
    chair,
    decorate,
    face_of,
    floor,
    focal,
    light_room,
    screen,
    walls,
)
from engine.data.scenes.furnish import SATURATED, SetBuilder, tinted
from engine.data.scenes.motion import Motion, Presenting, Sitting, Standing, Walking
from engine.data.scenes.scene import Built, Person


def desk(b: SetBuilder) -> SetPlan:
    """Someone sits at a desk, close before a webcam."""
    desk = b.between(0.70, 0.76)
    person = Person(
        seed=b.seed(),
        motion=Sitting(seed=b.seed(), seat_m=b.between(0.43, 0.5), desk_m=desk, speaks=b.likely(0.9)),
        turn=b.between(-0.15, 0.15),
    )
    cast(b, person)
    face = face_of(b, person)
    b.room(
        b.between(1.3, 2.6),
        b.between(1.3, 2.6),
        b.between(1.5, 2.5),
        b.between(0.9, 3.4),
        b.between(2.35, 2.9),
    )
    side = b.sign()
    distance = b.between(0.6, 1.15)
    eye = (b.between(-0.18, 0.18), face[1] + b.between(-0.2, 0.22), face[2] - distance)
    at = (face[0] + b.between(-0.1, 0.1), face[1] + b.between(0.0, 0.16), face[2])
    b.keep_free((-0.55, -2.0, b.low[2]), (0.55, 0.0, 0.75))
    sky = light_room(b, face, side)
    _desk_things(b, desk)
    chair(b, 0.0, float(person.turn))
    decorate(b, b.between(0.6, 1.0))
    return SetPlan(
        eye=eye,
        at=at,
        focal=focal(b, 18, 18, 24),
        wall=walls(b),
        floor=floor(b),
        ceiling=ceiling(b),
        sky=sky,
        roll=b.between(-0.015, 0.015),
    )


def _desk_things(b: SetBuilder, desk: float) -> None:
    """The desk's top, and some of a microphone, a mug and books on it."""
    found = b.texture("wood")
    texture = found[0] if found and b.likely(0.7) else None
    tint = (
        tinted((1, 1, 1), b.between(0.5, 1.0))
        if texture
        else b.one_of(((0.7, 0.7, 0.7), (0.08, 0.08, 0.09), (0.4, 0.27, 0.16)))
    )
    depth = b.between(0.55, 0.8)
    front = -0.27
    top = Built(
        shape="box",
        size_m=(b.between(1.2, 1.9), 0.03, depth),
        y_m=-desk + 0.03,
        z_m=front - depth / 2,
        material=Material(colour=tint, texture=texture, roughness=b.between(0.3, 0.6)),
        repeat_m=0.8,
    )
    b.box(top)
    if b.likely(0.45):
        x = b.sign() * b.between(0.2, 0.34)
        y = -desk - b.between(0.22, 0.4)
        b.box(
            Built(
                shape="cylinder",
                size_m=(0.055, 0.15, 0.055),
                material=DARK_METAL,
                x_m=x,
                y_m=y,
                z_m=front + 0.02,
            )
        )
        b.box(
            Built(
                shape="cylinder",
                size_m=(0.02, -y - desk, 0.02),
                material=DARK_METAL,
                x_m=x,
                y_m=-desk,
                z_m=front + 0.02,
            )
        )
    for _ in range(int(b.chance.integers(0, 4))):
        x = b.sign() * b.between(0.3, 0.6)
        material = Material(colour=tinted(b.one_of(SATURATED), b.between(0.2, 0.8)), roughness=0.4)
        if b.likely(0.5):
            item = Built(
                shape="cylinder",
                size_m=(0.085, 0.1, 0.085),
                material=material,
                x_m=x,
                y_m=-desk,
                z_m=front - b.between(0.1, 0.4),
            )
        else:
            size = (b.between(0.14, 0.24), b.between(0.02, 0.14), b.between(0.1, 0.2))
            item = Built(
                shape="box",
                size_m=size,
                material=material,
                x_m=x,
                y_m=-desk,
                z_m=front - b.between(0.1, 0.4),
                turn=b.between(-1, 1),
            )
        b.box(item)


def speaker(b: SetBuilder) -> SetPlan:
    """Someone stands and presents to a camera."""
    motion: Motion = (
        Presenting(seed=b.seed(), energy=b.between(0.2, 1.0)) if b.likely(0.85) else Standing(seed=b.seed())
    )
    person = Person(seed=b.seed(), motion=motion, turn=b.between(-0.45, 0.45))
    cast(b, person)
    face = face_of(b, person)
    b.room(
        b.between(1.6, 3.4),
        b.between(1.6, 3.4),
        b.between(2.8, 4.2),
        b.between(0.9, 3.6),
        b.between(2.45, 3.1),
    )
    distance = b.between(1.2, 2.7)
    eye = (b.between(-0.3, 0.3), -b.between(1.2, 1.75), face[2] - distance)
    at = (face[0] + b.between(-0.25, 0.25), face[1] + distance * b.between(0.04, 0.16), face[2])
    b.keep_free((-0.8, -2.2, b.low[2]), (0.8, 0.0, 0.6))
    if b.likely(0.25):
        screen(b, b.between(-0.8, 0.8))
    sky = light_room(b, face, b.sign())
    decorate(b, b.between(0.6, 1.0))
    return SetPlan(
        eye=eye,
        at=at,
        focal=focal(b, 18, 24, 24, 35),
        wall=walls(b),
        floor=floor(b),
        ceiling=ceiling(b),
        sky=sky,
        roll=b.between(-0.01, 0.01),
    )


def interview(b: SetBuilder) -> SetPlan:
    """Two people sit and talk, half turned to each other."""
    apart = b.between(0.55, 0.85)
    for side in (-1.0, 1.0):
        turn = side * b.between(0.25, 0.9)
        motion = Sitting(seed=b.seed(), seat_m=0.46, speaks=side < 0 or b.likely(0.5))
        cast(b, Person(seed=b.seed(), motion=motion, x_m=side * apart, turn=turn))
        b.block((side * apart - 0.4, -1.3, -0.5), (side * apart + 0.4, 0.0, 0.5))
        armchair(b, side * apart, turn)
    faces = [face_of(b, person) for person in b.people]
    up = float(np.mean([face[1] for face in faces]))
    b.room(
        b.between(2.2, 3.6),
        b.between(2.2, 3.6),
        b.between(3.6, 4.8),
        b.between(1.0, 3.0),
        b.between(2.5, 3.2),
    )
    eye = (b.between(-0.5, 0.5), -b.between(1.0, 1.5), -b.between(2.3, 3.4))
    at = (b.between(-0.15, 0.15), up + b.between(0.15, 0.4), 0.0)
    b.keep_free((-1.4, -2.2, b.low[2]), (1.4, 0.0, 0.7))
    if b.likely(0.6):
        tall = b.between(0.35, 0.5)
        wood = Material(colour=(0.25, 0.15, 0.08), roughness=0.4)
        b.box(Built(shape="cylinder", size_m=(0.6, 0.03, 0.6), material=wood, z_m=-0.55, y_m=-tall))
        b.box(Built(shape="cylinder", size_m=(0.06, tall, 0.06), material=DARK_METAL, z_m=-0.55))
    sky = light_room(b, faces[0], b.sign())
    decorate(b, b.between(0.6, 1.0))
    return SetPlan(
        eye=eye,
        at=at,
        focal=focal(b, 24, 24, 35),
        wall=walls(b),
        floor=floor(b),
        ceiling=ceiling(b),
        sky=sky,
    )


def home(b: SetBuilder) -> SetPlan:
    """A living room with one to three people who stand, present or walk about."""
    b.room(
        b.between(2.2, 3.6),
        b.between(2.2, 3.6),
        b.between(3.6, 5.0),
        b.between(1.6, 3.4),
        b.between(2.4, 2.9),
    )
    for index in range(int(b.chance.integers(1, 4))):
        x = (0.0, -1.1, 1.1)[index] + b.between(-0.25, 0.25)
        z = 0.0 if index == 0 else b.between(-0.4, 0.9)
        motion: Motion = (
            Standing(seed=b.seed()) if b.likely(0.4) else Presenting(seed=b.seed(), energy=b.between(0, 0.8))
        )
        if index == 0 and b.likely(0.5):
            motion = Walking(
                seed=b.seed(),
                path_m=((-b.between(0.4, 1.0), 0.0), (b.between(0.4, 1.0), b.between(-0.4, 0.4))),
                speed_m_s=b.between(0.5, 1.1),
            )
            x = 0.0
        cast(
            b,
            Person(
                seed=b.seed(),
                motion=motion,
                x_m=x,
                z_m=z,
                turn=b.between(-0.8, 0.8) if not isinstance(motion, Walking) else 0.0,
            ),
        )
    eye = (b.between(-0.9, 0.9), -b.between(1.2, 2.0), -b.between(2.6, 3.3))
    at = (b.between(-0.2, 0.2), -b.between(1.0, 1.3), 0.2)
    b.keep_free((-1.9, -2.2, b.low[2]), (1.9, 0.0, 1.2))
    sky = light_room(b, (0.0, -1.5, 0.0), b.sign())
    decorate(b, b.between(0.6, 1.0))
    return SetPlan(
        eye=eye, at=at, focal=focal(b, 18, 24), wall=walls(b), floor=floor(b), ceiling=ceiling(b), sky=sky
    )
