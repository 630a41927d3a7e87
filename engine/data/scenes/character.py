"""A dressed person that can be posed: one mesh whose vertices follow a skeleton.

Knows linear blend skinning and face units. Knows nothing of where shapes and clothes come from (`pack`,
`wardrobe`) or which movements there are (`motion`).
Shapes: V vertices, P points (V without the doubles at seams of the texture), B bones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from engine.data.render.mesh import Floats, Indices, Mesh
from engine.data.scenes.motion import Motion, stance
from engine.data.scenes.skeleton import Skeleton, Stance


@dataclass(frozen=True, kw_only=True, eq=False)
class Character:
    """``mesh`` is the person at rest: topology, texture coordinates, materials stay, only vertices move."""

    name: str
    heldout: bool
    assets: tuple[str, ...]  # names of the credits of what the person is made of
    height_m: float
    mesh: Mesh
    skeleton: Skeleton
    points: Floats  # P 3, at rest
    point_normals: Floats  # P 3, at rest
    vertex_points: Indices  # V, into points
    bones: Indices  # P 4, that a point follows
    weights: Floats  # P 4, rows sum to one
    units: Mapping[str, tuple[Indices, Floats]]  # face unit → points that it moves, offsets in metres

    def pose(self, motion: Motion, time_s: float) -> tuple[Floats, Floats]:
        """V 3 positions in metres and V 3 normals at any time, also before zero: motions are functions of
        time."""
        return self.skinned(stance(motion, self.skeleton, time_s))

    def skinned(self, stance: Stance) -> tuple[Floats, Floats]:
        """Linear blend skinning: v' = sum_b w_b (R_b v + t_b), with the face units added to v before."""
        frames = self.skeleton.frames(stance.turns, stance.shift_m).astype(np.float32).reshape(-1, 12)
        rest = self.points
        if stance.face:
            rest = rest.copy()
            for unit, amount in stance.face.items():
                which, offsets = self.units[unit]
                rest[which] += np.float32(amount) * offsets
        # No matrix product: on a busy machine the threads of BLAS wait longer for each other than this takes.
        blend = frames[self.bones[:, 0]] * self.weights[:, :1]
        for k in (1, 2, 3):
            blend += frames[self.bones[:, k]] * self.weights[:, k : k + 1]
        blend = blend.reshape(-1, 3, 4)
        positions = _applied(blend, rest) + blend[:, :, 3]
        normals = _applied(blend, self.point_normals)
        normals /= np.sqrt(np.einsum("pk,pk->p", normals, normals))[:, None] + np.float32(1e-12)
        return positions[self.vertex_points], normals[self.vertex_points]

    def chest(self, motion: Motion, time_s: float) -> Floats:
        """Where the middle of the chest is (3,), for distances to the person and for cameras that follow."""
        now = stance(motion, self.skeleton, time_s)
        frame = self.skeleton.frame("spine01", now.turns, now.shift_m)
        return (frame[:, :3] @ self.skeleton.joint("spine01") + frame[:, 3]).astype(np.float32)


def _applied(blend: Floats, vectors: Floats) -> Floats:
    """P 3: each row's rotation, the first three columns, times its vector."""
    out = blend[:, :, 0] * vectors[:, :1]
    out += blend[:, :, 1] * vectors[:, 1:2]
    out += blend[:, :, 2] * vectors[:, 2:]
    return out
