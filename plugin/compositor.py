"""What goes on air, one picture for each output instant.

Takes the newest picture of the engine with the pose it shows, and reprojects it to the pose of this
very instant, so the move runs at the output's rate with a frame's latency however slow the model
is. Owns the ladder engine → hold → clean feed → slate, and the operator's bypass, freeze and slate.
Knows nothing of threads, devices or presets; every method may be called from any thread.
"""

from __future__ import annotations

import threading
from collections import deque
from enum import Enum
from functools import lru_cache

import cv2
import numpy as np

from engine.camera.geometry import IDENTITY, Intrinsics, Matrix, Pose, plane_homography
from engine.frames import Frame, Pixels
from plugin.colour import to_nv12
from plugin.config import CameraConfig, PictureConfig
from plugin.control.switcher import Mode, View
from plugin.ladder import Health, Ladder, Rung, best_rung
from plugin.shared_frames import SharedPicture
from plugin.sinks.base import OutputFormat
from plugin.slate import make_slate, parse_colour
from plugin.warp import Picture, Plane, Reprojector

FADE_S = 0.3
SIZES = 8  # of the source that are remembered: the engine is a picture or two behind
UNANSWERED = 4096  # source pictures: minutes, while an engine is given up after a second or two


Size = tuple[int, int]  # width, height


class Layer(Enum):
    """Everything that can be shown; each can be drawn at any instant, so any two can be crossfaded."""

    ENGINE = "engine"
    CLEAN = "clean feed"
    UNMOVED = "bypass"
    SLATE = "slate"
    STILL = "still"


