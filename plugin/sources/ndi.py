"""A source on NDI, and the tally that it is told. The library comes with cyndilib, the extra "ndi".

Pictures are taken from NDI's frame synchronizer: asked often, it repeats a picture until the next one, and
never hands out an old one after a newer. A receiver can wedge when its sender restarts, so a source that
stands still is given up and opened anew, receiver and all.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from engine.errors import SourceError
from engine.frames import RGB, Colour, Frame, Pixels
from plugin.clock import Clock
from plugin.colour import packed_to_rgb

if TYPE_CHECKING:
    from cyndilib.finder import Finder, Source
    from cyndilib.receiver import Receiver
    from cyndilib.video_frame import VideoFrameSync

FIND_TIMEOUT_S = 4.0
STALLED_AFTER_S = 3.0
POLL_S = 0.004
STAMP_BASE = Fraction(1, 1_000_000)  # NDI's timestamps are finer, but come as floating point


@dataclass(frozen=True, slots=True)
class Tally:
    """What the source's red and green light shall show."""

    program: bool = False
    preview: bool = False


class NdiSource:
    """``wanted``: a part of the name that NDI lists, "STUDIO (Camera 1)"; upper and lower case are one."""

    def __init__(self, wanted: str, clock: Clock) -> None:
        self.name = f"NDI {wanted}"
        self._wanted = wanted
        self._clock = clock
        self._finder: Finder | None = None
        self._receiver: Receiver | None = None
        self._video: VideoFrameSync | None = None
        self._tally = self._told = Tally()
        self._stamp = 0
        self._newest_s = 0.0

    def set_tally(self, program: bool, preview: bool) -> None:
        """From any thread; the source is told with the next picture."""
        self._tally = Tally(program, preview)

    def open(self) -> None:
        try:
            from cyndilib.finder import Finder
            from cyndilib.receiver import Receiver
            from cyndilib.video_frame import VideoFrameSync
            from cyndilib.wrapper.ndi_recv import RecvBandwidth, RecvColorFormat
        except ImportError as error:
            raise SourceError(
                f"{self.name}: NDI needs the package cyndilib: run python realcam_obs.py setup --with ndi, "
                f"or pip install cyndilib ({error})."
            ) from error
        self._finder = Finder()
        self._finder.open()
        source = self._find(self._finder)
        # Fields are joined by the library; UYVY is what travels, so it costs nothing to ask for.
        self._receiver = Receiver(
            color_format=RecvColorFormat.UYVY_RGBA,
            bandwidth=RecvBandwidth.highest,
            allow_video_fields=False,
            recv_name="RealCam",
        )
        self._video = VideoFrameSync()
        self._receiver.frame_sync.set_video_frame(self._video)
        self._receiver.set_source(source)
        self._told, self._stamp, self._newest_s = Tally(), 0, self._clock.now()

    def read(self, timeout_s: float) -> Frame | None:
        assert self._receiver is not None and self._video is not None, "read before open"
        self._tell(self._receiver)
        give_up_s = self._clock.now() + timeout_s
        while (now := self._clock.now()) < give_up_s:
            self._receiver.frame_sync.capture_video()
            stamp = round(self._video.get_timestamp_posix() / STAMP_BASE) if self._video.xres else 0
            if stamp not in (0, self._stamp):
                self._stamp, self._newest_s = stamp, now
                pixels, colour = _picture(self._video)
                return Frame(pixels, stamp, STAMP_BASE, colour, self._clock.now())
            if now - self._newest_s > STALLED_AFTER_S:
                raise SourceError(f"{self.name}: no new picture for {STALLED_AFTER_S:.0f} s. Is it still on?")
            self._clock.sleep_until(now + POLL_S)
        return None

    def close(self) -> None:
        """The receiver before the finder, which owns the source that it is connected to."""
        receiver, finder = self._receiver, self._finder
        self._video = self._receiver = self._finder = None
        if receiver is not None:
            receiver.disconnect()
        if finder is not None:
            finder.close()

    def _find(self, finder: Finder) -> Source:
        give_up_s = self._clock.now() + FIND_TIMEOUT_S
        while (left_s := give_up_s - self._clock.now()) > 0:
            for source in finder.iter_sources():
                if self._wanted.lower() in source.name.lower():
                    return source
            finder.wait(left_s)
        names = ", ".join(finder.get_source_names()) or "none"
        raise SourceError(
            f"{self.name}: no NDI source of this name. Found: {names}. Is it on, in this network?"
        )

    def _tell(self, receiver: Receiver) -> None:
        wanted = self._tally
        if wanted != self._told:
            receiver.set_source_tally_program(wanted.program)
            receiver.set_source_tally_preview(wanted.preview)
            self._told = wanted


def _picture(video: VideoFrameSync) -> tuple[Pixels, Colour]:
    width, height = video.get_resolution()
    rows = video.get_array().reshape(height, video.get_line_stride())
    if video.get_fourcc().name.startswith("RGB"):
        return np.ascontiguousarray(rows[:, : width * 4].reshape(height, width, 4)[..., :3]), RGB
    colour = colour_of_size(width, height)
    packed = np.ascontiguousarray(rows[:, : width * 2]).reshape(height, width, 2)
    return packed_to_rgb(packed, luma_at=1, colour=colour), colour


def colour_of_size(width: int, height: int) -> Colour:
    """NDI's rule: BT.601 for standard definition, BT.709 for high, BT.2020 beyond."""
    if width > 1920 or height > 1080:
        return Colour("bt2020", full_range=False)
    return Colour("bt709" if width > 720 or height > 576 else "bt601", full_range=False)
