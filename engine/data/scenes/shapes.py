"""Plain built-in meshes: boxes, cylinders, panels, and a room's shell with openings. Knows geometry only.

Axes and resting places as in `mesh`: y down, a thing stands on y = 0 over the origin and faces −z. Texture
coordinates are metres over ``repeat_m`` on surfaces that repeat, 0..1 on panels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from engine.data.render.mesh import Material, Mesh, joined


@dataclass(frozen=True, kw_only=True)
class Opening:
    """A hole in a wall: from its left end and from the floor, in metres."""

    left_m: float
    sill_m: float
    width_m: float
    height_m: float


def panel(
    corner: Sequence[float],
    right: Sequence[float] | NDArray[np.float64],
    down: Sequence[float] | NDArray[np.float64],
    material: Material,
    repeat_m: float | None = None,
) -> Mesh:
    """A parallelogram from its upper left corner; seen from the front, its normal is right × down turned to
    us.
    """
    c, r, d = (np.asarray(v, np.float64) for v in (corner, right, down))
    normal = -np.cross(r, d) / np.linalg.norm(np.cross(r, d))
    size = (1.0, 1.0) if repeat_m is None else (np.linalg.norm(r) / repeat_m, np.linalg.norm(d) / repeat_m)
    return Mesh(
        positions=np.array([c, c + r, c + r + d, c + d], np.float32),
        normals=np.tile(normal, (4, 1)).astype(np.float32),
        uv=np.array([[0, 0], [size[0], 0], [size[0], size[1]], [0, size[1]]], np.float32),
        faces=np.array([[0, 1, 2], [0, 2, 3]], np.int32),
        face_materials=np.zeros(2, np.int32),
        materials=(material,),
    )


def box(
    width: float,
    height: float,
    depth: float,
    material: Material,
    y_m: float = 0.0,
    repeat_m: float | None = None,
) -> Mesh:
    """A box whose bottom is at ``y_m``."""
    w, d, top = width / 2, depth / 2, y_m - height
    across, deep, down = np.array([width, 0, 0]), np.array([0, 0, depth]), np.array([0, height, 0])
    sides = (
        ((-w, top, -d), across, down),
        ((w, top, d), -across, down),
        ((-w, top, d), -deep, down),
        ((w, top, -d), deep, down),
        ((-w, top, d), across, -deep),
        ((-w, y_m, -d), across, deep),
    )
    return joined([panel(corner, r, d_, material, repeat_m) for corner, r, d_ in sides])


def cylinder(radius: float, height: float, material: Material, y_m: float = 0.0, sides: int = 20) -> Mesh:
    """Upright, closed at both ends."""
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    ring = np.stack([np.cos(angle), np.zeros(sides + 1), np.sin(angle)], axis=1)
    turn = angle / (2 * np.pi)
    positions, normals, uv, faces = [], [], [], []
    for y, v in ((y_m - height, 0.0), (y_m, 1.0)):
        positions.append(ring * radius + [0, y, 0])
        normals.append(ring)
        uv.append(np.stack([turn, np.full(sides + 1, v)], axis=1))
    n = sides + 1
    for i in range(sides):
        faces += [[i, i + 1, n + i + 1], [i, n + i + 1, n + i]]
    for y, up in ((y_m - height, -1.0), (y_m, 1.0)):
        first = sum(len(p) for p in positions)
        positions.append(ring * radius + [0, y, 0])
        normals.append(np.tile([0, up, 0], (n, 1)))
        uv.append(ring[:, ::2] / 2 + 0.5)
        faces += [[first, first + i, first + i + 1] for i in range(1, sides)]
    return Mesh(
        positions=np.concatenate(positions).astype(np.float32),
        normals=np.concatenate(normals).astype(np.float32),
        uv=np.concatenate(uv).astype(np.float32),
        faces=np.array(faces, np.int32),
        face_materials=np.zeros(len(faces), np.int32),
        materials=(material,),
    )


def wall(
    start: Sequence[float],
    end: Sequence[float],
    height_m: float,
    material: Material,
    repeat_m: float,
    openings: Sequence[Opening] = (),
) -> Mesh:
    """An upright wall from start to end (x, z), left to right as seen from inside, around its openings."""
    a, b = np.asarray(start, np.float64), np.asarray(end, np.float64)
    length = float(np.linalg.norm(b - a))
    along = (b - a) / length
    columns = sorted({0.0, length, *(x for o in openings for x in (o.left_m, o.left_m + o.width_m))})
    pieces = []
    for left, right in pairwise(columns):
        middle = (left + right) / 2
        inside = [o for o in openings if o.left_m < middle < o.left_m + o.width_m]
        spans = [(0.0, height_m)]
        for o in inside:
            spans = [(0.0, o.sill_m), (o.sill_m + o.height_m, height_m)]
        for low, high in spans:
            if high - low < 1e-6:
                continue
            corner = a + along * left
            piece = panel(
                (corner[0], -high, corner[1]),
                (along[0] * (right - left), 0, along[1] * (right - left)),
                (0, high - low, 0),
                material,
                repeat_m,
            )
            offset = np.array([left, height_m - high], np.float32) / np.float32(repeat_m)
            pieces.append(_shifted(piece, offset))
    return joined(pieces)


def frame(
    start: Sequence[float], end: Sequence[float], opening: Opening, material: Material, bars: int = 1
) -> Mesh:
    """A window's frame, with upright bars, around an opening of such a wall."""
    a, b = np.asarray(start, np.float64), np.asarray(end, np.float64)
    along = (b - a) / np.linalg.norm(b - a)
    turn = np.arctan2(-along[1], along[0])
    c, s = np.cos(turn), np.sin(turn)
    middle = a + along * (opening.left_m + opening.width_m / 2)
    place = np.array([[c, 0, s, middle[0]], [0, 1, 0, 0], [-s, 0, c, middle[1]], [0, 0, 0, 1.0]])
    t, w, h = 0.06, opening.width_m, opening.height_m
    parts = [
        box(w + t, t, 0.16, material, -opening.sill_m + t / 2),
        box(w + t, t, 0.12, material, -opening.sill_m - h + t / 2),
    ]
    for x in np.linspace(-w / 2, w / 2, bars + 2):
        parts.append(box(t, h, 0.1, material, -opening.sill_m).placed(_moved(float(x), 0.0)))
    return joined(parts).placed(place)


