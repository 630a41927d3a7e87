"""A run's examples: from scenes that may grow in number while it trains, some held out to look at.

What a sample holds depends on its number and on the scenes that were there when its step began, which the
run's folder remembers. Knows nothing of models or losses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TypeVar

from engine.data.layout import scene_folders
from engine.errors import DataError
from engine.train.batches import examples
from engine.train.clips import HELDOUT, TRAIN, ClipSettings, Example, example
from engine.train.distributed import World
from engine.train.scenes import NAME, SceneList

Batch = TypeVar("Batch")


class Supply:
    """``clips`` are the run's; ``frames_at`` says how many pictures each sample has, None: as in ``clips``.
    A step takes ``batch`` samples, over all processes.
    """

    def __init__(
        self,
        clips: ClipSettings,
        out: Path,
        *,
        batch: int,
        workers: int,
        world: World,
        frames_at: Callable[[int], int] | None = None,
    ) -> None:
        self._clips = replace(clips, split=TRAIN, scenes=out / NAME)
        self._batch, self._workers, self._world = batch, workers, world
        self._frames_at = frames_at or (lambda index: clips.frames)
        self._scenes = SceneList(out / NAME)
        self._next_sample = 0  # the first that no batch was begun for

    def batches(
        self, samples: Iterator[list[int]], collate: Callable[[list[Example]], Batch]
    ) -> Iterator[Batch]:
        """One for each list of samples. Closing the iterator ends the workers."""
        first = next(samples)
        self._next_sample = first[0] // self._batch * self._batch
        self.grow()
        made = examples(self._clips_at, chain([first], samples), self._scene_count, self._workers)
        try:
            for some in made:
                yield collate(some)
        finally:
            made.close()  # type: ignore[attr-defined]

    def grow(self) -> None:
        """New scenes join from the next step on that no process has begun."""
        clips, world = self._clips, self._world
        step = -(-self._next_sample // self._batch)
        there = scene_folders(clips.data, TRAIN) if world.is_first else []
        step, there = world.from_first((step, there))
        self._scenes.grow(step * self._batch, there)
        if not len(self._scenes):
            raise DataError(f"{clips.data / TRAIN} has no finished scene: render some with `data render`")
        if world.is_first:
            self._scenes.write()
        world.wait()

    def held_out(self, count: int, frames: int | None = None) -> list[Example]:
        """Clips to look at, as they are; of the training scenes while there are no others."""
        clips = self._clips
        split = HELDOUT if scene_folders(clips.data, HELDOUT) else TRAIN
        plain = replace(
            clips,
            split=split,
            frames=frames or clips.frames,
            loop_share=0.0,
            identity_share=0.0,
            augment=False,
            scenes=None,
        )
        return [example(plain, index) for index in range(count)]

    def _clips_at(self, index: int) -> ClipSettings:
        return replace(self._clips, frames=self._frames_at(index))

    def _scene_count(self, index: int) -> int:
        self._next_sample = max(self._next_sample, index + 1)
        return self._scenes.count_at(index)
