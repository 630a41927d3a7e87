"""RealCam for OBS: one file, two lives.

Loaded by OBS (Tools → Scripts) it is the OBS script; its work is in :mod:`plugin.obs.script`.
Run by Python it is the command line: on first use it makes its own environment in ``.venv`` beside
itself (:mod:`plugin.environment`), and then hands over to :mod:`plugin.cli` there.

Standard library only, and written so that an old Python reads it far enough to say which one is needed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
OLDEST, NEWEST = (3, 10), (3, 12)

HELP = """\
RealCam for OBS: a moving virtual camera for a live feed.

    python realcam_obs.py COMMAND [OPTIONS]

  demo       the bundled clip moved by presets, into demo.mp4 and a live page: try this first
  doctor     what is there, what is missing and how to get it
  run        the live camera: source, camera move, sinks; OSC on port 9000, control page on 9001
  obs add    puts the input "RealCam" into OBS's current scene
  presets    lists, checks, shows and plots the camera moves
  setup      only makes the environment; --with ndi, model, train or test adds what they need
  test       checks everything: ruff, mypy and pytest, which takes the further arguments

The first command makes an environment in .venv beside this file: a minute or two, some 500 MB,
needs the network once. Every later one starts at once, and then --help lists all commands, and
COMMAND --help explains each. In OBS, add this same file under Tools → Scripts.
"""


def suitable(version: Sequence[int]) -> bool:
    return OLDEST <= tuple(version[:2]) <= NEWEST


def find_python() -> list[str] | None:
    """The newest suitable Python of this machine, as a command that was tried out; None: there is none."""
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        candidates = [[f"python3.{minor}"]]
        if os.name == "nt":
            candidates.append(["py", f"-3.{minor}"])
        for name, *options in candidates:
            program = shutil.which(name)
            if program and _minor_version([program, *options]) == minor:
                return [program, *options]
    return None


def _minor_version(python: list[str]) -> int | None:
    """None if it does not run (a name on the PATH may be a shim with no Python behind it) or lacks venv."""
    ask = [*python, "-c", "import venv, sys; print(sys.version_info[1])"]
    try:
        done = subprocess.run(ask, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return int(done.stdout) if done.returncode == 0 else None


def wrong_python(version: Sequence[int]) -> str:
    found, newest = ".".join(str(part) for part in version[:3]), f"3.{NEWEST[1]}"
    return (
        f"RealCam needs Python 3.{OLDEST[1]} to {newest}. This is {found} ({sys.executable}), and no other "
        f"was found on the PATH. Install Python {newest} (Windows and macOS: python.org/downloads; Ubuntu: "
        f"apt install python{newest} python{newest}-venv; anywhere: uv python install {newest}) and give "
        "the same command again: the right Python is found by itself, and yours stays as it is."
    )


def hand_over(command: list[str]) -> NoReturn:
    """Becomes another program; on Windows, which cannot, waits for it and leaves Ctrl-C to it."""
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name != "nt":
        os.execv(command[0], command)
    process = subprocess.Popen(command)
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            sys.exit(process.wait())


def main(arguments: list[str]) -> NoReturn:
    version = tuple(sys.version_info[:3])
    if not suitable(version):
        other = find_python()
        if other is None:
            print(wrong_python(version), file=sys.stderr)
            sys.exit(2)
        hand_over([*other, str(HERE / "realcam_obs.py"), *arguments])
    if str(HERE) not in sys.path:
        sys.path.insert(0, str(HERE))
    from plugin import environment

    asks = bool({"--help", "-h"}.intersection(arguments))
    if (arguments[:1] == ["setup"] and asks) or (
        (not arguments or arguments[0] in ("--help", "-h")) and not environment.is_finished(VENV)
    ):
        print(HELP)
        sys.exit(0)
    try:
        environment.ensure(HERE, VENV, environment.wanted_extras(arguments))
    except environment.SetupError as error:
        print(f"realcam: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\nrealcam: interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    if arguments[:1] == ["setup"]:
        sys.exit(0)
    os.environ["PYTHONSAFEPATH"] = "1"  # a folder "plugin" where the user stands must not be taken for ours
    hand_over([str(environment.venv_python(VENV)), "-m", "plugin.cli", *(arguments or ["--help"])])


if __name__ == "__main__":
    main(sys.argv[1:])
elif importlib.util.find_spec("obspython") is not None:
    # "Reload scripts" imports this file anew, but not what it imported: forget that first.
    for name in [name for name in sys.modules if name == "plugin" or name.startswith("plugin.")]:
        del sys.modules[name]
    sys.path.insert(0, str(HERE))
    from plugin.obs.script import (  # noqa: F401
        script_defaults,
        script_description,
        script_load,
        script_properties,
        script_save,
        script_unload,
        script_update,
    )
