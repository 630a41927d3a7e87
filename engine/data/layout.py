"""Names, matrices and depth of a scene on disk: MultiCamVideo's published layout, and what is added to it.

    {root}/{split}/{lens}/scene{N}/videos/cam01.mp4 … cam10.mp4
    …/cameras/camera_extrinsics.json   published: frame{i} → cam01 … → text of a matrix
    …/cameras/camera_intrinsics.json   ours: frame{i} → cam01 … → [fx, fy, cx, cy], normalised
    …/depth/cam01.mkv                  ours: FFV1 gray16le
    …/matte/cam01.mkv                  ours: FFV1 gray, 255 = person
    …/scene.json                       ours: written last; a scene of ours without it is unfinished;
                                       subject_distance_m: cam01 … → a number above zero for each frame

The published matrices are Unreal's: left-handed (x forward, y right, z up), centimetres, row vectors. Ours
are OpenCV's: right-handed (x right, y down, z forward), metres, column vectors, camera to world.
ReCamMaster's recipe (arXiv 2503.11647) turns only the camera's axes and leaves the world Unreal's, so its
matrices mirror space and have determinant −1; relative ones do not. Here the world is turned as well:
relative poses are the same numbers, every matrix is a rotation, and up is −y.

Knows nothing of pictures and opens no videos: the renderer writes, and the reader reads, through this file.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.camera.geometry import Intrinsics, Matrix
from engine.errors import DataError

FPS = 15
FRAMES = 81
CAMERAS = 10
SIZE = (224, 128)  # width and height of what we render: twice the mini's, so that its pixels are 2×2 averages
SENSOR_WIDTH_MM = 23.76
LENSES = {"f18_aperture10": 18.0, "f24_aperture5": 24.0, "f35_aperture2.4": 35.0, "f50_aperture2.4": 50.0}

NEAREST_DEPTH_M = 0.25  # stored as 65535
DEPTH_UNIT_PER_M = NEAREST_DEPTH_M * 65535
CENTIMETRES_PER_M = 100.0
ROUNDING_OF_TEXT = 1e-3  # the public files have six significant digits; ours are better
DIGITS = 10  # behind the point in the extrinsics: a tenth of a nanoradian, and a picometre

# Unreal's (forward, right, up) → OpenCV's (right, down, forward). It mirrors, as Unreal is left-handed; it
# turns the camera's axes (from the right) and the world's (from the left), so that a pose is mirrored twice.
TO_OPENCV: Matrix = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])


def camera_name(index: int) -> str:
    """``cam01`` for the camera of index 0."""
    return f"cam{index + 1:02d}"


def frame_name(index: int) -> str:
    return f"frame{index}"


def scene_folder(root: Path, split: str, lens: str, number: int) -> Path:
    if lens not in LENSES:
        raise ValueError(f"the lens is one of {', '.join(LENSES)}, not {lens!r}")
    return root / split / lens / f"scene{number}"


def video_path(scene: Path, camera: int) -> Path:
    return scene / "videos" / f"{camera_name(camera)}.mp4"


def depth_path(scene: Path, camera: int) -> Path:
    return scene / "depth" / f"{camera_name(camera)}.mkv"


def matte_path(scene: Path, camera: int) -> Path:
    return scene / "matte" / f"{camera_name(camera)}.mkv"


def extrinsics_path(scene: Path) -> Path:
    return scene / "cameras" / "camera_extrinsics.json"


def intrinsics_path(scene: Path) -> Path:
    return scene / "cameras" / "camera_intrinsics.json"


def description_path(scene: Path) -> Path:
    return scene / "scene.json"


def is_finished(scene: Path) -> bool:
    """Ours has its scene.json; a published scene has extrinsics and none of the files that only we write."""
    if description_path(scene).is_file():
        return True
    ours = (intrinsics_path(scene), scene / "depth", scene / "matte")
    return extrinsics_path(scene).is_file() and not any(path.exists() for path in ours)


def scene_folders(root: Path, split: str) -> list[Path]:
    """The finished scenes of a split, by lens and then by number (scene2 before scene10)."""

    def order(scene: Path) -> tuple[str, int, str]:
        digits = re.search(r"\d+$", scene.name)
        return scene.parent.name, int(digits.group()) if digits else -1, scene.name

    return sorted((s for s in (root / split).glob("*/scene*") if is_finished(s)), key=order)


def lens_intrinsics(lens: str, width: int, height: int) -> Intrinsics:
    """A lens folder's view at a size; square pixels, so a picture of another shape has the sensor's width."""
    if lens not in LENSES:
        raise DataError(
            f"the folder {lens!r} names no lens of MultiCamVideo ({', '.join(LENSES)}) and its scenes "
            "have no camera_intrinsics.json: name the folder by its lens, or write the intrinsics"
        )
    focal_px = LENSES[lens] / SENSOR_WIDTH_MM * width
    return Intrinsics(focal_px, focal_px, (width - 1) / 2, (height - 1) / 2, width, height)


def normalised(intrinsics: Intrinsics) -> list[float]:
    """fx/W, fy/H, (cx + ½)/W, (cy + ½)/H: what camera_intrinsics.json holds."""
    i = intrinsics
    return [i.fx / i.width, i.fy / i.height, (i.cx + 0.5) / i.width, (i.cy + 0.5) / i.height]


def from_normalised(values: list[float], width: int, height: int) -> Intrinsics:
    """The inverse of :func:`normalised`, at any size."""
    fx, fy, cx, cy = values
    return Intrinsics(fx * width, fy * height, cx * width - 0.5, cy * height - 0.5, width, height)


def to_published(camera_to_world: Matrix) -> str:
    """Our pose (4×4) → ``[r r r 0] [r r r 0] [r r r 0] [tx ty tz 1]``: row vectors, Unreal's axes, cm."""
    rotation = TO_OPENCV.T @ camera_to_world[:3, :3] @ TO_OPENCV
    centre_cm = TO_OPENCV.T @ camera_to_world[:3, 3] * CENTIMETRES_PER_M
    rows = [*((row, "0") for row in rotation.T), (centre_cm, "1")]
    return " ".join(f"[{' '.join(_number(v) for v in row)} {last}]" for row, last in rows)


