"""A ray-traced room with exact depth: walls, a floor, a box and a flat person, smoothly textured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.camera.geometry import Intrinsics, Pose

WALL_M, FLOOR_M, SIDE_M = 5.0, 1.3, 3.2  # in front of, under and beside the source camera
CEILING_M = -2.0
PERSON_M = 2.5
BOX = np.array([[-1.6, 0.5, 3.2], [-0.8, 1.3, 3.9]])  # two corners


class Traced(NamedTuple):
    colour: NDArray[np.uint8]  # H W 3
    depth_m: NDArray[np.float32]  # H W, along the axis
    matte: NDArray[np.uint8]  # H W, 255 = person


@dataclass(frozen=True, slots=True)
class Room:
    """Axes are those of the source camera. ``waves_per_m``: how fine the texture is.

    ``person_x_m``: where the person stands; None: nobody is there.
    """

    person_x_m: float | None = 0.0
    waves_per_m: float = 1.5
    box: bool = True

    def trace(self, lens: Intrinsics, pose: Pose = Pose()) -> Traced:  # noqa: B008
        """What a camera there sees; the pose's zoom is on top of the lens."""
        lens = lens.zoomed(pose.zoom)
        x, y = np.meshgrid(np.arange(lens.width), np.arange(lens.height))
        axis_rays = np.dstack([(x - lens.cx) / lens.fx, (y - lens.cy) / lens.fy, np.ones(x.shape)])
        rays = axis_rays @ pose.matrix().T
        origin = np.array(pose.translation)
        depth = np.full(x.shape, np.inf)
        colour = np.zeros((*x.shape, 3))
        planes = ((2, WALL_M), (1, FLOOR_M), (1, CEILING_M), (0, -SIDE_M), (0, SIDE_M))
        for seed, (axis, at) in enumerate(planes):
            distance = _to_plane(rays, origin, axis, at)
            texture = self._texture(rays, origin, distance, axis, seed)
            _paint(colour, depth, distance, np.ones(x.shape, bool), texture)
        if self.box:
            for axis in range(3):
                for corner in BOX[:, axis]:
                    distance = _to_plane(rays, origin, axis, corner)
                    points = origin + rays * np.where(np.isfinite(distance), distance, 0)[..., None]
                    within = ((points > BOX[0] - 1e-6) & (points < BOX[1] + 1e-6)).all(2)
                    texture = self._texture(rays, origin, distance, axis, 6)
                    _paint(colour, depth, distance, within, texture)
        matte = np.zeros(x.shape, bool)
        if self.person_x_m is not None:
            distance = _to_plane(rays, origin, 2, PERSON_M)
            points = origin + rays * np.where(np.isfinite(distance), distance, 0)[..., None]
            matte = _silhouette(points[..., 0] - self.person_x_m, points[..., 1]) & (distance < depth)
            shifted = points - (self.person_x_m, 0.0, 0.0)
            _paint(
                colour, depth, distance, matte, self._waves(shifted[..., 0], shifted[..., 1], 7) * 0.8 + 0.2
            )
        return Traced(
            (colour * 255).round().astype(np.uint8),
            depth.astype(np.float32),
            np.where(matte, 255, 0).astype(np.uint8),
        )

    def _texture(self, rays, origin, distance, axis, seed):
        points = origin + rays * np.where(np.isfinite(distance), distance, 0)[..., None]
        u, v = (points[..., other] for other in range(3) if other != axis)
        return self._waves(u, v, seed)

    def _waves(self, u, v, seed):
        """Sums of waves in all directions, in 0…1: band-limited, so that fetching loses nothing."""
        random = np.random.default_rng(seed)
        base = random.uniform(0.3, 0.7, 3)
        out = np.zeros((*u.shape, 3)) + base
        for _ in range(6):
            angle, phase = random.uniform(0, 2 * np.pi, 2)
            wave = (
                2
                * np.pi
                * self.waves_per_m
                * random.uniform(0.3, 1)
                * (u * np.cos(angle) + v * np.sin(angle))
            )
            out += random.uniform(-0.05, 0.05, 3) * np.sin(wave + phase)[..., None]
        return np.clip(out, 0, 1)


def _to_plane(rays, origin, axis, at):
    """Depth along the axis is the ray's parameter, as rays have z = 1 in the camera's own axes."""
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = (at - origin[axis]) / rays[..., axis]
    return np.where(distance > 0.05, distance, np.inf)


def _paint(colour, depth, distance, within, texture):
    nearer = within & (distance < depth)
    depth[nearer] = distance[nearer]
    colour[nearer] = texture[nearer]


def _silhouette(x, y):
    """A head and shoulders, and a body down to the floor."""
    head = (x / 0.13) ** 2 + ((y + 0.35) / 0.17) ** 2 < 1
    body = (np.abs(x) < 0.28) & (y > -0.12) & (y < FLOOR_M)
    neck = (np.abs(x) < 0.07) & (y > -0.3) & (y < 0)
    return head | body | neck


@pytest.fixture(scope="session")
def room() -> Callable[..., Room]:
    return Room
