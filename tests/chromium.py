"""Chromium without a window, for tests that ask for it: a fresh profile, driven over its debugging port."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
NEEDS = "Chromium is needed here (Debian: apt install chromium)"
SHIFT = 8  # DevTools' bit for it
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
]


class Tab:
    """One tab, through the DevTools protocol."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._last_id = 0

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._last_id += 1
        self._socket.send(json.dumps({"id": self._last_id, "method": method, "params": params}))
        while True:
            answer = json.loads(self._socket.recv(timeout=30))
            if answer.get("id") == self._last_id:
                assert "error" not in answer, answer
                return dict(answer["result"])

    def open(self, address: str) -> None:
        self.call("Page.navigate", url=address)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_until(self, condition: str, timeout_s: float = 15.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < deadline, f"the page never came to: {condition}"
            time.sleep(0.03)

    def press(self, selector: str) -> None:
        """Moves the pointer onto the middle of an element and clicks, as a person does."""
        x, y = self.middle_of(selector)
        self.pointer("mousePressed", x, y)
        self.pointer("mouseReleased", x, y)

    def middle_of(self, selector: str) -> tuple[float, float]:
        element = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{element}.scrollIntoView({{block: 'center'}})")
        box = self.run(f"{element}.getBoundingClientRect().toJSON()")
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def pointer(self, what: str, x: float, y: float) -> None:
        """``what``: mousePressed, mouseMoved (with the button down) or mouseReleased."""
        self.call("Input.dispatchMouseEvent", type=what, x=x, y=y, button="left", buttons=1, clickCount=1)

    def key(self, key: str, shift: bool = False) -> None:
        """A capital letter without ``shift`` is what Caps Lock makes of the key."""
        modifiers = SHIFT if shift else 0
        for what in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=what, key=key, modifiers=modifiers)

    def picture(self) -> bytes:
        """PNG of the tab."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])


@contextmanager
def running_chromium(program: str, scratch: Path, size: tuple[int, int] = (1440, 900)) -> Iterator[Tab]:
    """One tab of a fresh profile in ``scratch``."""
    width, height = size
    window, profile = f"--window-size={width},{height}", f"--user-data-dir={scratch}"
    process = subprocess.Popen(
        [program, *FLAGS, window, profile, "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(scratch), "DBUS_SESSION_BUS_ADDRESS": "disabled:"},
    )
    try:
        with connect(tab_address(process, scratch), max_size=None) as socket:
            yield Tab(socket)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def tab_address(process: subprocess.Popen[bytes], scratch: Path) -> str:
    file = scratch / "DevToolsActivePort"
    deadline = time.monotonic() + 30
    while not file.exists() or not file.read_text().strip():
        assert process.poll() is None, f"Chromium ended at once, with {process.returncode}"
        assert time.monotonic() < deadline, "Chromium opened no debugging port within 30 s"
        time.sleep(0.05)
    port = file.read_text().split()[0]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=10) as answer:
        tabs = json.load(answer)
    return str(next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page"))


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Tab]:
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        if os.environ.get("CI"):
            pytest.fail(NEEDS)
        pytest.skip(NEEDS)
    with running_chromium(program, tmp_path / "chromium") as tab:
        yield tab
