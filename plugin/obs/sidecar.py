"""RealCam's own process as OBS's script sees it: starting, stopping, asking for its state, sending OSC.

Standard library only; knows nothing of OBS. Nothing here waits on the caller's thread, except
:meth:`Sidecar.close`, and that for a bounded time.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

LAUNCHER = Path(__file__).resolve().parents[2] / "realcam_obs.py"
LOOPBACK = "127.0.0.1"
STOP_S = 5.0  # from asking to end, to ending
LOG_TAIL_BYTES = 4096


def find_python() -> str | None:
    """A Python program for the launcher, which looks for a better one itself.

    Inside OBS ``sys.executable`` may be OBS: the Python that OBS was given is under ``sys.base_prefix``.
    """
    names = [f"python{sys.version_info[0]}.{sys.version_info[1]}", "python3", "python"]
    prefix = Path(sys.base_prefix)
    found = [prefix / "python.exe"] if os.name == "nt" else [prefix / "bin" / name for name in names]
    for candidate in found:
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return str(candidate)
    return next((program for name in names if (program := shutil.which(name))), None)


def log_path() -> Path:
    """Where the operating system wants logs."""
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local")) / "RealCam" / "sidecar.log"
    if sys.platform == "darwin":
        return home / "Library" / "Logs" / "RealCam" / "sidecar.log"
    return Path(os.environ.get("XDG_STATE_HOME") or home / ".local" / "state") / "realcam" / "sidecar.log"


def words(options: str, windows: bool = os.name == "nt") -> list[str]:
    """As a shell splits them and finds the home; while a quotation mark is still open, at the blanks."""
    lexer = shlex.shlex(options, posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    if windows:
        lexer.escape = ""  # there a backslash is a part of a path
    try:
        found = list(lexer)
    except ValueError:
        found = options.split()
    return [str(Path(word).expanduser()) if word.startswith(("~/", "~\\")) else word for word in found]


class Sidecar:
    """At most one process, its log and its end."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._asked_to_stop = False
        self.problem = ""

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, arguments: Sequence[str]) -> None:
        """Starts ``realcam_obs.py ARGUMENTS``, which makes its environment first if it has to."""
        if self.running:
            return
        self.problem, self._asked_to_stop = "", False
        python = find_python()
        if python is None:
            self.problem = "no Python was found: install Python 3.12 and put it on the PATH"
            return
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        log = log_path()
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            if log.exists():
                log.replace(log.with_suffix(".previous.log"))
            with log.open("wb") as output:
                self._process = subprocess.Popen(
                    [python, str(LAUNCHER), *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    cwd=LAUNCHER.parent,
                    **_own_group(),
                )
        except OSError as error:
            self.problem = f"could not be started: {error}"

    def stop(self) -> None:
        """Asks the process to end and returns; a thread sees to it that it does."""
        if self.running:
            self._asked_to_stop = True
            threading.Thread(target=self.close, name="realcam stop", daemon=True).start()

    def close(self) -> None:
        """Asks the process to end, waits for it, and ends it if it does not."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        self._asked_to_stop = True
        try:
            process.wait(STOP_S if _ask_to_end(process) else 0.0)
        except subprocess.TimeoutExpired:
            _kill_tree(process)
            process.wait(STOP_S)

    def describe(self) -> str:
        if self.problem:
            return self.problem
        if self._process is None:
            return "not started"
        code = self._process.poll()
        if code is None:
            return f"stopping (process {self._process.pid})" if self._asked_to_stop else self._starting()
        if code == 0 or self._asked_to_stop:
            return "stopped"
        return f"ended with exit code {code}: {last_line(log_path())} (all of it: {log_path()})"

    def _starting(self) -> str:
        assert self._process is not None
        said = last_line(log_path())
        return f"running (process {self._process.pid})" + (f", says: {said}" if said else "")


def _own_group() -> dict[str, Any]:
    """So that it can be ended with its children, and that no console window opens."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _ask_to_end(process: subprocess.Popen[bytes]) -> bool:
    """False where it cannot be asked: on Windows that takes a console in common, and OBS has none."""
    try:
        process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM))
    except OSError:
        return False
    return True


def _kill_tree(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        kill = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
        subprocess.run(kill, capture_output=True, check=False, creationflags=subprocess.CREATE_NO_WINDOW)
    else:
        os.killpg(process.pid, signal.SIGKILL)


def last_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip()[:160] for line in reversed(lines) if line.strip()), "")


class StateWatcher:
    """Asks the running sidecar for its state, again and again, on a thread of its own."""

    def __init__(self, port: int, interval_s: float = 1.0) -> None:
        self._url = f"http://{LOOPBACK}:{port}/state"
        self._interval_s = interval_s
        self._stop = threading.Event()
        self.state: dict[str, Any] | None = None
        self.asked = False  # at least once: until then nobody knows
        threading.Thread(target=self._run, name="realcam state", daemon=True).start()

    def close(self) -> None:
        """The thread ends by itself within a second."""
        self._stop.set()

    def _run(self) -> None:
        # Without the proxies of the environment: this never leaves the machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while not self._stop.is_set():
            try:
                with opener.open(self._url, timeout=0.5) as answer:
                    state = json.load(answer)
                self.state = state if isinstance(state, dict) else None
            except (OSError, ValueError, HTTPException):  # somebody else may answer there, or half of it come
                self.state = None
            self.asked = True
            self._stop.wait(self._interval_s)


def osc_message(address: str, *values: float) -> bytes:
    """An OSC 1.0 message with float arguments."""

    def padded(text: str) -> bytes:
        data = text.encode("ascii") + b"\0"
        return data + b"\0" * (-len(data) % 4)

    return padded(address) + padded("," + "f" * len(values)) + struct.pack(f">{len(values)}f", *values)


def send_osc(port: int, address: str, *values: float) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.sendto(osc_message(address, *values), (LOOPBACK, port))
