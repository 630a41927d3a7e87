"""Anything with an address: UDP, RTP, RTSP, RTMP, SRT, HTTP. Knows which options each needs to be quick.

FFmpeg's "nobuffer" is left alone on purpose: it throws away what was read to find out what the stream is, and
with it the first key picture. Nothing is lost in time by keeping it, since live pictures are not paced here:
the runner shows the newest.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from engine.frames import Frame
from plugin.clock import Clock
from plugin.config import UrlSourceConfig
from plugin.sources.player import Player
from plugin.sources.pyav import LiveSource, Opening

PROBE = {"analyzeduration": "1000000", "probesize": "1000000"}  # microseconds, bytes
OPTIONS: dict[str, dict[str, str]] = {
    "udp": {"overrun_nonfatal": "1"},  # late pictures are lost, the stream is not
    "rtsp": {"rtsp_flags": "prefer_tcp"},  # lost packets break pictures for seconds
    "rtsps": {"rtsp_flags": "prefer_tcp"},
    "rtmp": {"rtmp_live": "live", "rtmp_buffer": "100"},
    "rtmps": {"rtmp_live": "live", "rtmp_buffer": "100"},
    "tcp": {"tcp_nodelay": "1"},
}
ADVICE = "Check the address, and that the sender runs and sends to it."
SRT_ADVICE = (
    "If PyAV does not speak SRT, hand it on with FFmpeg: ffmpeg -i 'srt://…' -c copy -f mpegts "
    "udp://127.0.0.1:5004 and use url:udp://127.0.0.1:5004."
)


class UrlSource(LiveSource):
    def __init__(self, config: UrlSourceConfig, clock: Clock) -> None:
        self._scheme = urlsplit(config.url).scheme.lower()
        self._player: Player | None = None
        opening = Opening(
            name=f"URL {without_secrets(config.url)}",
            target=config.url,
            live=True,
            options=PROBE | OPTIONS.get(self._scheme, {}),
            advice=SRT_ADVICE if self._scheme == "srt" else ADVICE,
        )
        super().__init__([opening], clock)

    def open(self) -> None:
        super().open()
        assert self.reader is not None
        self._player = None
        if self._scheme in ("http", "https") and self.reader.stored:
            self._player = Player(self._fetch, float(1 / self.reader.rate), self._clock)

    def read(self, timeout_s: float) -> Frame | None:
        return self._fetch() if self._player is None else self._player.read(timeout_s)

    def _fetch(self) -> Frame | None:
        return super().read(0.0)


def without_secrets(url: str) -> str:
    """Without user, password, key and query, which end up in logs."""
    parts = urlsplit(url)
    path = parts.path
    if parts.scheme.lower() in ("rtmp", "rtmps"):  # its last part is the stream's key
        path = path[: path.rfind("/") + 1] + "…"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}"
