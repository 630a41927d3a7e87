"""Training examples as arrays: a pair of clips, what the camera did, and the hints that live use would have.

Runs in worker processes, so it is numpy alone. An example is a function of the settings, the scenes and its
number. Knows nothing of models, noise or batches.

Shapes: T frames, H W rows and columns, K hints.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.camera.geometry import Pose
from engine.data import layout
from engine.data.augment import Augmentation
from engine.data.pairs import Clip, PairDataset
from engine.geometry.pictures import Size, shrunk
from engine.train.scenes import SceneList

if TYPE_CHECKING:
    from engine.engines.depth import Estimator
    from engine.geometry.depth_estimator import Depth, DepthEstimator

TRAIN, HELDOUT = "train", "heldout"
HINTS = 2  # warped by rotation and focal length, warped by depth
DRAWN = 2  # times the model's width and height, where hints are drawn: live it is the show's size

AUGMENTATION = Augmentation(noise=3.0, blur_px=0.4, compression_share=0.3)

# What a depth network gets wrong, in natural logarithms, where there is none yet to train with.
SCALE_ERROR = 0.05
SHAPE_ERROR = 0.12
SHAPE_CELLS = (7, 4)
CONFIDENCE = 0.95  # what such a network says of itself

DATASETS = 8  # of different settings, that stay open


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipSettings:
    """``size`` is the model's. Shares and ``typical_move`` are :class:`PairDataset`'s. ``scenes`` is a
    :class:`SceneList`'s file; None: all that are there now.
    """

    data: Path
    split: str
    size: Size
    frames: int
    stride: int
    seed: int
    loop_share: float = 0.0
    identity_share: float = 0.0
    typical_move: float | None = None
    augment: bool = False
    hints: bool = True
    estimated_depth: bool = True
    scenes: Path | None = None

    @property
    def read_size(self) -> Size:
        """At which pictures are read: with hints, the size at which those are drawn."""
        width, height = self.size
        return (DRAWN * width, DRAWN * height) if self.hints else self.size


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Example:
    """``poses`` are 3×4 camera to world, relative to the source; ``lenses`` the target's fx, fy, cx, cy in
    units of the picture's size. ``seen`` is where the last hint was seen, 255 for surely.
    """

    index: int
    source: NDArray[np.uint8]  # T H W 3
    target: NDArray[np.uint8]  # T H W 3
    poses: NDArray[np.float32]  # T 3 4
    lenses: NDArray[np.float32]  # T 4
    hints: NDArray[np.uint8] | None  # T K H W 3
    seen: NDArray[np.uint8] | None  # T H W


def start_worker() -> None:
    """Ctrl-C is for the process that trains: it ends the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)


def example(settings: ClipSettings, index: int, scene_count: int | None = None) -> Example:
    """Drawn from the first ``scene_count`` scenes of the settings' list."""
    clip = _dataset(settings, scene_count).sample(index)
    hints, seen = hints_of(settings, clip, index) if settings.hints else (None, None)
    return Example(
        index=index,
        source=at_size(clip.source, settings.size),
        target=at_size(clip.target, settings.size),
        poses=np.stack([matrix(pose) for pose in clip.poses]),
        lenses=np.array([layout.normalised(lens) for lens in clip.target_intrinsics], np.float32),
        hints=hints,
        seen=seen,
    )


def matrix(pose: Pose) -> NDArray[np.float32]:
    return np.column_stack([pose.matrix(), pose.translation]).astype(np.float32)


def at_size(pictures: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """T H W 3 at ``size``, averaged as live."""
    return np.stack([shrunk(picture, size) for picture in pictures])


def hints_of(settings: ClipSettings, clip: Clip, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """By the code and in the order of live use, from the first frame of a ``clip`` of the settings'
    ``read_size`` on: T K H W 3 and T H W at the model's.
    """
    from engine.engines.depth import Scene
    from engine.geometry.hints import hints_of_view

    scene = Scene(settings.read_size, _depth_of(settings, clip, index))
    scene.reset()
    hints, seen = [], []
    for frame, lens, pose, distance_m in zip(
        clip.source, clip.source_intrinsics, clip.poses, clip.subject_distance_m, strict=True
    ):
        scene.take(frame, float(distance_m))
        view = shrunk(scene.draw_seen(lens, pose), settings.size)
        small, small_lens = shrunk(frame, settings.size), lens.scaled(*settings.size)
        made = hints_of_view(small, view[..., :3], view[..., 3] / np.float32(255), small_lens, pose)
        hints.append(np.stack([made.rotated, made.warped]))
        seen.append(view[..., 3].copy())
    return np.stack(hints), np.stack(seen)


def _depth_of(settings: ClipSettings, clip: Clip, index: int) -> Estimator:
    if clip.source_inverse_depth is None:
        return _estimator(settings.read_size)
    assert clip.source_matte is not None
    return _Told(
        spoiled_truth(clip.source_inverse_depth, index),
        iter(clip.source_matte * np.float32(1 / 255)),
        iter(clip.subject_distance_m.tolist()),
    )


class _Told:
    """Stands for the depth network where the truth, or something near it, is there."""

    def __init__(
        self,
        inverse_depths: Iterator[NDArray[np.float32]],
        mattes: Iterator[NDArray[np.float32]],
        distances_m: Iterator[float],
    ) -> None:
        self._frames = zip(inverse_depths, mattes, distances_m, strict=True)

    def estimate(self, frame: NDArray[np.uint8]) -> Depth:
        from engine.geometry.depth_estimator import Depth, surface_m

        inverse_depth, matte, distance_m = next(self._frames)
        return Depth(
            inverse_depth, matte, np.full_like(inverse_depth, CONFIDENCE), subject=1 / surface_m(distance_m)
        )

    def reset(self) -> None:
        """It has no past."""


@lru_cache(1)
def _estimator(size: Size) -> DepthEstimator:
    from engine.geometry.depth_estimator import DepthEstimator

    return DepthEstimator(*size)


def spoiled_truth(inverse_depths: NDArray[np.float32], seed: int) -> Iterator[NDArray[np.float32]]:
    """The true depth T H W with errors as a network has them: one of scale and a smooth one of shape for all
    frames, and edges that are not sharp.
    """
    rng = np.random.default_rng((seed, 1))
    size = inverse_depths.shape[:0:-1]
    shape = rng.normal(0, SHAPE_ERROR, SHAPE_CELLS[::-1]).astype(np.float32)
    error = np.exp(cv2.resize(shape, size, interpolation=cv2.INTER_CUBIC) + rng.normal(0, SCALE_ERROR))
    for inverse_depth in inverse_depths:
        yield np.asarray(cv2.blur(inverse_depth, (3, 3)) * error, np.float32)


@lru_cache(DATASETS)
def _dataset(settings: ClipSettings, scene_count: int | None) -> PairDataset:
    return PairDataset(
        settings.data,
        settings.split,
        settings.read_size,
        settings.frames,
        settings.stride,
        settings.seed,
        settings.loop_share,
        identity_share=settings.identity_share,
        typical_move=settings.typical_move,
        augmentation=AUGMENTATION if settings.augment else None,
        depth=settings.hints and not settings.estimated_depth,
        matte=settings.hints and not settings.estimated_depth,
        scenes=None
        if settings.scenes is None or scene_count is None
        else SceneList(settings.scenes).first(scene_count),
    )
