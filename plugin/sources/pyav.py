"""Reads pictures from anything FFmpeg opens: containers, networks, capture devices.

Owns time-outs, broken data and stamps, deinterlacing, square and upright pixels. Knows nothing of what it
reads from, nor of when a picture is due: live sources deliver as pictures come, files pace themselves.

Nothing is queued here: a decoder with low delay holds back no picture, the deinterlacer one.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import cast

import av
import cv2
from av.codec.context import Flags
from av.container import InputContainer
from av.filter import Graph
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from engine.errors import SourceError
from engine.frames import Colour, Frame, Pixels
from plugin.clock import Clock
from plugin.colour import colour_of, to_rgb

OPEN_TIMEOUT_S = 4.0
READ_TIMEOUT_S = 2.0
DAMAGED_LIMIT = 300  # packets in a row without a picture, before a stream is given up
RETRY_S = 0.005  # for devices that answer "not yet" instead of waiting
USUAL_RATE = Fraction(25)  # where a stream says nothing
QUARTER_TURNS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}
REASONS: tuple[tuple[type[Exception], str], ...] = (
    (av.FileNotFoundError, "there is no such file or device"),
    (av.ConnectionRefusedError, "nobody listens there (connection refused)"),
    (av.ProtocolNotFoundError, "this build of PyAV does not speak this protocol"),
    (av.InvalidDataError, "the data is no video that FFmpeg knows, or is broken"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """What to open and how. ``advice`` ends every error: what the user can do.

    ``live``: decode with the least delay rather than with the most threads. ``untagged``: the colour
    of pictures that do not say theirs.
    """

    name: str
    target: str
    live: bool
    advice: str
    format: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    untagged: Colour | None = None


class Reader:
    """One open video stream: ``next`` until None, then ``close``. For one thread."""

    def __init__(self, opening: Opening, clock: Clock) -> None:
        self._opening = opening
        self._clock = clock
        self._container = _open(opening)
        try:
            self._stream = _video_stream(self._container, opening)
        except SourceError:
            self._container.close()
            raise
        self._deinterlacer: Deinterlacer | None = None
        self._stamps = Stamps(self._stream.time_base or 1 / USUAL_RATE, self.rate)
        self._frames = self._decoded()

    @property
    def rate(self) -> Fraction:
        """The stream's own word, or what is usual."""
        return self._stream.average_rate or self._stream.guessed_rate or USUAL_RATE

    @property
    def stored(self) -> bool:
        """Pictures come faster than they are due: a file at the other end, or pieces of some seconds."""
        return bool(self._container.duration) or self._container.format.name in ("hls", "dash")

    def next(self) -> Frame | None:
        """Waits for a picture; None at the end; SourceError when nothing comes or nothing can be decoded."""
        frame = next(self._frames, None)
        if frame is None:
            return None
        colour = colour_of(frame, self._opening.untagged)
        aspect = self._stream.codec_context.sample_aspect_ratio or Fraction(1)
        pixels = upright(to_rgb(frame, colour), aspect, frame.rotation)
        pts, time_base = self._stamps.of(frame.pts, frame.time_base)
        return Frame(pixels, pts, time_base, colour, self._clock.now())

    def close(self) -> None:
        self._frames.close()
        self._container.close()

    def _decoded(self) -> Generator[av.VideoFrame, None, None]:
        damaged = 0
        for packet in self._packets():
            try:
                frames = cast("list[av.VideoFrame]", packet.decode())
            except av.InvalidDataError:
                frames = []
            except av.FFmpegError as error:
                raise _error(self._opening, _reason(error, READ_TIMEOUT_S)) from error
            damaged = 0 if frames else damaged + 1
            if damaged > DAMAGED_LIMIT:
                raise _error(self._opening, f"no picture could be decoded from {damaged} packets in a row")
            for frame in frames:
                yield from self._progressive(frame)
        if self._deinterlacer is not None:
            yield from self._deinterlacer.flush()

    def _packets(self) -> Iterator[Packet[Stream]]:
        """The video's packets. The others are read too: their coming must not hide that no picture does."""
        packets = self._container.demux()
        newest_s = time.monotonic()
        while True:
            try:
                packet = next(packets, None)
            except av.BlockingIOError:
                packets, packet = self._container.demux(), None
                time.sleep(RETRY_S)
            except av.FFmpegError as error:
                raise _error(self._opening, _reason(error, READ_TIMEOUT_S)) from error
            else:
                if packet is None:
                    return
            if packet is not None and packet.stream is self._stream:
                yield packet
                newest_s = time.monotonic()
            elif self._opening.live and time.monotonic() - newest_s > READ_TIMEOUT_S:
                raise _error(self._opening, f"no picture came within {READ_TIMEOUT_S:.0f} s")

    def _progressive(self, frame: av.VideoFrame) -> Iterable[av.VideoFrame]:
        """From its first interlaced picture on, a stream goes through the deinterlacer."""
        if self._deinterlacer is None and not frame.interlaced_frame:
            return [frame]
        if self._deinterlacer is None or not self._deinterlacer.takes(frame):
            self._deinterlacer = Deinterlacer(frame, frame.time_base or 1 / USUAL_RATE)
        return self._deinterlacer.push(frame)


