"""The relay between OBS and the readers of the tap, with real sockets and a real NUT stream."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator

import av
import numpy as np
import pytest

from plugin.obs import relay as relay_module
from plugin.obs.relay import SYNCPOINT, NutEntry, Relay

WIDTH, HEIGHT, PICTURES = 320, 180, 12


@pytest.fixture(scope="module")
def stream() -> bytes:
    """Pictures 0, 10, 20 … of one level each, as OBS sends them."""
    out = io.BytesIO()
    with av.open(out, "w", format="nut", container_options={"write_index": "0"}) as container:
        video = container.add_stream("rawvideo", rate=30)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "nv12"
        for index in range(PICTURES):
            level = np.full((HEIGHT * 3 // 2, WIDTH), index * 10, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(level, format="nv12")))
    return out.getvalue()


@pytest.fixture
def relay() -> Iterator[Relay]:
    relay = Relay(0)
    yield relay
    relay.close()


def levels(data: bytes) -> list[int]:
    with av.open(io.BytesIO(data), format="nut") as container:
        return [int(frame.to_ndarray()[0, 0]) for frame in container.decode(video=0)]


def chunks(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 7, 1000, 40_000, 10_000_000])
def test_a_reader_that_is_there_from_the_start_gets_the_stream_as_it_is(stream, size):
    data = stream[: 3 * WIDTH * HEIGHT] if size < 10 else stream
    entry, got = NutEntry(), b""
    for chunk in chunks(data, size):
        sent = entry.feed(chunk, joining=not got)
        got += sent if sent is not None else chunk if got else b""
    assert got == data


@pytest.mark.parametrize("size", [999, 40_000])
def test_a_reader_that_comes_later_gets_whole_pictures_from_there_on(stream, size):
    entry, got = NutEntry(), b""
    for number, chunk in enumerate(chunks(stream, size)):
        late = number * size > len(stream) // 2
        sent = entry.feed(chunk, joining=late and not got)
        got += sent if sent is not None else chunk if got else b""
    assert len(levels(got)) >= PICTURES // 2 - 2
    assert levels(got) == [index * 10 for index in range(PICTURES)][-len(levels(got)) :]


def test_a_syncpoint_across_two_chunks_is_found():
    entry = NutEntry()
    assert entry.feed(b"header" + SYNCPOINT[:3], joining=True) is None
    assert entry.feed(SYNCPOINT[3:] + b"picture", joining=True) == b"header" + SYNCPOINT + b"picture"


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def read_all(reader: socket.socket) -> bytes:
    data = b""
    while chunk := reader.recv(1 << 16):
        data += chunk
    return data


def until(condition) -> None:
    deadline_s = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_a_newer_reader_replaces_an_older_one_and_the_stream_goes_on(relay, stream):
    with connect(relay.ingest_port) as obs, connect(relay.port) as first:
        until(lambda: relay.has_reader)
        obs.sendall(stream[: len(stream) // 3])
        assert first.recv(1)
        with connect(relay.port) as second:
            assert read_all(first), "the first was let go, with what it had"
            obs.sendall(stream[len(stream) // 3 :])
            obs.close()
            assert levels(read_all(second))[-1] == (PICTURES - 1) * 10


def test_a_reader_that_hangs_is_dropped_and_does_not_hold_obs_up(relay, stream, monkeypatch):
    monkeypatch.setattr(relay_module, "HUNG_AFTER_S", 0.2)
    with connect(relay.ingest_port) as obs, connect(relay.port):
        until(lambda: relay.has_reader)
        obs.settimeout(5)
        for _ in range(60):  # more than the sockets between them hold
            obs.sendall(stream)
        until(lambda: not relay.has_reader)
        assert relay.alone_s() < 5


def test_the_reader_is_let_go_when_the_stream_ends(relay, stream):
    with connect(relay.port) as reader:
        until(lambda: relay.has_reader)
        with connect(relay.ingest_port) as obs:
            obs.sendall(stream)
        assert len(levels(read_all(reader))) == PICTURES
    assert not relay.has_reader


def test_at_the_end_what_obs_still_sends_is_taken_without_python(relay, stream):
    """OBS waits for its last picture with Python's lock held: the relay has to be in one system call."""
    with connect(relay.ingest_port) as obs, connect(relay.port):
        until(lambda: relay.has_reader)
        obs.sendall(stream)
        assert relay.prepare_for_end(connecting=False)
        sender = threading.Thread(target=lambda: [obs.sendall(stream) for _ in range(8)])
        sender.start()
        sender.join(5)
        assert not sender.is_alive()
    until(lambda: not relay.has_reader)
    relay.ended()
    with connect(relay.ingest_port) as obs, connect(relay.port) as reader:
        until(lambda: relay.has_reader)
        obs.sendall(stream)
        obs.close()
        assert levels(read_all(reader))


def test_an_output_that_connects_while_it_is_being_stopped_is_drained_too(relay, stream):
    preparing = threading.Thread(target=relay.prepare_for_end, args=(True,))
    preparing.start()
    with connect(relay.ingest_port) as obs:
        preparing.join(5)
        obs.settimeout(5)
        for _ in range(8):
            obs.sendall(stream)
    relay.ended()


def test_nothing_is_waited_for_where_nothing_connects(relay):
    began_s = time.monotonic()
    assert relay.prepare_for_end(connecting=False)
    assert time.monotonic() - began_s < 0.5


def test_a_port_that_is_taken_is_an_error_at_once(relay):
    with pytest.raises(OSError, match="in use"):
        Relay(relay.port)
