"""Whole runs of the student's two stages, at the tiny size."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
import torch

from engine.errors import ConfigError, WeightsError
from engine.model.weight_files import open_weights
from engine.model.weights import load_transformer, read_weights
from engine.train.loop import LoopSettings
from engine.train.memory import memory_per_gpu
from engine.train.stages import train_student
from engine.train.student import Distill, Init, Stage, Streaming, StudentSettings, recipe
from engine.train.teacher import TeacherSettings, train_teacher

Make = Callable[..., StudentSettings]


def silent(share: float, what: str) -> None:
    pass


@pytest.fixture(scope="module")
def networks(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The files of a teacher and of a student that was initialised from it, both hardly trained."""
    from engine.train.teacher import recipe as teachers

    root = tmp_path_factory.mktemp("networks")
    loop = LoopSettings(out=root / "teacher", batch=2, steps=2, precision="fp32", warmup=1)
    few: TeacherSettings = replace(teachers("tiny", scenes, loop), frames=4, workers=0, loop_share=0.0)
    train_teacher(few, silent)
    found = {"teacher": str(root / "teacher" / "model.safetensors")}
    loop = replace(loop, out=root / "init")
    train_student(
        replace(recipe("init", "tiny", scenes, loop, found["teacher"]), frames=4, workers=0, loop_share=0.0),
        silent,
    )
    return found | {"init": str(root / "init" / "model.safetensors")}


@pytest.fixture
def make(scenes: Path, tmp_path: Path, networks: dict[str, str]) -> Make:
    def settings(stage: Stage, out: str = "run", **changes: object) -> StudentSettings:
        loop = LoopSettings(
            out=tmp_path / out, batch=2, steps=6, precision="fp32", warmup=2, log_every=1, look_every=1000
        )
        plain = replace(
            recipe(stage, "tiny", scenes, loop, networks["teacher"]),
            weights=None if stage == "init" else networks["init"],
            frames=4,
            workers=0,
            augment=False,
            loop_share=0.0,
        )
        return replace(plain, **changes)  # type: ignore[arg-type]

    return settings


def run(settings: StudentSettings, **loop: object) -> list[dict[str, float]]:
    """Trains, and returns the lines of its log."""
    train_student(replace(settings, loop=replace(settings.loop, **loop)), silent)  # type: ignore[arg-type]
    return [json.loads(line) for line in (settings.loop.out / "metrics.jsonl").read_text().splitlines()]


def told(rows: list[dict[str, float]], name: str) -> list[float]:
    return [row[name] for row in rows if name in row]


def weights_of(settings: StudentSettings) -> dict[str, torch.Tensor]:
    return open_weights(settings.loop.out / "model.safetensors").tensors


def test_the_initialisation_lowers_its_loss_and_leaves_a_student(make: Make) -> None:
    settings = make("init", learning_rate=1e-2)
    rows = run(settings, steps=24, look_every=24)
    found = told(rows, "model/loss")
    assert sum(found[-10:]) / 10 < 0.85 * sum(found[:4]) / 4
    assert rows[-1]["heldout/psnr_1"] > 5 and rows[-1]["heldout/psnr_2"] > 5
    strip = cv2.imread(str(next((settings.loop.out / "strips").glob("*.jpg"))))
    assert strip.shape == (4 * 24, 3 * 32, 3)  # four clips; source, sample, truth


def test_a_file_says_what_it_was_distilled_with_and_is_read_back_so(make: Make) -> None:
    streaming = Streaming(chunk=1, steps=4, window=3, attention_sink=1)
    settings = make("distill", streaming=streaming, how=Distill(critic_steps=1))
    run(settings, steps=2)
    path = settings.loop.out / "model.safetensors"
    metadata = read_weights(path).file.metadata
    told = {name: metadata[name] for name in ("chunk", "window", "attention_sink", "timesteps", "layout")}
    assert told == {
        "chunk": "1",
        "window": "3",
        "attention_sink": "1",
        "timesteps": "1000 750 500 250",
        "layout": "trained",
    }
    assert "variant" not in metadata and metadata["shift"] == "5.0"
    _, config = load_transformer(path, "cpu", torch.float32)
    assert (config.chunk, config.window, config.attention_sink) == (1, 3, 1)
    assert config.timesteps == (1000, 750, 500, 250)


