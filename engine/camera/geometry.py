"""Poses, lenses and the homography of a plane. Knows nothing of time, presets or pictures.

OpenCV axes: x right, y down, z forward; metres and radians. A pose is the virtual camera relative
to the real camera at the same instant (camera to world), so the identity shows exactly the source.
Operators' signs: pan is positive to the right, tilt upwards, roll clockwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Quaternion = tuple[float, float, float, float]  # w x y z, of length one
Vector = tuple[float, float, float]

NEAREST_PLANE = 0.05  # of the plane's distance: a camera closer to (or behind) its plane sees no plane


class Angles(NamedTuple):
    """Pan (right), tilt (up) and roll (clockwise) in radians, applied in this order."""

    pan: float
    tilt: float
    roll: float


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the virtual camera is, relative to the real one.

    ``rotation`` and ``translation`` take camera points to the real camera's axes; ``zoom`` is the
    virtual focal length over the real one (2 shows half the angle's tangent).
    """

    rotation: Quaternion = (1.0, 0.0, 0.0, 0.0)
    translation: Vector = (0.0, 0.0, 0.0)
    zoom: float = 1.0

    @classmethod
    def from_angles(
        cls,
        pan: float = 0.0,
        tilt: float = 0.0,
        roll: float = 0.0,
        translation: Vector = (0.0, 0.0, 0.0),
        zoom: float = 1.0,
    ) -> Pose:
        """R = R_y(pan) · R_x(tilt) · R_z(roll)."""
        y = (math.cos(pan / 2), 0.0, math.sin(pan / 2), 0.0)
        x = (math.cos(tilt / 2), math.sin(tilt / 2), 0.0, 0.0)
        z = (math.cos(roll / 2), 0.0, 0.0, math.sin(roll / 2))
        return cls(multiply(multiply(y, x), z), translation, zoom)

    @classmethod
    def from_array(cls, values: NDArray[np.float64]) -> Pose:
        """The inverse of :meth:`to_array`."""
        w, x, y, z, tx, ty, tz, zoom = (float(v) for v in values)
        return cls((w, x, y, z), (tx, ty, tz), zoom)

    def to_array(self) -> NDArray[np.float64]:
        """Eight numbers: quaternion w x y z, translation x y z, zoom."""
        return np.array([*self.rotation, *self.translation, self.zoom])

    def matrix(self) -> Matrix:
        """The rotation, 3×3, camera to world."""
        w, x, y, z = self.rotation
        return np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
            ]
        )

    def angles(self) -> Angles:
        """Pan in (−π, π], tilt in [−π/2, π/2], roll in (−π, π]."""
        r = self.matrix()
        return Angles(
            pan=math.atan2(r[0, 2], r[2, 2]),
            tilt=math.asin(max(-1.0, min(1.0, -r[1, 2]))),
            roll=math.atan2(r[1, 0], r[1, 1]),
        )


IDENTITY = Pose()


def multiply(a: Quaternion, b: Quaternion) -> Quaternion:
    """The Hamilton product: first b, then a."""
    aw, ax, ay, az = a
    bw, bx, by, bz = b
    return (
        aw * bw - ax * bx - ay * by - az * bz,
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
    )


def conjugate(q: Quaternion) -> Quaternion:
    """The inverse of a unit quaternion."""
    w, x, y, z = q
    return (w, -x, -y, -z)


def exponential(rotation_vector: Vector) -> Quaternion:
    """The turn by |v| radians about v."""
    x, y, z = rotation_vector
    half = math.sqrt(x * x + y * y + z * z) / 2
    scale = 0.5 * (math.sin(half) / half if half > 1e-8 else 1.0)
    return (math.cos(half), x * scale, y * scale, z * scale)


def logarithm(q: Quaternion) -> Vector:
    """The shortest rotation vector of q (or of −q, which is the same turn)."""
    w, x, y, z = q if q[0] >= 0 else (-q[0], -q[1], -q[2], -q[3])
    sine = math.sqrt(x * x + y * y + z * z)
    scale = 2 * math.atan2(sine, w) / sine if sine > 1e-12 else 2.0
    return (x * scale, y * scale, z * scale)


@dataclass(frozen=True, slots=True)
class Intrinsics:
    """A pinhole lens in pixels. Pixel centres are at whole numbers, the middle at (size − 1) / 2."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    @classmethod
    def from_horizontal_fov(cls, width: int, height: int, fov: float) -> Intrinsics:
        """Square pixels, the axis in the middle; ``fov`` in radians, 0 < fov < π."""
        f = width / 2 / math.tan(fov / 2)
        return cls(f, f, (width - 1) / 2, (height - 1) / 2, width, height)

    def scaled(self, width: int, height: int) -> Intrinsics:
        """The same view sampled at another size (the aspect ratio may change)."""
        sx, sy = width / self.width, height / self.height
        return Intrinsics(
            self.fx * sx, self.fy * sy, (self.cx + 0.5) * sx - 0.5, (self.cy + 0.5) * sy - 0.5, width, height
        )

    def zoomed(self, zoom: float) -> Intrinsics:
        """A longer lens (zoom > 1) on the same sensor."""
        return Intrinsics(self.fx * zoom, self.fy * zoom, self.cx, self.cy, self.width, self.height)

    def matrix(self) -> Matrix:
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    def inverse(self) -> Matrix:
        return np.array(
            [[1 / self.fx, 0.0, -self.cx / self.fx], [0.0, 1 / self.fy, -self.cy / self.fy], [0.0, 0.0, 1.0]]
        )


def plane_homography(source: Intrinsics, target: Intrinsics, pose: Pose, distance_m: float) -> Matrix:
    """Source pixels → pixels of the virtual camera, 3×3, for the plane z = ``distance_m``.

    H = K_t · Rᵀ · (I − t·nᵀ/d) · K_s⁻¹ with n = (0, 0, 1): Hartley and Zisserman, *Multiple View
    Geometry*, eq. 13.2, for a camera-to-world pose. Exact for rotation and zoom, whatever the
    distance. The third homogeneous coordinate is positive where the plane is in front of the
    virtual camera.
    """
    tx, ty, tz = pose.translation
    forward = min(tz / distance_m, 1 - NEAREST_PLANE)
    plane = np.array([[1.0, 0.0, -tx / distance_m], [0.0, 1.0, -ty / distance_m], [0.0, 0.0, 1.0 - forward]])
    homography: Matrix = target.zoomed(pose.zoom).matrix() @ pose.matrix().T @ plane @ source.inverse()
    return homography
