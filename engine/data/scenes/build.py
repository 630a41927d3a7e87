"""A scene's description → what is drawn: triangles, textures, bounced light and exposure.

Knows the pack, the built-in shapes and how a camera's automatic exposure and white balance choose. Knows
nothing of OpenGL, of how scenes are thought up (`sets`) or of camera paths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.camera.geometry import Matrix
from engine.data.render import bounce
from engine.data.render.mesh import Floats, Material, Mesh, joined, placement
from engine.data.render.stage import Light, Stage, Thing, Wash
from engine.data.scenes import shapes
from engine.data.scenes.character import Character
from engine.data.scenes.pack import Credit, Furniture, Pack
from engine.data.scenes.scene import SIDES, Built, Person, Picture, Scene, Side, Surface

Array = NDArray[np.float64]
OVERHANG_M = 0.5  # of walls beyond corners, so that no sun comes through the seams
FACE_ABOVE_CHEST_M = 0.33
MIDDLE_GREY = 0.62  # linear, before the tone curve, of a white face-sized card lit as the face is
SKIRTING = Material(colour=(0.75, 0.74, 0.72), roughness=0.5)
FRAME = Material(colour=(0.7, 0.69, 0.67), roughness=0.45)
RIM = Material(colour=(0.05, 0.045, 0.04), roughness=0.4)


@dataclass(frozen=True, eq=False)
class Set:
    """A stage ready to be drawn, where its main person's chest is at a time, and what it was made of."""

    stage: Stage
    chest: Callable[[float], Array]
    credits: tuple[Credit, ...]


def build(scene: Scene, pack: Pack) -> Set:
    people = [pack.person(person.seed, heldout=scene.heldout) for person in scene.people]
    models = [
        (item, pack.furniture(item.category, heldout=scene.heldout)[item.index]) for item in scene.furnished
    ]
    things = [_acting(who, person) for who, person in zip(people, scene.people, strict=True)]
    things += [
        Thing(mesh=model.mesh.placed(placement(item.x_m, item.z_m, item.turn, item.y_m)))
        for item, model in models
    ]
    things += [_built(item) for item in scene.built]
    things += [thing for picture in scene.pictures for thing in _picture(picture)]
    things.append(_room(scene))  # last, as most of it is hidden by then
    names = {m.texture for thing in things for m in thing.mesh.materials if m.texture is not None}
    textures = {name: pack.texture(name) for name in sorted(names)}
    around, sky = _surroundings(scene, pack)

    def chest(time_s: float) -> Array:
        return _in_world(scene.people[0], people[0].chest(scene.people[0].motion, time_s))

    light = bounce.solve(
        np.array(scene.low),
        np.array(scene.high),
        _reflectance(scene, {name: t.pixels for name, t in textures.items()}),
        lambda cut: _shining(scene, cut, sky),
        lambda points, normals: arriving(scene, points, normals),
    )
    stage = Stage(
        things=tuple(things),
        textures={name: texture.pixels for name, texture in textures.items()},
        lights=scene.lights,
        washes=scene.washes,
        low=scene.low,
        high=scene.high,
        ambient=light.ambient,
        walls=light.walls,
        surroundings=around,
        exposure=_exposure(scene, light, chest(0.0) - [0, FACE_ABOVE_CHEST_M, 0]),
        haze=scene.haze,
    )
    return Set(stage, chest, _credits(scene, pack, people, [model for _, model in models], textures))


def _credits(
    scene: Scene,
    pack: Pack,
    people: Sequence[Character],
    models: Sequence[Furniture],
    textures: Iterable[str],
) -> tuple[Credit, ...]:
    """Of everything that the scene shows."""
    named = {credit.name: credit for credit in pack.credits()}
    names = {name for who in people for name in who.assets} | {model.credit.name for model in models}
    names |= set(textures) | ({scene.environment} if scene.environment else set())
    return tuple(named[name] for name in sorted(names))


