"""The tap as OBS's FFmpeg output sends it, and screenshots from what speaks as obs-websocket does."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from engine.errors import SourceError
from engine.frames import BT709_LIMITED, Pixels
from plugin.clock import FakeClock, MonotonicClock
from plugin.colour import to_nv12
from plugin.config import ObsConfig, ObsSourceConfig
from plugin.sources.obs import SCREENSHOT_INTERVAL_S, ObsScreenshots, ObsSource
from plugin.sources.pattern import draw_card
from plugin.stamps import draw_stamp, read_stamp

WIDTH, HEIGHT, RATE = 832, 480, Fraction(30)
PROMPT = {"flush_packets": "1", "max_interleave_delta": "50000"}  # sound does not wait for pictures
CLOCK = MonotonicClock()


class Whole:
    """A socket as a file that writes everything, at once."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def write(self, data: bytes) -> int:
        self._connection.sendall(data)
        return len(data)


class Tap:
    """Listens as the OBS script does; sends NV12 and sound in NUT, the picture for ``pictures`` frames."""

    def __init__(self, pictures: int = 1_000_000) -> None:
        self._pictures = pictures
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __enter__(self) -> Tap:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._listener.close()
        self._thread.join()

    def _run(self) -> None:
        self._listener.settimeout(5)
        connection, _ = self._listener.accept()
        with connection:
            try:
                with av.open(Whole(connection), "w", format="nut", options=PROMPT) as container:
                    self._send(container)
            except (OSError, av.FFmpegError):  # the reader went away
                return

    def _send(self, container: Any) -> None:
        video = container.add_stream("rawvideo", rate=RATE)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "nv12"
        sound = container.add_stream("pcm_s16le", rate=48000, layout="stereo")
        card, start, index = draw_card(WIDTH, HEIGHT), CLOCK.now(), 0
        while not self._stop.is_set():
            CLOCK.sleep_until(start + float(index / RATE))
            if index < self._pictures:
                picture = card.copy()
                draw_stamp(picture, CLOCK.now())
                frame = av.VideoFrame.from_ndarray(to_nv12(picture), format="nv12")
                frame.pts, frame.time_base = index, 1 / RATE
                container.mux(video.encode(frame))
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 3200), np.int16), format="s16", layout="stereo")
            silence.pts, silence.sample_rate = index * 1600, 48000
            container.mux(sound.encode(silence))
            index += 1


def tap_source(port: int) -> ObsSource:
    return ObsSource(ObsSourceConfig(kind="obs", port=port), CLOCK)


def test_the_tap_arrives_at_full_rate_within_a_frame_and_in_its_colours() -> None:
    with Tap() as tap:
        source = tap_source(tap.port)
        source.open()
        frames = [frame for _ in range(60) if (frame := source.read(0.5))][10:]
        source.close()
    assert all(frame.colour == BT709_LIMITED for frame in frames)
    ages = [stamp.age_s(frame.arrived_s) for frame in frames if (stamp := read_stamp(frame.pixels))]
    assert len(ages) == 50
    assert float(np.median(ages)) < 0.03, ages
    fps = 49 / (frames[-1].arrived_s - frames[0].arrived_s)
    assert fps == pytest.approx(30, abs=1)
    assert [frame.media_time_s for frame in frames[:2]] == pytest.approx([10 / 30, 11 / 30], abs=0.05)
    error = np.abs(frames[-1].pixels.astype(int) - draw_card(WIDTH, HEIGHT))[:140, 300:500]
    assert error.mean() < 1


def test_sound_alone_does_not_pass_for_a_picture() -> None:
    with Tap(pictures=5) as tap:
        source = tap_source(tap.port)
        source.open()
        with pytest.raises(SourceError, match="no picture came within 2 s"):
            for _ in range(10):
                source.read(0.5)
        source.close()


def test_without_the_script_the_error_says_where_to_find_it(free_port: int) -> None:
    with pytest.raises(SourceError, match="Tools → Scripts"):
        tap_source(free_port).open()


def test_when_the_script_stops_sending_the_source_is_lost() -> None:
    with Tap() as tap:
        source = tap_source(tap.port)
        source.open()
        assert source.read(0.5)
    with pytest.raises(SourceError, match="OBS tap"):
        for _ in range(100):
            source.read(0.5)
    source.close()


Answer = Callable[[dict[str, Any]], dict[str, Any] | None]


@pytest.fixture
def websocket() -> Iterator[Callable[[Answer], ObsConfig]]:
    """Starts something that greets as obs-websocket 5 and leaves the answers to the test."""
    servers = []

    def start(answer: Answer) -> ObsConfig:
        def greet(connection: ServerConnection) -> None:
            connection.send(json.dumps({"op": 0, "d": {"obsWebSocketVersion": "5.1.0", "rpcVersion": 1}}))
            connection.recv()
            connection.send(json.dumps({"op": 2, "d": {"negotiatedRpcVersion": 1}}))
            try:
                for message in connection:
                    asked = json.loads(message)["d"]
                    told = answer(asked["requestData"])
                    status = {"result": told is not None, "code": 100 if told else 600}
                    reply = {
                        "requestId": asked["requestId"],
                        "requestStatus": status,
                        "responseData": told or {},
                    }
                    connection.send(json.dumps({"op": 7, "d": reply}))
            except ConnectionClosed:
                return

        server = serve(greet, "127.0.0.1", 0)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        servers.append((server, thread))
        return ObsConfig(port=server.socket.getsockname()[1])

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()


def jpeg(picture: Pixels) -> dict[str, Any]:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
    return {"imageData": "data:image/jpg;base64," + base64.b64encode(data.tobytes()).decode()}


def test_screenshots_come_a_few_times_a_second_in_their_colours(
    websocket: Callable[[Answer], ObsConfig],
) -> None:
    asked: list[dict[str, Any]] = []
    picture = np.full((48, 64, 3), (200, 60, 30), np.uint8)

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        asked.append(request)
        return jpeg(picture)

    clock = FakeClock(1000.0)
    source = ObsScreenshots("Camera 1", websocket(answer), clock)
    source.open()
    frames = [source.read(0.5) for _ in range(3)]
    source.close()
    assert [round(f.arrived_s - 1000, 3) for f in frames if f] == [
        0.0,
        SCREENSHOT_INTERVAL_S,
        2 * SCREENSHOT_INTERVAL_S,
    ]
    assert asked[0]["sourceName"] == "Camera 1"
    assert frames[0] is not None
    assert np.abs(frames[0].pixels.astype(int) - picture).max() <= 4
    assert "last resort" in source.name


def test_a_source_that_obs_does_not_know_is_an_error(websocket: Callable[[Answer], ObsConfig]) -> None:
    source = ObsScreenshots("Camera 9", websocket(lambda request: None), FakeClock())
    source.open()
    with pytest.raises(SourceError, match=r"Camera 9.*Is there a source of this name"):
        source.read(0.5)
    source.close()


def test_without_obs_websocket_the_error_says_where_to_enable_it(free_port: int) -> None:
    source = ObsScreenshots("Camera 1", ObsConfig(port=free_port), FakeClock())
    with pytest.raises(SourceError, match="WebSocket Server Settings"):
        source.open()
    source.close()
