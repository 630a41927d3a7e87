"""The picture on the control page: the newest output, small, as JPEG.

A picture is scaled and encoded when somebody asks for it, once however many ask, so a preview that
nobody watches costs nothing. Knows nothing of HTTP.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from plugin.colour import nv12_to_rgb, split_nv12
from plugin.config import PreviewSinkConfig
from plugin.sinks.base import OutputFormat, OutputFrame

QUALITY = 80


class Jpeg(NamedTuple):
    """``number`` tells one picture from another."""

    number: int
    data: bytes


class PreviewSink:
    name = "preview"

    def __init__(self, config: PreviewSinkConfig) -> None:
        self._width = config.width
        self._interval_s = float(1 / config.rate)
        self._early_s = 0.0
        self._due_s = float("-inf")
        self._come = threading.Condition()
        self._frame: OutputFrame | None = None
        self._encoding = threading.Lock()
        self._jpeg: Jpeg | None = None

    def open(self, output: OutputFormat) -> None:
        self._early_s = float(1 / output.rate) / 2

    def write(self, frame: OutputFrame) -> None:
        if frame.due_s < self._due_s - self._early_s:
            return
        on_time = frame.due_s - self._due_s < self._interval_s
        self._due_s = (self._due_s if on_time else frame.due_s) + self._interval_s
        with self._come:
            self._frame = frame
            self._come.notify_all()

    def close(self) -> None:
        """The last picture stays."""

    def latest(self) -> Jpeg | None:
        """The newest picture; None before the first."""
        with self._come:
            frame = self._frame
        return None if frame is None else self._encoded(frame)

    def wait(self, seen: int, timeout_s: float) -> Jpeg | None:
        """The newest picture once it is not number ``seen``; None after the time-out."""
        with self._come:
            if not self._come.wait_for(lambda: self._frame and self._frame.index != seen, timeout_s):
                return None
            frame = self._frame
        return None if frame is None else self._encoded(frame)

    def _encoded(self, frame: OutputFrame) -> Jpeg:
        with self._encoding:
            if self._jpeg is None or self._jpeg.number != frame.index:
                self._jpeg = Jpeg(frame.index, encode(frame.nv12, self._width))
            return self._jpeg


def encode(nv12: NDArray[np.uint8], width: int) -> bytes:
    """JPEG at most ``width`` wide. OpenCV's encoder turns RGB into JPEG's own BT.601 full range."""
    rgb = nv12_to_rgb(_scaled(nv12, width))
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    )
    if not done:
        raise RuntimeError(f"OpenCV cannot encode a JPEG of {rgb.shape[1]}×{rgb.shape[0]}")
    return bytes(data)


def _scaled(nv12: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """Luma and chroma apart, which costs a fraction of scaling RGB; by area where linear would alias."""
    luma, chroma = split_nv12(nv12)
    if luma.shape[1] <= width:
        return nv12
    height = max(2, round(width * luma.shape[0] / luma.shape[1] / 2) * 2)
    small = np.empty((height * 3 // 2, width), np.uint8)
    small_luma, small_chroma = split_nv12(small)
    how = cv2.INTER_AREA if luma.shape[1] >= 2 * width else cv2.INTER_LINEAR
    cv2.resize(luma, (width, height), dst=small_luma, interpolation=how)
    cv2.resize(chroma, (width // 2, height // 2), dst=small_chroma, interpolation=how)
    return small