def _acting(who: Character, person: Person) -> Thing:
    place = placement(person.x_m, person.z_m, person.turn, person.y_m)
    return Thing(
        mesh=who.mesh,
        person=True,
        place=lambda _: place,
        shape=lambda time_s: who.pose(person.motion, time_s),
    )


def _in_world(person: Person, point: Floats) -> Array:
    place = placement(person.x_m, person.z_m, person.turn, person.y_m)
    return np.asarray(place[:3, :3] @ point + place[:3, 3])


def _ends(scene: Scene, side: Side) -> tuple[tuple[float, float], tuple[float, float]]:
    """A wall's foot from left to right as seen from inside, (x, z)."""
    (x0, _, z0), (x1, _, z1) = scene.low, scene.high
    corners = {"back": ((x0, z1), (x1, z1)), "right": ((x1, z1), (x1, z0))}
    corners |= {"front": ((x1, z0), (x0, z0)), "left": ((x0, z0), (x0, z1))}
    return corners[side]


def _room(scene: Scene) -> Thing:
    height = -scene.low[1]
    parts: list[Mesh] = []
    for side in SIDES:
        start, end = (np.array(p) for p in _ends(scene, side))
        along = (end - start) / np.linalg.norm(end - start)
        start, end = start - along * OVERHANG_M, end + along * OVERHANG_M
        surface = scene.sides[side]
        windows = [w for w in scene.windows if w.side == side]
        openings = [
            shapes.Opening(
                left_m=w.opening.left_m + OVERHANG_M,
                sill_m=w.opening.sill_m,
                width_m=w.opening.width_m,
                height_m=w.opening.height_m,
            )
            for w in windows
        ]
        parts.append(
            shapes.wall(start, end, height + OVERHANG_M, surface.material, surface.repeat_m, openings)
        )
        for window, opening in zip(windows, openings, strict=True):
            parts.append(shapes.frame(start, end, opening, FRAME, window.bars))
    (x0, _, z0), (x1, _, z1) = scene.low, scene.high
    x0, z0, x1, z1 = x0 - OVERHANG_M, z0 - OVERHANG_M, x1 + OVERHANG_M, z1 + OVERHANG_M
    floor, ceiling = scene.floor, scene.ceiling
    parts.append(shapes.panel((x0, 0, z1), (x1 - x0, 0, 0), (0, 0, z0 - z1), floor.material, floor.repeat_m))
    parts.append(
        shapes.panel((x0, -height, z0), (x1 - x0, 0, 0), (0, 0, z1 - z0), ceiling.material, ceiling.repeat_m)
    )
    return Thing(mesh=joined(parts))


def _built(item: Built) -> Thing:
    width, height, depth = item.size_m
    if item.shape == "box":
        mesh = shapes.box(width, height, depth, item.material, repeat_m=item.repeat_m)
    elif item.shape == "cylinder":
        mesh = shapes.cylinder(width / 2, height, item.material)
    elif item.shape == "ball":
        mesh = shapes.ball(width, height, depth, item.material)
    elif item.shape == "curtain":
        mesh = shapes.curtain(width, height, depth, item.material)
    else:
        mesh = shapes.paper(width, height, depth, item.material)
    rest = placement(item.x_m, item.z_m, item.turn, item.y_m)
    if not any(item.sway_m) and not item.spin:
        return Thing(mesh=mesh.placed(rest), emission=item.emission)

    def place(time_s: float) -> Matrix:
        swing = np.sin(2 * np.pi * time_s / item.period_s + item.x_m * 7.0)
        now = placement(item.x_m, item.z_m, item.turn + item.spin * time_s, item.y_m)
        now[:3, 3] += np.array(item.sway_m) * swing
        return now

    return Thing(mesh=mesh, emission=item.emission, place=place)


_TURNS: dict[Side, float] = {"back": 0.0, "right": np.pi / 2, "front": np.pi, "left": -np.pi / 2}


