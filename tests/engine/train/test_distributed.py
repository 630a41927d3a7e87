"""Two processes, as torchrun starts them, against one."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from engine.train.loop import LoopSettings
from engine.train.stages import train_student
from engine.train.student import Distill
from engine.train.student import recipe as students
from engine.train.teacher import TeacherSettings, recipe, train_teacher

ROOT = Path(__file__).resolve().parents[3]
STEPS = 20


def on_two(command: str, options: dict[str, object]) -> None:
    """By the command line, as a user would."""
    runner = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    options = {**options, "log-every": 1, "precision": "fp32", "workers": 0}
    given = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    done = subprocess.run(
        [*runner, "-m", "plugin.cli", "train", command, *given],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def train_on_two(settings: TeacherSettings, steps: int) -> None:
    on_two(
        "teacher",
        {
            "data": settings.data,
            "out": settings.loop.out,
            "size": settings.size,
            "frames": settings.frames,
            "batch": settings.loop.batch,
            "loop-share": settings.loop_share,
            "steps": steps,
        },
    )


def train_alone(settings: TeacherSettings, steps: int) -> None:
    loop = replace(settings.loop, steps=steps)
    train_teacher(replace(settings, loop=loop), lambda share, what: None)


def losses(out: Path) -> list[float]:
    """Of whichever network each step trained."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [value for row in rows for name, value in row.items() if name.endswith("/loss")]


@pytest.mark.timeout(180)
def test_two_processes_train_as_one_and_one_goes_on_from_their_checkpoint(
    settings: TeacherSettings, tmp_path: Path
) -> None:
    loop = LoopSettings(out=tmp_path / "alone", batch=4, precision="fp32", log_every=1)
    alone = replace(recipe("tiny", settings.data, loop), frames=4, loop_share=0.0, workers=0)
    pair = replace(alone, loop=replace(loop, out=tmp_path / "pair"))
    train_alone(alone, STEPS + 5)
    train_on_two(pair, STEPS)
    train_alone(pair, STEPS + 5)
    expected, found = losses(alone.loop.out), losses(pair.loop.out)
    assert len(found) == len(expected)
    assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) <= 1e-5


@pytest.mark.timeout(180)
def test_two_processes_distil_as_one_with_teacher_critic_and_student_sharded(
    settings: TeacherSettings, tmp_path: Path
) -> None:
    train_alone(settings, 2)
    teacher = str(settings.loop.out / "model.safetensors")
    loop = LoopSettings(out=tmp_path / "alone", batch=2, steps=6, precision="fp32", log_every=1)
    alone = replace(
        students("distill", settings.size, settings.data, loop, teacher),
        weights=teacher,
        how=Distill(critic_steps=1, regression=1.0, guidance=2.0, long_share=0.5, lead_windows=1),
        frames=4,
        loop_share=0.0,
        learning_rate=1e-3,
        workers=0,
    )
    train_student(alone, lambda share, what: None)
    on_two(
        "student",
        {
            "teacher": teacher,
            "weights": teacher,
            "data": settings.data,
            "out": tmp_path / "pair",
            "size": settings.size,
            "frames": 4,
            "batch": 2,
            "critic-steps": 1,
            "regression": 1.0,
            "guidance": 2.0,
            "long-share": 0.5,
            "lead-windows": 1,
            "loop-share": 0.0,
            "learning-rate": 1e-3,
            "updates": 6,
        },
    )
    expected, found = losses(alone.loop.out), losses(tmp_path / "pair")
    assert len(found) == len(expected) == 6
    assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) <= 1e-5
