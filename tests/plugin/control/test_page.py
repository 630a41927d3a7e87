"""The control page in a real browser, against the real switcher, library and picture."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from engine.camera.axes import Limits
from engine.camera.director import Director
from plugin.clock import MonotonicClock
from plugin.colour import to_nv12
from plugin.config import PreviewSinkConfig, WebConfig
from plugin.control.switcher import Mode, Switcher
from plugin.control.web import WebServer
from plugin.library import PresetLibrary
from plugin.sinks.base import OutputFormat, OutputFrame
from plugin.sinks.preview import PreviewSink

pytestmark = pytest.mark.browser

SIZE = (640, 360)
RATE = 30
PIXELS = """(() => {
  const canvas = document.createElement("canvas");
  canvas.width = 64; canvas.height = 36;
  const context = canvas.getContext("2d");
  context.drawImage(document.getElementById("picture"), 0, 0, 64, 36);
  return Array.from(context.getImageData(0, 0, 64, 36).data).join();
})()"""


class Show:
    """A ball that goes from side to side, the built-in presets and the control page."""

    def __init__(self, folder: Path) -> None:
        self.clock = MonotonicClock()
        self.library = PresetLibrary(folder)
        self.switcher = Switcher(self.library, Director(Limits(), 2.5, self.library.find))
        self.preview = PreviewSink(PreviewSinkConfig(kind="preview"))
        self.preview.open(OutputFormat(*SIZE, Fraction(RATE)))
        self.port = free_port()
        self.web = WebServer(WebConfig(port=self.port), self.switcher, self.state, self.clock, self.preview)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._play, daemon=True)
        self._thread.start()
        self.web.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def state(self, now: float) -> dict[str, object]:
        source = {"name": "ball", "state": "live", "detail": "", "width": 640, "height": 360, "fps": 29.97}
        sink = {"name": "preview", "state": "live", "detail": "", "written": 1, "dropped": 0}
        return {
            **self.switcher.state(now),
            "fps": 29.97,
            "latency_ms": 83.4,
            "drops": 2,
            "source": source,
            "sinks": [sink],
            "obs": {"state": "lost", "detail": "nothing answers"},
        }

    def tell(self, key: str) -> Any:
        return self.switcher.state(self.clock.now())[key]

    def wait_until(self, key: str, value: object) -> None:
        deadline = time.monotonic() + 5
        while self.tell(key) != value:
            assert time.monotonic() < deadline, f"{key} is {self.tell(key)!r}, not {value!r}"
            time.sleep(0.02)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self.web.stop()

    def _play(self) -> None:
        index = 0
        while not self._stop.wait(1 / RATE):
            picture = np.full((SIZE[1], SIZE[0], 3), (30, 60, 90), np.uint8)
            cv2.circle(picture, (int(320 + 250 * math.sin(index / 10)), 180), 60, (240, 200, 60), -1)
            self.preview.write(OutputFrame(to_nv12(picture), index, index / RATE))
            index += 1


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def show(tmp_path: Path) -> Iterator[Show]:
    show = Show(tmp_path)
    yield show
    show.stop()


@pytest.fixture
def page(show: Show, browser: Any) -> Any:
    browser.open(show.address)
    browser.wait_until("document.querySelectorAll('.preset').length > 3")
    return browser


def test_the_page_shows_the_moving_picture_and_the_state_and_asks_nobody_else(show: Show, page: Any):
    page.wait_until("document.getElementById('picture').naturalWidth > 0")
    before = page.run(PIXELS)
    page.wait_until(f"{PIXELS} !== {before!r}")
    assert page.run("[...document.querySelectorAll('.figure b')].map(b => b.textContent)") == [
        "30.0",
        "83",
        "2",
    ]
    parts = page.run("document.getElementById('parts').innerText")
    assert "640×360 · 30.0 fps" in parts and "lost · nothing answers" in parts
    assert len(show.library.presets) == page.run("document.querySelectorAll('.preset').length")
    loaded = page.run("performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in loaded if not name.startswith((show.address, "data:"))] == []


def test_a_click_on_a_preset_starts_it_and_its_button_turns_red(show: Show, page: Any):
    page.press("[data-name=push-in]")
    show.wait_until("preset", "push-in")
    page.wait_until("document.querySelector('[data-name=push-in]').classList.contains('current')")
    page.wait_until("document.getElementById('now').textContent === 'Push in'")


def test_arming_and_taking(show: Show, page: Any):
    page.press("#press-arm")
    page.press("[data-name=push-in]")
    show.wait_until("armed", "push-in")
    assert show.tell("preset") is None
    page.wait_until("document.getElementById('take').classList.contains('ready')")
    page.key(" ")
    show.wait_until("preset", "push-in")
    page.wait_until("!document.getElementById('take').classList.contains('ready')")


def test_the_joystick_drives_while_it_is_held_and_lets_go(show: Show, page: Any):
    x, y = page.middle_of(".pad")
    page.pointer("mousePressed", x, y)
    page.pointer("mouseMoved", x + 50, y - 30)
    page.wait_until("state.velocity.pan > 0.1 && state.velocity.tilt > 0.05")
    page.pointer("mouseReleased", x + 50, y - 30)
    show.wait_until("velocity", dict.fromkeys(show.tell("velocity"), 0.0))
    assert show.tell("pose")["pan_deg"] > 0


def test_panic_is_a_key_away_and_the_show_can_be_resumed(show: Show, page: Any):
    page.press("#slate")
    show.wait_until("mode", Mode.SLATE.value)
    page.key("P", shift=True)
    show.wait_until("mode", Mode.PANIC.value)
    page.wait_until("document.getElementById('banner').offsetHeight > 0")
    page.press("#resume")
    show.wait_until("mode", Mode.LIVE.value)
    page.wait_until("document.getElementById('banner').offsetHeight === 0")


def test_caps_lock_changes_no_key(show: Show, page: Any):
    page.key("P")
    page.key("S")
    show.wait_until("slate", True)
    assert not show.tell("panic")
    page.key("p", shift=True)
    show.wait_until("mode", Mode.PANIC.value)


def test_the_lock_is_seen_and_a_refusal_is_said(show: Show, page: Any):
    show.switcher.set_tally(True)
    page.press("#lock")
    page.wait_until("document.body.classList.contains('locked')")
    page.press("[data-name=push-in]")
    page.wait_until("document.getElementById('error').textContent.includes('locked while on program')")
    page.press("#override")
    page.wait_until("!document.body.classList.contains('locked')")
    assert page.run("document.getElementById('tally').textContent") == "On air"


def test_a_page_that_has_lost_realcam_says_so(show: Show, page: Any):
    show.web.stop()
    page.wait_until("document.getElementById('banner').innerText.includes('does not answer')")