def _picture(picture: Picture) -> list[Thing]:
    """The picture just before its wall, and a rim round it."""
    w, h = picture.width_m, picture.height_m
    x, y, z = picture.centre
    place = placement(x, z, _TURNS[picture.side], y)
    flat = shapes.panel((-w / 2, -h / 2, -0.024), (w, 0, 0), (0, h, 0), picture.material)
    things = [Thing(mesh=flat.placed(place), emission=picture.emission, scroll_per_s=picture.scroll_per_s)]
    if picture.framed:
        rim = shapes.box(w + 0.05, h + 0.05, 0.02, RIM, y_m=h / 2 + 0.025)
        behind = placement(z_m=-0.012)
        things.append(Thing(mesh=rim.placed(behind).placed(place)))
    return things


def _surroundings(scene: Scene, pack: Pack) -> tuple[Floats, Array]:
    """What windows show (linear, H W 3), and its mean radiance."""
    if scene.environment is None:
        return np.full((8, 16, 3), scene.sky, np.float32), np.full(3, scene.sky)
    found = {e.credit.name: e for e in pack.environments(heldout=scene.heldout)}[scene.environment]
    seen = (found.background.astype(np.float32) / 255) ** 2.2
    mean = seen.reshape(-1, 3).mean(0)
    scale = scene.sky / max(float(mean.mean()), 0.05)
    return seen * np.float32(scale), mean.astype(np.float64) * scale


def _reflectance(scene: Scene, textures: dict[str, NDArray[np.uint8]]) -> Array:
    """Mean colour of the sides, in `bounce`'s order."""

    def colour(surface: Surface) -> Array:
        material = surface.material
        mean = np.ones(3)
        if material.texture is not None:
            mean = ((textures[material.texture][..., :3].reshape(-1, 3) / 255.0) ** 2).mean(0)
        return np.asarray(mean * material.colour)

    sides = scene.sides
    order = (sides["right"], sides["left"], scene.floor, scene.ceiling, sides["back"], sides["front"])
    return np.clip(np.stack([colour(surface) for surface in order]), 0.01, 0.9)


def _through(scene: Scene, points: Array, direction: Array) -> NDArray[np.bool_]:
    """Whether a ray from each point (N 3) leaves the room by a window."""
    free = np.zeros(len(points), bool)
    for window in scene.windows:
        start, end = (np.array(p) for p in _ends(scene, window.side))
        along = (end - start) / np.linalg.norm(end - start)
        outward = np.array([along[1], -along[0]]) * -1.0
        speed = direction[[0, 2]] @ outward
        if speed <= 1e-6:
            continue
        reach = ((start - points[:, [0, 2]]) @ outward) / speed
        hit = points + np.maximum(reach, 0)[:, None] * direction
        left = (hit[:, [0, 2]] - start) @ along
        o = window.opening
        free |= (np.abs(left - o.left_m - o.width_m / 2) < o.width_m / 2) & (
            np.abs(-hit[:, 1] - o.sill_m - o.height_m / 2) < o.height_m / 2
        )
    return free


def _shining(scene: Scene, cut: bounce.Patches, sky: Array) -> Array:
    """Radiance of windows and bright screens on the room's patches."""
    out = np.zeros_like(cut.centre)
    size = np.sqrt(cut.area)
    for window in scene.windows:
        start, end = (np.array(p) for p in _ends(scene, window.side))
        along = (end - start) / np.linalg.norm(end - start)
        rel = cut.centre[:, [0, 2]] - start
        across = rel @ np.array([-along[1], along[0]])
        left, up, o = rel @ along, -cut.centre[:, 1], window.opening
        share = _overlap(left, size, o.left_m, o.width_m) * _overlap(up, size, o.sill_m, o.height_m)
        out += np.where(np.abs(across) < 1e-6, share, 0.0)[:, None] * sky
    for picture in scene.pictures:
        if picture.emission > 0:
            near = np.abs(cut.centre - picture.centre)
            half = np.array([picture.width_m, picture.height_m, picture.width_m]) / 2
            normal = cut.normal[:, 2] if picture.side in ("back", "front") else cut.normal[:, 0]
            on = (near < half + 0.15).sum(1) >= 2
            out += (
                (on & (np.abs(normal) > 0.5))[:, None]
                * np.array(picture.material.colour)
                * picture.emission
                * 0.4
            )
    return out


