"""Runs in a network namespace of its own: our NDI sink, and a receiver as any NDI program has one.

Prints one line of JSON with what was seen; tests/plugin/sinks/test_ndi.py judges it.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from fractions import Fraction

import numpy as np
from cyndilib.finder import Finder
from cyndilib.receiver import Receiver
from cyndilib.video_frame import VideoFrameSync
from cyndilib.wrapper.ndi_recv import RecvBandwidth, RecvColorFormat
from numpy.typing import NDArray

from plugin.clock import MonotonicClock, Pacing
from plugin.sinks.base import OutputFormat, OutputFrame, SinkRunner
from plugin.sinks.ndi import NdiSink

OUTPUT = OutputFormat(640, 360, Fraction(30))
SOURCE_NAME = "RealCam sink test"
RED_709 = (63, 102, 240)  # Y, Cb, Cr of RGB 255, 0, 0
MARK = 32  # a square of this size holds the index, one bit of grey each


def picture(index: int) -> NDArray[np.uint8]:
    """Red, with the index as black and white squares along the top, which survive NDI's compression."""
    y, cb, cr = RED_709
    nv12 = np.empty((OUTPUT.height * 3 // 2, OUTPUT.width), dtype=np.uint8)
    nv12[: OUTPUT.height] = y
    nv12[OUTPUT.height :, 0::2], nv12[OUTPUT.height :, 1::2] = cb, cr
    nv12[OUTPUT.height : OUTPUT.height + MARK // 2] = 128
    for bit in range(OUTPUT.width // MARK):
        nv12[:MARK, bit * MARK : (bit + 1) * MARK] = 235 if index >> bit & 1 else 16
    nv12.flags.writeable = False
    return nv12


def index_of(rgb: NDArray[np.uint8]) -> int:
    centres = rgb[MARK // 2, MARK // 2 :: MARK, 1]
    return sum(1 << bit for bit, grey in enumerate(centres) if grey > 127)


class Show(threading.Thread):
    """Pushes pictures at the output rate and keeps the longest time that a push took."""

    def __init__(self, runner: SinkRunner) -> None:
        super().__init__(daemon=True)
        self.longest_push_s = 0.0
        self.done = threading.Event()
        self._runner = runner

    def run(self) -> None:
        clock = MonotonicClock()
        pacing = Pacing(clock.now(), OUTPUT.rate)
        while not self.done.is_set():
            frame = OutputFrame(picture(pacing.index), pacing.index, pacing.deadline_s)
            clock.sleep_until(pacing.deadline_s)
            started_s = clock.now()
            self._runner.push(frame)
            self.longest_push_s = max(self.longest_push_s, clock.now() - started_s)
            pacing, _ = pacing.after(clock.now())


def receive(sink: NdiSink, seconds: float) -> dict[str, object]:
    finder = Finder()
    finder.open()
    source = None
    deadline_s = time.monotonic() + 20
    while source is None and time.monotonic() < deadline_s:
        finder.wait_for_sources(0.5)
        names = [name for name in finder.get_source_names() if SOURCE_NAME in name]
        source = finder.get_source(names[0]) if names else None
    receiver = Receiver(color_format=RecvColorFormat.RGBX_RGBA, bandwidth=RecvBandwidth.highest)
    frame = VideoFrameSync()
    receiver.frame_sync.set_video_frame(frame)
    receiver.set_source(source)
    receiver.set_source_tally_program(True)
    arrivals: dict[int, float] = {}
    colour, tally = [0, 0, 0], False
    while not arrivals or time.monotonic() - min(arrivals.values()) < seconds:
        receiver.frame_sync.capture_video()
        if frame.get_resolution() == (OUTPUT.width, OUTPUT.height):
            rgbx = frame.get_array().reshape(OUTPUT.height, OUTPUT.width, 4)
            arrivals.setdefault(index_of(rgbx), time.monotonic())
            colour = rgbx[OUTPUT.height // 2, OUTPUT.width // 2, :3].tolist()
            tally = tally or sink.tally.program
        elif time.monotonic() > deadline_s:
            break
        time.sleep(0.004)
    rate = frame.get_frame_rate()
    receiver.disconnect()
    finder.close()
    return {
        "distinct": len(arrivals),
        "seconds": max(arrivals.values()) - min(arrivals.values()) if arrivals else 0,
        "in order": list(arrivals) == sorted(arrivals),
        "rate": str(rate),
        "colour": colour,
        "tally": tally,
    }


def checks() -> dict[str, object]:
    sink = NdiSink(SOURCE_NAME)
    runner = SinkRunner(sink, OUTPUT)
    show = Show(runner)
    runner.start()
    show.start()
    time.sleep(2)
    alone = runner.status()
    received = receive(sink, seconds=3)
    time.sleep(1)
    left = runner.status()
    show.done.set()
    show.join()
    runner.stop()
    return {
        "alone": {"state": alone.state, "detail": alone.detail, "dropped": alone.dropped},
        "received": received,
        "left": {"state": left.state, "dropped": left.dropped, "written": left.written},
        "longest push ms": 1000 * show.longest_push_s,
        "end": runner.status().state,
    }


if __name__ == "__main__":
    print("REPORT " + json.dumps(checks()), flush=True)
    sys.exit(0)
