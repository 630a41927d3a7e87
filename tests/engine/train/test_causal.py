"""Teacher forcing against the rollout that it prepares for."""

from dataclasses import replace

import pytest
import torch

from engine.diffusion.rollout import Stream, rollout
from engine.diffusion.schedule import TIMESTEPS, Schedule
from engine.diffusion.teacher import Conditions
from engine.model.config import SIZES, ModelConfig
from engine.model.dit import PairTransformer
from engine.train.causal import forced_velocity
from engine.train.student import chunks_of

TINY = SIZES["tiny"]
HINTED = replace(TINY, codec="pixel", head="mixture", hint_channels=2 * 48 + 16, guide_channels=16)
FRAMES, ROWS, COLUMNS = 12, 4, 6


def random_model(config: ModelConfig) -> PairTransformer:
    """With every parameter random, so that nothing is switched off by its initial zeros."""
    torch.manual_seed(0)
    model = PairTransformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def random_clip(config: ModelConfig) -> tuple[Conditions, torch.Tensor]:
    torch.manual_seed(1)

    def random(channels: int) -> torch.Tensor:
        return torch.randn(2, FRAMES, channels, ROWS, COLUMNS)

    hints = random(config.hint_channels) if config.hint_channels else None
    conditions = Conditions(source=random(config.latent_channels), rays=random(6), hints=hints)
    return conditions, random(config.latent_channels)


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        replace(TINY, attention_sink=0),
        replace(TINY, chunk=1, window=3, attention_sink=1),
        replace(TINY, chunk=3, window=7, attention_sink=4),
        HINTED,
    ],
    ids=["chunk 2, sink 2", "no sink", "chunk 1", "chunk 3, odd window", "hints"],
)
def test_a_chunk_sees_under_teacher_forcing_what_it_sees_in_the_rollout(config: ModelConfig) -> None:
    """Beyond the window's eviction: with the rollout's own x0 as the true past, velocities are the same."""
    model, level = random_model(config), 0.7
    conditions, noise = random_clip(config)
    with torch.no_grad():
        stream = Stream.start(model, config, (COLUMNS, ROWS), batch=2)
        chunks = chunks_of(conditions, noise, config.chunk)
        made = torch.cat(list(rollout(model, stream, chunks, Schedule((level,)), torch.randn_like)), 1)
        timesteps = torch.full(noise.shape[:2], level * TIMESTEPS)
        velocity = forced_velocity(model, config, conditions, made)(noise, timesteps)
    expected = (noise - made) / level
    assert float((velocity - expected).abs().max() / expected.abs().max()) <= 1e-5


def test_no_chunk_knows_what_comes_after_it() -> None:
    model = random_model(TINY)
    conditions, noise = random_clip(TINY)
    clean, level = torch.randn_like(noise), torch.full(noise.shape[:2], 500.0)
    later = slice(3 * TINY.chunk, None)
    with torch.no_grad():
        before = forced_velocity(model, TINY, conditions, clean)(noise, level)
        for changed in (conditions.source, clean, noise):
            changed[:, later] = torch.randn_like(changed[:, later])
        after = forced_velocity(model, TINY, conditions, clean)(noise, level)
    assert torch.equal(before[:, : later.start], after[:, : later.start])
    assert not torch.allclose(before[:, later], after[:, later])


def test_a_clip_is_made_of_whole_chunks() -> None:
    conditions, clean = random_clip(TINY)
    with pytest.raises(ValueError, match="chunks of 5"):
        forced_velocity(random_model(TINY), replace(TINY, chunk=5, window=10), conditions, clean)
