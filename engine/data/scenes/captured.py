"""Captured movements: clips of the humanoid of PyBullet's data, carried over to our skeleton.

Knows the clips' file, their joints and axes (x forwards, y up, z to the person's right; DeepMimic's
humanoid: Peng et al. 2018, "DeepMimic", section 5). Knows nothing of meshes.

A clip is T rows of 43: the root's place, then the rotations of root, chest, neck, and, for each side (right
first), hip, knee, ankle, shoulder, elbow; quaternions w x y z but for knees and elbows, which are angles
about z.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import numpy as np

from engine.data.scenes.skeleton import DOWN, Array, Skeleton, Stance, rotation_between

CLIPS = ("dance_a", "dance_b", "jump", "kick", "punch")
FILE = Path(__file__).parents[1] / "pack" / "clips.npz"
HIP_M = 0.83  # of the humanoid, above its soles

# Columns of a row, without the root's place in 0..2.
ROOT, CHEST, NECK = 3, 7, 11
HIP, KNEE, ANKLE, SHOULDER, ELBOW = 0, 4, 5, 9, 13  # within a side
SIDES = (("R", 15), ("L", 29))
OURS = np.array([[0.0, 0.0, -1.0], [0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]])  # the clips' axes in ours


@lru_cache(maxsize=1)
def _clips() -> dict[str, tuple[Array, float]]:
    with np.load(FILE) as stored:
        return {name: (stored[name].astype(float), float(stored[f"{name}/frame_s"])) for name in CLIPS}


def _turn(quaternion: Array) -> Array:
    """3×3, in our axes."""
    w, x, y, z = quaternion / math.sqrt(float(quaternion @ quaternion))
    matrix = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    return np.asarray(OURS @ matrix @ OURS.T)


def _hinge(angle_rad: float) -> Array:
    return _turn(np.array([math.cos(angle_rad / 2), 0.0, 0.0, math.sin(angle_rad / 2)]))


def _row(clip: str, time_s: float) -> Array:
    """The clip at a time, forth and back, slowing down where it turns round."""
    rows, frame_s = _clips()[clip]
    length_s = frame_s * (len(rows) - 1)
    angle = math.pi * time_s / length_s
    # Blends uniform play with a cosine, so that the reversal is no jerk.
    there = abs((time_s / length_s + 1) % 2 - 1)
    eased = 0.5 - 0.5 * math.cos(angle)
    at = (0.35 * eased + 0.65 * there) * (len(rows) - 1)
    low = min(int(at), len(rows) - 2)
    share, a, b = at - low, rows[low], rows[low + 1].copy()
    for start in (ROOT, CHEST, NECK, *(base + k for _, base in SIDES for k in (HIP, ANKLE, SHOULDER))):
        if a[start : start + 4] @ b[start : start + 4] < 0:  # q and -q are one rotation: take the near one
            b[start : start + 4] *= -1
    return np.asarray((1 - share) * a + share * b)


def captured_stance(clip: str, time_s: float, skeleton: Skeleton) -> Stance:
    """Our skeleton in the clip's posture: limbs take the clip's orientations, hips its place, scaled to the
    legs."""
    row, start = _row(clip, time_s), _clips()[clip][0][0]
    root = _turn(row[ROOT : ROOT + 4])
    chest = root @ _turn(row[CHEST : CHEST + 4])
    posed = {"root": root, "spine03": chest, "neck01": chest @ _turn(row[NECK : NECK + 4])}
    for side, base in SIDES:
        hip = root @ _turn(row[base + HIP : base + HIP + 4])
        knee = hip @ _hinge(row[base + KNEE])
        shoulder = chest @ _turn(row[base + SHOULDER : base + SHOULDER + 4])
        posed |= {
            f"upperleg01.{side}": hip,
            f"lowerleg01.{side}": knee,
            f"foot.{side}": knee @ _turn(row[base + ANKLE : base + ANKLE + 4]),
            f"upperarm01.{side}": shoulder,
            f"lowerarm01.{side}": shoulder @ _hinge(row[base + ELBOW]),
        }
    scale = abs(float(skeleton.joint("upperleg01.L")[1])) / HIP_M
    place = OURS @ (row[:3] - start[:3] * (1, 0, 1)) * scale
    hips = 0.5 * (skeleton.joint("upperleg01.L") + skeleton.joint("upperleg01.R"))
    return Stance(turns=_local(posed, skeleton), shift_m=place - hips)


def _local(posed: dict[str, Array], skeleton: Skeleton) -> dict[str, Array]:
    """Local turns from orientations. The clips' limbs hang straight down at rest, ours do not quite."""
    ends = {
        "upperleg01": "lowerleg01",
        "lowerleg01": "foot",
        "upperarm01": "lowerarm01",
        "lowerarm01": "wrist",
    }
    turns: dict[str, Array] = {}
    world: list[Array] = []
    for bone, parent in zip(skeleton.names, skeleton.parents, strict=True):
        above = world[parent] if parent >= 0 else np.eye(3)
        now = above
        if bone in posed:
            stem, _, side = bone.partition(".")
            now = posed[bone]
            if stem in ends:
                rest = skeleton.joint(f"{ends[stem]}.{side}") - skeleton.joint(bone)
                now = now @ rotation_between(rest, DOWN)
            turns[bone] = above.T @ now
        world.append(now)
    return turns
