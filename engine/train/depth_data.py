"""Pairs of neighbouring frames with true depth and matte, read from rendered scenes in blocks.

Videos are read from their beginnings, so a clip, once decoded, gives several pairs; a block is some dozens
of clips, in memory and shuffled. What a block holds depends on its number, the seed and the scenes that
were there when it began, and on nothing else: that is what makes a resumed run equal to an uninterrupted one.

Knows nothing of networks and of augmentation. Shapes: T frames, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.data import layout
from engine.data.decode import Size, centred_window
from engine.data.multicam import MultiCamScene
from engine.frames import Pixels

FARTHEST = 0.02  # 1/m: what is more than 50 m away counts as 50 m away


@dataclass(frozen=True, slots=True)
class Views:
    """Frames of one camera: ``images`` T H W 3, ``stored_depth`` T H W as on disk, ``matte`` T H W with
    255 = person, ``focal`` T: the focal length over the picture's width."""

    images: Pixels
    stored_depth: NDArray[np.uint16]
    matte: NDArray[np.uint8]
    focal: NDArray[np.float32]

    def inverse_depth(self) -> NDArray[np.float32]:
        """1/m, T H W, at least ``FARTHEST``."""
        return layout.decode_inverse_depth(self.stored_depth).clip(min=FARTHEST)


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockPlan:
    """How many clips a block holds and how many pairs each gives."""

    clips: int = 64
    pairs_per_clip: int = 12

    @property
    def pairs(self) -> int:
        return self.clips * self.pairs_per_clip


def depth_scenes(root: Path, split: str) -> list[str]:
    """Finished scenes that have depth and matte, as paths relative to ``root``."""
    return [
        scene.relative_to(root).as_posix()
        for scene in layout.scene_folders(root, split)
        if layout.depth_path(scene, 0).is_file() and layout.matte_path(scene, 0).is_file()
    ]


def read_block(
    root: Path,
    scenes: Sequence[str],
    plan: BlockPlan,
    size: Size,
    seed: int,
    number: int,
    progress: Callable[[float], None] = lambda share: None,
) -> list[Views]:
    """The pairs (``Views`` of two frames) of block ``number``, in the order in which they are to be used."""
    rng = np.random.default_rng([seed, number])
    pairs: list[Views] = []
    for clip in range(plan.clips):
        scene = _opened(root / scenes[int(rng.integers(len(scenes)))])
        camera = int(rng.integers(scene.rig.cameras))
        last = scene.rig.frames - 1
        starts = rng.choice(last, plan.pairs_per_clip, replace=plan.pairs_per_clip > last)
        pairs += read_pairs(scene, camera, [int(start) for start in starts], size)
        progress((clip + 1) / plan.clips)
    return [pairs[int(index)] for index in rng.permutation(len(pairs))]


def held_out_pairs(
    root: Path, scenes: Sequence[str], cameras: int, pairs: int, size: Size
) -> Iterator[Views]:
    """From each scene so many cameras, and from each of those so many pairs, evenly chosen."""
    for index, name in enumerate(scenes):
        scene = _opened(root / name)
        for step in range(min(cameras, scene.rig.cameras)):
            camera = (index + step * scene.rig.cameras // cameras) % scene.rig.cameras
            starts = np.linspace(0, scene.rig.frames - 2, pairs).astype(int).tolist()
            yield from read_pairs(scene, camera, starts, size)


@lru_cache(maxsize=256)
def _opened(scene: Path) -> MultiCamScene:
    """Its cameras' files take as long to read as the pictures of one of them."""
    return MultiCamScene(scene)


def read_pairs(scene: MultiCamScene, camera: int, starts: Sequence[int], size: Size) -> list[Views]:
    """For each of ``starts``, that frame and the next, at ``size`` (width, height)."""
    frames = [frame for start in starts for frame in (start, start + 1)]
    window = centred_window(scene.size, size)
    colour = scene.colour(camera, frames, size, window)
    depth = scene.stored_depth(camera, frames, size, window)
    matte = scene.matte(camera, frames, size, window)
    focal = scene.rig.seen_through(scene.size, window).lenses[camera, frames, 0].astype(np.float32)
    both = (slice(at, at + 2) for at in range(0, len(frames), 2))
    return [Views(colour[two], depth[two], matte[two], focal[two]) for two in both]
