"""``realcam_obs.py test``: every check of the project in one go. Knows the tools, not what they find."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
CHECKS = {
    "lint": ["ruff", "check"],
    "format": ["ruff", "format", "--check"],
    "types": ["mypy"],
}


def test(context: typer.Context) -> None:
    """Check everything: ruff, mypy and pytest. Further arguments go to pytest."""
    out = Console(stderr=True)
    summary = Table(box=None)
    for column in ("check", "result", "seconds"):
        summary.add_column(column, justify="right" if column == "seconds" else "left")
    commands = {**CHECKS, "tests": ["pytest", *context.args]}
    codes: dict[str, int] = {}
    for name, command in commands.items():
        started = time.monotonic()
        out.rule(f"{name}: {' '.join(command)}", align="left")
        if name == "tests":
            out.print(summary)  # pytest's own summary stays the last thing to be read
        codes[name] = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=False).returncode
        result = "[red]✘ failed" if codes[name] else "[green]✔ passed"
        summary.add_row(name, result, f"{time.monotonic() - started:.1f}")
    raise typer.Exit(next((code for code in reversed(codes.values()) if code), 0))
