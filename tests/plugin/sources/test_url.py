"""Addresses against real senders on loopback."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from engine.errors import SourceError
from engine.frames import Frame
from plugin.clock import FakeClock, MonotonicClock
from plugin.config import UrlSourceConfig
from plugin.sources.base import SourceRunner
from plugin.sources.pattern import draw_card
from plugin.sources.url import UrlSource, without_secrets
from plugin.stamps import draw_stamp, read_stamp
from plugin.worker import Backoff

WIDTH, HEIGHT, RATE = 640, 360, Fraction(30)
LIVE = {"preset": "ultrafast", "tune": "zerolatency", "g": "10", "crf": "20"}
CLOCK = MonotonicClock()


class Camera:
    """Sends stamped pictures as H.264 in MPEG-TS over UDP, until stopped."""

    def __init__(self, port: int, width: int = WIDTH, height: int = HEIGHT) -> None:
        self._url = f"udp://127.0.0.1:{port}?pkt_size=1316"
        self._size = width, height
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __enter__(self) -> Camera:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        card = draw_card(*self._size)
        with av.open(self._url, "w", format="mpegts", options={"flush_packets": "1"}) as container:
            stream = container.add_stream("libx264", rate=RATE)
            stream.width, stream.height = self._size
            stream.pix_fmt, stream.options = "yuv420p", LIVE
            start, index = CLOCK.now(), 0
            while not self._stop.is_set():
                CLOCK.sleep_until(start + float(index / RATE))
                picture = card.copy()
                draw_stamp(picture, CLOCK.now())
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = index, 1 / RATE
                container.mux(stream.encode(frame))
                index += 1


def run(url: str) -> SourceRunner:
    source = UrlSource(UrlSourceConfig(kind="url", url=url), CLOCK)
    runner = SourceRunner(source, CLOCK, backoff=Backoff(first_s=0.05, limit_s=0.1))
    runner.start()
    return runner


def next_of_width(runner: SourceRunner, width: int, within_s: float = 12.0) -> Frame:
    deadline = CLOCK.now() + within_s
    while CLOCK.now() < deadline:
        frame = runner.frames.take(0.5)
        if frame is not None and frame.width == width:
            return frame
    raise AssertionError(f"no picture {width} wide came: {runner.status()}")


def test_a_live_stream_is_shown_at_its_rate_with_no_more_than_a_few_frames_of_delay(free_port: int) -> None:
    runner = run(f"udp://127.0.0.1:{free_port}")
    try:
        with Camera(free_port):
            next_of_width(runner, WIDTH)
            caught_up = CLOCK.now() + 0.7  # what came while the stream was found out comes at once
            while CLOCK.now() < caught_up:
                runner.frames.take(0.1)
            ages: list[float] = []
            end = CLOCK.now() + 2
            while CLOCK.now() < end:
                frame = runner.frames.take(0.5)
                stamp = frame and read_stamp(frame.pixels)
                if frame and stamp:
                    ages.append(stamp.age_s(frame.arrived_s))
        assert 50 <= len(ages) <= 64
        assert float(np.median(ages)) < 0.11, ages  # of which two frames are MPEG-TS and its parser
    finally:
        runner.stop()


def test_a_sender_that_goes_and_comes_back_with_another_size_is_found_again(free_port: int) -> None:
    runner = run(f"udp://127.0.0.1:{free_port}")
    try:
        with Camera(free_port):
            next_of_width(runner, WIDTH)
        deadline = CLOCK.now() + 5
        while runner.status().state != "lost" and CLOCK.now() < deadline:
            runner.frames.take(0.1)
        assert "nothing came" in runner.status().detail or "no picture came" in runner.status().detail
        with Camera(free_port, 320, 180):
            assert next_of_width(runner, 320).height == 180
    finally:
        runner.stop()


@pytest.fixture
def folder_url(tmp_path: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_file_behind_an_address_plays_at_its_own_speed_and_then_ends(
    folder_url: str, write_clip: Callable[..., Path]
) -> None:
    write_clip("clip.mp4", 10, rate=Fraction(25))
    clock = FakeClock(1000.0)
    source = UrlSource(UrlSourceConfig(kind="url", url=f"{folder_url}/clip.mp4"), clock)
    source.open()
    arrivals = [frame.arrived_s - 1000 for _ in range(10) if (frame := source.read(0.5))]
    with pytest.raises(SourceError, match="the sender ended it"):
        source.read(0.5)
    source.close()
    assert arrivals == pytest.approx([0.04 * index for index in range(10)], abs=1e-3)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("tcp://127.0.0.1:{port}", "nobody listens there"),
        ("rtmp://127.0.0.1:{port}/live/key", "nobody listens there"),
        ("rtsp://user:secret@127.0.0.1:{port}/cam", "nobody listens there"),
        ("http://127.0.0.1:{port}/clip.mp4", "nobody listens there"),
        ("gopher7://127.0.0.1:{port}/x", "does not speak this protocol"),
    ],
)
def test_an_address_without_a_sender_is_an_error_without_secrets(
    url: str, expected: str, free_port: int
) -> None:
    source = UrlSource(UrlSourceConfig(kind="url", url=url.format(port=free_port)), CLOCK)
    with pytest.raises(SourceError, match=expected) as error:
        source.open()
    assert "secret" not in str(error.value)


def test_names_hold_neither_users_nor_passwords_nor_keys() -> None:
    assert without_secrets("rtsp://user:pass@cam.local:554/one?token=x") == "rtsp://cam.local:554/one"
    assert without_secrets("srt://10.0.0.1:9000?passphrase=secret") == "srt://10.0.0.1:9000"
    assert without_secrets("rtmp://live.example/app/my-stream-key") == "rtmp://live.example/app/…"
