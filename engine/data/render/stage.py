"""What a renderer draws: things, lights, and the light of the room, at any time; and what comes of it. Plain
values; knows of no renderer.

World axes are OpenCV's (y down), metres. Colours and light are linear.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.camera.geometry import Matrix
from engine.data.render.mesh import Floats, Mesh


@dataclass(frozen=True, kw_only=True, eq=False)
class Thing:
    """A mesh on the stage. At a time, ``place`` moves it as a whole, ``shape`` gives new positions and
    normals.
    """

    mesh: Mesh
    emission: float = 0.0  # radiance of a white surface that shines of itself
    person: bool = False
    scroll_per_s: tuple[float, float] = (0.0, 0.0)  # of the texture
    place: Callable[[float], Matrix] | None = None
    shape: Callable[[float], tuple[Floats, Floats]] | None = None


@dataclass(frozen=True, kw_only=True)
class Light:
    """A beam with shadows. ``colour`` is W/sr-like: irradiance at one metre, or anywhere for a sun
    (``place`` None).
    """

    direction: tuple[float, float, float]
    colour: tuple[float, float, float]
    place: tuple[float, float, float] | None = None
    half_angle: float = math.pi / 3
    edge: float = 0.7  # the share of the half angle where the beam begins to fade
    softness: float = 0.004  # of the shadow map's side


@dataclass(frozen=True, kw_only=True)
class Wash:
    """A cone of light without shadows."""

    place: tuple[float, float, float]
    direction: tuple[float, float, float]
    colour: tuple[float, float, float]
    half_angle: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """Everything that is drawn. ``ambient`` is irradiance per cell of the room (from ``low`` to ``high``)
    and side.
    """

    things: tuple[Thing, ...]
    textures: Mapping[str, NDArray[np.uint8]]  # H W 3 or 4, sRGB
    lights: tuple[Light, ...]
    washes: tuple[Wash, ...] = ()
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    ambient: Floats  # 6 Z Y X 3: sides +x −x +y −y +z −z
    walls: Floats  # 6 n n 3: radiance of the room's sides; (row, column) along (z, y), (z, x), (y, x)
    surroundings: Floats  # H W 3 linear radiance, equirectangular, seen through openings
    exposure: tuple[float, float, float]
    haze: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)  # radiance, share per metre


@dataclass(frozen=True, eq=False)
class View:
    """What one camera sees at one instant."""

    colour: NDArray[np.uint8]  # H W 3
    depth_m: Floats  # H W, along the optical axis; inf where nothing is
    matte: NDArray[np.uint8]  # H W, 255 = person