def test_distillation_keeps_the_streaming_of_the_student_it_begins_with(make: Make) -> None:
    first = make("init", "first", streaming=Streaming(chunk=1, steps=1, window=3))
    run(first, steps=1)
    second = make("distill", weights=str(first.loop.out / "model.safetensors"))
    run(second, steps=1)
    _, config = load_transformer(second.loop.out / "model.safetensors", "cpu", torch.float32)
    assert (config.chunk, config.window, config.timesteps) == (1, 3, (1000,))


def test_the_critic_learns_in_turns_with_the_student_and_only_the_student_leaves_a_file(make: Make) -> None:
    how = Distill(critic_steps=2, regression=1.0, guidance=2.0, long_share=0.5, lead_windows=1)
    settings = make("distill", how=how, loop_share=0.5)
    rows = run(settings, look_every=6)
    trained = ["critic" if "critic/loss" in row else "student" for row in rows if "heldout/psnr_2" not in row]
    assert trained == ["critic", "critic", "student"] * 2
    assert rows[-1]["heldout/late_psnr_2"] > 5
    assert {path.name for path in settings.loop.out.glob("*.safetensors")} == {"model.safetensors"}


@pytest.mark.parametrize(
    "how",
    [
        Init(consistency=0.5, substeps=2),
        Distill(critic_steps=1, regression=1.0, long_share=0.5, lead_windows=2),
    ],
    ids=["init", "distill"],
)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(make: Make, how: Init | Distill) -> None:
    stage: Stage = "init" if isinstance(how, Init) else "distill"
    whole, broken = (make(stage, name, how=how, loop_share=0.5, augment=True) for name in ("whole", "broken"))
    expected = run(whole)
    run(broken, steps=3)
    found = run(broken)
    for name in ("model/loss", "critic/loss"):
        assert told(found, name) == told(expected, name)
    a, b = weights_of(whole), weights_of(broken)
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_regression_alone_needs_no_critic(make: Make) -> None:
    how = Distill(critic_steps=0, regression=1.0)
    rows = run(make("distill", how=how), steps=2)
    assert len(told(rows, "model/loss")) == 2 and not told(rows, "critic/loss")
    with pytest.raises(ConfigError, match="--regression"):
        Distill(critic_steps=0)


def test_a_student_is_no_teacher_and_is_refused_as_one(make: Make, networks: dict[str, str]) -> None:
    with pytest.raises(WeightsError, match=r"is a student;.*--teacher"):
        run(make("init", teacher=networks["init"]))


def test_what_does_not_fit_is_refused_with_what_would(make: Make) -> None:
    with pytest.raises(ConfigError, match=r"--frames 3 or 6"):
        run(make("init", streaming=Streaming(chunk=3, window=6)))
    with pytest.raises(ConfigError, match=r"a window of 4 does not hold two chunks of 3.*--window"):
        run(make("init", streaming=Streaming(chunk=3)))
    with pytest.raises(ConfigError, match=r"--stage init"):
        run(make("distill", weights=None))
    with pytest.raises(ConfigError, match=r"of size tiny, not mini"):
        run(make("init", size="mini"))


def test_memory_is_counted_by_what_the_run_would_hold(make: Make) -> None:
    settings = make("distill")
    alone = memory_per_gpu(settings, 1)
    weights = sum(tensor.nbytes for tensor in open_weights(Path(settings.teacher)).tensors.values())
    assert alone.weights == dict.fromkeys(("student", "critic", "teacher"), weights)
    assert alone.optimisers == 4 * weights and alone.average == alone.gradients == weights
    assert alone.gathered == 0
    four = replace(settings, frames=8, loop=replace(settings.loop, batch=4))
    shards = memory_per_gpu(replace(four, checkpointing=True), 4)
    assert shards.weights["student"] == pytest.approx(weights / 4, abs=4)
    assert shards.gathered == 3 * weights  # the student, its gradients and one score
    assert shards.activations < memory_per_gpu(four, 4).activations / 2
    with pytest.raises(ConfigError, match="does not split"):
        memory_per_gpu(four, 3)
