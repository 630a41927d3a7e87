"""Carries the tap's stream from OBS to whoever reads it. Standard library only; knows nothing of OBS.

OBS's FFmpeg output frees its encoder while a frame may still be going through it when its reader
vanishes, and queues frames without bound while its reader hangs. So OBS writes to this relay, which
never vanishes and always reads; readers come, hang and go on the other side, one at a time.

    OBS ──► ingest port (any free one) ──► relay ──► reader port (the tap's)
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
import traceback
from collections.abc import Sequence

LOOPBACK = "127.0.0.1"
SYNCPOINT = (
    b"NK\xe4\xad\xee\xca\x45\x69"  # NUT specification, "syncpoint_startcode": before each picture here
)
CHUNK_BYTES = 1 << 20
DRAIN_BYTES = 64 << 20  # more than one picture, of any size that OBS makes
POLL_S = 0.1
CONNECT_S = 1.0  # on loopback it takes a millisecond
HUNG_AFTER_S = 1.0  # a reader that takes nothing for so long is dropped; OBS queues meanwhile


class NutEntry:
    """Finds where a reader can enter a NUT stream that began before it came."""

    def __init__(self) -> None:
        self._header = b""
        self._header_complete = False
        self._tail = b""

    def feed(self, chunk: bytes, joining: bool) -> bytes | None:
        """Takes every chunk of the stream. If ``joining``: what to send for it, None if nothing yet."""
        seen = self._tail + chunk
        self._tail = seen[-(len(SYNCPOINT) - 1) :]
        if not self._header_complete:
            self._header, syncpoint, _ = (self._header + chunk).partition(SYNCPOINT)
            self._header_complete = bool(syncpoint)
        start = seen.find(SYNCPOINT) if joining else -1
        return self._header + seen[start:] if start >= 0 else None


def listen(port: int) -> socket.socket:
    """A listening socket on loopback; port 0 takes a free one."""
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # Elsewhere this allows a restart while old connections time out; on Windows it would share the port.
    if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
        server.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
    else:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind((LOOPBACK, port))
        server.listen(4)
    except OSError:
        server.close()
        raise
    return server


def readable(sockets: Sequence[socket.socket], timeout_s: float) -> list[socket.socket]:
    """Not by select(), which fails in a program with many open files, as OBS may be."""
    with selectors.DefaultSelector() as selector:
        for one in sockets:
            selector.register(one, selectors.EVENT_READ, one)
        return [key.data for key, _ in selector.select(timeout_s)]


class Relay:
    """A thread between OBS and one reader. A newer reader replaces an older one."""

    def __init__(self, port: int) -> None:
        self._readers = listen(port)
        self._ingest = listen(0)
        self.port: int = self._readers.getsockname()[1]
        self.ingest_port: int = self._ingest.getsockname()[1]
        self._stream: socket.socket | None = None
        self._reader: socket.socket | None = None
        self._joining = False
        self._connecting = False
        self._entry = NutEntry()
        self._closing = threading.Event()
        self._drain = threading.Event()
        self._draining = threading.Event()
        self._left_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="realcam tap relay", daemon=True)
        self._thread.start()

    @property
    def has_reader(self) -> bool:
        return self._reader is not None

    def alone_s(self) -> float:
        """For how long nobody has read."""
        return 0.0 if self.has_reader else time.monotonic() - self._left_s

    @property
    def alive(self) -> bool:
        """False if it failed: then its sockets are closed, and only a new one helps."""
        return self._thread.is_alive()

    def prepare_for_end(self, connecting: bool, timeout_s: float = 3.0) -> bool:
        """Call before OBS's output is stopped, and stop it only if this says True.

        Stopping waits inside OBS, with Python's lock held, until the picture on its way is written:
        the relay must then take it in one system call, for it gets no turn to run Python.
        ``connecting``: the output was started and may be about to connect.
        """
        self._connecting = connecting
        self._drain.set()
        return self._draining.wait(timeout_s) or not self.alive

    def ended(self) -> None:
        """Call when OBS's output has stopped: the next one may come."""
        self._drain.clear()
        self._draining.clear()

    def close(self) -> None:
        self._closing.set()
        self._thread.join(2 * HUNG_AFTER_S)

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                if self._drain.is_set():
                    self._take_the_rest()
                sockets = [self._readers, self._ingest, *([self._stream] if self._stream else [])]
                ready = readable(sockets, POLL_S)
                if self._readers in ready:
                    self._accept_reader()
                if self._ingest in ready:
                    self._accept_stream()
                elif self._stream in ready:
                    self._pump(self._stream)
        except Exception:
            traceback.print_exc()  # into OBS's script log; the tap sees that the relay is not alive
        finally:
            self._end_stream()
            self._readers.close()
            self._ingest.close()

    def _accept_reader(self) -> None:
        self._drop_reader()
        reader = self._readers.accept()[0]
        reader.settimeout(HUNG_AFTER_S)
        with contextlib.suppress(OSError):  # macOS refuses it where the peer has gone already
            reader.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader, self._joining = reader, True

    def _accept_stream(self) -> None:
        self._end_stream()
        self._stream = self._ingest.accept()[0]

    def _pump(self, stream: socket.socket) -> None:
        try:
            chunk = stream.recv(CHUNK_BYTES)
        except OSError:
            chunk = b""
        if not chunk:
            self._end_stream()
            return
        entry = self._entry.feed(chunk, self._joining)
        if self._reader is None or (self._joining and entry is None):
            return
        try:
            self._reader.sendall(chunk if entry is None else entry)
            self._joining = False
        except OSError:
            self._drop_reader()

    def _take_the_rest(self) -> None:
        if self._stream is None and self._connecting and readable([self._ingest], CONNECT_S):
            self._accept_stream()
        rest = bytearray(DRAIN_BYTES) if self._stream else bytearray()
        self._draining.set()
        if self._stream is None:
            self._closing.wait(POLL_S)
            return
        with contextlib.suppress(OSError):
            while self._stream.recv_into(rest, len(rest), socket.MSG_WAITALL):
                pass
        self._end_stream()

    def _end_stream(self) -> None:
        """A reader belongs to one stream: the next may have another size, so it has to open anew."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
            self._drop_reader()
        self._entry = NutEntry()

    def _drop_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
            self._left_s = time.monotonic()
