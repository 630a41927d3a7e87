"""Serves the picture to a media source in OBS: raw NV12 in NUT over a TCP socket of this machine.

Needs no driver and works on every system. Knows nothing of OBS beyond this: it connects to
``tcp://host:port`` with the input format "nut", one reader at a time, and comes back when it was
dropped. NUT has no field for the colour matrix and range; readers (OBS too) take untagged YUV for
what we send, BT.709 limited.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import sys
import time
from fractions import Fraction

import av
from av.error import FFmpegError

from engine.errors import SinkError
from plugin.sinks.base import OutputFormat, OutputFrame

log = logging.getLogger(__name__)

SEND_TIMEOUT_S = 1.0  # for one picture; a reader that takes longer is dropped and may connect again


class ObsMediaSink:
    """The newest connection is the reader: a source in OBS that was reconfigured must not wait."""

    def __init__(self, host: str, port: int) -> None:
        self.name = f"OBS media source on port {port}"
        self._host = host
        self._port = port
        self._output: OutputFormat | None = None
        self._listener: socket.socket | None = None
        self._reader: _Reader | None = None

    def open(self, output: OutputFormat) -> None:
        self._output = output
        self._listener = _listen(self._host, self._port)

    def write(self, frame: OutputFrame) -> str | None:
        self._accept_newest()
        if self._reader is None:
            return f"OBS on port {self._port}"
        try:
            self._reader.send(frame)
        except (OSError, FFmpegError) as error:
            log.warning("%s: the reader was dropped (%s)", self.name, error)
            self._drop_reader()
            return f"OBS on port {self._port}"
        return None

    def close(self) -> None:
        self._drop_reader()
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    def _accept_newest(self) -> None:
        assert self._listener is not None and self._output is not None, "write before open"
        while True:
            try:
                connection, address = self._listener.accept()
            except ConnectionAbortedError as error:  # the peer was gone before we took its call
                log.debug("%s: %s", self.name, error)
                continue
            except BlockingIOError:
                return
            except OSError as error:  # no descriptor is left, say: asked again with the next picture
                log.debug("%s: %s", self.name, error)
                return
            self._drop_reader()
            self._reader = _Reader(connection, self._output)
            log.info("%s: %s:%d reads", self.name, address[0], address[1])

    def _drop_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()


class _Reader:
    """One connection, and the muxer that writes into it. Its time starts at 0 with its first picture."""

    def __init__(self, connection: socket.socket, output: OutputFormat) -> None:
        picture_bytes = output.width * output.height * 3 // 2
        with contextlib.suppress(OSError):  # macOS refuses it where the peer has gone already
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A deep kernel buffer would only hold old pictures.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, picture_bytes)
        self._pipe = _Pipe(connection)
        # NUT's index would grow for as long as the show lasts, and nobody seeks here.
        options = {"write_index": "0", "flush_packets": "1"}
        self._container = av.open(
            self._pipe, "w", format="nut", container_options=options, buffer_size=picture_bytes + 4096
        )
        self._stream = self._container.add_stream("rawvideo", rate=output.rate)
        self._stream.width, self._stream.height = output.width, output.height
        self._stream.pix_fmt = "nv12"
        self._time_base = Fraction(1) / output.rate
        self._first_index: int | None = None

    def send(self, frame: OutputFrame) -> None:
        if self._first_index is None:
            self._first_index = frame.index
        packet = av.Packet(frame.nv12.tobytes())
        packet.stream = self._stream
        packet.pts = packet.dts = frame.index - self._first_index
        packet.duration = 1
        packet.time_base = self._time_base
        packet.is_keyframe = True
        self._pipe.deadline_s = time.monotonic() + SEND_TIMEOUT_S
        self._container.mux(packet)

    def close(self) -> None:
        self._pipe.close()
        with contextlib.suppress(OSError, FFmpegError):  # the muxer remembers that a write failed
            self._container.close()


class _Pipe:
    """The file object that the muxer writes to. Once closed it swallows the muxer's last words."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._closed = False
        self.deadline_s = 0.0

    def write(self, data: bytes) -> int:
        if not self._closed:
            left_s = self.deadline_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"took no picture for {SEND_TIMEOUT_S:.0f} s")
            self._connection.settimeout(left_s)
            self._connection.sendall(data)
        return len(data)

    def close(self) -> None:
        self._closed = True
        self._connection.close()


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # On Windows SO_REUSEADDR means something else: it would let a second program take the port.
        if sys.platform == "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise SinkError(
                f"port {port} on {host} is taken by another program; stop it (a second RealCam?) or choose "
                f"another port for the OBS media sink, here and in OBS"
            ) from error
        raise SinkError(
            f"cannot listen on {host}:{port} for OBS: {error.strerror or error}; choose another host or port"
        ) from error
    return listener