def paper(width: float, height: float, depth: float, material: Material, radius: float = 0.8) -> Mesh:
    """A photographer's backdrop: upright behind, rounded into a sheet on the floor that reaches ``depth``
    forward.
    """
    angle = np.linspace(0, np.pi / 2, 9)
    profile = [(-depth, -0.004)]
    profile += [(radius * np.sin(t) - radius, -0.004 - radius + radius * np.cos(t)) for t in angle]
    profile.append((0.0, -height))
    parts = []
    for (z0, y0), (z1, y1) in pairwise(profile):
        parts.append(panel((-width / 2, y1, z1), (width, 0, 0), (0, y0 - y1, z0 - z1), material, 2.0))
    return joined(parts)


def curtain(width: float, height: float, fold: float, material: Material) -> Mesh:
    """Cloth that hangs in folds of a depth, facing −z."""
    x = np.linspace(-width / 2, width / 2, max(16, round(width / 0.05)))
    phase = x * 14.0 + 1.3 * np.sin(x * 2.1)
    z = fold * np.sin(phase)
    slope = fold * np.cos(phase) * (14.0 + 2.73 * np.cos(x * 2.1))
    normal = np.stack([slope, np.zeros_like(x), -np.ones_like(x)], axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    top, bottom = (np.stack([x, np.full_like(x, y), z], axis=1) for y in (-height, 0.0))
    n = len(x)
    first = np.arange(n - 1)
    faces = np.concatenate(
        [np.stack([first, first + 1, first + n + 1], 1), np.stack([first, first + n + 1, first + n], 1)]
    )
    return _mesh(
        np.concatenate([top, bottom]),
        np.concatenate([normal, normal]),
        np.concatenate([np.stack([x, x * 0], 1), np.stack([x, x * 0 + height], 1)]),
        faces,
        material,
    )


def ball(width: float, height: float, depth: float, material: Material, rings: int = 12) -> Mesh:
    """An ellipsoid that stands on y = 0."""
    up, round_ = np.meshgrid(
        np.linspace(0, np.pi, rings + 1), np.linspace(0, 2 * np.pi, 2 * rings + 1), indexing="ij"
    )
    unit = np.stack([np.sin(up) * np.cos(round_), -np.cos(up), np.sin(up) * np.sin(round_)], axis=-1)
    half = np.array([width, height, depth]) / 2
    normal = (unit / half).reshape(-1, 3)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    row, column = np.meshgrid(np.arange(rings), np.arange(2 * rings), indexing="ij")
    a = (row * (2 * rings + 1) + column).ravel()
    b = a + 2 * rings + 1
    faces = np.concatenate([np.stack([a, a + 1, b + 1], 1), np.stack([a, b + 1, b], 1)])
    uv = np.stack([round_ / (2 * np.pi), up / np.pi], axis=-1).reshape(-1, 2)
    return _mesh((unit * half - [0, half[1], 0]).reshape(-1, 3), normal, uv, faces, material)


def _mesh(
    positions: NDArray[np.float64],
    normals: NDArray[np.float64],
    uv: NDArray[np.float64],
    faces: NDArray[np.int64],
    material: Material,
) -> Mesh:
    return Mesh(
        positions=positions.astype(np.float32),
        normals=normals.astype(np.float32),
        uv=uv.astype(np.float32),
        faces=faces.astype(np.int32),
        face_materials=np.zeros(len(faces), np.int32),
        materials=(material,),
    )


def _moved(x: float, z: float) -> NDArray[np.float64]:
    place = np.eye(4)
    place[0, 3], place[2, 3] = x, z
    return place


def _shifted(mesh: Mesh, offset: NDArray[np.float32]) -> Mesh:
    return Mesh(
        positions=mesh.positions,
        normals=mesh.normals,
        uv=mesh.uv + offset,
        faces=mesh.faces,
        face_materials=mesh.face_materials,
        materials=mesh.materials,
    )
