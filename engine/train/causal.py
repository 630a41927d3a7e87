"""Teacher forcing: every chunk of a clip at once, each with the true clip before it as its past.

What a chunk sees, and from how far away, is what the student's rollout lets it see: the window, the
attention sink, and positions that stop rising when the caches are full. Attention runs chunk by chunk on
slices, without masks. Knows nothing of losses.

Shapes: B batch, F latent frames, C channels, h w latent rows and columns; T tokens of a frame, N = F·T,
H heads, E width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engine.diffusion.teacher import Conditions, Velocity
from engine.model.attention import attention, grid_positions, rotate, rotations
from engine.model.config import ModelConfig
from engine.model.dit import Attend, KeysValues, PairTransformer, Pass, joined


def forced_velocity(
    model: PairTransformer, config: ModelConfig, conditions: Conditions, clean: Tensor
) -> Velocity:
    """The student of a clip whose true target is ``clean``, B F C h w: x_σ at any noise levels → velocity.

    The source's and the clean target's keys and values are made here, once; both learn through them.
    """
    frames = clean.shape[1]
    if frames % config.chunk:
        raise ValueError(f"chunks of {config.chunk} do not make up a clip of {frames} latent frames")
    text = model.encode_text(conditions.prompt)
    told: dict[str, Any] = {
        "rays": conditions.rays,
        "extrinsics": conditions.extrinsics,
        "hints": conditions.hints,
    }
    times = torch.arange(frames, device=clean.device)
    chunks = list(_chunks(config, frames))

    def attending(source: Pass | None, past: Pass | None) -> Callable[[int], Attend]:
        return lambda layer: _attend(
            chunks,
            frames,
            None if source is None else source.rotated[layer],
            None if past is None else past.rotated[layer],
        )

    shown = model.encode_source(conditions.source, times, text, attend=attending(None, None))
    levels = torch.zeros(clean.shape[:2], device=clean.device)
    _, made = model.denoise(clean, levels, times, text, None, attend=attending(shown, None), **told)

    def behind(x: Tensor, timesteps: Tensor) -> Tensor:
        seen = attending(shown, made)
        return model.denoise(x, timesteps, times, text, None, attend=seen, **told)[0]

    return behind


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Where one chunk's frames lie, those before it that it sees without a gap, and the sink's beyond those.

    The sink's frames seem later than they are by ``outrun``: so far has the stream outrun its caches, which
    never put more between a chunk and its sink than they can hold.
    """

    own: slice
    recent: slice
    sink: slice
    outrun: int


def _chunks(config: ModelConfig, frames: int) -> Iterator[_Chunk]:
    recent, sink = config.window - config.chunk, config.attention_sink
    for start in range(0, frames, config.chunk):
        first = max(0, start - recent)
        yield _Chunk(
            slice(start, start + config.chunk),
            slice(first, start),
            slice(0, min(sink, first)),
            max(0, start - sink - recent),
        )


def _attend(chunks: list[_Chunk], frames: int, source: KeysValues | None, past: KeysValues | None) -> Attend:
    """One layer's attention: to the source, past and present, if it is given; to what lies before the chunk
    in ``past``, or in one's own stream; and to one's own chunk.
    """

    def attend(queries: Tensor, own: KeysValues) -> Tensor:
        asked = _Frames(queries, frames)
        own_stream = _Stream(own, frames)
        before = own_stream if past is None else _Stream(past, frames)
        beside = None if source is None else _Stream(source, frames)
        made = []
        for chunk in chunks:
            seen = [] if beside is None else [*beside.before(chunk), beside.at(chunk.own)]
            to = joined(*seen, *before.before(chunk), own_stream.at(chunk.own))
            made.append(attention(asked.at(chunk.own), to.keys, to.values))
        return torch.cat(made, dim=1)

    return attend


@dataclass(frozen=True, slots=True)
class _Frames:
    """B N H E by frames."""

    table: Tensor
    frames: int

    def at(self, which: slice) -> Tensor:
        tokens = self.table.shape[1] // self.frames
        return self.table[:, which.start * tokens : which.stop * tokens]


@dataclass(frozen=True, slots=True)
class _Stream:
    """Keys and values of a stream's frames, each at its true place in time."""

    held: KeysValues
    frames: int

    def at(self, which: slice) -> KeysValues:
        keys, values = (_Frames(table, self.frames) for table in (self.held.keys, self.held.values))
        return KeysValues(keys.at(which), values.at(which))

    def before(self, chunk: _Chunk) -> Iterator[KeysValues]:
        if chunk.sink.stop:
            sink = self.at(chunk.sink)
            yield KeysValues(_later(sink.keys, chunk.outrun), sink.values) if chunk.outrun else sink
        if chunk.recent.stop > chunk.recent.start:
            yield self.at(chunk.recent)


def _later(keys: Tensor, frames: int) -> Tensor:
    """Rotated keys at places so many frames later: turns add up."""
    turn = grid_positions(torch.tensor([frames], device=keys.device), 1, 1)
    return rotate(keys, rotations(turn, keys.shape[-1]))
