"""The student without PyTorch against the chunk loop with it."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor

from engine.camera.geometry import Intrinsics, Pose
from engine.data import layout
from engine.diffusion.export import export_student
from engine.diffusion.onnx_student import SEED, OnnxStudent, Painted
from engine.diffusion.rollout import Chunk, Stream, _remember, _see, _Target, rollout
from engine.diffusion.sampler import sample_few_steps
from engine.diffusion.schedule import Schedule
from engine.errors import WeightsError
from engine.frames import Pixels
from engine.geometry.depth_estimator import WEIGHTS as DEPTH_WEIGHTS
from engine.geometry.hints import Hints
from engine.model.codecs import make_codec
from engine.model.config import SIZES, ModelConfig
from engine.model.dit import FIRST_SHARE, PairTransformer
from engine.model.fitting import config_metadata
from engine.model.weight_files import save_weights
from engine.train.batches import Collator, Dropped
from engine.train.clips import Example, matrix

SMALL = replace(SIZES["mini"], width=48, ffn_width=96, layers=3, size=(32, 24), window=3, attention_sink=2)
FRAMES = 14  # more than twice what is remembered
LEVELS = 255.0


@dataclass(frozen=True)
class Shot:
    """All that one step is given."""

    source: Pixels
    hints: Hints
    pose: Pose
    lens: Intrinsics

    def step(self, student: OnnxStudent) -> Painted:
        student.see(self.source)
        return student.paint(self.hints, self.pose, self.lens)


def random_model(config: ModelConfig, amount: float = 0.1) -> PairTransformer:
    """With every parameter random, so that nothing is switched off by its initial zeros."""
    torch.manual_seed(0)
    model = PairTransformer(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(amount * torch.randn_like(parameter))
    return model


def exported(folder: Path, model: PairTransformer, config: ModelConfig, **kwargs: Any) -> Path:
    weights = folder / "student.safetensors"
    save_weights(weights, model.state_dict(), config_metadata(config))
    export_student(weights, folder / "student.onnx", **kwargs)
    return folder / "student.onnx"


def shots(count: int, config: ModelConfig = SMALL, seed: int = 1) -> list[Shot]:
    rng = np.random.default_rng(seed)
    width, height = config.size
    lens = replace(Intrinsics.from_horizontal_fov(width, height, 1.0), cx=width * 0.45, fy=width * 1.1)

    def picture() -> Pixels:
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)

    return [
        Shot(
            picture(),
            Hints(picture(), picture(), rng.integers(0, 256, (height, width)).astype(np.float32) / 255),
            Pose.from_angles(0.02 * i, -0.01 * i, 0.03, (0.05 * i, 0.02 * i, -0.1 * i), 1 + 0.02 * i),
            lens,
        )
        for i in range(count)
    ]


def chunks(given: list[Shot], config: ModelConfig, noise: Callable[[], Tensor]) -> Iterator[Chunk]:
    """By the code that makes training's batches."""
    collate = Collator(
        config,
        make_codec(config),
        device=torch.device("cpu"),
        seed=0,
        shift=1.0,
        dropped=Dropped(),
    )
    for shot in given:
        hints = np.stack([shot.hints.rotated, shot.hints.warped])
        lens = np.array(layout.normalised(shot.lens.zoomed(shot.pose.zoom)), np.float32)
        example = Example(
            index=0,
            source=shot.source[None],
            target=shot.source[None],
            poses=matrix(shot.pose)[None],
            lenses=lens[None],
            hints=hints[None],
            seen=np.rint(255 * shot.hints.visible).astype(np.uint8)[None],
        )
        told = collate([example]).conditions
        yield Chunk(told.source, noise(), rays=told.rays, hints=told.hints)


class SameNoise:
    """What the student draws, in the order in which it draws it, as latents."""

    def __init__(self, config: ModelConfig) -> None:
        self._rng = np.random.default_rng(SEED)
        self._grid = config.latent_size(*config.size)[::-1]
        self._channels = config.latent_channels

    def __call__(self, like: Tensor | None = None) -> Tensor:
        rows, columns = self._grid
        drawn = self._rng.standard_normal((rows * columns, self._channels), np.float32)
        return torch.from_numpy(drawn.T.reshape(1, 1, self._channels, rows, columns).copy())


def pictures(latents: Tensor, config: ModelConfig) -> np.ndarray:
    video = torch.nn.functional.pixel_shuffle(latents[0, 0], config.stride[1])
    return ((video + 1) * 127.5).permute(1, 2, 0).numpy()


@torch.inference_mode()
def torch_painted(
    model: PairTransformer, config: ModelConfig, given: list[Shot], schedule: Schedule, anchored_at: int
) -> list[np.ndarray]:
    noise = SameNoise(config)
    stream = Stream.start(model, config, config.latent_size(*config.size))
    made = []
    for number, x0 in enumerate(rollout(model, stream, chunks(given, config, noise), schedule, noise)):
        made.append(pictures(x0, config))
        if number + 1 == anchored_at:
            stream.re_anchor()
    return made


