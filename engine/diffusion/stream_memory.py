"""What a student without PyTorch remembers of one stream: keys and values of its first and its recent frames.

The rules are those of :class:`engine.model.kv_cache.KVCache`, of which this is the fast form for one frame a
chunk: keys are kept rotated to their own frame's number, as queries are to theirs, since attention feels
differences of positions alone. Only the first frames, whose distance is bounded, are turned again as the
stream runs on. Knows nothing of networks.

Shapes: L layers, S slots, T tokens of a frame, H heads, E width of a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Turns = NDArray[np.complex64]

THETA = 10_000.0


def axis_widths(head_width: int) -> tuple[int, int, int]:
    """As :func:`engine.model.attention.axis_widths`."""
    space = 2 * (head_width // 6)
    return head_width - 2 * space, space, space


def turns(positions: NDArray[np.int64], width: int) -> Turns:
    """Positions N → N width/2 complex numbers of length one."""
    frequencies = THETA ** (-np.arange(0, width, 2, dtype=np.float64) / width)
    made: Turns = np.exp(1j * positions[:, None] * frequencies).astype(np.complex64)
    return made


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryShape:
    layers: int
    tokens: int
    heads: int
    head_width: int
    recent: int
    attention_sink: int

    @property
    def capacity(self) -> int:
        return self.attention_sink + self.recent


class StreamMemory:
    """One more slot than frames are remembered: the frame at hand is written while the oldest is read."""

    def __init__(self, shape: MemoryShape) -> None:
        self.shape = shape
        self._time_turns = axis_widths(shape.head_width)[0] // 2
        frame = (shape.tokens, shape.heads)
        size = (shape.layers, shape.capacity + 1, *frame, shape.head_width)
        self.keys, self.values = np.zeros(size, np.float32), np.zeros(size, np.float32)  # L S T H E
        # What time turns of the sink's keys, as it is at time 0.
        kept = (shape.layers, shape.attention_sink, *frame, self._time_turns)
        self._first_keys = np.zeros(kept, np.complex64)
        self._first = 0  # of the stream's frames, the first since it forgot
        self._next = 0

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes + self._first_keys.nbytes

    @property
    def now(self) -> int:
        """The number of the next frame, which is its position in time."""
        return self._next

    @property
    def slot(self) -> int:
        """Of the next frame; what lies there is older than what is remembered."""
        since = self._next - self._first
        sink = self.shape.attention_sink
        return since if since < sink else sink + (since - sink) % (self.shape.recent + 1)

    def before(self) -> slice:
        """The remembered slots before the next frame's."""
        return slice(0, self.slot)

    def after(self) -> slice:
        """Those after it."""
        return slice(self.slot + 1, self._used)

    def all(self) -> slice:
        """With the next frame's, once it is written."""
        return slice(0, max(self._used, self.slot + 1))

    def write(self, layer: int, keys: Floats, values: Floats) -> None:
        """The next frame's, T H E, the keys turned to :attr:`now`."""
        slot = self.slot
        self.keys[layer, slot] = keys
        self.values[layer, slot] = values

    def advance(self) -> None:
        """What was written to every layer now counts as remembered."""
        slot = self.slot
        if slot < self.shape.attention_sink:
            self._first_keys[:, slot] = self._time_part(slot) * self._turn(-self._next)
        self._next += 1
        self._turn_sink()

    def reset(self) -> None:
        """Forgets everything, and begins a new stream."""
        self._first = self._next = 0

    def forget(self) -> None:
        """Forgets what it remembers, but not how far the stream is."""
        self._first = self._next

    @property
    def _used(self) -> int:
        return min(self._next - self._first, self.shape.capacity + 1)

    def _turn_sink(self) -> None:
        """Once a first frame is no longer a recent one, it stays at its place among the first."""
        shape = self.shape
        for slot in range(min(shape.attention_sink, self._used)):
            if self._first + slot < self._next - shape.recent:
                distance = min(self._next, shape.capacity) - slot
                self._time_part(slot)[:] = self._first_keys[:, slot] * self._turn(self._next - distance)

    def _time_part(self, slot: int) -> Turns:
        """A view of a slot's keys: those of their numbers that time turns, L T H time-turns."""
        part: Turns = self.keys[:, slot].view(np.complex64)[..., : self._time_turns]
        return part

    def _turn(self, time: int) -> Turns:
        turn: Turns = turns(np.array([time]), 2 * self._time_turns)[0]
        return turn