def from_published(text: str) -> Matrix:
    """The inverse of :func:`to_published`: a rigid 4×4, camera to world."""
    rows = np.array([[float(v) for v in row.split()] for row in re.findall(r"\[([^\[\]]*)\]", text)])
    if rows.shape != (4, 4):
        raise DataError(f"a camera's matrix is four rows of four numbers in brackets, not {text[:120]!r}")
    unreal = rows.T
    camera_to_world = np.eye(4)
    camera_to_world[:3, :3] = TO_OPENCV @ unreal[:3, :3] @ TO_OPENCV.T
    camera_to_world[:3, 3] = TO_OPENCV @ unreal[:3, 3] / CENTIMETRES_PER_M
    drift = np.abs(camera_to_world[:3, :3] @ camera_to_world[:3, :3].T - np.eye(3)).max()
    if not drift < ROUNDING_OF_TEXT:
        raise DataError(f"a camera's axes must be at right angles and of length one, not {text[:120]!r}")
    if np.linalg.det(camera_to_world[:3, :3]) < 0:
        raise DataError(f"this camera is mirrored (its second row, its right, points left): {text[:120]!r}")
    return camera_to_world


def encode_depth(depth_m: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Metres along the optical axis, or infinity → round(65535 · 0.25 m / z), at most 65535."""
    if not np.all(depth_m > 0):
        raise ValueError("depth is positive metres; infinity stands for nothing there")
    stored: NDArray[np.uint16] = np.rint(np.minimum(DEPTH_UNIT_PER_M / depth_m, 65535.0)).astype(np.uint16)
    return stored


def decode_inverse_depth(stored: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Stored values → 1/m, 0 where infinitely far."""
    inverse_m: NDArray[np.float32] = stored.astype(np.float32) * np.float32(1 / DEPTH_UNIT_PER_M)
    return inverse_m


def _number(value: float) -> str:
    """Shortest text of a number rounded to DIGITS; never a minus zero or an exponent."""
    rounded = round(float(value), DIGITS) + 0.0
    if not math.isfinite(rounded):
        raise ValueError(f"a pose has finite numbers only, not {value}")
    return np.format_float_positional(rounded, trim="-")
