"""Sends the picture as an NDI source. Knows nothing of who watches it, but tells the tally they set.

The NDI library comes with the package cyndilib (the extra "ndi"), imported only when a sink is opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.errors import SinkError
from plugin.sinks.base import OutputFormat, OutputFrame

if TYPE_CHECKING:
    from cyndilib.sender import Sender


@dataclass(frozen=True, slots=True)
class NdiTally:
    """What the receivers say that they do with the picture."""

    program: bool = False
    preview: bool = False


class NdiSink:
    """``name`` is what receivers list, behind the machine's name: "STUDIO (RealCam)"."""

    def __init__(self, source_name: str) -> None:
        self.name = f"NDI {source_name}"
        self._source_name = source_name
        self._sender: Sender | None = None
        self._tally = NdiTally()
        self._staging: NDArray[np.uint8] = np.empty(0, dtype=np.uint8)  # cyndilib takes no read-only array

    @property
    def tally(self) -> NdiTally:
        """As of the last picture; may be read from any thread."""
        return self._tally

    def open(self, output: OutputFormat) -> None:
        try:
            from cyndilib.sender import Sender
            from cyndilib.video_frame import VideoSendFrame
            from cyndilib.wrapper.ndi_structs import FourCC
        except ImportError as error:
            raise SinkError(
                "NDI output needs the package cyndilib: run python realcam_obs.py setup --with ndi, "
                f"or choose another sink ({error})"
            ) from error
        frame = VideoSendFrame()
        frame.set_resolution(output.width, output.height)
        frame.set_frame_rate(output.rate)
        frame.set_fourcc(FourCC.NV12)
        # The pacer keeps the time: a sender that clocks itself would fight it.
        sender = Sender(self._source_name, clock_video=False, clock_audio=False)
        sender.set_video_frame(frame)
        sender.open()
        self._sender = sender
        self._staging = np.empty((output.height * 3 // 2, output.width), dtype=np.uint8)

    def write(self, frame: OutputFrame) -> str | None:
        assert self._sender is not None, "write before open"
        if self._sender.get_num_connections(0) == 0:
            self._tally = NdiTally()
            return "an NDI receiver"
        np.copyto(self._staging, frame.nv12)
        self._sender.write_video_async(self._staging.reshape(-1))
        self._sender.update_tally(0)
        self._tally = NdiTally(bool(self._sender.program_tally), bool(self._sender.preview_tally))
        return None

    def close(self) -> None:
        sender, self._sender = self._sender, None
        self._tally = NdiTally()
        if sender is not None:
            sender.close()
