"""Distillation's rules on a student of random weights, without data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine.diffusion.rollout import Stream, rollout
from engine.diffusion.schedule import TIMESTEPS, Schedule, noised
from engine.diffusion.teacher import Conditions, velocity_of
from engine.errors import ConfigError
from engine.model import weight_files
from engine.model.config import SIZES
from engine.model.dit import Memory, PairTransformer
from engine.model.fitting import config_metadata
from engine.model.tiny_vae import TINY_VAES, TinyVAE
from engine.train.batches import SampleNoise, TeacherBatch
from engine.train.distill import DistillTask, Turn, _check_autocast
from engine.train.distributed import World
from engine.train.loop import LoopSettings
from engine.train.losses import distribution_matching_loss
from engine.train.student import SCORING, Distill, StudentSettings, chunks_of, recipe

TINY = SIZES["tiny"]
ROWS, COLUMNS, FRAMES = 6, 8, 4


@pytest.fixture
def task(tmp_path: Path) -> DistillTask:
    files = {}
    for seed, name in enumerate(("teacher", "student")):
        torch.manual_seed(seed)
        model = PairTransformer(TINY)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        files[name] = str(tmp_path / f"{name}.safetensors")
        weight_files.save_weights(Path(files[name]), model.state_dict(), config_metadata(TINY))
    settings = replace(
        recipe("distill", "tiny", tmp_path, LoopSettings(out=tmp_path, batch=2), files["teacher"]),
        weights=files["student"],
        frames=FRAMES,
        workers=0,
    )
    how = Distill(regression=0.5, long_share=0.5, lead_windows=2)
    task = DistillTask(settings, how, World(0, 1, torch.device("cpu")))
    assert task.scores is not None
    with torch.no_grad():  # a critic that has learnt something
        for parameter in task.scores.fake.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return task


def on_latents(task: DistillTask, folder: Path, monkeypatch: pytest.MonkeyPatch) -> StudentSettings:
    """The task's settings behind a codec that folds four pictures into a latent frame, as Wan's does."""
    config = replace(TINY, codec="tiny-vae", latent_channels=4, stride=(4, 8, 8), size=(32, 32))
    monkeypatch.setitem(SIZES, "tiny", config)
    codec, network = str(folder / "codec.safetensors"), str(folder / "latent.safetensors")
    weight_files.save_weights(Path(codec), TinyVAE(TINY_VAES["tiny"]).state_dict(), {})
    weight_files.save_weights(Path(network), PairTransformer(config).state_dict(), config_metadata(config))
    return replace(task.settings, teacher=network, weights=network, codec=codec)


def batch_of(frames: int) -> TeacherBatch:
    torch.manual_seed(5)

    def random(channels: int) -> Tensor:
        return torch.randn(2, frames, channels, ROWS, COLUMNS)

    channels = TINY.latent_channels
    return TeacherBatch(
        samples=[0, 1],
        conditions=Conditions(source=random(channels), rays=random(6)),
        target=random(channels),
        noise=random(channels),
        sigma=torch.tensor([0.4, 1.0]),
    )


def unroll(task: DistillTask, monkeypatch: pytest.MonkeyPatch, turn: Turn) -> None:
    monkeypatch.setattr(task, "turn_at", lambda step: turn)


def gradients(model: PairTransformer) -> dict[str, Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_a_steps_draws_are_its_own_and_as_often_as_asked(task: DistillTask) -> None:
    turns = [task.turn_at(step) for step in range(400)]
    assert turns == [task.turn_at(step) for step in range(400)]
    assert 0.4 < sum(turn.exit_step for turn in turns) / 400 < 0.6
    leads = [turn.lead for turn in turns]
    assert set(leads) == {0, TINY.window, 2 * TINY.window}
    assert 0.4 < sum(lead > 0 for lead in leads) / 400 < 0.6
    assert {task.lead_at(sample) for sample in (2, 3)} == {leads[1]}


@pytest.mark.parametrize("exit_step", [0, 1])
def test_the_students_loss_is_the_formula_on_its_own_rollout(
    task: DistillTask, monkeypatch: pytest.MonkeyPatch, exit_step: int
) -> None:
    unroll(task, monkeypatch, Turn(exit_step, 0))
    batch = batch_of(FRAMES)
    loss = task.loss("model", batch)["loss"]

    stream = Stream.start(task.model, TINY, (COLUMNS, ROWS), batch=2)
    chunks = chunks_of(batch.conditions, batch.noise, TINY.chunk)
    made = rollout(task.model, stream, chunks, task.schedule, task.fresh(batch), exit_step=exit_step)
    x0 = torch.cat(list(made), 1)
    level = batch.sigma.clamp(0.02, 0.98)
    assert level.tolist() == pytest.approx([0.4, 0.98])
    noise = SampleNoise(0, [0, 1], SCORING)(x0)
    sigma = level.view(2, 1, 1, 1, 1)
    with torch.no_grad():
        x = noised(x0, noise, sigma)
        clean = {}
        for name, network in (("real", task.scores.real), ("fake", task.scores.fake)):
            velocity = velocity_of(network, batch.conditions, TINY.reach)
            clean[name] = x - sigma * velocity(x, (level * TIMESTEPS)[:, None].expand(2, FRAMES))
    torch.testing.assert_close(
        loss, distribution_matching_loss(x0, **clean) + 0.5 * (x0 - batch.target).square().mean()
    )


def test_the_teacher_and_the_critic_learn_nothing_from_the_student_nor_it_from_the_critics_loss(
    task: DistillTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    unroll(task, monkeypatch, Turn(1, 0))
    losses = task.loss("model", batch_of(FRAMES))
    assert losses["matching"] > 0
    losses["loss"].backward()
    assert gradients(task.model) and not gradients(task.scores.fake) and not gradients(task.scores.real)
    task.model.zero_grad()
    task.loss("critic", batch_of(FRAMES))["loss"].backward()
    assert gradients(task.scores.fake) and not gradients(task.model) and not gradients(task.scores.real)


def test_the_critics_loss_is_flow_matching_on_what_the_student_made(
    task: DistillTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    unroll(task, monkeypatch, Turn(0, 0))
    batch = batch_of(FRAMES)
    with torch.no_grad():
        x0 = task._rolled(batch, Turn(0, 0))
        noise = SampleNoise(0, [0, 1], SCORING)(x0)
        level = torch.tensor([0.4, 0.98])
        x = noised(x0, noise, level.view(2, 1, 1, 1, 1))
        velocity = velocity_of(task.scores.fake, batch.conditions, TINY.reach)
        made = velocity(x, (level * TIMESTEPS)[:, None].expand(2, FRAMES))
        each = (made - (noise - x0)).square().flatten(1).mean(1)
    expected = (level.square() * each).mean()  # sizes in pixels weigh by the clean picture
    torch.testing.assert_close(task.loss("critic", batch)["loss"].detach(), expected)


def test_a_lead_is_lived_through_without_being_learnt_from(task: DistillTask) -> None:
    """What is made after it is what one long rollout makes; gradients end at its caches."""
    batch = batch_of(2 * TINY.window + FRAMES)
    lead = batch.target.shape[1] - FRAMES
    x0 = task._rolled(batch, Turn(1, lead))
    assert x0.shape[1] == FRAMES
    with torch.no_grad():
        whole = task._rolled(batch, Turn(1, 0))
    torch.testing.assert_close(x0, whole[:, lead:])
    batch.conditions.source.requires_grad_(True)
    task._rolled(batch, Turn(1, lead)).sum().backward()
    found = batch.conditions.source.grad
    assert found is not None
    assert not found[:, :lead].any() and found[:, lead:].any()


def test_a_students_file_names_the_codec_of_its_latents(
    task: DistillTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "codec" not in task.metadata()
    settings = on_latents(task, tmp_path, monkeypatch)
    metadata = DistillTask(settings, Distill(), World(0, 1, torch.device("cpu"))).metadata()
    assert metadata["codec"] == settings.codec


def test_products_in_bfloat16_teach_the_same_weights_as_those_in_float32(
    task: DistillTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although what has no gradients, the lead and the steps before the exit, is the first to use them."""
    unroll(task, monkeypatch, Turn(1, TINY.window))
    taught = []
    for dtype in (torch.float32, torch.bfloat16):
        task.world = World(0, 1, torch.device("cpu"), dtype)
        task.model.zero_grad()
        task.loss("model", batch_of(TINY.window + FRAMES))["loss"].backward()
        taught.append(gradients(task.model))
    plain, half = taught
    assert plain.keys() == half.keys()
    for name, gradient in plain.items():
        likeness = torch.nn.functional.cosine_similarity(gradient.flatten(), half[name].flatten(), 0)
        assert likeness > 0.9, name


