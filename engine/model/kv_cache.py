"""What a stream remembers: keys and values of its recent frames, and of its first ones.

One cache for each stream (source, target). Keys are stored unrotated and get their positions on
reading, so a stream never runs out of positions and the distance to the first frames stays bounded.
Memory is allocated once; nothing here depends on how long the stream has run.

Shapes: B batch, T tokens of a frame, H heads, E width of a head; lengths in time are latent frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class CacheShape:
    layers: int
    batch: int
    tokens: int
    heads: int
    head_width: int


class KVCache:
    """Holds the first ``attention_sink`` frames since a reset, and the last ``recent`` ones.

    In use: ``write`` a chunk to every layer, then ``advance`` once. ``read`` gives what was there
    before the chunk at hand, whose own keys and values the caller adds.
    """

    def __init__(
        self,
        shape: CacheShape,
        recent: int,
        attention_sink: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.shape = shape
        self.recent = recent
        self.attention_sink = attention_sink
        frames = attention_sink + recent
        size = (shape.layers, shape.batch, frames, shape.tokens, shape.heads, shape.head_width)
        self._keys = torch.zeros(size, device=device, dtype=dtype)
        self._values = torch.zeros(size, device=device, dtype=dtype)
        self._first = 0  # of the frames of the stream, the first since the last reset
        self._next = 0

    @property
    def nbytes(self) -> int:
        return self._keys.nbytes + self._values.nbytes

    @property
    def capacity(self) -> int:
        return self.attention_sink + self.recent

    @property
    def remembered(self) -> int:
        """Frames that a read gives."""
        return min(self._next - self._first, self.capacity)

    @property
    def next_time(self) -> int:
        """The position in time of the next frame: rises to the capacity and stays there."""
        return min(self._next, self.capacity)

    def reset(self) -> None:
        """Forgets everything, and begins a new stream."""
        self._first = self._next = 0

    def forget(self) -> None:
        """Forgets what it remembers, but not how far the stream is: the frames to come keep step with
        the other stream's.
        """
        self._first = self._next

    def times(self) -> Tensor:
        """Positions in time of the remembered frames, in the order of a read.

        The recent ones lie right before ``next_time``; older ones (the sink's) keep their first places.
        """
        times = list(range(self.remembered))
        for frame in range(max(self._first, self._next - self.recent), self._next):
            times[self._slot(frame)] = self.next_time - (self._next - frame)
        return torch.tensor(times, dtype=torch.long, device=self._keys.device)

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of the remembered frames, B M H E with M = frames · T, as they lie in memory:
        the order of their :meth:`times` is not the order of time, which attention does not mind.
        """
        shape = (self.shape.batch, -1, self.shape.heads, self.shape.head_width)
        count = self.remembered
        return self._keys[layer][:, :count].reshape(shape), self._values[layer][:, :count].reshape(shape)

    def write(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Puts a chunk's keys (unrotated) and values, B N H E, after what was written before."""
        frames = keys.shape[1] // self.shape.tokens
        shape = (self.shape.batch, frames, self.shape.tokens, self.shape.heads, self.shape.head_width)
        keys, values = keys.detach().reshape(shape), values.detach().reshape(shape)
        for index in range(frames):
            slot = self._slot(self._next + index)
            self._keys[layer][:, slot] = keys[:, index]
            self._values[layer][:, slot] = values[:, index]

    def advance(self, frames: int) -> None:
        """What was written to every layer now counts as remembered."""
        self._next += frames

    def _slot(self, frame: int) -> int:
        since = frame - self._first
        if since < self.attention_sink:
            return since
        return self.attention_sink + (since - self.attention_sink) % self.recent
