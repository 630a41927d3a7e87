"""Clips one after another, computed ahead by threads, in an order that does not depend on them.

Knows nothing of what a clip is made of or of how many make a batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Protocol

from engine.data.pairs import Clip


class Sampler(Protocol):
    def sample(self, index: int) -> Clip: ...


class ClipStream(Iterator[Clip]):
    """The clips ``start``, ``start + step``, ``start + 2 step`` …, without an end.

    ``index`` is that of the next clip handed out: store it with a checkpoint and give it as ``start`` to go
    on exactly there. Processes that share a run take ``start = own rank`` and ``step = how many``. At most
    ``ahead`` clips are held. An error in a clip is raised when its turn comes, and again when asked again.
    """

    def __init__(
        self, dataset: Sampler, start: int = 0, step: int = 1, *, workers: int = 1, ahead: int = 32
    ) -> None:
        if start < 0 or min(step, workers, ahead) < 1:
            raise ValueError("start is at least 0; step, workers and ahead are at least 1")
        self.index = start
        self._dataset = dataset
        self._step = step
        self._ahead = ahead
        self._waiting: deque[Future[Clip]] = deque()
        self._pool = ThreadPoolExecutor(workers, "clips")

    def __next__(self) -> Clip:
        while len(self._waiting) < self._ahead:
            index = self.index + len(self._waiting) * self._step
            self._waiting.append(self._pool.submit(self._dataset.sample, index))
        clip = self._waiting[0].result()
        self._waiting.popleft()
        self.index += self._step
        return clip

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> ClipStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
