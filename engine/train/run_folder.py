"""A run's folder: its settings are there, so that the same command goes on and another one is refused, and
one process at a time trains into it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from engine.errors import ConfigError

CONFIG = "config.json"
LOCK = ".lock"
FREE_TO_CHANGE = {  # in a run that resumes: nothing that a step computes depends on it
    "data",
    "workers",
    "checkpointing",
    *(
        f"loop.{name}"
        for name in ("out", "steps", "minutes", "compile", "checkpoint_every_s", "log_every", "look_every")
    ),
}


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Two trainings in one folder would write over each other's checkpoints: the second is refused. A lock
    is its process's, and gone with it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigError(
            f"another process trains into {folder}: wait for its end, stop it, or choose another --out"
        ) from None
    try:
        yield
    finally:
        lock.release()


def check_same_run(settings: Any, folder: Path) -> None:
    """Writes the settings, a dataclass, into the folder, or compares with those that are there."""
    path = folder / CONFIG
    wanted = json.loads(json.dumps(asdict(settings), default=str))
    if path.exists():
        there, here = _flat(json.loads(path.read_text(encoding="utf-8"))), _flat(wanted)
        for key in sorted((there.keys() | here.keys()) - FREE_TO_CHANGE):
            if there.get(key) != here.get(key):
                raise ConfigError(
                    f"{folder} holds a run with {key} = {there.get(key)!r}, and this one has "
                    f"{here.get(key)!r}: give the same settings to go on with it, or another --out"
                )
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(wanted, indent=1), encoding="utf-8")
    partial.replace(path)


def _flat(settings: dict[str, Any], root: str = "") -> dict[str, Any]:
    """Nested keys joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{root}{key}.") if isinstance(value, dict) else {root + key: value}
    return flat
