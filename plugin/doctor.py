"""``realcam_obs.py doctor``: what is there, what is missing and how to get it. Changes nothing.

Each probe asks one question and answers in one row; a probe that cannot ask says so in its row.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from engine.errors import ObsError, RealCamError
from plugin.environment import has_nvidia_gpu
from plugin.logs import log_folder, start_logging
from plugin.obs.client import ObsClient
from plugin.obs.local import address, server_settings
from plugin.obs.own_input import MEDIA_PORT
from plugin.obs.sidecar import log_path

Verdict = Literal["there", "missing", "not needed"]
MARKS: dict[Verdict, str] = {"there": "[green]✔", "missing": "[red]✘", "not needed": "[dim]–"}
OBS_TIMEOUT_S = 2.0
PORTS = {9000: "OSC", 9001: "control page", 9461: "tap of OBS", MEDIA_PORT: "media source in OBS"}
OLDEST_OBS = 29


@dataclass(frozen=True, slots=True)
class Finding:
    """One row: "not needed" is for what only some uses need."""

    name: str
    verdict: Verdict
    found: str
    hint: str = ""


def doctor() -> None:
    """Show what is there, what is missing and how to get it."""
    start_logging()
    table = Table(title="RealCam's doctor", title_justify="left", box=None, pad_edge=False)
    for column in ("", "what", "found", "what to do"):
        table.add_column(column, overflow="fold")
    for finding in findings():
        table.add_row(MARKS[finding.verdict], finding.name, finding.found, finding.hint)
    Console().print(table)


def findings() -> Iterator[Finding]:
    for probe in PROBES:
        try:
            yield from probe()
        except (OSError, subprocess.SubprocessError, RealCamError) as error:
            yield Finding(probe.__name__.lstrip("_"), "missing", f"could not be asked: {error}")


def _python() -> Iterable[Finding]:
    yield Finding("Python", "there", f"{platform.python_version()}, {sys.executable}")


def _obs() -> Iterable[Finding]:
    version = _obs_version()
    if version is None:
        hint = "obsproject.com/download; Debian and Ubuntu: apt install obs-studio obs-plugins"
        yield Finding("OBS Studio", "missing", "", hint)
    elif int(version.split(".")[0]) < OLDEST_OBS:
        yield Finding("OBS Studio", "missing", version, f"the tap needs OBS {OLDEST_OBS} or later")
    else:
        yield Finding("OBS Studio", "there", version)


def _obs_version() -> str | None:
    """Asked of the program where it is on the PATH, which it is on Linux only."""
    if sys.platform == "win32":
        program = Path(os.environ.get("PROGRAMFILES", r"C:\Program Files")) / "obs-studio/bin/64bit/obs64.exe"
        return _windows_version(program) if program.exists() else None
    if sys.platform == "darwin":
        plist = Path("/Applications/OBS.app/Contents/Info.plist")
        found = re.search(
            r"CFBundleShortVersionString</key>\s*<string>([\d.]+)",
            plist.read_text(errors="replace") if plist.exists() else "",
        )
        return found.group(1) if found else None
    program_path = shutil.which("obs")
    return _version_in(_output([program_path, "--version"])) if program_path else None


def _windows_version(program: Path) -> str | None:
    ask = f"(Get-Item '{program}').VersionInfo.ProductVersion"
    return _version_in(_output(["powershell", "-NoProfile", "-Command", ask]))


def _version_in(text: str) -> str | None:
    found = re.search(r"\d+\.\d+(\.\d+)?", text)
    return found.group(0) if found else None


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=15, check=False)
    return done.stdout + done.stderr


def _websocket() -> Iterable[Finding]:
    local = server_settings()
    if local is not None and not local.enabled:
        hint = "OBS: Tools → WebSocket Server Settings → Enable"
        yield Finding("obs-websocket", "missing", f"switched off in {local.path}", hint)
        return
    host, port, password = address("127.0.0.1", None, None)
    with ObsClient(host, port, password) as client:
        try:
            client.wait_connected(OBS_TIMEOUT_S)
            version = client.call("GetVersion")
        except ObsError as error:
            yield Finding("obs-websocket", "not needed", "not reached", str(error))
            return
    found = f"{version['obsWebSocketVersion']} of OBS {version['obsVersion']} on port {port}"
    yield Finding("obs-websocket", "there", found)


def _virtual_camera() -> Iterable[Finding]:
    from plugin.sinks.virtual_camera import LOAD_DRIVER, driver_installed

    if driver_installed():
        yield Finding("virtual camera", "there", "a driver is installed")
        return
    hints = {
        "Linux": f"sudo apt install v4l2loopback-dkms; {LOAD_DRIVER}",
        "Windows": "install Unity Capture, or OBS's own virtual camera (then OBS cannot use it itself)",
        "Darwin": "start OBS's virtual camera once, so that it installs its driver",
    }
    hint = hints.get(platform.system(), "") + "; or none at all: --sink obs-media needs no driver"
    yield Finding("virtual camera", "not needed", "no driver", hint)


def _ndi() -> Iterable[Finding]:
    if importlib.util.find_spec("cyndilib") is None:
        yield Finding("NDI", "not needed", "", "python realcam_obs.py setup --with ndi")
    else:
        yield Finding("NDI", "there", "cyndilib, with its library")


def _gpu() -> Iterable[Finding]:
    if not has_nvidia_gpu():
        hint = "no engine needs one, but for the student's larger models (wan-1.3b, wan2.2-5b)"
        yield Finding("GPU", "not needed", "no NVIDIA GPU", hint)
        return
    program = shutil.which("nvidia-smi")
    query = "--query-gpu=name,memory.total,driver_version"
    names = _output([program, query, "--format=csv,noheader"]).strip() if program else "an NVIDIA driver"
    yield Finding("GPU", "there", names)


def _torch() -> Iterable[Finding]:
    if importlib.util.find_spec("torch") is None:
        hint = "for wan-1.3b, wan2.2-5b and training: python realcam_obs.py setup --with model"
        yield Finding("torch", "not needed", "", hint)
    else:
        yield Finding("torch", "there", "installed")


def _ports() -> Iterable[Finding]:
    for port, use in PORTS.items():
        kind = socket.SOCK_DGRAM if use == "OSC" else socket.SOCK_STREAM
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                hint = "RealCam or OBS's tap may be running; otherwise choose another port"
                yield Finding(f"port {port}", "not needed", f"in use ({use})", hint)
            else:
                yield Finding(f"port {port}", "there", f"free ({use})")


def _cameras() -> Iterable[Finding]:
    from plugin.sources.device import list_devices

    devices = list(list_devices())
    if not devices:
        yield Finding("cameras", "not needed", "none", "OBS, NDI, a URL or a file will do as the source")
    for device in devices:
        yield Finding("camera", "there", str(device))


def _log() -> Iterable[Finding]:
    yield Finding("log", "there", f"{log_folder()}, and when started from OBS also {log_path()}")


def _for_tests() -> Iterable[Finding]:
    for program, package in {"Xvfb": "xvfb", "chromium": "chromium", "ffmpeg": "ffmpeg"}.items():
        path = shutil.which(program)
        hint = "" if path else f"only for the tests: apt install {package}"
        yield Finding(program, "there" if path else "not needed", path or "", hint)


PROBES: tuple[Callable[[], Iterable[Finding]], ...] = (
    _python,
    _obs,
    _websocket,
    _virtual_camera,
    _ndi,
    _gpu,
    _torch,
    _ports,
    _cameras,
    _log,
    _for_tests,
)
