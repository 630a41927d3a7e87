"""RealCam's own Python environment: what goes into it, making it, completing it, repairing it.

Standard library only: this runs before anything is installed. Knows nothing of what RealCam does.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import platform
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

MARKER = "realcam-setup.json"  # in the environment; written last, so its absence means "not finished"
LOG = "realcam-setup.log"  # in the environment: all that pip said

UNTOLD = ("WARNING", "Looking in ", "Requirement already satisfied")  # of what pip says
EXTRAS = ("model", "ndi", "test", "train")
TRAINS = frozenset({"train", "eval", "data"})

TORCH_INDEX_VARIABLE = "REALCAM_TORCH_INDEX"
TORCH_CUDA_INDEX = "https://download.pytorch.org/whl/cu128"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"

SILENCE_S = 2.0  # the longest time that a setup says nothing
TERMINAL_REFRESH_S = 0.2
NO_NETWORK = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeout|Max retries exceeded|Network is unreachable"
    r"|Temporary failure in name resolution|getaddrinfo failed|ProxyError|Read timed out"
)


class SetupError(Exception):
    """What went wrong and what to do about it, as a paragraph for the user."""


def has_nvidia_gpu() -> bool:
    return shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia").exists()


def wanted_extras(arguments: Sequence[str]) -> frozenset[str]:
    """The extras of pyproject.toml that a command line needs."""
    if not arguments or "--help" in arguments:
        return frozenset()
    command = arguments[0]
    if command == "test":
        return frozenset(EXTRAS)
    extras = set(_asked_for(arguments[1:])) if command == "setup" else set()
    if command in TRAINS or (command == "weights" and "export" in arguments):
        extras.add("train")
    if command == "weights" or (command == "bench" and "model" in arguments) or _runs_a_model(arguments):
        extras.add("model")
    if "train" in extras:
        extras.add("model")
    return frozenset(extras)


def _runs_a_model(arguments: Sequence[str]) -> bool:
    """Whether the student is one for torch: a large one, or weights as they were trained."""
    values = dict(itertools.pairwise(arguments))
    values.update((name, value) for name, _, value in (one.partition("=") for one in arguments) if value)
    weights = values.get("--weights", ".onnx")
    return values.get("--model", "").startswith("wan") or not weights.endswith(".onnx")


def _asked_for(options: Sequence[str]) -> list[str]:
    """The values of ``--with X`` and ``--with=X``."""
    asked, rest = [], deque(options)
    while rest:
        option, equals, value = rest.popleft().partition("=")
        if option != "--with" or not (equals or rest):
            raise SetupError(f"setup takes --with {', --with '.join(EXTRAS)}, and not {option!r}.")
        value = value if equals else rest.popleft()
        if value not in EXTRAS:
            raise SetupError(f"There is no extra {value!r}: setup takes --with {', --with '.join(EXTRAS)}.")
        asked.append(value)
    return asked


def fingerprint(pyproject: bytes, extras: frozenset[str], python: str) -> str:
    """Changes when the environment has to be redone."""
    parts = [pyproject, ",".join(sorted(extras)).encode(), python.encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def torch_index(system: str, gpu: bool, environment: Mapping[str, str]) -> str | None:
    """Where torch is taken from; None: wherever pip looks anyway.

    PyPI's torch has no CUDA on Windows, and brings several GB of CUDA on Linux, wanted or not.
    """
    chosen = environment.get(TORCH_INDEX_VARIABLE)
    if chosen:
        return chosen
    if system == "Windows":
        return TORCH_CUDA_INDEX if gpu else None
    if system == "Linux" and not gpu and _reachable(TORCH_CPU_INDEX + "/torch/"):
        return TORCH_CPU_INDEX
    return None


def _reachable(url: str) -> bool:
    """Behind a mirror, or with wheels of its own, a machine may not reach the CPU index, and pip
    would try for minutes; then pip's own places decide."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=5):
            return True
    except (OSError, ValueError):
        return False


