"""Light that comes by way of the walls: radiosity of an empty box-shaped room, and the irradiance in its
air.

Knows the six sides of a room, their colour, and what shines on them. Knows nothing of furniture, people or
OpenGL: these are lit by the result, and shade it by contact alone. Goral et al., *Modeling the interaction
of light between diffuse surfaces*, SIGGRAPH 1984: B = E + ρ F B.

Sides are in the order +x −x +y −y +z −z (as cube maps have them), +y being the floor as y points down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
PATCHES = 10  # along each side of each wall
CELLS = (8, 5, 8)  # of air, along x, y, z
ROUNDS = 6
AXES = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], np.float64)


@dataclass(frozen=True, eq=False)
class Patches:
    """The six sides cut into n × n patches. ``centre`` P 3, ``normal`` P 3 (inwards), ``area`` P."""

    centre: Array
    normal: Array
    area: Array


@dataclass(frozen=True, eq=False)
class Bounce:
    """``walls`` 6 n n 3 radiance of the sides; ``ambient`` 6 Z Y X 3 irradiance on each direction in the
    air.
    """

    walls: NDArray[np.float32]
    ambient: NDArray[np.float32]


def patches(low: Array, high: Array, n: int = PATCHES) -> Patches:
    """Rows and columns of a side run along (z, y) of ±x, (z, x) of ±y and (y, x) of ±z."""
    steps = (np.arange(n) + 0.5) / n
    centres, normals, areas = [], [], []
    for side in range(6):
        axis, positive = side // 2, side % 2 == 0
        column, row = [(1, 2), (0, 2), (0, 1)][axis]
        cells = np.empty((n, n, 3))
        cells[..., axis] = high[axis] if positive else low[axis]
        cells[..., column] = (low + (high - low) * steps[:, None])[:, column][None, :]
        cells[..., row] = (low + (high - low) * steps[:, None])[:, row][:, None]
        centres.append(cells.reshape(-1, 3))
        normals.append(np.tile(-AXES[side], (n * n, 1)))
        areas.append(np.full(n * n, (high - low)[column] * (high - low)[row] / n**2))
    return Patches(np.concatenate(centres), np.concatenate(normals), np.concatenate(areas))


def solve(
    low: Array,
    high: Array,
    reflectance: Array,
    shining: Callable[[Patches], Array],
    arriving: Callable[[Array, Array], Array],
) -> Bounce:
    """``reflectance`` 6 3; ``shining``: radiance that patches send out themselves, P 3 (windows, screens);
    ``arriving(points, normals)``: direct irradiance by lamps, P 3."""
    cut = patches(low, high)
    n = PATCHES
    colour = np.repeat(reflectance, n * n, axis=0)
    own = shining(cut)
    colour = np.where(own.max(1, keepdims=True) > 0, 0.1, colour)
    share = _form_factors(cut.centre, cut.normal, cut)
    share /= np.maximum(share.sum(1, keepdims=True), 1.0)
    direct = arriving(cut.centre, cut.normal)
    radiance = own + colour * direct / np.pi
    first = radiance
    for _ in range(ROUNDS):
        radiance = first + colour * (share @ radiance)
    walls = radiance.reshape(6, n, n, 3).astype(np.float32)
    return Bounce(walls, _air(low, high, cut, radiance))


def _form_factors(points: Array, normals: Array, cut: Patches) -> Array:
    """Share of the light sent by each patch (columns) that points see (rows), for radiance: E = π · F · L."""
    way = cut.centre[None] - points[:, None]
    far2 = (way**2).sum(-1)
    far = np.sqrt(far2)
    here = np.clip(np.einsum("pqk,pk->pq", way, normals) / np.maximum(far, 1e-6), 0, None)
    there = np.clip(-np.einsum("pqk,qk->pq", way, cut.normal) / np.maximum(far, 1e-6), 0, None)
    return np.asarray(here * there * cut.area / (np.pi * far2 + cut.area))


def _air(low: Array, high: Array, cut: Patches, radiance: Array) -> NDArray[np.float32]:
    x, y, z = (low[k] + (high[k] - low[k]) * (np.arange(CELLS[k]) + 0.5) / CELLS[k] for k in range(3))
    grid = np.stack(np.meshgrid(z, y, x, indexing="ij")[::-1], axis=-1).reshape(-1, 3)
    sides = []
    for axis in AXES:
        share = _form_factors(grid, np.tile(axis, (len(grid), 1)), cut)
        share /= np.maximum(share.sum(1, keepdims=True), 1e-6)
        sides.append(np.pi * share @ radiance)
    return np.stack(sides).reshape(6, CELLS[2], CELLS[1], CELLS[0], 3).astype(np.float32)
