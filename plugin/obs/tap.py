"""The tap: one OBS source, at OBS's full rate, as raw NV12 in NUT on a loopback port.

Runs inside OBS: standard library and ``obspython`` only, all of it on OBS's UI thread, none of it
waiting. Knows nothing of scripts, settings dialogues or the sidecar. What OBS makes here, OBS must
get back in the reverse order: output, view, source.

No callbacks from OBS's signals are used: they come from threads that then wait for Python's lock,
which the UI thread may hold while it waits for just that thread.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import obspython as obs

from plugin.obs.data import settings_of
from plugin.obs.relay import LOOPBACK, Relay

# Of libobs's media-io/video-io.h, which obspython leaves out.
VIDEO_FORMAT_NV12 = 2
VIDEO_CS_709 = 2
VIDEO_RANGE_PARTIAL = 1
# Of libavcodec/codec_id.h.
CODEC_RAWVIDEO = 13
CODEC_PCM_S16LE = 65536

START_TIMEOUT_S = 5.0
NOBODY_READS_S = 30.0  # then OBS need not render and copy pictures
FIRST_RETRY_S, LONGEST_RETRY_S = 0.5, 10.0


@dataclass(frozen=True)
class TapSettings:
    """``height`` in pixels, the width follows the source's shape; 0: as the source. Port 0: a free one."""

    source: str
    height: int
    port: int


class Size(NamedTuple):
    width: int
    height: int


