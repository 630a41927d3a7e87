"""Triangle meshes with materials, and the few operations that scenes need: normals, placing, joining.

Knows geometry and names of textures. Knows nothing of pictures, files, people, rooms or of how a mesh is
drawn.

World axes are OpenCV's (x right, y down, z forward) in metres; a thing at rest stands on the floor, y = 0,
with its heights negative, over the origin, and faces -z, towards a camera that looks along +z. Shapes: V
vertices, N faces, M materials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.int32]
Colour = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """How a surface answers light. ``colour`` is linear RGB and multiplies the texture, where there is one.

    ``texture`` names an item of the pack. ``roughness`` is 0 for a mirror and 1 for chalk; ``metallic`` is
    0 or 1.
    """

    colour: Colour
    texture: str | None = None
    roughness: float = 0.8
    metallic: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Mesh:
    """A triangle mesh whose faces each name one of its materials.

    Faces show both sides: their winding is whatever the source had, so a renderer draws without culling and
    turns normals towards the viewer. Texture coordinates repeat; (0, 0) is the upper left corner of the
    first row of pixels.
    """

    positions: Floats  # V 3, metres
    normals: Floats  # V 3, of length one
    uv: Floats  # V 2
    faces: Indices  # N 3, into V
    face_materials: Indices  # N, into materials
    materials: tuple[Material, ...]

    def __post_init__(self) -> None:
        count = len(self.positions)
        for name, shape in (("positions", (count, 3)), ("normals", (count, 3)), ("uv", (count, 2))):
            found = getattr(self, name)
            if found.shape != shape or found.dtype != np.float32:
                raise ValueError(f"{name}: expected float32 {shape}, found {found.dtype} {found.shape}")
        if self.faces.dtype != np.int32 or self.faces.ndim != 2 or self.faces.shape[1] != 3:
            raise ValueError(f"faces: expected int32 (N, 3), found {self.faces.dtype} {self.faces.shape}")
        if self.face_materials.shape != (len(self.faces),) or self.face_materials.dtype != np.int32:
            raise ValueError(f"face_materials: expected int32 ({len(self.faces)},)")
        if len(self.faces) and not (self.faces.min() >= 0 and self.faces.max() < count):
            raise ValueError(f"faces name vertices beyond the {count} there are")
        if len(self.faces) and not (
            self.face_materials.min() >= 0 and self.face_materials.max() < len(self.materials)
        ):
            raise ValueError(f"faces name materials beyond the {len(self.materials)} there are")

    @property
    def bounds(self) -> tuple[Floats, Floats]:
        """The least and the greatest x, y, z."""
        return self.positions.min(0), self.positions.max(0)

    def placed(self, local_to_world: NDArray[np.float64]) -> Mesh:
        """Moved by a 4×4 matrix of rotation, uniform scale and translation."""
        turn = local_to_world[:3, :3]
        length = np.cbrt(np.linalg.det(turn))
        positions = self.positions @ turn.T + local_to_world[:3, 3]
        normals = self.normals @ (turn / length).T
        return replace(self, positions=positions.astype(np.float32), normals=normals.astype(np.float32))


def vertex_normals(positions: Floats, faces: Indices) -> Floats:
    """V 3 normals of length one: the mean of the normals of the faces around a vertex, weighted by their
    areas."""
    a, b, c = (positions[faces[:, k]] for k in range(3))
    across = np.cross(b - a, c - a)
    total = np.stack(
        [np.bincount(faces.ravel(), np.repeat(across[:, k], 3), len(positions)) for k in range(3)],
        axis=1,
    )
    length = np.linalg.norm(total, axis=1, keepdims=True)
    up = np.array([0.0, -1.0, 0.0])
    return np.where(length > 1e-12, total / np.maximum(length, 1e-12), up).astype(np.float32)


def joined(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh of many; equal materials become one."""
    if not meshes:
        raise ValueError("nothing to join")
    materials: dict[Material, int] = {}
    faces, face_materials, first = [], [], 0
    for mesh in meshes:
        slots = np.array([materials.setdefault(m, len(materials)) for m in mesh.materials], np.int32)
        faces.append(mesh.faces + np.int32(first))
        face_materials.append(slots[mesh.face_materials])
        first += len(mesh.positions)
    return Mesh(
        positions=np.concatenate([m.positions for m in meshes]),
        normals=np.concatenate([m.normals for m in meshes]),
        uv=np.concatenate([m.uv for m in meshes]),
        faces=np.concatenate(faces),
        face_materials=np.concatenate(face_materials),
        materials=tuple(materials),
    )


def placement(
    x_m: float = 0.0, z_m: float = 0.0, turn_rad: float = 0.0, y_m: float = 0.0, scale: float = 1.0
) -> NDArray[np.float64]:
    """The 4×4 matrix that sets a thing on the floor, turned to its right (clockwise, seen from above)."""
    c, s = np.cos(turn_rad) * scale, np.sin(turn_rad) * scale
    return np.array([[c, 0.0, s, x_m], [0.0, scale, 0.0, y_m], [-s, 0.0, c, z_m], [0.0, 0.0, 0.0, 1.0]])
