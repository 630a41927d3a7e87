from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable, Iterator

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.errors import SinkError
from plugin.sinks.base import OutputFormat, OutputFrame, SinkRunner
from plugin.sinks.memory import MemorySink
from plugin.sinks.obs_media import SEND_TIMEOUT_S, ObsMediaSink

Picture = Callable[[int], OutputFrame]


class Reader(threading.Thread):
    """Connects as OBS's media source does, takes ``wanted`` pictures and goes."""

    def __init__(self, port: int, wanted: int) -> None:
        super().__init__(daemon=True)
        self.pictures: list[tuple[float, NDArray[np.uint8]]] = []
        self._port = port
        self._wanted = wanted
        self.start()

    def run(self) -> None:
        options = {"fflags": "nobuffer", "probesize": "32768"}
        url = f"tcp://127.0.0.1:{self._port}"
        with av.open(url, format="nut", options=options, timeout=10) as container:
            stream = container.streams.video[0]
            assert stream.pix_fmt == "nv12"
            for frame in container.decode(stream):
                self.pictures.append((frame.time, frame.to_ndarray()))
                if len(self.pictures) == self._wanted:
                    return


@pytest.fixture
def sink(free_port: int, output: OutputFormat) -> Iterator[ObsMediaSink]:
    sink = ObsMediaSink("127.0.0.1", free_port)
    sink.open(output)
    yield sink
    sink.close()


def write_while(sink: ObsMediaSink, picture: Picture, reader: Reader, indices: Iterator[int]) -> None:
    while reader.is_alive():
        sink.write(picture(next(indices)))
        time.sleep(0.005)


def every(step: int) -> Iterator[int]:
    return iter(range(0, 100_000, step))


def test_without_a_reader_a_write_returns_at_once_and_says_whom_it_waits_for(
    sink: ObsMediaSink, picture: Picture, free_port: int
) -> None:
    frame = picture(0)
    started_s = time.monotonic()
    assert {sink.write(frame) for _ in range(100)} == {f"OBS on port {free_port}"}
    assert time.monotonic() - started_s < 0.5


@pytest.mark.parametrize("step", [1, 3])
def test_a_reader_gets_the_exact_pixels_at_their_time(
    sink: ObsMediaSink, picture: Picture, free_port: int, output: OutputFormat, step: int
) -> None:
    reader = Reader(free_port, wanted=12)
    while (waiting := sink.write(picture(7))) is not None:
        assert waiting == f"OBS on port {free_port}"
        time.sleep(0.005)
    write_while(sink, picture, reader, iter(range(7 + step, 100_000, step)))
    assert len(reader.pictures) == 12
    for time_s, nv12 in reader.pictures:
        index = 7 + round(time_s * output.rate)
        assert time_s == pytest.approx(float((index - 7) / output.rate), abs=1e-4)
        assert (index - 7) % step == 0
        np.testing.assert_array_equal(nv12, picture(index).nv12)


def test_a_reader_that_left_may_come_back(sink: ObsMediaSink, picture: Picture, free_port: int) -> None:
    indices = every(1)
    for _ in range(3):
        reader = Reader(free_port, wanted=3)
        write_while(sink, picture, reader, indices)
        assert len(reader.pictures) == 3


def test_a_newer_reader_replaces_the_older(sink: ObsMediaSink, picture: Picture, free_port: int) -> None:
    with socket.create_connection(("127.0.0.1", free_port)) as older:
        older.settimeout(5)
        sink.write(picture(0))
        assert older.recv(4) == b"nut/"
        newer = Reader(free_port, wanted=3)
        write_while(sink, picture, newer, every(1))
        assert len(newer.pictures) == 3
        while older.recv(1 << 20):
            pass  # what was under way; then the end


def test_a_reader_that_stalls_is_dropped_within_the_time_out_and_the_next_one_served(
    sink: ObsMediaSink, picture: Picture, free_port: int
) -> None:
    with socket.create_connection(("127.0.0.1", free_port)):
        frame, longest_s = picture(0), 0.0
        while True:
            started_s = time.monotonic()
            waiting = sink.write(frame)
            longest_s = max(longest_s, time.monotonic() - started_s)
            if waiting is not None and longest_s > 0.1:
                break
    assert longest_s < SEND_TIMEOUT_S + 0.5
    reader = Reader(free_port, wanted=3)
    write_while(sink, picture, reader, every(1))
    assert len(reader.pictures) == 3


def test_a_stalled_reader_never_touches_another_sink(
    output: OutputFormat, picture: Picture, free_port: int
) -> None:
    memory = MemorySink(1000)
    runners = [SinkRunner(sink, output) for sink in (ObsMediaSink("127.0.0.1", free_port), memory)]
    for runner in runners:
        runner.start()
    frame, pushed, longest_push_s = picture(0), 0, 0.0
    with connect(free_port):
        end_s = time.monotonic() + 2.5 * SEND_TIMEOUT_S
        while time.monotonic() < end_s:
            started_s = time.monotonic()
            for runner in runners:
                runner.push(frame)
            longest_push_s = max(longest_push_s, time.monotonic() - started_s)
            pushed += 1
            time.sleep(1 / 100)
    for runner in runners:
        runner.stop()
    stalled, other = (runner.status() for runner in runners)
    assert stalled.dropped > 0
    assert (other.written, other.dropped) == (pushed, 0)
    assert longest_push_s < 0.25


def connect(port: int) -> socket.socket:
    deadline_s = time.monotonic() + 5
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)


def test_a_reader_that_cannot_be_taken_is_asked_for_again_and_not_for_ever(
    sink: ObsMediaSink, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Exhausted:
        """A listener of a process that has no descriptor left."""

        def accept(self) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

        def close(self) -> None:
            pass

    with monkeypatch.context() as patch:
        patch.setattr(sink, "_listener", Exhausted())
        assert sink.write(picture(0)) is not None


def test_a_port_in_use_is_named_with_what_to_do(
    sink: ObsMediaSink, free_port: int, output: OutputFormat
) -> None:
    second = ObsMediaSink("127.0.0.1", free_port)
    with pytest.raises(SinkError, match=f"port {free_port} on 127.0.0.1 is taken.*choose another port"):
        second.open(output)
    second.close()


def test_a_host_that_is_not_this_machine_is_refused(output: OutputFormat) -> None:
    with pytest.raises(SinkError, match=r"cannot listen on 192\.0\.2\.1:9462"):
        ObsMediaSink("192.0.2.1", 9462).open(output)


def test_the_port_is_free_again_after_a_show_with_a_reader(
    sink: ObsMediaSink, picture: Picture, free_port: int, output: OutputFormat
) -> None:
    reader = Reader(free_port, wanted=2)
    write_while(sink, picture, reader, every(1))
    sink.close()
    sink.close()
    sink.open(output)