def pip_installs(pyproject: str, extras: frozenset[str], index: str | None, folder: Path) -> list[list[str]]:
    """The arguments of ``pip install``, a list for each run."""
    runs = []
    torch = re.search(r'"(torch[^"\w][^"]*)"', pyproject)
    if "model" in extras and index and torch:
        runs.append(["--index-url", index, torch.group(1)])
    runs.append(["--editable", f"{folder}[{','.join(sorted(extras))}]" if extras else str(folder)])
    return runs


# The environment


def venv_python(venv: Path) -> Path:
    return venv / "Scripts" / "python.exe" if os.name == "nt" else venv / "bin" / "python"


def venv_version(venv: Path) -> str | None:
    """ "3.11" if the environment has a suitable Python that is still installed, else None."""
    try:
        lines = (venv / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    settings = {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}
    version = re.match(r"(\d+)\.(\d+)", settings.get("version") or settings.get("version_info") or "")
    home = settings.get("home")
    if not version or not home or not Path(home).is_dir() or not venv_python(venv).exists():
        return None
    return version.group(0)


def read_marker(venv: Path) -> tuple[str, frozenset[str]]:
    """The fingerprint and the extras of a finished setup; empty ones if it did not finish."""
    try:
        found = json.loads((venv / MARKER).read_text(encoding="utf-8"))
        return str(found["fingerprint"]), frozenset(str(extra) for extra in found["extras"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", frozenset()


def is_finished(venv: Path) -> bool:
    return bool(read_marker(venv)[0])


def ensure(folder: Path, venv: Path, wanted: frozenset[str]) -> None:
    """Makes, completes or repairs the environment; returns at once if it is as it should be."""
    pyproject = (folder / "pyproject.toml").read_bytes()

    def complete() -> bool:
        return wanted <= read_marker(venv)[1] and _is_sound(venv, pyproject)

    if complete():
        return
    with _only_one_setup(venv):
        if not complete():  # another process may have finished it while this one waited
            _set_up(folder, venv, wanted | read_marker(venv)[1], pyproject)


def _is_sound(venv: Path, pyproject: bytes) -> bool:
    """Whether its setup finished, and with what is there now."""
    marked, installed = read_marker(venv)
    version = venv_version(venv)
    return version is not None and marked == fingerprint(pyproject, installed, version)


def _set_up(folder: Path, venv: Path, extras: frozenset[str], pyproject: bytes) -> None:
    started = time.monotonic()
    before = (venv / MARKER).read_text(encoding="utf-8") if _is_sound(venv, pyproject) else ""
    with contextlib.suppress(FileNotFoundError):
        (venv / MARKER).unlink()
    python = venv_python(venv)
    if venv_version(venv) != ".".join(map(str, sys.version_info[:2])) or not _has_pip(python):
        if venv.exists():
            say(f"{venv} is broken, half made or of another Python: making it anew")
            shutil.rmtree(venv)
            before = ""
        _run("making the environment", [_base_python(), "-m", "venv", str(venv)], None)
    index = torch_index(platform.system(), has_nvidia_gpu(), os.environ) if "model" in extras else None
    try:
        for options in pip_installs(pyproject.decode(), extras, index, folder):
            command = [str(python), "-m", "pip", "install", "--no-input", "--progress-bar", "off", *options]
            _run("installing", command, venv / LOG)
    except SetupError:
        if before:  # an extra that cannot be had now must not take along what worked without it
            (venv / MARKER).write_text(before, encoding="utf-8")
            say("what was set up before still works")
        raise
    version = venv_version(venv)
    if version is None:
        raise SetupError(f"{venv} has no usable Python after the setup. Remove that folder and try again.")
    marker = {"fingerprint": fingerprint(pyproject, extras, version), "extras": sorted(extras)}
    (venv / MARKER).write_text(json.dumps(marker), encoding="utf-8")
    say(f"RealCam is set up in {time.monotonic() - started:.0f} s")


def _has_pip(python: Path) -> bool:
    try:
        return subprocess.run([str(python), "-m", "pip", "--version"], capture_output=True).returncode == 0
    except OSError:
        return False


def _base_python() -> str:
    """The Python behind the environment that may be running this: a venv cannot replace itself."""
    return str(getattr(sys, "_base_executable", None) or sys.executable)


@contextlib.contextmanager
def _only_one_setup(venv: Path) -> Iterator[None]:
    """OBS and a terminal may start at once. The lock belongs to the open file: it ends with its process."""
    name = hashlib.sha256(str(venv).encode()).hexdigest()[:16]
    with (Path(tempfile.gettempdir()) / f"realcam-setup-{name}.lock").open("a+b") as file:
        started = told = time.monotonic()
        while not _try_lock(file.fileno()):
            if time.monotonic() - told > SILENCE_S:
                told = time.monotonic()
                say(f"waiting for another setup of RealCam to finish ({told - started:.0f} s)")
            time.sleep(0.2)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, 0, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


# Showing what happens


def say(text: str) -> None:
    print(f"realcam: {text}", file=sys.stderr, flush=True)


def _run(title: str, command: list[str], log: Path | None) -> None:
    """Runs a command under a live line; its last lines and advice become the error if it fails."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    try:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(log.open("a", encoding="utf-8")) if log else None
            last: deque[str] = deque(maxlen=200)
            for line in _live(title, process):
                last.append(line)
                if file:
                    file.write(line + "\n")
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if code:
        raise SetupError(advice(title, list(last), code, log))


def _live(title: str, process: subprocess.Popen[str]) -> Iterator[str]:
    """The lines of a process, shown as they come; says how long it works when it says nothing."""
    lines: queue.Queue[str | None] = queue.Queue()
    assert process.stdout is not None
    output = process.stdout

    def read() -> None:
        for line in output:
            lines.put(line.rstrip())
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    terminal = sys.stderr.isatty()
    started = time.monotonic()
    current = ""
    while True:
        try:
            line = lines.get(timeout=TERMINAL_REFRESH_S if terminal else SILENCE_S)
            if line is None:
                break
            yield line
            if not line.strip() or line.startswith(UNTOLD):
                continue
            current = " ".join(line.split())
        except queue.Empty:
            pass
        _show(f"{title} {time.monotonic() - started:4.0f} s  {current}", terminal)
    if terminal:
        sys.stderr.write("\r\x1b[K")


def _show(text: str, terminal: bool) -> None:
    width = shutil.get_terminal_size().columns - 12 if terminal else 140
    text = text if len(text) <= width else text[: width - 1] + "…"
    if terminal:
        sys.stderr.write(f"\r\x1b[Krealcam: {text}")
        sys.stderr.flush()
    else:
        say(text)


def advice(title: str, lines: Sequence[str], code: int, log: Path | None) -> str:
    """The last lines of a failed setup, and what to do."""
    shown = [line for line in lines if line.strip() and not line.startswith(("WARNING", "[notice]"))][-12:]
    text = "\n".join(lines)
    if NO_NETWORK.search(text):
        hint = (
            "The package index could not be reached. RealCam needs the network once, for its setup: check "
            "the connection, and behind a proxy set HTTPS_PROXY. The same command goes on from here."
        )
    elif "ensurepip" in text:
        hint = "This Python cannot make environments. Debian and Ubuntu: sudo apt install python3-venv."
    elif "No space left on device" in text or "Errno 28" in text:
        hint = (
            "The disk is full. The setup needs about 1 GB, with the extra model on a GPU machine about 8 GB."
        )
    else:
        hint = "The same command tries again from here; if it fails again, remove the folder .venv first."
    where = f" All of it: {log}" if log else ""
    return "\n".join(
        [f"{title} failed with exit code {code}:", *(f"  {line}" for line in shown), hint + where]
    )
