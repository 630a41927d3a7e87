"""A real OBS for tests that ask for it, with its own screen, a scratch home and free ports."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from engine.errors import ObsError
from plugin.obs.client import ObsClient

pytest_plugins = ["tests.chromium"]

ROOT = Path(__file__).resolve().parents[1]
PASSWORD = "scratch password"
CANVAS = (640, 360)
NEEDS = (
    "OBS Studio and Xvfb are needed here (Debian: apt install obs-studio obs-plugins xvfb libgl1-mesa-dri)"
)
SCREEN = "-screen 0 1400x900x24 +extension GLX -nolisten tcp"
OBS_FLAGS = "--multi --minimize-to-tray --disable-updater --disable-shutdown-check --verbose"
SCRIPT_PORTS = ("tap_port", "osc_port", "web_port", "media_port")

T = TypeVar("T")


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(ask: Callable[[], T | None], timeout_s: float, what: str) -> T:
    """The first answer that is not None or False."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        answer = ask()
        if answer:
            return answer
        time.sleep(0.1)
    raise AssertionError(f"{what} did not happen within {timeout_s:g} s")


class Screen:
    """An X server of one's own, on a display number that it finds itself."""

    def __init__(self, folder: Path) -> None:
        reading, writing = os.pipe()
        with (folder / "xvfb.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["Xvfb", "-displayfd", str(writing), *SCREEN.split()],
                pass_fds=[writing],
                stdout=log,
                stderr=log,
            )
        os.close(writing)
        with os.fdopen(reading) as pipe:
            self.display = f":{pipe.readline().strip()}"

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)


class Obs:
    """One OBS in ``folder``: scene collections are made before it starts, the script is loaded in both.

    ``collections`` maps a name to the sources of its only scene, the first one on top.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.ports = {name: free_port() for name in SCRIPT_PORTS}
        self._websocket_port = free_port()
        self._screen: Screen | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.client = ObsClient(port=self._websocket_port, password=PASSWORD)

    @property
    def config(self) -> Path:
        return self.home / ".config" / "obs-studio"

    @property
    def address(self) -> tuple[int, str]:
        return self._websocket_port, PASSWORD

    def write_settings(self, rate: int = 30) -> None:
        width, height = CANVAS
        _write(
            self.config / "global.ini",
            "[General]\nFirstRun=true\nLastVersion=486539266\nInfoIncrement=999\n"
            "[Basic]\nProfile=Untitled\nProfileDir=Untitled\n"
            "SceneCollection=Untitled\nSceneCollectionFile=Untitled\n"
            "[OBSWebSocket]\nFirstLoad=false\nServerEnabled=true\nAlertsEnabled=false\nAuthRequired=true\n"
            f"ServerPort={self._websocket_port}\nServerPassword={PASSWORD}\n",
        )
        _write(
            self.config / "basic" / "profiles" / "Untitled" / "basic.ini",
            f"[General]\nName=Untitled\n[Video]\nBaseCX={width}\nBaseCY={height}\n"
            f"OutputCX={width}\nOutputCY={height}\nFPSType=0\nFPSCommon={rate}\n",
        )

    def write_collection(self, name: str, inputs: list[dict[str, Any]], script: dict[str, Any]) -> None:
        """One scene "Scene" that shows all inputs, and the script with its settings."""
        items = [
            {"name": source["name"], "id": number, "visible": True, "pos": {"x": 0.0, "y": 0.0}}
            for number, source in enumerate(inputs, start=1)
        ]
        scene = {"id": "scene", "name": "Scene", "settings": {"items": items, "id_counter": len(items)}}
        collection = {
            "name": name,
            "current_scene": "Scene",
            "current_program_scene": "Scene",
            "scene_order": [{"name": "Scene"}],
            "sources": [*inputs, scene],
            "modules": {
                "scripts-tool": [{"path": str(ROOT / "realcam_obs.py"), "settings": {**self.ports, **script}}]
            },
        }
        _write(self.config / "basic" / "scenes" / f"{name}.json", json.dumps(collection))

    def start(self) -> None:
        self._screen = Screen(self.folder)
        environment = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.folder),
            "DISPLAY": self._screen.display,
            "LIBGL_ALWAYS_SOFTWARE": "1",
            "QT_QPA_PLATFORM": "xcb",
        }
        with (self.folder / "obs.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["obs", *OBS_FLAGS.split()],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.client.start()
        self.client.wait_connected(60)
        wait_until(self._answers, 30, "OBS loading its scenes")

    def _answers(self) -> bool:
        try:
            return bool(self.client.call("GetSceneList")["scenes"])
        except ObsError:
            return False

    @property
    def log(self) -> str:
        return (self.folder / "obs.log").read_text(encoding="utf-8", errors="replace")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def quit(self, timeout_s: float = 30.0) -> int:
        """Closes the main window, as an operator does; the exit code.

        OBS 29's handler for SIGINT calls Qt from within the signal, and crashes every third time.
        """
        assert self._process is not None and self._screen is not None
        self.client.stop()
        close = [sys.executable, str(ROOT / "tests" / "x11.py"), self._screen.display, "OBS "]
        subprocess.run(close, check=True, timeout=10)
        return self._process.wait(timeout_s)

    def close(self) -> None:
        self.client.stop()
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
        if self._screen is not None:
            self._screen.close()

    def leaks(self) -> int | None:
        """What OBS counts at its very end; None if it did not get there."""
        found = re.search(r"Number of memory leaks: (\d+)", self.log)
        return int(found.group(1)) if found else None


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.fixture(scope="session")
def obs_class() -> type[Obs]:
    if shutil.which("obs") is None or shutil.which("Xvfb") is None:
        if os.environ.get("CI"):
            pytest.fail(NEEDS)
        pytest.skip(NEEDS)
    return Obs


@pytest.fixture(scope="session")
def wait_for() -> Callable[..., Any]:
    return wait_until