def test_a_lead_is_refused_where_a_clips_first_latent_frame_is_of_another_kind(
    task: DistillTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = on_latents(task, tmp_path, monkeypatch)
    with pytest.raises(ConfigError, match=r"--long-share 0\.25 .* 4 pictures.*leave --long-share out"):
        DistillTask(settings, Distill(long_share=0.25), World(0, 1, torch.device("cpu")))


def test_the_cache_is_written_from_the_clean_chunk_whatever_the_exit_step(task: DistillTask) -> None:
    batch = batch_of(TINY.chunk)
    (chunk,) = chunks_of(batch.conditions, batch.noise, TINY.chunk)
    for exit_step in range(2):
        stream = Stream.start(task.model, TINY, (COLUMNS, ROWS), batch=2)
        schedule, fresh = Schedule((1.0, 0.6)), task.fresh(batch)
        (x0,) = rollout(task.model, stream, [chunk], schedule, fresh, exit_step=exit_step)
        times = torch.arange(TINY.chunk)
        with torch.no_grad():
            seen = Memory(task.model.encode_source(chunk.source, times, stream.text).rotated)
            clean = torch.zeros(2, TINY.chunk)
            _, left = task.model.denoise(x0, clean, times, stream.text, seen, rays=chunk.rays)
        for layer, own in enumerate(left.plain):
            keys, values = stream.target.read(layer)
            torch.testing.assert_close(keys, own.keys)
            torch.testing.assert_close(values, own.values)
            assert not keys.requires_grad and not values.requires_grad


def test_a_pytorch_that_would_lose_gradients_in_bfloat16_is_refused() -> None:
    _check_autocast("2.13.0+cpu", torch.bfloat16)
    _check_autocast("2.10.1", torch.float32)
    with pytest.raises(ConfigError, match=r"2\.10\.1 loses gradients.*--precision fp32"):
        _check_autocast("2.10.1", torch.bfloat16)