def onnx_painted(student: OnnxStudent, given: list[Shot], anchored_at: int) -> list[np.ndarray]:
    made = []
    for number, shot in enumerate(given):
        made.append(shot.step(student).pixels)
        if number + 1 == anchored_at:
            student.re_anchor()
    return made


@pytest.mark.parametrize(
    ("sink", "window", "steps", "anchored_at"),
    [(2, 3, 1, 0), (1, 4, 2, 9), (2, 3, 2, 2), (0, 3, 1, 8), (3, 5, 1, 4)],
    ids=str,
)
def test_it_paints_what_rollout_paints_long_after_its_memory_is_full(
    sink: int, window: int, steps: int, anchored_at: int, tmp_path: Path
) -> None:
    config = replace(SMALL, attention_sink=sink, window=window)
    model = random_model(config)
    student = OnnxStudent(exported(tmp_path, model, config, is_int8=False), steps=steps)
    schedule = Schedule.few_step(config.timesteps[: None if steps == 2 else 1], config.shift)
    given = shots(FRAMES)
    expected = torch_painted(model, config, given, schedule, anchored_at)
    found = onnx_painted(student, given, anchored_at)
    assert max(np.abs(a - b).max() for a, b in zip(found, expected, strict=True)) < 1e-5 * LEVELS


def test_what_was_made_before_is_seen_and_a_re_anchor_forgets_it(tmp_path: Path) -> None:
    """Without which the comparison with rollout would show nothing."""
    path = exported(tmp_path, random_model(SMALL), SMALL, is_int8=False)
    plain, anchored = (onnx_painted(OnnxStudent(path), shots(8), at) for at in (0, 6))
    for number in range(8):
        difference = np.abs(plain[number] - anchored[number]).max()
        assert difference == 0 if number < 6 else difference > 1e-2 * LEVELS


def test_the_cache_of_the_last_step_is_that_of_its_noisy_pass(tmp_path: Path) -> None:
    model = random_model(SMALL)
    student = OnnxStudent(exported(tmp_path, model, SMALL, is_int8=False, cache_from_last_step=True))
    given, noise = shots(FRAMES), SameNoise(SMALL)
    stream = Stream.start(model, SMALL, SMALL.latent_size(*SMALL.size))
    schedule = Schedule.few_step(SMALL.timesteps, SMALL.shift)
    with torch.inference_mode():
        for shot, chunk in zip(given, chunks(given, SMALL, noise), strict=True):
            times = torch.tensor([stream.source.next_time])
            seen, shown = _see(model, stream, chunk, times)
            run = _Target(model, stream, chunk, times, seen)
            left = []

            def denoise(x: Tensor, sigma: float, run: _Target = run, left: list = left) -> Tensor:
                velocity, made = run(x, sigma)
                left.append(made)
                return velocity

            x0 = sample_few_steps(denoise, chunk.noise, schedule, noise)
            _remember(stream.source, shown, 1)
            _remember(stream.target, left[-1], 1)
            assert np.abs(shot.step(student).pixels - pictures(x0, SMALL)).max() < 1e-5 * LEVELS


def test_a_reset_forgets_everything(tmp_path: Path) -> None:
    path = exported(tmp_path, random_model(SMALL), SMALL)
    last = shots(1, seed=9)[0]
    after, without = [], []
    for seed in (1, 2):
        student = OnnxStudent(path)
        for shot in shots(7, seed=seed):
            shot.step(student)
        student.reset()
        after.append(last.step(student).pixels)
        without.append(last.step(student).pixels)
        for shot in shots(7, seed=seed):
            shot.step(student)
        without.append(last.step(student).pixels)
    np.testing.assert_array_equal(*after)
    assert not np.array_equal(without[1], without[3])


def test_in_eight_bits_the_mini_paints_nearly_the_same_and_its_file_is_small(tmp_path: Path) -> None:
    config = SIZES["mini"]
    model = random_model(config, 0.02)
    given = shots(4, config)
    made = []
    for name, is_int8 in (("exact", False), ("int8", True)):
        (folder := tmp_path / name).mkdir()
        path = exported(folder, model, config, is_int8=is_int8)
        assert path.stat().st_size < (5e6 if is_int8 else 15e6)
        made.append(np.stack(onnx_painted(OnnxStudent(path), given, 0)))
    error = 10 * np.log10(LEVELS**2 / np.square(made[0] - made[1]).mean())
    assert 45 < error < 100