def _overlap(middle: Array, size: Array, start: float, length: float) -> Array:
    low, high = np.maximum(middle - size / 2, start), np.minimum(middle + size / 2, start + length)
    return np.asarray(np.clip(high - low, 0, None) / size)


def arriving(scene: Scene, points: Array, normals: Array) -> Array:
    """Irradiance by lamps, sun and washes at points, N 3, as if nothing stood in the room."""
    total = np.zeros((len(points), 3))
    for light in scene.lights:
        total += _from_light(scene, light, points, normals)
    for wash in scene.washes:
        total += _from_cone(wash, wash.half_angle, 0.3, points, normals)
    return total


def _from_light(scene: Scene, light: Light, points: Array, normals: Array) -> Array:
    if light.place is not None:
        return _from_cone(light, light.half_angle, light.edge, points, normals)
    direction = np.array(light.direction) / np.linalg.norm(light.direction)
    lit = np.clip(normals @ -direction, 0, None) * _through(scene, points, -direction)
    return np.asarray(lit[:, None] * np.array(light.colour))


def _from_cone(lamp: Light | Wash, half_angle: float, edge: float, points: Array, normals: Array) -> Array:
    way = points - np.array(lamp.place)
    far2 = np.maximum((way**2).sum(1), 0.04)
    way = way / np.sqrt(far2)[:, None]
    axis = np.array(lamp.direction) / np.linalg.norm(lamp.direction)
    outer, inner = np.cos(half_angle), np.cos(half_angle * edge)
    x = np.clip((way @ axis - outer) / (inner - outer), 0, 1)
    strength = x * x * (3 - 2 * x) * np.clip(-(way * normals).sum(1), 0, None) / far2
    return np.asarray(strength[:, None] * np.array(lamp.colour))


def _exposure(scene: Scene, light: bounce.Bounce, face: Array) -> tuple[float, float, float]:
    """As a camera would: the face first, the room as well, and the light's colour mostly balanced away."""
    view = scene.base
    towards: Sequence[Array] = [view[:3, 3] - face, *(view[:3, k] * s for k in (0, 1) for s in (-1, 1))]
    normals = np.stack([v / np.linalg.norm(v) for v in towards])
    normals[1:] = normals[1:] * 0.8 + normals[0] * 0.6
    direct = arriving(scene, np.repeat(face[None], len(normals), 0), normals).mean(0)
    cell = (face - np.array(scene.low)) / (np.array(scene.high) - np.array(scene.low))
    _, cz, cy, cx, _ = light.ambient.shape
    i, j, k = (int(np.clip(c * n, 0, n - 1)) for c, n in zip(cell, (cx, cy, cz), strict=True))
    sides = light.ambient[:, k, j, i]
    ambient = 0.5 * sides[5 if view[2, 2] > 0 else 4] + 0.5 * sides[:4].mean(0)
    on_face = direct + ambient
    on_room = light.walls.reshape(-1, 3).mean(0) * np.pi * 1.4
    level = float(on_face.mean()) ** 0.65 * float(on_room.mean()) ** 0.35
    warmth = (on_face * 0.6 + on_room * 0.4) / (on_face * 0.6 + on_room * 0.4).mean()
    gain = MIDDLE_GREY * np.pi / max(level, 1e-3) * 2.0**scene.exposure_stops
    balanced = gain / np.clip(warmth, 0.3, 3.0) ** 0.75
    return tuple(float(v) for v in balanced)  # type: ignore[return-value]