class LiveSource:
    """Delivers pictures as they come. Of several ways to open it, the first that gives one is taken.

    Reading waits for at most READ_TIMEOUT_S, after which a live source counts as lost.
    """

    def __init__(self, openings: Sequence[Opening], clock: Clock) -> None:
        self.name = openings[0].name
        self.reader: Reader | None = None
        self._first: Frame | None = None
        self._openings = openings
        self._clock = clock

    def open(self) -> None:
        for opening in self._openings:
            try:
                self.reader = Reader(opening, self._clock)
                self._first = self.reader.next()
                return
            except SourceError:
                self.close()
                if opening is self._openings[-1]:
                    raise

    def read(self, timeout_s: float) -> Frame | None:
        assert self.reader is not None, "read before open"
        frame, self._first = self._first or self.reader.next(), None
        if frame is None:
            raise SourceError(f"{self.name}: the sender ended it. {self._openings[0].advice}")
        return frame

    def close(self) -> None:
        if self.reader is not None:
            self.reader.close()
        self.reader = self._first = None


class Stamps:
    """Gives every picture a stamp: its own, or where it has none, that of its predecessor and one more."""

    def __init__(self, time_base: Fraction, rate: Fraction) -> None:
        self._time_base = time_base
        self._step_s = 1 / rate
        self._next_s = Fraction(0)

    def of(self, pts: int | None, time_base: Fraction | None) -> tuple[int, Fraction]:
        base = time_base or self._time_base
        stamp = round(self._next_s / base) if pts is None else pts
        self._next_s = stamp * base + self._step_s
        return stamp, base


class Deinterlacer:
    """One picture out for each in, one picture later; progressive pictures pass untouched."""

    def __init__(self, like: av.VideoFrame, time_base: Fraction) -> None:
        self._shape = _shape(like)
        self._graph = Graph()
        source = self._graph.add_buffer(
            width=like.width, height=like.height, format=like.format, time_base=time_base
        )
        bwdif = self._graph.add("bwdif", "mode=send_frame:deint=interlaced")
        sink = self._graph.add("buffersink")
        source.link_to(bwdif)
        bwdif.link_to(sink)
        self._graph.configure()

    def takes(self, frame: av.VideoFrame) -> bool:
        return _shape(frame) == self._shape

    def push(self, frame: av.VideoFrame) -> Iterator[av.VideoFrame]:
        self._graph.vpush(frame)
        return self._pull()

    def flush(self) -> Iterator[av.VideoFrame]:
        self._graph.vpush(None)
        return self._pull()

    def _pull(self) -> Iterator[av.VideoFrame]:
        while True:
            try:
                yield self._graph.vpull()
            except (av.BlockingIOError, av.EOFError):
                return


def upright(pixels: Pixels, pixel_aspect: Fraction, counterclockwise_deg: int) -> Pixels:
    """Square pixels (the width gives way), then turned as a phone's clip asks for."""
    if pixel_aspect != 1:
        width = max(2, round(pixels.shape[1] * pixel_aspect / 2) * 2)
        pixels = cast(Pixels, cv2.resize(pixels, (width, pixels.shape[0]), interpolation=cv2.INTER_LINEAR))
    turn = QUARTER_TURNS.get(round(counterclockwise_deg / 90) % 4)
    return pixels if turn is None else cast(Pixels, cv2.rotate(pixels, turn))


def _shape(frame: av.VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name


def _open(opening: Opening) -> InputContainer:
    try:
        return av.open(
            opening.target,
            "r",
            format=opening.format,
            options=dict(opening.options),
            timeout=(OPEN_TIMEOUT_S, READ_TIMEOUT_S),
        )
    except av.FFmpegError as error:
        raise _error(opening, _reason(error, OPEN_TIMEOUT_S)) from error


def _video_stream(container: InputContainer, opening: Opening) -> VideoStream:
    """The best, which is never a cover picture if there is a real one."""
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream):
        kinds = ", ".join(stream.type for stream in container.streams) or "nothing"
        raise _error(opening, f"no video in it, only {kinds}")
    if opening.live:
        stream.codec_context.flags |= Flags.low_delay
    stream.thread_type = "SLICE" if opening.live else "AUTO"
    return stream


def _reason(error: av.FFmpegError, timeout_s: float) -> str:
    if isinstance(error, av.ExitError):
        return f"nothing came within {timeout_s:.0f} s"
    for kind, text in REASONS:
        if isinstance(error, kind):
            return text
    return error.strerror or str(error)


def _error(opening: Opening, reason: str) -> SourceError:
    return SourceError(f"{opening.name}: {reason}. {opening.advice}")
