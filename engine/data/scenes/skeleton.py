"""A skeleton: bones that turn about their joints, carry their children, and reach for points.

Knows rigid motion only: no meshes, no moments in time. Axes are the pack's (y down, facing -z, the person's
left at +x). Every bone's frame at rest is the world's, so a turn is written in the axes of the rest pose.
Shapes: B bones; a frame is 3×4, rest to posed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEFT, DOWN, BACK = np.eye(3)  # +x, +y and +z of somebody who faces -z


@dataclass(frozen=True, kw_only=True)
class Stance:
    """What a movement asks of a body at one moment.

    ``turns`` are 3×3 local rotations by bone; ``shift_m`` moves the whole body; ``face`` holds face units
    in 0..1.
    """

    turns: dict[str, Array] = field(default_factory=dict)
    shift_m: Array = field(default_factory=lambda: np.zeros(3))
    face: dict[str, float] = field(default_factory=dict)


def rotation(axis: Array, angle_rad: float) -> Array:
    """Rodrigues' formula: R = I + sin a K + (1 - cos a) K², K the cross product with the axis."""
    x, y, z = axis / math.sqrt(float(axis @ axis))
    c, s = math.cos(angle_rad), math.sin(angle_rad)
    k = 1 - c
    return np.array(
        [
            [c + x * x * k, x * y * k - z * s, x * z * k + y * s],
            [y * x * k + z * s, c + y * y * k, y * z * k - x * s],
            [z * x * k - y * s, z * y * k + x * s, c + z * z * k],
        ]
    )


def rotation_between(a: Array, b: Array) -> Array:
    """The shortest turn of direction `a` onto direction `b`."""
    axis = np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])
    length = math.sqrt(float(axis @ axis))
    return np.eye(3) if length < 1e-9 else rotation(axis, math.atan2(length, float(a @ b)))


@dataclass(frozen=True, kw_only=True)
class Skeleton:
    """Bones in an order in which parents come first, with their joints at rest (B 3, metres)."""

    names: tuple[str, ...]
    parents: tuple[int, ...]
    joints: Array

    def joint(self, bone: str) -> Array:
        return np.asarray(self.joints[self.names.index(bone)])

    def length(self, upper: str, lower: str) -> float:
        """Between two joints at rest."""
        return float(np.linalg.norm(self.joint(upper) - self.joint(lower)))

    def frames(self, turns: Mapping[str, Array], shift_m: Array) -> Array:
        """B 3 4: where each bone's turn, and its ancestors', take points of the rest pose."""
        out = np.empty((len(self.names), 3, 4))
        for k, (name, parent) in enumerate(zip(self.names, self.parents, strict=True)):
            turn = turns.get(name)
            if parent < 0:
                rotate = np.eye(3) if turn is None else turn
                out[k, :, :3], out[k, :, 3] = rotate, self.joints[k] - rotate @ self.joints[k] + shift_m
            elif turn is None:
                out[k] = out[parent]
            else:
                above = out[parent]
                rotate = above[:, :3] @ turn
                out[k, :, :3] = rotate
                out[k, :, 3] = above[:, :3] @ self.joints[k] + above[:, 3] - rotate @ self.joints[k]
        return out

    def frame(self, bone: str, turns: Mapping[str, Array], shift_m: Array) -> Array:
        """The frame of one bone alone, 3×4."""
        chain, k = [], self.names.index(bone)
        while k >= 0:
            chain.append(k)
            k = self.parents[k]
        rotate, offset = np.eye(3), np.array(shift_m, float)
        for k in reversed(chain):
            turn = turns.get(self.names[k])
            if turn is not None:
                offset = offset + rotate @ (self.joints[k] - turn @ self.joints[k])
                rotate = rotate @ turn
        return np.column_stack([rotate, offset])

    def reach(
        self,
        turns: dict[str, Array],
        shift_m: Array,
        limb: tuple[str, str, str, str],
        target: Array,
        pole: Array,
    ) -> Array:
        """Bend a limb (its parent bone, upper joint, middle joint, end) so that its end comes to `target`.

        The middle joint points towards the direction `pole`. A target out of reach is approached along the
        line to it. Adds two turns and returns the rotation of the lower bone, 3×3, rest to posed.
        """
        parent, upper, middle, end = limb
        above = self.frame(parent, turns, shift_m)
        first, second, third = (self.joint(b) for b in (upper, middle, end))
        root = above[:, :3] @ first + above[:, 3]
        long, short = float(np.linalg.norm(second - first)), float(np.linalg.norm(third - second))
        away = target - root
        distance = math.sqrt(float(away @ away))
        line = away / distance
        distance = min(max(distance, abs(long - short) * 1.05), (long + short) * 0.998)
        along = (long**2 - short**2 + distance**2) / (2 * distance)  # law of cosines
        aside = pole - line * (pole @ line)
        aside /= math.sqrt(float(aside @ aside))
        bend = root + line * along + aside * math.sqrt(max(long**2 - along**2, 0.0))
        back = above[:, :3].T
        turns[upper] = rotation_between(second - first, back @ (bend - root))
        carried = turns[upper].T @ back @ (root + line * distance - bend)
        turns[middle] = rotation_between(third - second, carried)
        return np.asarray(above[:, :3] @ turns[upper] @ turns[middle])
