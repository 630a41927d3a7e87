"""The memory that distillation needs on each GPU, counted before there is one: the networks are built on the
meta device, where tensors have shapes and no bytes.

All but the activations is exact. They are an estimate from above the large tensors that the backward pass
keeps: what each chunk's attention saw, and each block's input, or with no recomputing all of its inside.

Shapes: B batch, F latent frames, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from engine.errors import ConfigError
from engine.model.config import ModelConfig, model_config
from engine.model.fitting import transformer_on_meta
from engine.model.kv_cache import CacheShape, KVCache
from engine.train.student import StudentSettings

FULL, HALF = 4, 2  # bytes of a number: of what is learnt, and of what a pass on a GPU makes
ADAM_MOMENTS = 2
INSIDE_A_BLOCK = 14  # times the width, that a block keeps for its backward pass beside its feed-forward
GIGA = 1e9


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Bytes on one of ``processes`` GPUs with ``clips`` clips each. ``gathered``: the whole weights of the
    networks that are at work at one moment.
    """

    processes: int
    clips: int
    parameters: int
    weights: dict[str, int]
    gradients: int
    optimisers: int
    average: int
    gathered: int
    caches: int
    activations: int

    @property
    def total(self) -> int:
        rest = (self.gradients, self.optimisers, self.average, self.gathered, self.caches, self.activations)
        return sum(self.weights.values()) + sum(rest)

    def lines(self) -> Iterator[str]:
        yield (
            f"{self.parameters / GIGA:.2f} G parameters in each of {', '.join(self.weights)}; "
            f"on each of {self.processes} GPUs, with {self.clips} clips:"
        )
        rows = {
            **{f"weights, {name}": held for name, held in self.weights.items()},
            "gradients": self.gradients,
            "optimisers": self.optimisers,
            "average": self.average,
            "whole weights at work": self.gathered,
            "caches": self.caches,
            "activations, about": self.activations,
            "total, about": self.total,
        }
        for name, held in rows.items():
            yield f"{name:<22}{held / GIGA:8.2f} GB"


def memory_per_gpu(settings: StudentSettings, processes: int) -> Memory:
    """Of distillation, the larger of the stages, in a step of the student's, the larger of its steps.

    Weights, moments and the average are shards. The student's whole weights stay from its first pass to its
    last backward one; a score's come and go one network at a time.
    """
    loop = settings.loop
    if loop.batch % (processes * loop.accumulate):
        raise ConfigError(f"a batch of {loop.batch} does not split into {processes} processes")
    config = settings.streaming.applied(model_config(settings.size))
    clips = loop.batch // processes // loop.accumulate
    networks = {name: transformer_on_meta(config) for name in ("student", "critic", "teacher")}
    counts = {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()}
    parameters = counts["student"]
    shard = FULL * -(-parameters // processes)
    return Memory(
        processes=processes,
        clips=clips,
        parameters=parameters,
        weights={name: FULL * -(-count // processes) for name, count in counts.items()},
        gradients=shard,
        optimisers=2 * ADAM_MOMENTS * shard,
        average=shard,
        gathered=0 if processes == 1 else 3 * FULL * parameters,  # student, its gradients, and one score
        caches=_caches(config, clips),
        activations=_activations(config, settings, clips),
    )


def _caches(config: ModelConfig, clips: int) -> int:
    tokens = config.tokens_per_frame(*config.size)
    shape = CacheShape(config.layers, clips, tokens, config.heads, config.head_width)
    recent = config.window - config.chunk
    cache = KVCache(shape, recent, config.attention_sink, device="meta", dtype=torch.bfloat16)
    return 2 * cache.nbytes  # source and target


def _activations(config: ModelConfig, settings: StudentSettings, clips: int) -> int:
    """Of the rollout's passes with gradients: each chunk's source and its exit step."""
    frame = clips * config.tokens_per_frame(*config.size) * config.width  # numbers, in one layer
    remembered = config.attention_sink + config.window - config.chunk
    frames = settings.frames
    chunks = frames // config.chunk
    # keys and values: the source's past and its own, joined; the target's past; both rotated
    seen = 2 * HALF * frame * chunks * (3 * remembered + 2 * config.chunk)
    inputs = 2 * FULL * frame * frames  # of source and target
    inside = inputs * (INSIDE_A_BLOCK + 2 * config.ffn_width / config.width) / 2
    if settings.checkpointing:
        return round(config.layers * (seen + inputs) + inside * config.chunk / frames)
    return round(config.layers * (seen + inputs + inside))