def delivered_size(source: Size, height: int) -> Size:
    """What leaves OBS: the source's shape, never larger than it is, NV12's even sides, rows of four bytes."""
    height = min(height or source.height, source.height)
    width = source.width * height / source.height
    return Size(max(4, round(width / 4) * 4), max(2, height // 2 * 2))


class _Running(NamedTuple):
    output: Any
    view: Any
    source_size: Size
    delivered: Size
    started: bool
    since_s: float


class Tap:
    """Call :meth:`tick` a few times a second; it starts, repairs and ends what is needed."""

    def __init__(self) -> None:
        self._settings: TapSettings | None = None
        self._relay: Relay | None = None
        self._running: _Running | None = None
        self._retry_s = FIRST_RETRY_S
        self._next_try_s = 0.0
        self.problem = ""

    def configure(self, settings: TapSettings | None) -> None:
        """None turns the tap off and releases everything."""
        if settings == self._settings:
            return
        self.release()
        self._settings = settings
        self.problem, self._retry_s, self._next_try_s = "", FIRST_RETRY_S, 0.0

    def release(self) -> None:
        """Gives everything back to OBS; the next :meth:`tick` begins anew."""
        self._end_output()
        if self._relay is not None:
            self._relay.close()
            self._relay = None

    def describe(self) -> str:
        if self._settings is None or not self._settings.source:
            return "no source chosen"
        if self.problem:
            return self.problem
        if self._relay is None:
            return "starting"
        reader = "being read" if self._relay.has_reader else "nobody reads"
        if self._running is None:
            return f"ready on port {self._relay.port}, {reader}"
        size = self._running.delivered
        return (
            f"“{self._settings.source}” at {size.width} × {size.height} on port {self._relay.port}, {reader}"
        )

    def tick(self) -> None:
        if self._settings is None or not self._settings.source or time.monotonic() < self._next_try_s:
            return
        if self._relay is not None and not self._relay.alive:
            self.release()
            self._failed("the relay failed, see the script log")
            return
        if self._relay is None:
            try:
                self._relay = Relay(self._settings.port)
            except OSError as error:
                self._failed(f"port {self._settings.port} cannot be used ({error}): choose another one")
                return
        source = obs.obs_get_source_by_name(self._settings.source)
        try:
            self._follow(source, self._relay)
        finally:
            obs.obs_source_release(source)

    def _follow(self, source: Any, relay: Relay) -> None:
        """Begins or ends the output as the source, its size and the reader ask for."""
        assert self._settings is not None
        size = (
            Size(obs.obs_source_get_width(source), obs.obs_source_get_height(source))
            if source
            else Size(0, 0)
        )
        if self._running is None:
            if size.width == 0 or size.height == 0:
                missing = "gives no picture yet" if source else "is not in this scene collection"
                self.problem = f"“{self._settings.source}” {missing}"
            elif relay.has_reader:
                self._begin_output(source, size, relay)
            else:
                self.problem = ""
            return
        age_s = time.monotonic() - self._running.since_s
        if obs.obs_output_active(self._running.output):
            self.problem, self._retry_s = "", FIRST_RETRY_S
            if size != self._running.source_size or relay.alone_s() > NOBODY_READS_S:
                self._end_output()
        elif age_s > START_TIMEOUT_S or obs.obs_output_get_last_error(self._running.output):
            reason = obs.obs_output_get_last_error(self._running.output) or "it did not start"
            self._end_output()
            self._failed(f"OBS's FFmpeg output failed: {reason}")

    def _failed(self, problem: str) -> None:
        self.problem = problem
        self._next_try_s = time.monotonic() + self._retry_s
        self._retry_s = min(2 * self._retry_s, LONGEST_RETRY_S)

    def _begin_output(self, source: Any, size: Size, relay: Relay) -> None:
        assert self._settings is not None
        delivered = delivered_size(size, self._settings.height)
        view = obs.obs_view_create()
        obs.obs_view_set_source(view, 0, source)
        video = obs.obs_view_add2(view, _video_info(size, delivered))
        settings = settings_of(_output_settings(relay.ingest_port))
        output = obs.obs_output_create("ffmpeg_output", "RealCam tap", settings, None)
        obs.obs_data_release(settings)
        started = video is not None and output is not None
        self._running = _Running(output, view, size, delivered, started, time.monotonic())
        if not started:
            self._end_output()
            self._failed("OBS has no FFmpeg output or no video: is the plugin obs-ffmpeg installed?")
            return
        obs.obs_output_set_mixers(output, 1)
        obs.obs_output_set_media(output, video, obs.obs_get_audio())
        obs.obs_output_start(output)

    def _end_output(self) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        connecting = running.started and time.monotonic() - running.since_s < START_TIMEOUT_S
        if self._relay is not None and not self._relay.prepare_for_end(connecting):
            # Stopping it now could hold OBS for ever; without its view it sends a still picture.
            obs.script_log(
                obs.LOG_ERROR, "RealCam: the tap's relay does not answer; its output is left behind"
            )
            return
        if running.output is not None:
            obs.obs_output_force_stop(running.output)
            obs.obs_output_release(running.output)
        obs.obs_view_set_source(running.view, 0, None)
        obs.obs_view_remove(running.view)
        obs.obs_view_destroy(running.view)
        if self._relay is not None:
            self._relay.ended()


def _video_info(source: Size, delivered: Size) -> Any:
    """OBS's own video settings with a canvas of the source's size: its shape fills the picture, scaled
    by the GPU, and the colours are the ones that the sidecar takes for granted."""
    info = obs.obs_video_info()
    obs.obs_get_video_info(info)
    info.base_width, info.base_height = source
    info.output_width, info.output_height = delivered
    info.output_format = VIDEO_FORMAT_NV12
    info.colorspace = VIDEO_CS_709
    info.range = VIDEO_RANGE_PARTIAL
    return info


def _output_settings(port: int) -> dict[str, bool | int | str]:
    return {
        "url": f"tcp://{LOOPBACK}:{port}",
        "format_name": "nut",
        "format_mime_type": "",
        "muxer_settings": "write_index=0 flush_packets=1",  # the index would grow as long as the show lasts
        "video_encoder": "rawvideo",
        "video_encoder_id": CODEC_RAWVIDEO,
        "video_settings": "",
        "video_bitrate": 100_000,
        "audio_encoder": "pcm_s16le",
        "audio_encoder_id": CODEC_PCM_S16LE,
        "audio_settings": "",
        "audio_bitrate": 128,
        "gop_size": 1,
    }
