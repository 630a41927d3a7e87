"""The process that an engine runs in: ``python -m plugin.engine_process``, started by the host.

Its standard input carries one line of settings, then one byte per event; when it ends, the host is
gone and so is this process, whatever the engine is doing. Its standard output carries one line of
JSON per event. Pictures go through shared memory only.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import asdict
from importlib import import_module
from typing import Any, BinaryIO

from engine.engines.base import Engine, EngineSettings
from engine.errors import EngineError
from engine.frames import Pixels
from plugin.shared_frames import RingAddress, SharedPicture, SharedRing

ENGINES = {
    "planar": ("engine.engines.planar", "PlanarEngine"),
    "depth": ("engine.engines.depth", "DepthEngine"),
    "student": ("engine.engines.student", "StudentEngine"),
}
STUDENTS = {"mini": ("engine.engines.mini", "MiniEngine")}  # of these sizes the student is another one

WAKE, RESET = b"w", b"r"
IDLE_BEAT_S = 0.1
NICENESS = 5  # the output's pacing goes before the model when they share a core


def encode_settings(settings: EngineSettings, incoming: RingAddress, outgoing: RingAddress) -> bytes:
    """The first line on the process's standard input."""
    parts = {"settings": asdict(settings), "incoming": asdict(incoming), "outgoing": asdict(outgoing)}
    return json.dumps(parts).encode() + b"\n"


def build_engine(settings: EngineSettings) -> Engine:
    """The engine of that name, not warmed up. Raises :class:`EngineError`."""
    if settings.name not in ENGINES:
        raise EngineError(f"there is no engine {settings.name!r}; there are: {', '.join(sorted(ENGINES))}")
    module, name = ENGINES[settings.name]
    if settings.name == "student":
        module, name = STUDENTS.get(settings.model, (module, name))
    try:
        engine: Engine = getattr(import_module(module), name)(settings)
    except ModuleNotFoundError as error:  # a session file may ask for what the launcher could not see
        raise EngineError(
            f"the engine {settings.name} needs the package {error.name}, which is not installed: "
            "python realcam_obs.py setup --with model"
        ) from error
    return engine


class EngineProcess:
    """The loop around one engine: takes pictures out of one ring, puts rendered ones into the other."""

    def __init__(self, settings: EngineSettings, incoming: SharedRing, outgoing: SharedRing, out: BinaryIO):
        self._settings = settings
        self._incoming = incoming
        self._outgoing = outgoing
        self._out = out
        self._woken = threading.Event()
        self._reset = threading.Event()
        self._last_taken = 0
        self._next: list[SharedPicture] | None = None  # what the engine has begun with already
        self._skipped = 0
        self._level = ""

    def say(self, event: str, **values: Any) -> None:
        self._out.write(json.dumps({"event": event, **values}).encode() + b"\n")
        self._out.flush()

    def listen(self, events: BinaryIO) -> None:
        """Runs in a thread of its own. The end of the input is the end of the process."""
        while event := os.read(events.fileno(), 1):
            if event == RESET:
                self._reset.set()
            self._woken.set()
        os._exit(0)

    def run(self) -> None:
        engine = build_engine(self._settings)
        engine.warmup(self._report_warmup)
        self._last_taken = self._incoming.written
        self.say("ready", chunk=engine.chunk, size=engine.size)
        self._report(engine)
        while True:
            self._outgoing.beat()
            if self._reset.is_set():
                self._reset.clear()
                engine.reset()
                self._next = None
            if chunk := self._next or self._take_chunk(engine.chunk):
                self._step(engine, chunk)
            else:
                self._woken.wait(IDLE_BEAT_S)
                self._woken.clear()

    def _report_warmup(self, share: float, what: str) -> None:
        self._outgoing.beat()
        self.say("warmup", share=share, what=what)

    def _take_chunk(self, length: int) -> list[SharedPicture] | None:
        """``length`` consecutive pictures once they are there; skips what the engine was too slow for."""
        newest = self._incoming.written
        if newest - self._last_taken < length:
            return None
        pictures = []
        for number in range(newest - length + 1, newest + 1):
            if (picture := self._incoming.read(number)) is None:
                return None
            pictures.append(picture)
        self._skipped += newest - length - self._last_taken
        self._last_taken = newest
        return pictures

    def _step(self, engine: Engine, chunk: list[SharedPicture]) -> None:
        started = time.perf_counter()
        if self._settings.delay_s:
            time.sleep(self._settings.delay_s)
        self._next = None
        poses = [picture.pose for picture in chunk]
        if engine.chunk == 1:  # what was taken ahead is shown as it is wanted by now
            poses = [self._incoming.newest_pose]
        rendered = engine.step(
            [picture.pixels for picture in chunk], poses, lambda: self._following(engine.chunk)
        )
        for picture, (pixels, pose) in zip(chunk, rendered, strict=True):
            number = self._outgoing.write(pixels, pose, picture.arrived_s)
            self._outgoing.beat()
        step_ms = 1000 * (time.perf_counter() - started)
        health = self._report(engine)
        self.say("picture", number=number, step_ms=step_ms, skipped=self._skipped, health=health)

    def _following(self, length: int) -> list[Pixels]:
        """For the step after this one, what came in meanwhile."""
        self._next = self._take_chunk(length)
        return [picture.pixels for picture in self._next or ()]

    def _report(self, engine: Engine) -> dict[str, float]:
        """Says how well the engine renders whenever that changes; returns its health."""
        report = engine.report()
        if report.level != self._level:
            self._level = report.level
            self.say("level", level=report.level)
        return {name: value for name, value in report.health.items() if math.isfinite(value)}


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the host's: it closes our input
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not look like an event
    parts = json.loads(sys.stdin.buffer.readline())
    settings = EngineSettings(**{**parts["settings"], "size": tuple(parts["settings"]["size"])})
    incoming, outgoing = (SharedRing.open(RingAddress(**parts[side])) for side in ("incoming", "outgoing"))
    process = EngineProcess(settings, incoming, outgoing, out)
    threading.Thread(target=process.listen, args=(sys.stdin.buffer,), daemon=True).start()
    try:
        process.run()
    except EngineError as error:
        process.say("error", message=str(error))
    except Exception as error:
        traceback.print_exc()
        process.say("error", message=f"{type(error).__name__}: {error}")
    sys.stderr.flush()
    os._exit(1)  # the listening thread is blocked in a read and would keep the interpreter


if __name__ == "__main__":
    main()