def test_shares_are_of_the_generated_the_rotated_and_the_warped_picture(tmp_path: Path) -> None:
    student = OnnxStudent(exported(tmp_path, PairTransformer(SMALL), SMALL))
    shot = shots(1)[0]
    painted = shot.step(student)
    width, height = SMALL.size
    assert (student.size, painted.pixels.shape) == (SMALL.size, (height, width, 3))
    expected = np.array([1 - FIRST_SHARE, 1 - FIRST_SHARE, 2 * FIRST_SHARE])[:, None, None] / 2
    np.testing.assert_allclose(painted.shares, np.broadcast_to(expected, (3, height, width)), rtol=1e-5)
    generated = (
        painted.pixels - FIRST_SHARE * shot.hints.warped - (1 - FIRST_SHARE) / 2 * shot.hints.rotated
    ) / ((1 - FIRST_SHARE) / 2)
    hints = (shot.hints.warped, shot.hints.rotated)
    assert all(abs(np.corrcoef(generated.ravel(), hint.ravel())[0, 1]) < 0.2 for hint in hints)


def test_it_may_remember_more_or_less_than_it_was_trained_to(tmp_path: Path) -> None:
    model, given, made = random_model(SMALL), shots(8), []
    for name, config, asked in (
        ("asked", SMALL, {"window": 5, "attention_sink": 1}),
        ("trained", replace(SMALL, window=5, attention_sink=1), {}),
        ("other", SMALL, {}),
    ):
        (folder := tmp_path / name).mkdir()
        path = exported(folder, model, config, **asked)
        made.append(np.stack(onnx_painted(OnnxStudent(path), given, 0)))
    asked_for, trained, other = made
    np.testing.assert_array_equal(asked_for, trained)
    assert np.abs(asked_for - other).max() > 0


def test_steps_are_those_of_the_file_or_a_part_of_them(tmp_path: Path) -> None:
    config = replace(SMALL, timesteps=(1000.0, 750.0, 500.0, 250.0), shift=3.0)
    path = exported(tmp_path, random_model(config), config)
    student = OnnxStudent(path)
    assert (student.steps, student.available_steps) == (4, (1, 2, 4))
    with pytest.raises(ValueError, match="not 3"):
        OnnxStudent(path, steps=3)


@pytest.mark.parametrize("what", ["missing", "cut short", "empty", "another network", "another version"])
def test_a_file_that_is_no_students_is_refused_in_words(what: str, tmp_path: Path) -> None:
    path = exported(tmp_path, random_model(SMALL), SMALL)
    if what == "missing":
        path.unlink()
    elif what == "another network":
        path = DEPTH_WEIGHTS
    else:
        whole = path.read_bytes()
        old = whole.replace(b'"window"', b'"widnow"')
        path.write_bytes({"cut short": whole[: len(whole) // 2], "empty": b""}.get(what, old))
    told = {"missing": "not there", "another network": "not a student's", "another version": "version"}
    with pytest.raises(WeightsError, match=told.get(what, "damaged|not a student's")):
        OnnxStudent(path)


def test_frames_of_another_size_are_refused(tmp_path: Path) -> None:
    student = OnnxStudent(exported(tmp_path, random_model(SMALL), SMALL))
    shot = shots(1)[0]
    with pytest.raises(ValueError, match="24 rows of 32"):
        replace(shot, source=shot.source[:-1]).step(student)


def test_a_size_that_needs_pytorch_is_not_exported(tmp_path: Path) -> None:
    config = SIZES["tiny"]
    with pytest.raises(WeightsError, match="whose patch is"):
        exported(tmp_path, PairTransformer(config), config)
    assert not (tmp_path / "student.onnx").exists()


def test_it_runs_where_neither_pytorch_nor_onnx_is_installed(tmp_path: Path) -> None:
    path = exported(tmp_path, random_model(SMALL), SMALL)
    script = f"""
import sys
sys.modules["torch"] = sys.modules["onnx"] = None
import numpy as np
from pathlib import Path
from engine.camera.geometry import Intrinsics, Pose
from engine.diffusion.onnx_student import OnnxStudent
from engine.geometry.hints import Hints
student = OnnxStudent(Path({str(path)!r}))
width, height = student.size
frame = np.zeros((height, width, 3), np.uint8)
hints = Hints(frame, frame, np.ones((height, width), np.float32))
lens = Intrinsics.from_horizontal_fov(width, height, 1.0)
student.see(frame)
print(np.isfinite(student.paint(hints, Pose(), lens).pixels).all())
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (ran.stdout.strip(), ran.stderr) == ("True", "")


def test_frame_300_costs_as_much_as_frame_30_in_time_and_memory(tmp_path: Path) -> None:
    path = exported(tmp_path, random_model(SMALL), SMALL)
    young, old = OnnxStudent(path), OnnxStudent(path)
    shot = shots(1)[0]

    def seconds(student: OnnxStudent) -> float:
        started = time.thread_time()
        shot.step(student)
        return time.thread_time() - started

    for _ in range(30):
        shot.step(young)
        shot.step(old)
    early = psutil.Process().memory_info().rss
    for _ in range(270):
        shot.step(old)
    assert psutil.Process().memory_info().rss - early < 2e6
    # in turns, since the speed of a shared machine drifts by more than what is looked for
    assert statistics.median(seconds(old) / seconds(young) for _ in range(60)) < 1.1
