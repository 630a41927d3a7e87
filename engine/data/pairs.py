"""Pairs of synchronised clips for training: what a camera saw, and what another saw at the same instants.

`PairDataset.sample(index)` is a pure function of the seed, the index and the scenes, so that a run that
resumes at an index goes on as if it had never stopped. numpy, no torch. Knows nothing of models, hints or
batches.

Shapes: T frames, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.camera.geometry import Intrinsics, Pose
from engine.data import layout
from engine.data.augment import Augmentation, change_colours, draw_window, mirrored_lens, mirrored_pose, spoil
from engine.data.decode import Bytes, Size, Window, centred_window
from engine.data.loopaug import SAME_VIEW, Plan, loop, straight
from engine.data.multicam import MultiCamScene, PackedScene, Scene, cache_folder
from engine.data.rig import Rig
from engine.errors import DataError

OPEN_SCENES = 1024  # whose rigs are kept: 0.15 MB each
PACKED_PIXELS = 256 * 144  # of a picture, at most, in the cache: at this size a scene takes 180 MB of it


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """``poses`` are the target's relative to the source's at the same instant. The lenses are the true ones,
    so that a target's has the zoom in it: it is ``source.zoomed(pose.zoom)``, if their axes agree.
    """

    source: Bytes  # T H W 3, RGB
    target: Bytes  # T H W 3
    poses: list[Pose]
    source_intrinsics: list[Intrinsics]
    target_intrinsics: list[Intrinsics]
    subject_distance_m: NDArray[np.float32]  # T, along the source's axis
    source_inverse_depth: NDArray[np.float32] | None  # T H W, 1/m, 0 is infinity
    source_matte: Bytes | None  # T H W, 255 is a person
    scene: Path
    plan: Plan


class PairDataset:
    """Clips of ``frames`` frames, ``stride`` frames of the recording apart, at ``size`` (width, height).

    Shares are probabilities. ``loop_share``: LoopAug. ``identity_share``: the target is the source's camera.
    ``typical_move`` prefers near targets, as a live show uses them: a target at distance d (`Rig.move_sizes`)
    weighs exp(−d / typical_move); None makes all alike.

    ``packed``: read from (and fill) the cache of raw pictures at ``size``; None: unless that is so big that
    decoding the videos each time is the lesser evil.
    ``scenes``: if not given, the finished ones; a run that resumes while more are rendered gives its own.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        size: Size,
        frames: int,
        stride: int,
        seed: int,
        loop_share: float = 0.0,
        *,
        identity_share: float = 0.0,
        typical_move: float | None = None,
        augmentation: Augmentation | None = None,
        depth: bool = False,
        matte: bool = False,
        packed: bool | None = None,
        scenes: Sequence[Path] | None = None,
    ) -> None:
        if frames < 1 or stride < 1 or seed < 0:
            raise ValueError(f"frames and stride are at least 1, the seed 0; not {frames}, {stride}, {seed}")
        if loop_share and frames < 3:
            raise ValueError(f"a loop has at least 3 frames, not {frames}")
        if not (0 <= loop_share <= 1 and 0 <= identity_share <= 1):
            raise ValueError("shares are probabilities, from 0 to 1")
        if typical_move is not None and not typical_move > 0:
            raise ValueError(f"typical_move is above zero, not {typical_move}")
        self.root = root
        self.size = size
        self.frames = frames
        self.stride = stride
        self.seed = seed
        self.scenes = list(layout.scene_folders(root, split) if scenes is None else scenes)
        if not self.scenes:
            raise DataError(f"{root / split} has no finished scene: render some with `data render`")
        self._loop_share, self._identity_share = loop_share, identity_share
        self._typical_move = typical_move
        self._augmentation = augmentation
        self._depth, self._matte = depth, matte
        self._packed = size[0] * size[1] <= PACKED_PIXELS if packed is None else packed
        self._open = lru_cache(OPEN_SCENES)(self._opened)

    def sample(self, index: int) -> Clip:
        """The clip of that index: always the same for the same seed and scenes."""
        rng = np.random.default_rng((self.seed, index))
        scene = self._open(int(rng.integers(len(self.scenes))))
        return self._clip(scene, self._plan(scene, rng), rng)

    def _opened(self, number: int) -> Scene:
        path = self.scenes[number]
        scene: Scene = (
            PackedScene(path, cache_folder(self.root, path, self.size), self.size)
            if self._packed
            else MultiCamScene(path)
        )
        needed = (self.frames - 1) * self.stride + 1
        if scene.rig.frames < needed or scene.rig.cameras < 2:
            raise DataError(
                f"{path} has {scene.rig.cameras} cameras and {scene.rig.frames} frames, but a pair of "
                f"{self.frames} frames, {self.stride} apart, needs 2 and {needed}"
            )
        return scene

    def _plan(self, scene: Scene, rng: np.random.Generator) -> Plan:
        rig = scene.rig
        is_loop = rng.random() < self._loop_share
        start = int(rng.integers(rig.frames - (self.frames - 1) * self.stride))
        source, target = self._cameras(rig, rng, start)
        if not is_loop:
            return straight(source, target, start, self.frames, self.stride)
        return loop(
            rng,
            source=source,
            target=target,
            frames=self.frames,
            stride=self.stride,
            recorded=rig.frames,
            meetings=rig.move_sizes(range(rig.frames))[target] <= SAME_VIEW,
        )

    def _cameras(self, rig: Rig, rng: np.random.Generator, start: int) -> tuple[int, int]:
        """Source and target."""
        source = int(rng.integers(rig.cameras))
        if rng.random() < self._identity_share:
            return source, source
        weights = np.ones(rig.cameras)
        if self._typical_move is not None:
            last = start + (self.frames - 1) * self.stride
            distances = rig.move_sizes((start, (start + last) // 2, last))[source].mean(axis=-1)
            nearest = np.delete(distances, source).min()  # the same weights, but never all zero
            weights = np.exp((nearest - distances) / self._typical_move)
        weights[source] = 0.0
        return source, int(rng.choice(rig.cameras, p=weights / weights.sum()))

    def _clip(self, scene: Scene, plan: Plan, rng: np.random.Generator) -> Clip:
        changes = self._augmentation
        if changes is None:
            return self._read(scene, plan, centred_window(scene.size, self.size))
        clip = self._read(scene, plan, draw_window(changes, scene.size, self.size, rng))
        if rng.random() < changes.mirror_share:
            clip = mirrored(clip)
        source, target = change_colours(changes, (clip.source, clip.target), rng)
        return replace(clip, source=spoil(changes, source, rng), target=target)

    def _read(self, scene: Scene, plan: Plan, window: Window) -> Clip:
        source_lenses, target_lenses = self._lenses(scene, plan, window)
        view = (plan.source, plan.frames, self.size, window)
        return Clip(
            source=scene.colour(*view),
            target=self._target(scene, plan, window),
            poses=_poses(scene.rig, plan),
            source_intrinsics=source_lenses,
            target_intrinsics=target_lenses,
            subject_distance_m=_subject_distances(scene.rig, plan),
            source_inverse_depth=scene.inverse_depth(*view) if self._depth else None,
            source_matte=scene.matte(*view) if self._matte else None,
            scene=scene.path,
            plan=plan,
        )

    def _target(self, scene: Scene, plan: Plan, window: Window) -> Bytes:
        width, height = self.size
        target = np.empty((len(plan.frames), height, width, 3), np.uint8)
        for camera in sorted(set(plan.targets)):
            places = [place for place, own in enumerate(plan.targets) if own == camera]
            target[places] = scene.colour(camera, [plan.frames[place] for place in places], self.size, window)
        return target

    def _lenses(self, scene: Scene, plan: Plan, window: Window) -> tuple[list[Intrinsics], list[Intrinsics]]:
        """Of source and target, frame by frame."""
        rig = scene.rig.seen_through(scene.size, window)
        return (
            [rig.intrinsics(plan.source, frame, self.size) for frame in plan.frames],
            [
                rig.intrinsics(target, f, self.size)
                for target, f in zip(plan.targets, plan.frames, strict=True)
            ],
        )


def mirrored(clip: Clip) -> Clip:
    """Left and right exchanged, in the pictures and in the geometry."""
    depth, matte = clip.source_inverse_depth, clip.source_matte
    return replace(
        clip,
        source=_mirrored(clip.source),
        target=_mirrored(clip.target),
        poses=[mirrored_pose(pose) for pose in clip.poses],
        source_intrinsics=[mirrored_lens(lens) for lens in clip.source_intrinsics],
        target_intrinsics=[mirrored_lens(lens) for lens in clip.target_intrinsics],
        source_inverse_depth=None if depth is None else _mirrored(depth),
        source_matte=None if matte is None else _mirrored(matte),
    )


def _mirrored(pictures: NDArray[Any]) -> NDArray[Any]:
    frames, height, *row = pictures.shape
    return np.asarray(cv2.flip(pictures.reshape(frames * height, *row), 1)).reshape(pictures.shape)


def _poses(rig: Rig, plan: Plan) -> list[Pose]:
    return [rig.relative_pose(plan.source, *place) for place in zip(plan.targets, plan.frames, strict=True)]


def _subject_distances(rig: Rig, plan: Plan) -> NDArray[np.float32]:
    return rig.subject_distance_m[plan.source, list(plan.frames)].astype(np.float32)
