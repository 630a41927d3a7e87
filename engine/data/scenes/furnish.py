"""Puts things into a room by chance: models along the walls, pictures, windows, lamps; nothing into each
other.

Knows footprints, the way that must stay free between camera and person, and how light is set up. Knows
nothing of kinds of sets (`sets`) or of drawing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from engine.data.render.mesh import Material
from engine.data.render.stage import Light, Wash
from engine.data.scenes.pack import Furniture, Pack, TextureKind
from engine.data.scenes.scene import Box, Built, Furnished, Person, Picture, Point, Side, Surface, Window
from engine.data.scenes.shapes import Opening

Colour = tuple[float, float, float]

PLAIN_WALLS: tuple[Colour, ...] = (
    (0.72, 0.70, 0.66),
    (0.62, 0.60, 0.55),
    (0.55, 0.60, 0.62),
    (0.38, 0.44, 0.42),
    (0.30, 0.36, 0.44),
    (0.20, 0.24, 0.27),
    (0.55, 0.42, 0.33),
    (0.45, 0.30, 0.24),
    (0.60, 0.55, 0.42),
    (0.16, 0.20, 0.17),
    (0.42, 0.40, 0.46),
    (0.66, 0.58, 0.54),
    (0.10, 0.10, 0.115),
    (0.33, 0.42, 0.36),
)
SATURATED: tuple[Colour, ...] = (
    (1.0, 0.15, 0.35),
    (0.1, 0.35, 1.0),
    (0.55, 0.1, 1.0),
    (1.0, 0.5, 0.08),
    (0.05, 0.9, 0.75),
    (1.0, 0.1, 0.08),
    (0.15, 1.0, 0.3),
    (0.9, 0.1, 0.9),
    (1.0, 0.85, 0.6),
    (0.5, 0.75, 1.0),
)


class SetBuilder:
    """A set in the making; `sets` fills it and takes the lists out."""

    def __init__(self, chance: np.random.Generator, pack: Pack, *, heldout: bool) -> None:
        self.chance, self.pack, self.heldout = chance, pack, heldout
        self.low: Point = (-2.0, -2.6, -2.0)
        self.high: Point = (2.0, 0.0, 2.0)
        self.windows: list[Window] = []
        self.furnished: list[Furnished] = []
        self.built: list[Built] = []
        self.pictures: list[Picture] = []
        self.people: list[Person] = []
        self.lights: list[Light] = []
        self.washes: list[Wash] = []
        self.obstacles: list[Box] = []
        self.kept_free: list[Box] = []

    def between(self, low: float, high: float) -> float:
        return float(self.chance.uniform(low, high))

    def likely(self, probability: float) -> bool:
        return bool(self.chance.random() < probability)

    def sign(self) -> float:
        return float(self.chance.choice((-1.0, 1.0)))

    def seed(self) -> int:
        return int(self.chance.integers(2**31))

    def one_of(self, options: Sequence[Colour]) -> Colour:
        return options[int(self.chance.integers(len(options)))]

    def room(self, left: float, right: float, front: float, back: float, height: float) -> None:
        self.low, self.high = (-left, -height, -front), (right, 0.0, back)

    def texture(self, kind: TextureKind) -> tuple[str, float | None] | None:
        """A picture's name and side, if the pack has one of the kind."""
        found = self.pack.textures(kind, heldout=self.heldout)
        if not found:
            return None
        chosen = found[int(self.chance.integers(len(found)))]
        return chosen.credit.name, chosen.size_m

    def surface(self, kind: TextureKind, tint: Colour, roughness: float, textured: float) -> Surface:
        """A wall's or floor's surface, with a texture at a probability, else plain in the tint."""
        chosen = self.texture(kind) if self.likely(textured) else None
        if chosen is None:
            return Surface(material=Material(colour=tint, roughness=roughness))
        name, size = chosen
        shade = self.between(0.65, 1.0)
        colour = (shade, shade * self.between(0.92, 1.0), shade * self.between(0.85, 1.0))
        return Surface(
            material=Material(colour=colour, texture=name, roughness=roughness), repeat_m=size or 1.0
        )

    def keep_free(self, low: Point, high: Point) -> None:
        self.kept_free.append(Box(low=low, high=high))

    def block(self, low: Point, high: Point) -> None:
        self.obstacles.append(Box(low=low, high=high))

    def model(self, categories: Sequence[str], tallest: float = 9.0) -> tuple[Furniture, str, int] | None:
        """A random model that stands on the floor, of the first category drawn that has one."""
        for category in self.chance.permutation([c for c in categories if c in self.pack.categories()]):
            models = self.pack.furniture(str(category), heldout=self.heldout)
            fitting = [i for i, m in enumerate(models) if m.mount == "floor" and m.size_m[1] <= tallest]
            if fitting:
                index = int(self.chance.choice(fitting))
                return models[index], str(category), index
        return None

    def place(
        self,
        found: tuple[Furniture, str, int],
        x: float,
        z: float,
        turn: float,
        y: float = 0.0,
        force: bool = False,
    ) -> bool:
        """Stands a model somewhere, unless it would be in something, outside, or in the way."""
        model, category, index = found
        width, height, depth = model.size_m
        c, s = abs(math.cos(turn)), abs(math.sin(turn))
        hx, hz = (width * c + depth * s) / 2, (width * s + depth * c) / 2
        low, high = (x - hx, y - height, z - hz), (x + hx, y, z + hz)
        inside = all(low[k] >= self.low[k] - 0.02 and high[k] <= self.high[k] + 0.02 for k in (0, 2))
        if not force and not (inside and not self._hits(low, high)):
            return False
        self.furnished.append(
            Furnished(category=category, index=index, name=model.credit.name, x_m=x, z_m=z, turn=turn, y_m=y)
        )
        self.block(low, high)
        return True

    def _hits(self, low: Point, high: Point) -> bool:
        def meets(box: Box) -> bool:
            return all(low[k] < box.high[k] and high[k] > box.low[k] for k in range(3))

        return any(meets(box) for box in (*self.obstacles, *self.kept_free))

    def along(self, side: Side, categories: Sequence[str], share: float) -> None:
        """Models side by side along a wall; about ``share`` of it is filled."""
        (x0, _, z0), (x1, _, z1) = self.low, self.high
        length = x1 - x0 if side in ("back", "front") else z1 - z0
        at = self.between(0.0, 0.4)
        for _ in range(12):
            found = self.model(categories)
            if found is None or at >= length:
                return
            width, _, depth = found[0].size_m
            if self.likely(share) and at + width < length:
                middle, off = at + width / 2, depth / 2 + 0.03
                x, z, turn = {
                    "back": (x0 + middle, z1 - off, 0.0),
                    "front": (x1 - middle, z0 + off, math.pi),
                    "left": (x0 + off, z0 + middle, -math.pi / 2),
                    "right": (x1 - off, z1 - middle, math.pi / 2),
                }[side]
                self.place(found, x, z, turn)
            at += width + self.between(0.05, 0.5)

    def scatter(self, categories: Sequence[str], count: int, low: Point, high: Point) -> None:
        """Models at random places of a region, on the floor."""
        for _ in range(count):
            found = self.model(categories)
            if found is None:
                return
            for _ in range(6):
                x, z = self.between(low[0], high[0]), self.between(low[2], high[2])
                if self.place(found, x, z, self.between(-math.pi, math.pi), y=low[1]):
                    break

    def box(self, item: Built) -> None:
        """A built-in thing that cameras keep out of."""
        w, h, d = item.size_m
        c, s = abs(math.cos(item.turn)), abs(math.sin(item.turn))
        hx, hz = (w * c + d * s) / 2 + abs(item.sway_m[0]), (w * s + d * c) / 2 + abs(item.sway_m[2])
        sway = abs(item.sway_m[1])
        self.built.append(item)
        self.block(
            (item.x_m - hx, item.y_m - h - sway, item.z_m - hz),
            (item.x_m + hx, item.y_m + sway, item.z_m + hz),
        )

    def window(self, side: Side, width: float, height: float, sill: float, at: float) -> Point:
        """A window at a share ``at`` of a wall's length from its left end; returns its middle."""
        (x0, _, z0), (x1, _, z1) = self.low, self.high
        length = x1 - x0 if side in ("back", "front") else z1 - z0
        width = min(width, length - 0.4)
        height = min(height, -self.low[1] - sill - 0.15)
        left = float(np.clip(at * length - width / 2, 0.2, length - width - 0.2))
        opening = Opening(left_m=left, sill_m=sill, width_m=width, height_m=height)
        self.windows.append(Window(side=side, opening=opening, bars=int(self.chance.integers(0, 3))))
        middle, y = left + width / 2, -sill - height / 2
        where: dict[Side, Point] = {
            "back": (x0 + middle, y, z1),
            "right": (x1, y, z1 - middle),
            "front": (x1 - middle, y, z0),
            "left": (x0, y, z0 + middle),
        }
        x, y, z = where[side]
        half = width / 2 + 0.1
        across = (half, 0.12) if side in ("back", "front") else (0.12, half)
        self.block(
            (x - across[0], y - height / 2, z - across[1]), (x + across[0], y + height / 2, z + across[1])
        )
        return where[side]

    def poster(
        self, side: Side, x_or_z: float, up: float, width: float, height: float, emission: float = 0.0
    ) -> None:
        """A framed picture on a wall, its middle ``up`` metres above the floor, unless something is there."""
        chosen = self.texture("poster")
        (x0, _, z0), (x1, _, z1) = self.low, self.high
        wall: dict[Side, Point] = {
            "back": (x_or_z, -up, z1),
            "front": (x_or_z, -up, z0),
            "left": (x0, -up, x_or_z),
            "right": (x1, -up, x_or_z),
        }
        centre = wall[side]
        across = (width / 2, 0.05) if side in ("back", "front") else (0.05, width / 2)
        low = (centre[0] - across[0], -up - height / 2, centre[2] - across[1])
        high = (centre[0] + across[0], -up + height / 2, centre[2] + across[1])
        if chosen is None or self._hits(low, high):
            return
        self.block(low, high)
        material = Material(colour=(0.9, 0.9, 0.9), texture=chosen[0], roughness=0.5)
        self.pictures.append(
            Picture(
                centre=centre,
                width_m=width,
                height_m=height,
                material=material,
                side=side,
                emission=emission,
                framed=True,
            )
        )

    def lamp(
        self,
        place: Point,
        at: Point,
        irradiance: float,
        colour: Colour = (1.0, 1.0, 1.0),
        half_angle: float = 1.0,
        softness: float = 0.006,
    ) -> None:
        """A lamp with shadows that gives ``irradiance`` at a point it is aimed at."""
        way = np.subtract(at, place)
        power = irradiance * float(way @ way)
        self.lights.append(
            Light(
                place=place,
                direction=(float(way[0]), float(way[1]), float(way[2])),
                colour=tinted(colour, power),
                half_angle=half_angle,
                softness=softness,
            )
        )

    def wash(
        self, place: Point, at: Point, irradiance: float, colour: Colour, half_angle: float = 0.45
    ) -> None:
        way = np.subtract(at, place)
        self.washes.append(
            Wash(
                place=place,
                direction=(float(way[0]), float(way[1]), float(way[2])),
                colour=tinted(colour, irradiance * float(way @ way)),
                half_angle=half_angle,
            )
        )


def tinted(colour: Colour, power: float) -> Colour:
    r, g, b = (c * power for c in colour)
    return (r, g, b)


def kelvin(temperature: float) -> Colour:
    """A lamp's colour, roughly, of mean about one: 2700 K is warm, 6500 K neutral, 9000 K a blue sky."""
    x = math.log(temperature / 6500.0)
    return (1.0 - 0.42 * x, 1.0 - 0.06 * abs(x), 1.0 + 0.62 * x)
