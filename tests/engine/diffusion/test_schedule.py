import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from engine.diffusion.sampler import sample_euler, sample_few_steps
from engine.diffusion.schedule import (
    Schedule,
    noised,
    velocity,
    x0_from_velocity,
)


@pytest.mark.parametrize("shift", [1.0, 5.0])
def test_levels_and_sampler_agree_with_diffusers_flow_matching(shift: float) -> None:
    steps = 12
    theirs = FlowMatchEulerDiscreteScheduler(shift=shift)
    theirs.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps))
    ours = Schedule.many_step(steps, shift)
    torch.testing.assert_close(
        torch.tensor(ours.sigmas, dtype=torch.float64), theirs.sigmas[:-1].double(), rtol=1e-6, atol=1e-7
    )

    torch.manual_seed(0)
    noise = torch.randn(1, 4, 3, 8, 8)

    def model(x: torch.Tensor, sigma: float) -> torch.Tensor:
        return torch.tanh(x) * (0.5 + sigma)

    x = noise
    for timestep, sigma in zip(theirs.timesteps, ours.sigmas, strict=True):
        x = theirs.step(model(x, sigma), timestep, x, return_dict=False)[0]
    made = sample_euler(model, noise, ours)
    assert (made - x).abs().max() / x.abs().max() <= 1e-5


def test_the_clean_picture_comes_back_from_the_velocity() -> None:
    torch.manual_seed(0)
    x0, noise, sigma = torch.randn(5), torch.randn(5), 0.3
    x, v = noised(x0, noise, sigma), velocity(x0, noise)
    torch.testing.assert_close(x0_from_velocity(x, v, sigma), x0)


def test_the_sampler_follows_a_straight_flow_exactly() -> None:
    x0, noise = torch.randn(7), torch.randn(7)
    made = sample_euler(lambda x, sigma: noise - x0, noise, Schedule.many_step(5, 3.0))
    torch.testing.assert_close(made, x0, rtol=1e-4, atol=1e-5)


def test_few_steps_noise_the_estimate_afresh_between_steps() -> None:
    calls = []

    def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
        calls.append((float(x), sigma))
        return x

    made = sample_few_steps(
        denoise, torch.tensor(2.0), Schedule((1.0, 0.5)), lambda like: torch.full_like(like, 8.0)
    )
    # x0 = 2 − 1·2 = 0; then 0.5·0 + 0.5·8 = 4; x0 = 4 − 0.5·4
    assert calls == [(2.0, 1.0), (4.0, 0.5)]
    assert float(made) == 2.0


@pytest.mark.parametrize("sigmas", [(), (0.5, 0.7), (1.2, 0.5), (1.0, 0.0)])
def test_levels_that_do_not_fall_within_bounds_are_refused(sigmas: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="noise levels"):
        Schedule(sigmas)
