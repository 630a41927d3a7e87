"""Pictures out of OBS: the tap of RealCam's script, and screenshots where there is no script.

The tap is raw NV12 and sound in NUT on a loopback port, BT.709 limited by agreement with the script
(:mod:`plugin.obs.tap`). The sound is read and dropped.
"""

from __future__ import annotations

import base64
import logging
import time
from fractions import Fraction
from typing import cast

import cv2
import numpy as np
from obswebsocket.exceptions import ConnectionFailure
from websocket import WebSocketException

from engine.errors import SourceError
from engine.frames import BT709_LIMITED, RGB, Frame, Pixels
from plugin.clock import Clock
from plugin.config import ObsConfig, ObsSourceConfig
from plugin.obs.client import Connection, RequestRefused
from plugin.obs.local import address
from plugin.sources.pyav import LiveSource, Opening

log = logging.getLogger(__name__)

# NUT's header says all there is to know about raw video, so nothing is read ahead to find out more.
TAP_OPTIONS = {"fflags": "nobuffer", "probesize": "32", "analyzeduration": "0", "tcp_nodelay": "1"}
TAP_ADVICE = (
    "The OBS script is not sending: in OBS, Tools → Scripts, add realcam_obs.py, choose a source that is "
    "visible, and compare the port."
)
ANSWER_TIMEOUT_S = 3.0
SCREENSHOT_INTERVAL_S = 0.2  # each one stops OBS's own rendering for a while
SCREENSHOT_WIDTH = 640
JPEG_QUALITY = 80


class ObsSource(LiveSource):
    def __init__(self, config: ObsSourceConfig, clock: Clock) -> None:
        opening = Opening(
            name=f"OBS tap on port {config.port}",
            target=f"tcp://127.0.0.1:{config.port}",
            live=True,
            format="nut",
            options=TAP_OPTIONS,
            untagged=BT709_LIMITED,
            advice=TAP_ADVICE,
        )
        super().__init__([opening], clock)


class ObsScreenshots:
    """The last resort: a small JPEG a few times a second through obs-websocket."""

    def __init__(self, source_name: str, obs: ObsConfig, clock: Clock) -> None:
        self.name = f"OBS screenshots of {source_name} (last resort, a few pictures a second)"
        self._source_name = source_name
        self._obs = obs
        self._clock = clock
        self._client: Connection | None = None
        self._next_s = 0.0

    def open(self) -> None:
        log.warning("%s: use the OBS script's tap for a live picture", self.name)
        client = Connection(*address(self._obs.host, self._obs.port, self._obs.password or None))
        try:
            client.connect()
        except (ConnectionFailure, WebSocketException, OSError, KeyError, ValueError) as error:
            raise SourceError(
                f"{self.name}: no answer from obs-websocket at {self._obs.host}:{self._obs.port} ({error}). "
                "In OBS, Tools → WebSocket Server Settings, enable the server and compare port and password."
            ) from error
        self._client = client
        self._next_s = self._clock.now()

    def read(self, timeout_s: float) -> Frame | None:
        now = self._clock.now()
        if self._next_s > now + timeout_s:
            self._clock.sleep_until(now + timeout_s)
            return None
        self._clock.sleep_until(self._next_s)
        pixels = self._screenshot()
        now = self._clock.now()
        self._next_s = now + SCREENSHOT_INTERVAL_S
        return Frame(pixels, round(now * 1000), Fraction(1, 1000), RGB, now)

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _screenshot(self) -> Pixels:
        wanted = {
            "sourceName": self._source_name,
            "imageFormat": "jpg",
            "imageWidth": SCREENSHOT_WIDTH,
            "imageCompressionQuality": JPEG_QUALITY,
        }
        assert self._client is not None
        try:
            answer = self._client.ask("GetSourceScreenshot", wanted, time.monotonic() + ANSWER_TIMEOUT_S)
        except RequestRefused as error:
            raise SourceError(
                f"{self.name}: OBS has no picture of it. Is there a source of this name?"
            ) from error
        except (WebSocketException, OSError) as error:
            raise SourceError(f"{self.name}: OBS does not answer ({error}). Is it still running?") from error
        _, _, data = str(answer["imageData"]).partition(",")
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        if picture is None:
            raise SourceError(f"{self.name}: OBS sent a picture that is no JPEG. Use the OBS script's tap.")
        return cast(Pixels, cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
