"""Two processes, as torchrun starts them, against one."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from engine.train.loop import LoopSettings
from engine.train.teacher import TeacherSettings, recipe, train_teacher

ROOT = Path(__file__).resolve().parents[3]
STEPS = 20


def train_on_two(settings: TeacherSettings, steps: int) -> None:
    """By the command line, as a user would."""
    options = {
        "data": settings.data,
        "out": settings.loop.out,
        "size": settings.size,
        "frames": settings.frames,
        "batch": settings.loop.batch,
        "loop-share": settings.loop_share,
        "steps": steps,
        "log-every": 1,
        "workers": 0,
    }
    runner = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command = ["-m", "plugin.cli", "train", "teacher"]
    done = subprocess.run(
        [*runner, *command, *(text for name, value in options.items() for text in (f"--{name}", str(value)))],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def train_alone(settings: TeacherSettings, steps: int) -> None:
    loop = replace(settings.loop, steps=steps)
    train_teacher(replace(settings, loop=loop), lambda share, what: None)


def losses(out: Path) -> list[float]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [row["model/loss"] for row in rows]


@pytest.mark.timeout(180)
def test_two_processes_train_as_one_and_one_goes_on_from_their_checkpoint(
    settings: TeacherSettings, tmp_path: Path
) -> None:
    loop = LoopSettings(out=tmp_path / "alone", batch=4, log_every=1)
    alone = replace(recipe("tiny", settings.data, loop), frames=4, loop_share=0.0, workers=0)
    pair = replace(alone, loop=replace(loop, out=tmp_path / "pair"))
    train_alone(alone, STEPS + 5)
    train_on_two(pair, STEPS)
    train_alone(pair, STEPS + 5)
    expected, found = losses(alone.loop.out), losses(pair.loop.out)
    assert len(found) == len(expected)
    assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) <= 1e-5
