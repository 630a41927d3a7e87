"""Records to an H.264 file that can be played even when the recording was killed. Knows no device.

MP4 is written in fragments of a second, each playable as soon as it is on the disk; a clean close
turns the file into a plain MP4 (FFmpeg's "hybrid fragmented"). Matroska needs nothing of the kind.
"""

from __future__ import annotations

import contextlib
import io
import logging
from fractions import Fraction
from pathlib import Path

import av
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from engine.errors import ConfigError, SinkError
from plugin.sinks.base import OutputFormat, OutputFrame

log = logging.getLogger(__name__)

CONSTANT_RATE_FACTOR = 20
ENCODER_THREADS = 2  # the compositor needs the other cores
_BT709 = 1  # AVCOL_PRI_BT709 and AVCOL_TRC_BT709

_FRAGMENTED = {"movflags": "+hybrid_fragmented+frag_keyframe+empty_moov+default_base_moof"}
_MUXERS: dict[str, tuple[str, dict[str, str]]] = {  # the format and its options
    ".mp4": ("mp4", _FRAGMENTED),
    ".mov": ("mov", _FRAGMENTED),
    ".mkv": ("matroska", {}),
}
SUFFIXES = tuple(_MUXERS)


class FileSink:
    """Overwrites ``path``; a sink that lost its file goes on in "name-2.mp4" (or -3, if that is there), never
    over a recording.

    Less than a second is no recording: a full disk must not fill with empty files.
    """

    def __init__(self, path: Path) -> None:
        suffix = path.suffix.lower()
        if suffix not in _MUXERS:
            kinds = ", ".join(SUFFIXES)
            raise ConfigError(f"cannot record to {path}: the name must end in one of {kinds}")
        self.name = f"file {path}"
        self._path = path
        self._format, self._options = _MUXERS[suffix]
        self._file: io.RawIOBase | None = None  # PyAV does not close one of its own that could not be begun
        self._part = 1
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._first_index: int | None = None
        self._written = 0  # pictures in this part

    @property
    def current_path(self) -> Path:
        if self._part == 1:
            return self._path
        return self._path.with_stem(f"{self._path.stem}-{self._part}")

    def open(self, output: OutputFormat) -> None:
        if self._written >= output.rate:
            self._part += 1
            while self.current_path.exists():
                self._part += 1
        self._written = 0
        self._first_index = None
        path = self.current_path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            options = {"flush_packets": "1", **self._options}
            self._file = path.open("wb", buffering=0)
            self._container = av.open(self._file, "w", format=self._format, container_options=options)
            self._stream = _add_h264(self._container, output)
            self._container.start_encoding()  # only this creates the file
        except (OSError, FFmpegError) as error:
            raise SinkError(f"cannot record to {path}: {_reason(error)}; choose another file") from error

    def write(self, frame: OutputFrame) -> None:
        assert self._container is not None and self._stream is not None, "write before open"
        if self._first_index is None:
            self._first_index = frame.index
        picture = av.VideoFrame.from_ndarray(frame.nv12, format="nv12")
        picture.colorspace = Colorspace.ITU709
        picture.color_range = ColorRange.MPEG
        # The index is the time: a picture that was dropped on the way leaves the others in their place.
        picture.pts = frame.index - self._first_index
        picture.time_base = self._stream.codec_context.time_base
        self._mux(picture)
        self._written += 1

    def close(self) -> None:
        container, self._container = self._container, None
        stream, self._stream = self._stream, None
        file, self._file = self._file, None
        try:
            if container is not None and stream is not None and self._first_index is not None:
                container.mux(stream.encode(None))
            if container is not None:
                container.close()
        except (OSError, FFmpegError) as error:
            log.warning("%s was not finished: %s", self.current_path, _reason(error))
            if container is not None:
                _discard(container)
        finally:
            if file is not None:
                file.close()

    def _mux(self, picture: av.VideoFrame) -> None:
        assert self._container is not None and self._stream is not None
        try:
            self._container.mux(self._stream.encode(picture))
        except (OSError, FFmpegError) as error:
            raise SinkError(f"recording to {self.current_path} failed: {_reason(error)}") from error


def _add_h264(container: OutputContainer, output: OutputFormat) -> VideoStream:
    seconds_between_keyframes = 1
    stream = container.add_stream("libx264", rate=output.rate)
    stream.width, stream.height, stream.pix_fmt = output.width, output.height, "nv12"
    stream.options = {"preset": "ultrafast", "crf": str(CONSTANT_RATE_FACTOR)}
    context = stream.codec_context
    context.time_base = Fraction(1) / output.rate
    context.gop_size = max(1, round(output.rate * seconds_between_keyframes))
    context.thread_count = ENCODER_THREADS
    context.colorspace = Colorspace.ITU709
    context.color_range = ColorRange.MPEG
    context.color_primaries = _BT709
    context.color_trc = _BT709
    return stream


def _discard(container: OutputContainer) -> None:
    with contextlib.suppress(OSError, FFmpegError):
        container.close()


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
