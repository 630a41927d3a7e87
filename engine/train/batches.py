"""Batches for the teacher: examples made ahead by worker processes, turned into latents, rays and noise.

What a batch holds depends on the seed and its samples' numbers alone: not on how many processes share a
step, nor on where a run was resumed. Knows nothing of losses.

Shapes: B batch, T frames, F latent frames, C channels, h w latent rows and columns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.diffusion.schedule import shifted
from engine.diffusion.teacher import Conditions
from engine.model.camera_encoder import plucker_rays
from engine.model.codec import Codec
from engine.model.config import ModelConfig
from engine.train.clips import ClipSettings, Example, example, start_worker
from engine.train.latent_cache import LatentCache, encoded

AHEAD = 3  # batches in the making


@dataclass(frozen=True, kw_only=True, slots=True)
class Dropped:
    """In what share of the samples a condition is withheld, so that guidance has a model without it.

    Hints show the source through the camera: they go with either.
    """

    source: float = 0.0
    camera: float = 0.0
    hints: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherBatch:
    samples: list[int]
    conditions: Conditions
    target: Tensor  # B F C h w
    noise: Tensor  # B F C h w
    sigma: Tensor  # B


def examples(
    settings_at: Callable[[int], ClipSettings],
    samples: Iterator[list[int]],
    scene_count: Callable[[int], int | None],
    workers: int,
) -> Iterator[list[Example]]:
    """A list of examples for each list of samples, in order, a few made ahead; each sample has settings and a
    number of scenes of its own. ``workers`` 0: made here.
    """

    def task(index: int) -> tuple[ClipSettings, int, int | None]:
        return settings_at(index), index, scene_count(index)

    if not workers:
        for indices in samples:
            yield [example(*task(index)) for index in indices]
        return
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=start_worker)
    waiting: deque[list[Future[Example]]] = deque()
    try:
        while True:
            while len(waiting) < AHEAD:
                indices = next(samples)
                waiting.append([pool.submit(example, *task(index)) for index in indices])
            yield [future.result() for future in waiting.popleft()]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class Collator:
    """Examples → a batch on the device. ``dropped`` and ``shift`` are drawn for each sample by its number."""

    def __init__(
        self,
        config: ModelConfig,
        codec: Codec,
        *,
        device: torch.device,
        seed: int,
        shift: float,
        dropped: Dropped,
        latents: Path | None = None,
    ) -> None:
        """``latents``: a folder in which encoded clips are kept."""
        self._config, self._codec, self._device = config, codec, device
        self._cache = None if latents is None else LatentCache(codec, latents)
        self._seed, self._shift, self._dropped = seed, shift, dropped

    @torch.no_grad()
    def __call__(self, made: list[Example]) -> TeacherBatch:
        latents = self._encode(np.stack([[one.source, one.target] for one in made]))
        source, target = latents.unbind(1)
        draws = [self._draw(one.index, target.shape[1:]) for one in made]
        keep = {
            name: torch.tensor([draw[name] for draw in draws], device=self._device)
            for name in ("source", "camera", "hints")
        }
        rays, extrinsics = self._camera(made, target)
        hints = self._hints(made)
        return TeacherBatch(
            samples=[one.index for one in made],
            conditions=Conditions(
                source=_kept(source, keep["source"]),
                rays=_kept(rays, keep["camera"]),
                extrinsics=None if extrinsics is None else _kept(extrinsics, keep["camera"]),
                hints=None
                if hints is None
                else _kept(hints, keep["source"] * keep["camera"] * keep["hints"]),
            ),
            target=target,
            noise=torch.stack([draw["noise"] for draw in draws]).to(self._device),
            sigma=torch.stack([draw["sigma"] for draw in draws]).to(self._device),
        )

    def _draw(self, index: int, shape: torch.Size) -> dict[str, Tensor]:
        generator = generator_of(self._seed, index)
        level, *chances = torch.rand(4, generator=generator)
        shares = (self._dropped.source, self._dropped.camera, self._dropped.hints)
        kept = {
            name: (chance >= share).float()
            for name, chance, share in zip(("source", "camera", "hints"), chances, shares, strict=True)
        }
        noise = torch.randn(shape, generator=generator)
        return {"noise": noise, "sigma": shifted(1 - level, self._shift), **kept}  # 1 − level is above 0

    def _encode(self, pictures: np.ndarray) -> Tensor:
        """… T H W 3 bytes → … F C h w."""
        clips = pictures.reshape(-1, *pictures.shape[-4:])
        if self._cache is None:
            latents = encoded(self._codec, clips, self._device)
        else:
            latents = self._cache.encode(clips, self._device)
        return latents.view(*pictures.shape[:-4], *latents.shape[1:])

    def _camera(self, made: list[Example], like: Tensor) -> tuple[Tensor, Tensor | None]:
        """A latent frame's camera is that of the last picture it stands for."""
        step = self._config.stride[0]
        poses = self._uploaded(np.stack([one.poses[::step] for one in made]))
        lenses = self._uploaded(np.stack([one.lenses[::step] for one in made]))
        rays = plucker_rays(poses, lenses, like.shape[-2], like.shape[-1])
        return rays, poses.flatten(2) if self._config.camera == "recammaster" else None

    def _hints(self, made: list[Example]) -> Tensor | None:
        """K pictures' latents, then where the last one was seen, folded as the pictures are."""
        if not self._config.hint_channels:
            return None
        pictures = np.stack([one.hints for one in made if one.hints is not None]).swapaxes(1, 2)  # B K T …
        latents = self._encode(pictures).movedim(1, 2).flatten(2, 3)
        seen = self._uploaded(np.stack([one.seen for one in made if one.seen is not None])).float() / 255
        folded = torch.nn.functional.pixel_unshuffle(seen[:, :, None], self._config.stride[1])
        return torch.cat([latents, folded], dim=2)

    def _uploaded(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device, non_blocking=True)


def generator_of(*numbers: int) -> torch.Generator:
    """One of its own for those numbers, such as a run's seed and a sample's number."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(seed & (2**63 - 1))


class SampleNoise:
    """Fresh noise for a batch, whose samples each have their own, whoever is beside them; ``use`` tells the
    noises of one sample apart.
    """

    def __init__(self, seed: int, samples: list[int], use: int) -> None:
        self._generators = [generator_of(seed, index, use) for index in samples]

    def __call__(self, like: Tensor) -> Tensor:
        drawn = [torch.randn(like.shape[1:], generator=generator) for generator in self._generators]
        return torch.stack(drawn).to(like)


def _kept(x: Tensor, keep: Tensor) -> Tensor:
    return x * keep.view(-1, *[1] * (x.ndim - 1))
