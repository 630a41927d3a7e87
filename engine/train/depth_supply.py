"""The batches of the depth network's training: read, augmented and put together by worker processes.

What block ``number`` holds depends on the settings, on its number and on the scenes that were there when it
was begun: not on how many workers there are, nor on where a run was resumed. New scenes join whenever a
block is begun. Knows nothing of networks and losses.

Shapes: N = 2·B pictures, of which 2i and 2i + 1 are neighbours in time; H W rows and columns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.multiprocessing  # tensors come from the workers in shared memory
from torch import Tensor

from engine.errors import DataError
from engine.frames import Pixels
from engine.geometry.depth_network import CANONICAL_FOCAL
from engine.train.clips import TRAIN, start_worker
from engine.train.depth_augment import Example, augmented
from engine.train.depth_data import BlockPlan, depth_scenes, read_block
from engine.train.scenes import NAME, SceneList


class Batch(NamedTuple):
    """``images`` N H W 3 bytes; N H W each: ``inverse_depth`` 1/m, ``matte`` in [0, 1], ``known`` bool."""

    images: Tensor
    inverse_depth: Tensor
    matte: Tensor
    known: Tensor

    def part(self, first: int, end: int) -> Batch:
        return Batch(*(tensor[first:end] for tensor in self))


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockRecipe:
    """All blocks of a run. ``batch`` counts pairs; ``size`` is width and height; ``photos`` as
    :func:`read_photos` takes them."""

    data: Path
    size: tuple[int, int]
    plan: BlockPlan
    batch: int
    seed: int
    photos: Path | None
    scenes: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        """Of one block. What does not fill a batch is left out."""
        return self.plan.pairs // self.batch


class DepthSupply:
    """``out`` is the run's folder, which remembers what scenes its blocks were made of."""

    def __init__(self, recipe: BlockRecipe, out: Path, workers: int) -> None:
        self._recipe, self._workers = recipe, workers
        self._scenes = SceneList(out / NAME)
        self._decided = 0  # blocks whose scenes stay as they are

    def batches(self, step: int) -> Generator[Batch, None, None]:
        """From that step on, without end. Closing the iterator ends the workers."""
        number, position = divmod(step, self._recipe.steps)
        self._decided = number + (position > 0 and len(self._scenes) > 0)
        pairs = 2 * self._recipe.batch
        with closing(self._blocks(number)) as blocks:
            for block in blocks:
                for at in range(position, self._recipe.steps):
                    yield block.part(at * pairs, (at + 1) * pairs)
                position = 0

    def _blocks(self, first: int) -> Generator[Batch, None, None]:
        numbers = count(first)
        if not self._workers:
            for number in numbers:
                yield make_block(self._recipe_of(number), number)
        context = torch.multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(self._workers, context, initializer=start_worker)
        waiting: deque[Future[Batch]] = deque()
        try:
            while True:
                while len(waiting) <= self._workers:
                    number = next(numbers)
                    waiting.append(pool.submit(make_block, self._recipe_of(number), number))
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _recipe_of(self, number: int) -> BlockRecipe:
        """With the scenes of that block, which are those of now unless it was begun before."""
        if number >= self._decided:
            data = self._recipe.data
            self._scenes.grow(number, [data / name for name in depth_scenes(data, TRAIN)])
            self._scenes.write()
            self._decided = number + 1
        scenes = tuple(str(scene) for scene in self._scenes.first(self._scenes.count_at(number)))
        if not scenes:
            raise DataError(f"{self._recipe.data} has no finished scene with depth in train; render some")
        return replace(self._recipe, scenes=scenes)


def make_block(recipe: BlockRecipe, number: int) -> Batch:
    """All batches of a block, one behind the other."""
    photos = read_photos(recipe.photos)
    pairs = read_block(recipe.data, recipe.scenes, recipe.plan, recipe.size, recipe.seed, number)
    made: list[Example] = []
    for at in range(recipe.steps):
        rng = np.random.default_rng([recipe.seed, number * recipe.steps + at, 1])
        for pair in pairs[at * recipe.batch : (at + 1) * recipe.batch]:
            other = pairs[int(rng.integers(len(pairs)))]
            made.append(augmented(pair, other, photos, recipe.size, CANONICAL_FOCAL, rng))
    return joined(made)


def joined(examples: list[Example]) -> Batch:
    """Examples of two frames each, neighbours beside each other."""
    return Batch(
        *(
            torch.from_numpy(np.concatenate([getattr(example, name) for example in examples]))
            for name in Batch._fields
        )
    )


@lru_cache(1)
def read_photos(folder: Path | None) -> list[Pixels]:
    """All JPEG and PNG pictures of a folder, RGB."""
    if folder is None:
        return []
    photos = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in (".jpg", ".jpeg", ".png"):
            picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if picture is None:
                raise DataError(f"{path} is no picture that can be read; take it out of {folder}")
            photos.append(np.ascontiguousarray(picture[..., ::-1], np.uint8))
    if not photos:
        raise DataError(f"{folder} has no .jpg or .png; leave photos out, or name a folder that has some")
    return photos
