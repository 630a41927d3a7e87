"""Runs inside the virtual machine, against the real v4l2loopback: checks the virtual camera sink.

Prints one line of JSON with what was seen; tests/plugin/sinks/test_virtual_camera.py judges it. Imports
take tens of seconds under emulation, so there is one process: senders are forked off it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

import av
import numpy as np
import pyvirtualcam
from numpy.typing import NDArray

from engine.errors import SinkError
from plugin.clock import MonotonicClock, Pacing
from plugin.sinks import v4l2loopback
from plugin.sinks.base import OutputFormat, OutputFrame, SinkRunner
from plugin.sinks.virtual_camera import VirtualCameraSink

DEVICE = "/dev/video10"
OUTPUT = OutputFormat(320, 180, Fraction(25))
FRAMES_TO_READ = 60

_NOISE = np.random.default_rng(1).integers(16, 236, (OUTPUT.height * 3 // 2, OUTPUT.width), dtype=np.uint8)


def picture(index: int) -> NDArray[np.uint8]:
    """Noise with the index in its first bytes, so that a reader can tell what it should have got."""
    nv12: NDArray[np.uint8] = _NOISE.copy()
    nv12[0, :4] = np.frombuffer(index.to_bytes(4, "little"), dtype=np.uint8)
    nv12.flags.writeable = False
    return nv12


def send_for_ever() -> None:
    runner = SinkRunner(VirtualCameraSink(None, None), OUTPUT)
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    runner.start()
    clock = MonotonicClock()
    pacing = Pacing(clock.now(), OUTPUT.rate)
    while not stopping:
        nv12 = picture(pacing.index)
        clock.sleep_until(pacing.deadline_s)
        runner.push(OutputFrame(nv12, pacing.index, pacing.deadline_s))
        pacing, _ = pacing.after(clock.now())
    runner.stop()


@contextmanager
def sender(end_with: signal.Signals) -> Iterator[int]:
    """A process that sends until the block ends, and then is ended by that signal."""
    process = os.fork()
    if process == 0:
        try:
            send_for_ever()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    try:
        wait_until_running()
        yield process
    finally:
        os.kill(process, end_with)
        os.waitpid(process, 0)


def wait_until_running(timeout_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while v4l2loopback.running_size(DEVICE) is None:
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{DEVICE} showed no picture")
        time.sleep(0.05)


class Reader:
    """What any video program does: FFmpeg's V4L2 input, streaming from mapped buffers."""

    def __init__(self) -> None:
        self._container = av.open(DEVICE, format="v4l2", options={"pixel_format": "nv12"})
        self._stream = self._container.streams.video[0]
        self._frames = self._container.decode(self._stream)

    def read(self, wanted: int = FRAMES_TO_READ) -> dict[str, object]:
        for _ in range(5):  # what the buffers held comes in a burst
            next(self._frames)
        arrivals, pictures = [], []
        for _ in range(wanted):
            pictures.append(next(self._frames).to_ndarray())
            arrivals.append(time.monotonic())
        indices = [int.from_bytes(nv12[0, :4].tobytes(), "little") for nv12 in pictures]
        seconds_per_index = np.polyfit(indices, arrivals, 1)[0]  # the jitter of the reader averages out
        return {
            "exact": [
                bool(np.array_equal(nv12, picture(index)))
                for nv12, index in zip(pictures, indices, strict=True)
            ],
            "indices": indices,
            "indices per second": 1 / seconds_per_index,
            "longest gap ms": 1000 * max(np.diff(arrivals)),
            "nominal rate": str(self._stream.average_rate),
            "size": [self._stream.width, self._stream.height],
        }

    def close(self) -> None:
        self._frames.close()  # a packet that it still holds would be freed after the device that it lies in
        self._container.close()


def read_once() -> dict[str, object]:
    reader = Reader()
    try:
        return reader.read()
    finally:
        reader.close()


def refusal(output: OutputFormat) -> str:
    """What a sink says that must not be able to open the device."""
    sink = VirtualCameraSink(DEVICE, None)
    try:
        sink.open(output)
    except SinkError as error:
        return str(error)
    finally:
        sink.close()
    return ""


def leave_behind_unusable() -> bool:
    """Does what a plain pyvirtualcam program does; true if the device is no output device after it."""
    camera = pyvirtualcam.Camera(
        width=OUTPUT.width, height=OUTPUT.height, fps=25, fmt=pyvirtualcam.PixelFormat.NV12, device=DEVICE
    )
    camera.send(picture(0))
    camera.close()
    return not v4l2loopback.accepts_writer(DEVICE)


def checks() -> dict[str, object]:
    seen: dict[str, object] = {"devices": [device.label for device in v4l2loopback.find_loopbacks()]}
    with sender(end_with=signal.SIGTERM):
        seen["first start"] = read_once()
    with sender(end_with=signal.SIGKILL):
        seen["after a stop"] = read_once()
    with sender(end_with=signal.SIGKILL):
        seen["after kill -9"] = read_once()
        seen["second writer"] = refusal(OUTPUT)
        reader = Reader()
        reader.read(5)
    try:
        seen["other size"] = refusal(OutputFormat(640, 360, OUTPUT.rate))
        with sender(end_with=signal.SIGTERM):
            seen["reader that stayed"] = reader.read()
    finally:
        reader.close()
    seen["left behind"] = leave_behind_unusable()
    with sender(end_with=signal.SIGTERM):
        seen["after a rescue"] = read_once()
    return seen


if __name__ == "__main__":
    try:
        report = checks()
    except Exception:
        report = {"error": traceback.format_exc()}
    print("REPORT " + json.dumps(report), flush=True)
    sys.exit("error" in report)
