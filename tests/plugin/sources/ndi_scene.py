"""An NDI sender and our source on one machine, for test_ndi.py. Prints what it saw as one line of JSON."""

from __future__ import annotations

import json
import threading
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from cyndilib.sender import Sender
from cyndilib.video_frame import VideoSendFrame
from cyndilib.wrapper.ndi_structs import FourCC

from engine.errors import SourceError
from plugin.clock import MonotonicClock
from plugin.colour import to_nv12
from plugin.sources.ndi import NdiSource
from plugin.sources.pattern import draw_card
from plugin.stamps import draw_stamp, read_stamp

WIDTH, HEIGHT, RATE = 832, 480, Fraction(30)
WATCHED_S = 3.0
clock = MonotonicClock()
card = draw_card(WIDTH, HEIGHT)


class Camera:
    """Sends the test card with the time in it, until stopped."""

    def __init__(self) -> None:
        self.tally = [False, False]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        frame = VideoSendFrame()
        frame.set_resolution(WIDTH, HEIGHT)
        frame.set_frame_rate(RATE)
        frame.set_fourcc(FourCC.NV12)
        sender = Sender("Test Camera", clock_video=False, clock_audio=False)
        sender.set_video_frame(frame)
        sender.open()
        index, start = 0, clock.now()
        while not self._stop.is_set():
            clock.sleep_until(start + float(index / RATE))
            index += 1
            picture = card.copy()
            draw_stamp(picture, clock.now())
            sender.write_video_async(to_nv12(picture).reshape(-1))
            sender.update_tally(0)
            self.tally = [bool(sender.program_tally), bool(sender.preview_tally)]
        sender.close()


def open_absent() -> dict[str, Any]:
    source = NdiSource("nobody", clock)
    try:
        source.open()
    except SourceError as error:
        return {"absent": str(error)}
    finally:
        source.close()
    return {"absent": ""}


def watch(source: NdiSource, camera: Camera) -> dict[str, Any]:
    while source.read(1.0) is None:
        pass
    source.set_tally(True, False)
    frames, start = [], clock.now()
    while clock.now() < start + WATCHED_S:
        if (frame := source.read(0.2)) is not None:
            frames.append(frame)
    pairs = [(stamp, frame) for frame in frames if (stamp := read_stamp(frame.pixels))]
    error = np.abs(frames[-1].pixels.astype(int) - card)[:140, 300:500]  # away from the stamp and fine lines
    return {
        "frames": len(frames),
        "read": len(pairs),
        "distinct": len({round(stamp.time_s, 4) for stamp, _ in pairs}),
        "age_p50_ms": float(np.median([stamp.age_s(frame.arrived_s) for stamp, frame in pairs])) * 1000,
        "mean_error": float(error.mean()),
        "colour": frames[-1].colour.matrix,
        "tally": camera.tally,
        "rising": all(b.pts > a.pts for a, b in pairwise(frames)),
    }


def lose_and_find(source: NdiSource, camera: Camera) -> dict[str, Any]:
    camera.stop()
    lost = ""
    while not lost:
        try:
            source.read(0.2)
        except SourceError as error:
            lost = str(error)
    source.close()
    camera = Camera()
    source.open()
    back = any(source.read(0.2) is not None for _ in range(50))
    source.close()
    camera.stop()
    return {"lost": lost, "back": back}


def main() -> None:
    report = open_absent()
    camera, source = Camera(), NdiSource("test cam", clock)
    source.open()
    report |= watch(source, camera)
    report |= lose_and_find(source, camera)
    print(json.dumps(report))


main()