class Compositor:
    def __init__(self, output: OutputFormat, camera: CameraConfig, picture: PictureConfig) -> None:
        self._output = output
        self._fov = float(np.radians(camera.horizontal_fov_deg))
        self._subject_distance_m = camera.subject_distance_m
        self._overscan_zoom = 1 / (1 - picture.overscan)
        self._slate = _to_picture(make_slate(picture, output.width, output.height))
        border = None if picture.border == "mirror" else _yuv(picture.slate_colour)
        self._reprojector = Reprojector(output.width, output.height, border)
        self._lock = threading.Lock()
        self._source: Frame | None = None
        self._source_picture: tuple[Frame, Picture] | None = None
        self._engine: tuple[SharedPicture, Picture] | None = None
        self._unanswered: deque[float] = deque(maxlen=UNANSWERED)  # arrivals after the engine's picture's
        self._sizes: deque[tuple[float, Size]] = deque(maxlen=SIZES)  # of source frames, from that arrival on
        self._ladder: Ladder | None = None  # until the first picture
        self._shown = Layer.SLATE
        self._previous: Layer | None = None
        self._changed_s = 0.0
        self._fade_s = FADE_S
        self._last = self._slate
        self._still = self._slate

    @property
    def rung(self) -> Rung:
        return self._ladder.rung if self._ladder else Rung.SLATE

    @property
    def shown(self) -> Layer:
        return self._shown

    def set_source(self, frame: Frame) -> None:
        with self._lock:
            self._source = frame
            self._unanswered.append(frame.arrived_s)
            if not self._sizes or self._sizes[-1][1] != (frame.width, frame.height):
                self._sizes.append((frame.arrived_s, (frame.width, frame.height)))

    def set_engine_picture(self, picture: SharedPicture) -> None:
        """Converts here, on the caller's time, so that composing has only to reproject."""
        converted = _to_picture(picture.pixels).prepare()
        with self._lock:
            self._engine = (picture, converted)
            while self._unanswered and self._unanswered[0] <= picture.arrived_s:
                self._unanswered.popleft()

    def shown_arrival_s(self) -> float | None:
        """When the source frame that is on air came in; None for slate and stills."""
        with self._lock:
            if self._shown is Layer.ENGINE and self._engine is not None:
                return self._engine[0].arrived_s
            if self._shown in (Layer.CLEAN, Layer.UNMOVED) and self._source is not None:
                return self._source.arrived_s
            return None

    def compose(self, view: View, engine_interval_s: float, now: float) -> Plane:
        """The picture for the instant ``now``, NV12, in a buffer of its own."""
        with self._lock:
            health = self._health(engine_interval_s, now)
        if self._ladder is None:  # the show begins with what there is, without a fade from nothing
            self._ladder = Ladder(best_rung(health))
            self._shown = self._layer_for(view.mode)
        self._ladder = self._ladder.step(health, now)
        self._show(self._layer_for(view.mode), view.mode, now)
        out = self._draw(self._shown, view.pose)
        share = (now - self._changed_s) / self._fade_s if self._fade_s else 1.0
        if self._previous is not None and share < 1.0:
            before = self._draw(self._previous, view.pose)
            weight = max(0.0, share)
            cv2.addWeighted(out.nv12, weight, before.nv12, 1 - weight, 0, dst=out.nv12)
        else:
            self._previous = None
        self._last = out
        return out.nv12

    def _health(self, interval_s: float, now: float) -> Health:
        """The engine's lag counts from what came after its picture: a source that paused owed it a frame."""
        if self._source is None:
            return Health(float("inf"), float("inf"), interval_s)
        arrived_s = self._source.arrived_s
        waited_since_s = self._unanswered[0] if self._unanswered else arrived_s
        lag_s = float("inf") if self._engine is None else arrived_s - waited_since_s
        return Health(now - arrived_s, lag_s, interval_s)

    def _layer_for(self, mode: Mode) -> Layer:
        if mode is Mode.FREEZE:
            return Layer.STILL
        if mode is Mode.SLATE or self.rung is Rung.SLATE:
            return Layer.SLATE
        if mode in (Mode.BYPASS, Mode.PANIC):
            return Layer.UNMOVED
        return Layer.CLEAN if self.rung is Rung.CLEAN else Layer.ENGINE

    def _show(self, layer: Layer, mode: Mode, now: float) -> None:
        if layer is self._shown:
            return
        fading = self._previous is not None
        if layer is Layer.STILL or fading:
            self._still = self._last  # a fade that is overtaken goes on from what is on air
        self._previous = Layer.STILL if fading else self._shown
        self._shown, self._changed_s = layer, now
        self._fade_s = 0.0 if mode in (Mode.PANIC, Mode.FREEZE) else FADE_S

    def _draw(self, layer: Layer, pose: Pose) -> Picture:
        out = Picture.blank(self._output.width, self._output.height)
        if layer is Layer.ENGINE and self._engine is not None:
            rendered, picture = self._engine
            self._reproject(picture, self._source_size(rendered.arrived_s), rendered.pose, pose, out)
        elif layer in (Layer.CLEAN, Layer.UNMOVED) and self._source is not None:
            wanted = pose if layer is Layer.CLEAN else IDENTITY
            size = (self._source.width, self._source.height)
            self._reproject(self._clean_picture(self._source), size, IDENTITY, wanted, out)
        else:
            still = self._still if layer is Layer.STILL else self._slate
            np.copyto(out.nv12, still.nv12)
        return out

    def _clean_picture(self, frame: Frame) -> Picture:
        if self._source_picture is None or self._source_picture[0] is not frame:
            self._source_picture = (frame, _to_picture(frame.pixels))
        return self._source_picture[1]

    def _source_size(self, arrived_s: float) -> Size:
        """Of the source frame that came in then: an engine's picture may be older than a change."""
        with self._lock:
            sizes = list(self._sizes)
        return next((size for since_s, size in reversed(sizes) if since_s <= arrived_s), sizes[0][1])

    def _reproject(self, picture: Picture, source: Size, shows: Pose, wanted: Pose, out: Picture) -> None:
        """``picture``, made of a frame of ``source`` size, shows the scene from pose ``shows``; draws it as
        from pose ``wanted``. It may be of another shape than its source: the pixels are then not square.
        """
        lens = Intrinsics.from_horizontal_fov(*source, self._fov)
        distance_m = self._subject_distance_m
        to_output = plane_homography(lens, self._output_lens(lens), wanted, distance_m)
        to_picture = plane_homography(lens, lens.scaled(picture.width, picture.height), shows, distance_m)
        homography: Matrix = to_output @ np.linalg.inv(to_picture)
        self._reprojector.draw(picture, homography, out)

    def _output_lens(self, lens: Intrinsics) -> Intrinsics:
        """At the identity pose the source covers the output, less the overscan."""
        return covering_lens(lens, self._output.width, self._output.height, self._overscan_zoom)


@lru_cache(maxsize=16)
def covering_lens(lens: Intrinsics, width: int, height: int, zoom: float) -> Intrinsics:
    """The lens of an output of that size in which a picture taken by ``lens`` leaves no gap."""
    scale = max(width / lens.width, height / lens.height) * zoom
    return Intrinsics(lens.fx * scale, lens.fy * scale, (width - 1) / 2, (height - 1) / 2, width, height)


def _to_picture(pixels: Pixels) -> Picture:
    height, width, _ = pixels.shape
    return Picture(to_nv12(np.ascontiguousarray(pixels[: height // 2 * 2, : width // 2 * 2])))


def _yuv(colour: str) -> tuple[int, int, int]:
    swatch = np.full((2, 2, 3), parse_colour(colour), np.uint8)
    luma, *_ = (nv12 := to_nv12(swatch).ravel())
    return int(luma), int(nv12[4]), int(nv12[5])
