"""What a run leaves to look at: metrics.jsonl, TensorBoard's file, and strips as JPEG.

Knows nothing of what is trained. A run that resumes forgets the lines after its checkpoint, so that every
step is told once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

import cv2
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from engine.frames import Pixels

METRICS = "metrics.jsonl"
STRIP_QUALITY = 92


class Logbook:
    def __init__(self, folder: Path, step: int) -> None:
        """Goes on behind that step."""
        self._folder = folder
        self._metrics = folder / METRICS
        if self._metrics.exists():
            lines = self._metrics.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if json.loads(line)["step"] <= step]
            self._metrics.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        self._board = EventFileWriter(str(folder / "tensorboard"))

    def write(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
        """``seconds`` is how long the run has trained."""
        row = {"step": step, "trained_s": round(seconds, 1), **values}
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._board.add_event(Event(step=step, wall_time=time.time(), summary=Summary(value=scalars)))

    def write_strip(self, step: int, pixels: Pixels) -> None:
        path = self._folder / "strips" / f"step-{step:08d}.jpg"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, STRIP_QUALITY])

    def close(self) -> None:
        self._board.close()
