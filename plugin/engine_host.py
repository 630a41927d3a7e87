"""Keeps an engine running in a process of its own, and the show independent of it.

Knows nothing of what the engine computes. A crash, an out-of-memory or a hang costs the pictures
until the process is back; nothing here ever waits for the engine on the caller's time.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import cv2

from engine.camera.geometry import Pose
from engine.engines.base import EngineSettings
from engine.frames import Frame, Pixels
from plugin.clock import Clock
from plugin.engine_process import NICENESS, RESET, WAKE, encode_settings
from plugin.shared_frames import SharedPicture, SharedRing
from plugin.worker import Backoff

log = logging.getLogger(__name__)

RING_SLOTS = 8
HUNG_AFTER_S = 10.0
WARMUP_HUNG_AFTER_S = 600.0
HEALTHY_AFTER_S = 1.0
WATCH_EVERY_S = 0.1
STUCK_AFTER_S = 0.2  # a write into the process's input, which on Windows waits where it is full
# Threads of OpenMP and OpenCV would wait for one another in busy loops, on cores that output and OBS need.
UNSPINNING = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
    "OPENCV_THREAD_POOL_ACTIVE_WAIT_MAIN": "0",
    "OPENCV_THREAD_POOL_ACTIVE_WAIT_WORKER": "0",
}

EngineState = Literal["idle", "starting", "warming up", "live", "restarting", "stopped"]


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """``detail`` says what a state comes from; while live, how well the engine renders if it has several
    ways. ``health``: figures of the engine's own by name.
    """

    name: str
    state: EngineState
    detail: str = ""
    fps: float = 0.0
    interval_s: float = 0.0
    step_ms: float = 0.0
    restarts: int = 0
    skipped: int = 0
    pid: int = 0
    health: Mapping[str, float] = field(default_factory=dict)


class EngineHost:
    """Start it, ``submit`` frames as they come, ``take`` rendered pictures as they come."""

    def __init__(self, settings: EngineSettings, clock: Clock, *, backoff: Backoff | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self._backoff = backoff or Backoff(first_s=0.1)
        picture_bytes = settings.size[0] * settings.size[1] * 3
        self._incoming = SharedRing.create(RING_SLOTS, picture_bytes)
        self._outgoing = SharedRing.create(RING_SLOTS, picture_bytes)
        self._wanted_size: tuple[int, int] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()  # status and process
        self._writing = threading.Lock()  # the process's input
        self._arrived = threading.Condition()
        self._taken = 0
        self._error = ""  # what the process said of its own end
        self._pictures: deque[float] = deque(maxlen=30)
        self._status = EngineStatus(settings.name, "idle")
        self._thread = threading.Thread(target=self._supervise, name="engine host", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the process (it ends by itself when its input closes) and gives the memory back."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(10.0)
        self._incoming.close()
        self._outgoing.close()

    def status(self) -> EngineStatus:
        now = self._clock.now()
        with self._lock:
            times = [t for t in self._pictures if now - t < 5.0]
            span = times[-1] - times[0] if len(times) > 1 else 0.0
            interval = span / (len(times) - 1) if span else 0.0
            return replace(self._status, interval_s=interval, fps=1 / interval if interval else 0.0)

    def submit(self, frame: Frame, pose: Pose) -> None:
        """Gives the engine a frame and the pose wanted for it. Never waits."""
        self._incoming.write(self._fitted(frame.pixels), pose, frame.arrived_s)
        self._tell(WAKE)

    def reset(self) -> None:
        """The next frame belongs to another picture."""
        self._tell(RESET)

    def take(self, timeout_s: float) -> SharedPicture | None:
        """The newest rendered picture once, waiting for it; None after the time-out."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: self._outgoing.written > self._taken, timeout_s):
                return None
        picture = self._outgoing.read_newest(self._taken)
        if picture is not None:
            self._taken = picture.number
        return picture

    def _fitted(self, pixels: Pixels) -> Pixels:
        """At the size the engine asked for, or no larger than its memory."""
        height, width, _ = pixels.shape
        if self._wanted_size is not None:
            size = self._wanted_size
        else:
            scale = min(1.0, self._settings.size[0] / width, self._settings.size[1] / height)
            size = (round(width * scale), round(height * scale))
        if size == (width, height):
            return pixels
        resized: Pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        return resized

    def _tell(self, event: bytes) -> None:
        with self._lock:
            process = self._process
        if process is None or not self._writing.acquire(timeout=STUCK_AFTER_S):
            return
        try:
            assert process.stdin is not None
            with contextlib.suppress(OSError, ValueError):  # dead, stuck or closed, which the supervisor sees
                os.write(process.stdin.fileno(), event)
        finally:
            self._writing.release()

    def _set(self, state: EngineState, detail: str = "") -> None:
        with self._lock:
            if (state, detail) != (self._status.state, self._status.detail):
                level = logging.WARNING if state == "restarting" else logging.INFO
                log.log(level, "engine %s: %s %s", self._settings.name, state, detail)
            self._status = replace(self._status, state=state, detail=detail)

    def _supervise(self) -> None:
        self._set("starting")
        while not self._stop.is_set():
            try:
                reason = self._run_once()
            except Exception as error:
                log.exception("engine %s failed in a way it should not", self._settings.name)
                reason = f"{type(error).__name__}: {error}"
            if self._stop.is_set():
                break
            with self._lock:
                self._status = replace(self._status, restarts=self._status.restarts + 1)
            self._set("restarting", reason)
            self._stop.wait(self._backoff.next_s())
        self._set("stopped")

    def _run_once(self) -> str:
        """One life of the process; returns why it ended."""
        self._error = ""
        process = self._spawn()
        listener = threading.Thread(target=self._listen, args=(process,), name="engine events", daemon=True)
        listener.start()
        try:
            self._introduce(process)
            reason = self._watch(process)
        finally:
            self._end(process)
            listener.join(2.0)
        return self._error or reason

    def _spawn(self) -> subprocess.Popen[bytes]:
        descriptors = [ring.address.descriptor for ring in (self._incoming, self._outgoing)]
        process = subprocess.Popen(
            [sys.executable, "-m", "plugin.engine_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            pass_fds=[d for d in descriptors if d >= 0],
            env=os.environ | UNSPINNING,
            start_new_session=sys.platform != "win32",
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        _go_behind(process.pid)
        return process

    def _introduce(self, process: subprocess.Popen[bytes]) -> None:
        """Hands over the settings; from then on the process hears of frames."""
        assert process.stdin is not None
        process.stdin.write(encode_settings(self._settings, self._incoming.address, self._outgoing.address))
        if sys.platform != "win32":
            os.set_blocking(process.stdin.fileno(), False)  # a stuck engine must not block submit
        with self._lock:
            self._process = process
            self._status = replace(self._status, pid=process.pid)

    def _watch(self, process: subprocess.Popen[bytes]) -> str:
        started = self._clock.now()
        beat, beat_s = self._outgoing.heartbeat, started
        while not self._stop.is_set():
            try:
                code = process.wait(WATCH_EVERY_S)
                return f"its process ended with code {code}" if code >= 0 else f"killed by signal {-code}"
            except subprocess.TimeoutExpired:
                now = self._clock.now()
            if self._outgoing.heartbeat != beat:
                beat, beat_s = self._outgoing.heartbeat, now
            live = self.status().state == "live"
            if now - beat_s > (HUNG_AFTER_S if live else WARMUP_HUNG_AFTER_S):
                return f"no sign of life for {now - beat_s:.0f} s"
            if live and now - started > HEALTHY_AFTER_S:
                self._backoff.succeeded()
        return "stopped"

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._process = None
        self._close_input(process)
        try:
            process.wait(1.0 if self._stop.is_set() else 0.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5.0)
            self._close_input(process)

    def _close_input(self, process: subprocess.Popen[bytes]) -> None:
        """Unless a write is stuck in it, which only the end of the process frees."""
        if self._writing.acquire(timeout=STUCK_AFTER_S):
            assert process.stdin is not None
            process.stdin.close()
            self._writing.release()

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        """Runs in a thread for each life: the process's events until its output ends."""
        assert process.stdout is not None
        with process.stdout as events:
            for line in events:
                if line.endswith(b"\n"):  # else it was killed in the middle of a word
                    self._hear(json.loads(line))

    def _hear(self, event: dict[str, object]) -> None:
        kind = event["event"]
        if kind == "picture":
            health = event["health"]
            with self._lock:
                self._pictures.append(self._clock.now())
                self._status = replace(
                    self._status,
                    step_ms=float(str(event["step_ms"])),
                    skipped=int(str(event["skipped"])),
                    health=health if isinstance(health, dict) else {},
                )
            with self._arrived:
                self._arrived.notify_all()
        elif kind == "ready":
            size = event["size"]
            self._wanted_size = (int(size[0]), int(size[1])) if isinstance(size, list) else None
            self._set("live")
        elif kind == "level":
            self._set("live", str(event["level"]))
        elif kind == "warmup":
            self._set("warming up", str(event["what"]))
        elif kind == "error":
            self._error = str(event["message"])


def _go_behind(pid: int) -> None:
    """The output goes before the engine, from its first instruction on. Where Linux groups processes by their
    session (autogroup), a process's own niceness counts for nothing outside of it.
    """
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(NICENESS))
