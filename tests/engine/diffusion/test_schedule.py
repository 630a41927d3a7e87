import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from engine.diffusion.sampler import guided, sample_euler, sample_few_steps, sample_heun, sample_unipc
from engine.diffusion.schedule import (
    Schedule,
    noise_from_velocity,
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


def test_the_conversions_are_one_anothers_inverses() -> None:
    torch.manual_seed(0)
    x0, noise, sigma = torch.randn(5), torch.randn(5), 0.3
    x, v = noised(x0, noise, sigma), velocity(x0, noise)
    torch.testing.assert_close(x0_from_velocity(x, v, sigma), x0)
    torch.testing.assert_close(noise_from_velocity(x, v, sigma), noise)


@pytest.mark.parametrize("sampler", [sample_euler, sample_heun])
def test_a_sampler_follows_a_straight_flow_exactly(sampler) -> None:
    x0, noise = torch.randn(7), torch.randn(7)
    made = sampler(lambda x, sigma: noise - x0, noise, Schedule.many_step(5, 3.0))
    torch.testing.assert_close(made, x0, rtol=1e-4, atol=1e-5)


def test_heun_is_of_second_order() -> None:
    """dx/dσ = x from σ 1 to 0 ends at x/e; halving the steps costs about four times the error."""
    errors = [
        abs(float(sample_heun(lambda x, _: x, torch.tensor(1.0), Schedule.many_step(n, 1.0))) - np.exp(-1))
        for n in (32, 64)
    ]
    assert errors[0] / errors[1] > 3


def test_unipc_needs_fewer_steps_than_euler() -> None:
    """To the same end of a curved flow, dx/dσ = cos(3x) + σ, known from a thousand steps."""

    def flow(x: torch.Tensor, sigma: float) -> torch.Tensor:
        return torch.cos(3 * x) + sigma

    torch.manual_seed(0)
    noise = torch.randn(1, 4, 3, 5)
    exact = sample_heun(flow, noise, Schedule.many_step(1000, 3.0))
    unipc = (sample_unipc(flow, noise, 20, 3.0) - exact).abs().max()
    euler = (sample_euler(flow, noise, Schedule.many_step(40, 3.0)) - exact).abs().max()
    assert unipc < euler


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


def test_guidance_extrapolates_and_a_scale_of_one_costs_nothing() -> None:
    def conditional(x, sigma):
        return x + 1

    def unconditional(x, sigma):
        return x - 1

    x = torch.zeros(3)
    torch.testing.assert_close(guided(conditional, unconditional, 3.0)(x, 0.5), torch.full((3,), 5.0))
    assert guided(conditional, unconditional, 1.0) is conditional


@pytest.mark.parametrize("sigmas", [(), (0.5, 0.7), (1.2, 0.5), (1.0, 0.0)])
def test_levels_that_do_not_fall_within_bounds_are_refused(sigmas: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="noise levels"):
        Schedule(sigmas)
