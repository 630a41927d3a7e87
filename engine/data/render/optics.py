"""Matrices of cameras and lights for a card's clip space, and what is outside them. Knows no OpenGL."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from engine.camera.geometry import Intrinsics, Matrix
from engine.data.render import shaders
from engine.data.render.mesh import Floats
from engine.data.render.stage import Light, Stage


def unit(vector: Sequence[float]) -> tuple[float, ...]:
    v = np.asarray(vector, np.float64)
    return tuple(v / np.linalg.norm(v))


def corners(positions: Floats) -> Floats:
    low, high = positions.min(0), positions.max(0)
    return np.array(
        [[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])],
        np.float32,
    )


def outside(clip: Matrix, corners: Floats) -> bool:
    """True if all corners are beyond one and the same side of the view."""
    points = np.concatenate([corners, np.ones((len(corners), 1))], axis=1) @ clip.T
    w = points[:, 3:]
    return bool((points[:, :3] > w).all(0).any() or (points[:, :3] < -w).all(0).any())


def clip_from_camera(lens: Intrinsics) -> Matrix:
    """OpenCV camera → clip space with row 0 at −1, so that the first row of a buffer is the picture's top."""
    w, h, near, far = lens.width, lens.height, shaders.NEAR_M, shaders.FAR_M
    return np.array(
        [
            [2 * lens.fx / w, 0.0, 2 * (lens.cx + 0.5) / w - 1, 0.0],
            [0.0, 2 * lens.fy / h, 2 * (lens.cy + 0.5) / h - 1, 0.0],
            [0.0, 0.0, (far + near) / (far - near), -2 * far * near / (far - near)],
            [0.0, 0.0, 1.0, 0.0],
        ]
    )


def clip_from_light(light: Light, stage: Stage) -> Matrix:
    """World → the light's clip space: a square box around the room for a sun, the beam's cone for a lamp."""
    forward = np.array(unit(light.direction))
    aside = np.array([0.0, 0.0, 1.0]) if abs(forward[1]) > 0.95 else np.array([0.0, 1.0, 0.0])
    right = np.array(unit(tuple(np.cross(aside, forward))))
    turn = np.stack([right, np.cross(forward, right), forward])
    low, high = np.array(stage.low), np.array(stage.high)
    if light.place is None:
        centre, reach = (low + high) / 2, float(np.linalg.norm(high - low)) / 2 + 0.2
        view = np.eye(4)
        view[:3, :3], view[:3, 3] = turn / reach, -turn @ centre / reach
        return view
    view = np.eye(4)
    view[:3, :3], view[:3, 3] = turn, -turn @ np.array(light.place)
    focal, near, far = (
        1 / math.tan(min(light.half_angle, 1.45)),
        0.15,
        float(np.linalg.norm(high - low)) + 1.0,
    )
    return (
        np.array(
            [
                [focal, 0.0, 0.0, 0.0],
                [0.0, focal, 0.0, 0.0],
                [0.0, 0.0, (far + near) / (far - near), -2 * far * near / (far - near)],
                [0.0, 0.0, 1.0, 0.0],
            ]
        )
        @ view
    )
