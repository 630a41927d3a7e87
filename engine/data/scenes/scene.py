"""What is on a set: room, furniture, people, light and the first view, as plain values drawn from a seed.

Knows names and numbers only. How each kind of set is furnished is in `sets`, how it becomes triangles and
light in `build`, how cameras move in `paths`.

World: y down, the floor at y = 0, the main person near the origin, cameras look roughly along +z. Sides of
the room are named as the first camera sees them: back (+z), right (+x), front (−z, behind the camera), left
(−x).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.camera.geometry import Matrix
from engine.data.layout import LENSES, SENSOR_WIDTH_MM
from engine.data.render.mesh import Material
from engine.data.render.stage import Light, Wash
from engine.data.scenes.motion import Motion
from engine.data.scenes.shapes import Opening

Side = Literal["back", "right", "front", "left"]
Point = tuple[float, float, float]
SIDES: tuple[Side, ...] = ("back", "right", "front", "left")


@dataclass(frozen=True, kw_only=True)
class Surface:
    """A wall, floor or ceiling. ``repeat_m`` is the side that the texture covers."""

    material: Material
    repeat_m: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Window:
    side: Side
    opening: Opening
    bars: int = 1


@dataclass(frozen=True, kw_only=True)
class Furnished:
    """A model of the pack, by category and place in the pack's list, and where it is."""

    category: str
    index: int
    name: str
    x_m: float
    z_m: float
    turn: float = 0.0
    y_m: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Built:
    """A built-in shape: a box, cylinder or ball of a size (width, height, depth) whose bottom is at
    ``y_m``.

    ``sway_m`` moves it to and fro by that much along x, y, z, once in ``period_s``; ``spin`` turns it, in
    rad/s.
    """

    shape: Literal["box", "cylinder", "ball", "curtain", "paper"]
    size_m: tuple[float, float, float]
    material: Material
    x_m: float = 0.0
    y_m: float = 0.0
    z_m: float = 0.0
    turn: float = 0.0
    emission: float = 0.0
    repeat_m: float | None = None
    sway_m: Point = (0.0, 0.0, 0.0)
    period_s: float = 4.0
    spin: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A flat picture, poster or screen: its middle, size, and the side that it turns its back to."""

    centre: Point
    width_m: float
    height_m: float
    material: Material
    side: Side = "back"
    emission: float = 0.0
    scroll_per_s: tuple[float, float] = (0.0, 0.0)
    framed: bool = False


@dataclass(frozen=True, kw_only=True)
class Person:
    """Someone of the pack (by seed), standing or sitting at a place, turned from facing −z."""

    seed: int
    motion: Motion
    x_m: float = 0.0
    z_m: float = 0.0
    turn: float = 0.0
    y_m: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Box:
    """Where no camera may be."""

    low: Point
    high: Point


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A whole set with its first view. ``people[0]`` is the main person."""

    family: str
    heldout: bool
    low: Point
    high: Point
    sides: dict[Side, Surface]
    floor: Surface
    ceiling: Surface
    windows: tuple[Window, ...]
    furnished: tuple[Furnished, ...]
    built: tuple[Built, ...]
    pictures: tuple[Picture, ...]
    people: tuple[Person, ...]
    lights: tuple[Light, ...]
    washes: tuple[Wash, ...]
    sky: float  # radiance of what is outside, times the environment
    environment: str | None
    exposure_stops: float
    haze: tuple[float, float, float, float]
    obstacles: tuple[Box, ...]
    lens: str  # the layout's folder
    focal: float  # in widths of the picture
    first_view: tuple[tuple[float, ...], ...]  # camera to world, 4×4

    @property
    def base(self) -> Matrix:
        return np.array(self.first_view)

    def clear(self, places: NDArray[np.float64], margin_m: float = 0.12) -> bool:
        """Whether cameras at these places, N 3, are all in the room and in nothing else."""
        if (places < np.array(self.low) + margin_m).any() or (places > np.array(self.high) - margin_m).any():
            return False
        for box in self.obstacles:
            low, high = np.array(box.low) - margin_m, np.array(box.high) + margin_m
            if ((places > low) & (places < high)).all(1).any():
                return False
        return True


def looking(eye: Point, at: Point, roll: float = 0.0) -> Matrix:
    """Camera to world, 4×4, from a place towards another, upright but for ``roll``."""
    forward = np.subtract(at, eye)
    forward = forward / np.linalg.norm(forward)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right = right / np.linalg.norm(right)
    down = np.cross(forward, right)
    c, s = np.cos(roll), np.sin(roll)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, down, forward], axis=1) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    pose[:3, 3] = eye
    return pose


def lens_of(focal: float) -> str:
    """The layout's folder with the nearest lens. ``focal`` in widths of the picture."""
    return min(LENSES, key=lambda name: abs(np.log(LENSES[name] / SENSOR_WIDTH_MM / focal)))
