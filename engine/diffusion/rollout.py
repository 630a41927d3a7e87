"""The chunk loop of the causal student: the one that live inference runs and Self-Forcing trains.

For each chunk: the source's keys and values once, the few denoising steps of the target's tokens,
and a last pass over the clean chunk that writes the target's cache. Knows nothing of pictures.

Shapes: B batch, F latent frames of a chunk, C channels, h w latent rows and columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.diffusion.sampler import Noise, sample_few_steps
from engine.diffusion.schedule import TIMESTEPS, Schedule
from engine.model.attention import rotate
from engine.model.config import ModelConfig
from engine.model.dit import KeysValues, Memory, PairTransformer, Pass, joined
from engine.model.kv_cache import CacheShape, KVCache


@dataclass(frozen=True, slots=True)
class Chunk:
    """What the student is given for one chunk. ``noise`` is what the target starts from."""

    source: Tensor  # B F C h w
    noise: Tensor  # B F C h w
    rays: Tensor | None = None  # B F 6 h w
    extrinsics: Tensor | None = None  # B F 12
    hints: Tensor | None = None  # B F hint_channels h w


@dataclass(slots=True)
class Stream:
    """All that a student remembers between chunks."""

    text: list[KeysValues]
    source: KVCache
    target: KVCache

    @classmethod
    def start(
        cls,
        model: PairTransformer,
        config: ModelConfig,
        latent_size: tuple[int, int],
        *,
        batch: int = 1,
        prompt: Tensor | None = None,
        dtype: torch.dtype | None = None,
    ) -> Stream:
        """An empty stream for latents of that width and height, in the model's own place and, if no other
        is given, its type.
        """
        like = model.stream_embedding
        tokens = (latent_size[0] // config.patch[2]) * (latent_size[1] // config.patch[1])
        shape = CacheShape(config.layers, batch, tokens, config.heads, config.head_width)
        recent = config.window - config.chunk  # a chunk sees itself and these
        source, target = (
            KVCache(shape, recent, config.attention_sink, device=like.device, dtype=dtype or like.dtype)
            for _ in range(2)
        )
        return cls(model.encode_text(prompt), source, target)

    def reset(self) -> None:
        self.source.reset()
        self.target.reset()

    def re_anchor(self) -> None:
        """Forgets what the student made, but not what it was shown: the way out of a drift."""
        self.target.forget()


def rollout(
    model: PairTransformer,
    stream: Stream,
    chunks: Iterable[Chunk],
    schedule: Schedule,
    fresh: Noise,
    *,
    exit_step: int | None = None,
) -> Iterator[Tensor]:
    """Yields x0 of each chunk, B F C h w, as soon as it is there.

    Live: under ``torch.inference_mode``. In training, with gradients on, the source's pass and the exit step
    of each chunk are differentiated and nothing else: not the steps before it, not the cache.
    """
    for chunk in chunks:
        frames = chunk.source.shape[1]
        times = stream.source.next_time + torch.arange(frames, device=chunk.source.device)
        seen, shown = _see(model, stream, chunk, times)
        run = _Target(model, stream, chunk, times, seen)
        x0 = sample_few_steps(run.velocity, chunk.noise, schedule, fresh, exit_step)
        with torch.no_grad():
            _, made = run(x0.detach(), 0.0)
        _remember(stream.source, shown, frames)
        _remember(stream.target, made, frames)
        yield x0


def _see(model: PairTransformer, stream: Stream, chunk: Chunk, times: Tensor) -> tuple[Memory, Pass]:
    """What the target's tokens attend to besides themselves, and what the source's pass leaves."""
    grid = (chunk.source.shape[-2], chunk.source.shape[-1])
    source_past = _recall(model, stream.source, grid)
    shown = model.encode_source(chunk.source, times, stream.text, source_past)
    target_past = _recall(model, stream.target, grid)
    layers = [
        joined(past, own, made)
        for past, own, made in zip(source_past.layers, shown.rotated, target_past.layers, strict=True)
    ]
    return Memory(layers), shown


def _recall(model: PairTransformer, cache: KVCache, grid: tuple[int, int]) -> Memory:
    """A cache's content with its positions, rotated once for all steps of the chunk."""
    if cache.remembered == 0:
        return Memory([None] * cache.shape.layers)
    rotation = model.rotation(cache.times(), grid)
    layers = []
    for layer in range(cache.shape.layers):
        keys, values = cache.read(layer)
        if torch.is_grad_enabled():  # the cache will be overwritten before the backward pass reads it
            values = values.clone()
        layers.append(KeysValues(rotate(keys, rotation), values))
    return Memory(layers)


@dataclass(frozen=True, slots=True)
class _Target:
    """The target's tokens of one chunk through the transformer, at any noise level."""

    model: PairTransformer
    stream: Stream
    chunk: Chunk
    times: Tensor
    seen: Memory

    def __call__(self, x: Tensor, sigma: float) -> tuple[Tensor, Pass]:
        timesteps = torch.full(x.shape[:2], sigma * TIMESTEPS, device=x.device, dtype=torch.float32)
        return self.model.denoise(
            x,
            timesteps,
            self.times,
            self.stream.text,
            self.seen,
            rays=self.chunk.rays,
            extrinsics=self.chunk.extrinsics,
            hints=self.chunk.hints,
        )

    def velocity(self, x: Tensor, sigma: float) -> Tensor:
        return self(x, sigma)[0]


def _remember(cache: KVCache, left: Pass, frames: int) -> None:
    for layer, own in enumerate(left.plain):
        cache.write(layer, own.keys, own.values)
    cache.advance(frames)
