"""Where the cameras of a scene are and what lenses they have, from the scene's JSON files.

Knows MultiCamVideo as published, and scenes in our layout alike. Knows nothing of pictures, but that a lens
folder's focal length needs the shape of the video.

Shapes: C cameras, T frames, F of those frames.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.camera.geometry import Intrinsics, Matrix, Pose, Quaternion
from engine.data import layout
from engine.data.decode import Size, Window, video_size
from engine.errors import DataError

Floats = NDArray[np.float64]

# MultiCamVideo does not say how far its person is: its cameras start 3, 5, 7 or 10 m away.
PUBLISHED_SUBJECT_DISTANCE_M = 5.0


@dataclass(frozen=True, eq=False)
class Rig:
    """Where the cameras are and what lenses they have, frame by frame."""

    camera_to_world: Floats  # C T 4 4, OpenCV, metres
    lenses: Floats  # C T 4: fx/W, fy/H, (cx + ½)/W, (cy + ½)/H
    subject_distance_m: Floats  # C T, along the camera's axis

    @property
    def cameras(self) -> int:
        return int(self.camera_to_world.shape[0])

    @property
    def frames(self) -> int:
        return int(self.camera_to_world.shape[1])

    def intrinsics(self, camera: int, frame: int, size: Size) -> Intrinsics:
        return layout.from_normalised(self.lenses[camera, frame].tolist(), *size)

    def relative_pose(self, source: int, target: int, frame: int) -> Pose:
        """The target's camera relative to the source's at one instant; zoom is the ratio of focal lengths."""
        relative = rigid_inverse(self.camera_to_world[source, frame]) @ self.camera_to_world[target, frame]
        x, y, z = relative[:3, 3].tolist()
        zoom = float(self.lenses[target, frame, 0] / self.lenses[source, frame, 0])
        return Pose(quaternion(relative[:3, :3]), (x, y, z), zoom)

    def move_sizes(self, frames: Sequence[int]) -> Floats:
        """How far each camera (second) is from each (first), C C F: shares of the first's subject distance,
        radians, and the zoom's logarithm, added up. Zero is the same view.
        """
        poses = self.camera_to_world[:, frames]  # C F 4 4
        rotations, places = poses[..., :3, :3], poses[..., :3, 3]
        cosines = (np.einsum("afij,bfij->abf", rotations, rotations) - 1) / 2  # trace(R_aᵀ R_b) = 1 + 2 cos
        angles = np.arccos(np.clip(cosines, -1, 1))
        ways = (
            np.linalg.norm(places[None] - places[:, None], axis=-1) / self.subject_distance_m[:, None, frames]
        )
        logs = np.log(self.lenses[:, frames, 0])
        sizes: Floats = angles + ways + np.abs(logs[None] - logs[:, None])
        return sizes

    def seen_through(self, stored: Size, window: Window) -> Rig:
        """The rig of the same pictures when only a window of them is kept."""
        scale = np.array([stored[0] / window.width, stored[1] / window.height] * 2)
        origin = np.array([0.0, 0.0, window.left / stored[0], window.top / stored[1]])
        return Rig(self.camera_to_world, (self.lenses - origin) * scale, self.subject_distance_m)


def read_rig(scene: Path) -> Rig:
    """From a scene's JSON files, with what the public data set does not have filled in."""
    texts = _read_table(layout.extrinsics_path(scene))
    camera_to_world = np.array([[_pose(scene, text) for text in camera] for camera in texts])
    shape = camera_to_world.shape[:2]
    if layout.intrinsics_path(scene).is_file():
        path = layout.intrinsics_path(scene)
        lenses = _shaped(path, _read_table(path), (*shape, 4))
    else:
        lens = layout.lens_intrinsics(scene.parent.name, *video_size(layout.video_path(scene, 0)))
        lenses = np.broadcast_to(layout.normalised(lens), (*shape, 4)).copy()
    return Rig(camera_to_world, lenses, _subject_distances(scene, shape))


def quaternion(rotation: Matrix) -> Quaternion:
    """w x y z of a rotation matrix, w ≥ 0; of the nearest rotation, where the matrix is rounded.

    The eigenvector of the largest eigenvalue of K₃: Bar-Itzhack, *New Method for Extracting the Quaternion
    from a Rotation Matrix*, 2000.
    """
    r = rotation
    k = np.array(
        [
            [r[0, 0] + r[1, 1] + r[2, 2], r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]],
            [0.0, r[0, 0] - r[1, 1] - r[2, 2], r[1, 0] + r[0, 1], r[0, 2] + r[2, 0]],
            [0.0, 0.0, r[1, 1] - r[0, 0] - r[2, 2], r[2, 1] + r[1, 2]],
            [0.0, 0.0, 0.0, r[2, 2] - r[0, 0] - r[1, 1]],
        ]
    )
    w, x, y, z = np.linalg.eigh(k, UPLO="U")[1][:, -1].tolist()
    return (w, x, y, z) if w >= 0 else (-w, -x, -y, -z)


def rigid_inverse(camera_to_world: Matrix) -> Matrix:
    inverse = np.eye(4)
    inverse[:3, :3] = camera_to_world[:3, :3].T
    inverse[:3, 3] = -inverse[:3, :3] @ camera_to_world[:3, 3]
    return inverse


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: this is no scene of MultiCamVideo's layout") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} must hold an object, not {type(found).__name__}")
    return found


def _read_table(path: Path) -> list[list[Any]]:
    """frame{i} → cam{k} → value, as [camera][frame]."""
    table = _read_json(path)
    frames = [layout.frame_name(i) for i in range(len(table))]
    cameras = [layout.camera_name(i) for i in range(len(table.get("frame0", ())))]
    if not cameras:
        raise DataError(f"{path} has no cameras in frame0")
    try:
        return [[table[frame][camera] for frame in frames] for camera in cameras]
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{path} must have frame0 to {frames[-1]}, each with cam01 to {cameras[-1]}; missing: {error}"
        ) from error


def _pose(scene: Path, text: object) -> Matrix:
    try:
        return layout.from_published(str(text))
    except (DataError, ValueError) as error:
        raise DataError(f"{layout.extrinsics_path(scene)}: {error}") from error


def _subject_distances(scene: Path, shape: tuple[int, ...]) -> Floats:
    path = layout.description_path(scene)
    if not path.is_file():
        return np.full(shape, PUBLISHED_SUBJECT_DISTANCE_M)
    table = _read_json(path).get("subject_distance_m")
    if not isinstance(table, dict):
        raise DataError(f"{path} must have subject_distance_m: cam01 … → metres for each frame")
    distances = _shaped(path, [table.get(layout.camera_name(i)) for i in range(shape[0])], shape)
    if not np.all(distances > 0):
        raise DataError(f"{path} has subject_distance_m that are not positive")
    return distances


def _shaped(path: Path, values: list[Any], shape: tuple[int, ...]) -> Floats:
    try:
        array = np.array(values, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path} must hold numbers for every camera and frame: {error}") from error
    if array.shape != shape or not np.all(np.isfinite(array)):
        raise DataError(f"{path} must hold {shape} finite numbers as the extrinsics do, not {array.shape}")
    return array
