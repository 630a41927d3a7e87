"""Clips that took long to make, kept on disk until the evaluation is done, so that a stopped one goes on.

Knows nothing of what the clips are measured for.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from engine.eval.cases import Shot
from engine.eval.methods import Method, Timing, render_timed
from engine.frames import Pixels


@runtime_checkable
class Costly(Method, Protocol):
    """A method whose clips are worth keeping. ``identity`` changes whenever its pictures would."""

    identity: str


class KeptClips:
    """Of costly methods; the others are quick."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def render_timed(self, method: Method, shot: Shot) -> tuple[Sequence[Pixels], Timing]:
        """As :func:`engine.eval.methods.render_timed`; a clip that is there is not made again."""
        if not isinstance(method, Costly):
            return render_timed(method, shot)
        path = self._folder / f"{_digest(method.identity, shot)}.npz"
        if not path.exists():
            frames, timing = render_timed(method, shot)
            self._write(path, frames, timing)
            return frames, timing
        with np.load(path) as kept:
            first_s, frame_s = kept["times"].tolist()
            return list(kept["frames"]), Timing(first_s=first_s, frame_s=frame_s)

    def forget(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _write(self, path: Path, frames: Sequence[Pixels], timing: Timing) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{os.getpid()}-{path.name}")
        try:
            np.savez(unfinished, frames=np.stack(frames), times=[timing.first_s, timing.frame_s])
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


def _digest(identity: str, shot: Shot) -> str:
    found = hashlib.sha256(identity.encode())
    for source, pose, lens, distance_m in zip(
        shot.source, shot.poses, shot.lenses, shot.distances_m, strict=True
    ):
        found.update(source.tobytes())
        found.update(pose.to_array().tobytes())
        found.update(repr((lens, distance_m)).encode())
    return found.hexdigest()[:32]
