"""Real footage, of which nobody knows the truth: what can be said without one.

A still virtual camera must show the source; a turning and zooming one has its exact homography; and seen from
beside the real camera, what stands still in the source must stand still in the output. Lens and distance are
assumed, as an operator would set them. Knows nothing of how methods work.

Shapes: T frames, H W rows and columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import av.error
import cv2
import numpy as np

from engine.camera.geometry import Intrinsics, Pose, plane_homography
from engine.data.decode import Size, averaged, centred_window
from engine.errors import DataError
from engine.eval.baselines import Plane, Rotation
from engine.eval.cases import Shot
from engine.eval.gallery import Gallery
from engine.eval.methods import Method, render_timed
from engine.eval.metrics import Mask, psnr
from engine.eval.records import Record
from engine.frames import Pixels

FOV = math.radians(60)
DISTANCE_M = 2.0
MOST_FRAMES = 90
SWEEP = Pose.from_angles(pan=math.radians(10), tilt=math.radians(3), zoom=1.25)  # at its end
BESIDE = 0.25  # of the distance: how far the camera goes to the side, looking back at the subject
TURN_FRAMES = 60  # of one sweep to and fro
STILL_CODES = 4.0  # of the source's change from frame to frame, blurred: its noise
MARGIN_PX = 3


def measure_footage(
    path: Path,
    size: Size,
    methods: Sequence[Method],
    gallery: Gallery | None = None,
    done: Callable[[int, str], object] = lambda frames, what: None,
) -> list[Record]:
    source = read_frames(path, size)
    exact = list(Rotation().render(_sweep(source)))
    around = [_covered(pose, source[0].shape) for pose in _sweep(source).poses]
    flat = list(Plane().render(_beside(source, moving=False)))
    records = []
    made: dict[str, Sequence[Pixels]] = {}
    for method in methods:
        still, _ = render_timed(method, _shot(source, [Pose()] * len(source)))
        turned, _ = render_timed(method, _sweep(source))
        beside, _ = render_timed(method, _beside(source, moving=False))
        made[method.name], _ = render_timed(method, _beside(source, moving=True))
        figures = {
            "identity_db": _mean([psnr(ours, theirs) for ours, theirs in zip(still, source, strict=True)]),
            "rotation_db": _mean([psnr(*pictures) for pictures in zip(turned, exact, around, strict=True)]),
            "unrest": unrest(beside, flat),
        }
        records.append(
            Record(
                section="footage",
                method=method.name,
                case=path.name,
                scene=path.name,
                family="real footage",
                move="real footage",
                figures=figures,
            )
        )
        done(4 * len(source), f"{method.name} on {path.name}")
    if gallery is not None:
        gallery.show(path.name, "real footage", "from side to side", source, made)
    return records


def unrest(frames: Sequence[Pixels], flat: Sequence[Pixels]) -> float:
    """Mean |change| from one frame to the next where the source, warped flat to the same view, stands still:
    in code values, the source's own noise included.
    """
    found = []
    for i in range(1, len(frames)):
        still = _still(flat[i - 1], flat[i])
        if still.any():
            change = np.abs(frames[i].astype(np.float32) - frames[i - 1]).mean(axis=2)
            found.append(float(change[still].mean()))
    return _mean(found)


def read_frames(path: Path, size: Size) -> list[Pixels]:
    """The clip's beginning, cut to the size's shape and averaged to it."""
    frames: list[Pixels] = []
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                picture = frame.to_ndarray(format="rgb24")
                window = centred_window((picture.shape[1], picture.shape[0]), size)
                frames.append(np.asarray(averaged(picture, window, size), np.uint8))
                if len(frames) == MOST_FRAMES:
                    break
    except (av.error.FFmpegError, OSError, IndexError) as error:
        raise DataError(f"{path} cannot be read as a video: {error}") from error
    if len(frames) < 2:
        raise DataError(f"{path} has {len(frames)} frames; footage to look at has at least 2")
    return frames


def _shot(source: Sequence[Pixels], poses: Sequence[Pose]) -> Shot:
    height, width = source[0].shape[:2]
    lens = Intrinsics.from_horizontal_fov(width, height, FOV)
    frames = len(source)
    return Shot(source=source, poses=poses, lenses=[lens] * frames, distances_m=[DISTANCE_M] * frames)


def _sweep(source: Sequence[Pixels]) -> Shot:
    """Pan, tilt and zoom, in and out."""
    end = SWEEP.angles()
    shares = [math.sin(math.pi * i / TURN_FRAMES) for i in range(len(source))]
    return _shot(
        source,
        [
            Pose.from_angles(pan=end.pan * s, tilt=end.tilt * abs(s), zoom=SWEEP.zoom ** abs(s))
            for s in shares
        ],
    )


def _beside(source: Sequence[Pixels], *, moving: bool) -> Shot:
    """From the side, looking at the subject; ``moving``: from one side to the other and back."""
    shares = [math.sin(2 * math.pi * i / TURN_FRAMES) if moving else 1.0 for i in range(len(source))]
    return _shot(
        source,
        [
            Pose.from_angles(pan=-math.atan(BESIDE * s), translation=(BESIDE * DISTANCE_M * s, 0.0, 0.0))
            for s in shares
        ],
    )


def _covered(pose: Pose, shape: tuple[int, ...]) -> Mask:
    """H W: where a turned view shows the source and not what lies beyond it."""
    height, width = shape[:2]
    lens = Intrinsics.from_horizontal_fov(width, height, FOV)
    inside = np.zeros((height, width), np.uint8)
    inside[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX] = 255
    shown = cv2.warpPerspective(inside, plane_homography(lens, lens, pose, DISTANCE_M), (width, height))
    return np.asarray(shown == 255)


def _still(before: Pixels, after: Pixels) -> Mask:
    change = np.abs(before.astype(np.float32) - after).max(axis=2)
    return np.asarray(cv2.dilate(cv2.GaussianBlur(change, (0, 0), 1.0), np.ones((5, 5))) < STILL_CODES)


def _mean(values: Sequence[float]) -> float:
    there = [value for value in values if not math.isnan(value)]
    return sum(there) / len(there) if there else math.nan
