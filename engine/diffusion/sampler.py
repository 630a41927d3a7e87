"""From noise to a picture: pure loops over a callable. Know nothing of transformers or chunks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from engine.diffusion.schedule import Schedule, noised, x0_from_velocity

Denoise = Callable[[Tensor, float], Tensor]  # x_σ, σ → velocity
Noise = Callable[[Tensor], Tensor]  # anything of the right shape → fresh noise of that shape


def sample_few_steps(
    denoise: Denoise, noise: Tensor, schedule: Schedule, fresh: Noise, exit_step: int | None = None
) -> Tensor:
    """x0 by a student: each step estimates x0 and noises it again, freshly, for the next.

    With ``exit_step`` the loop ends after that step, and only that one is differentiated: the rule
    of Self-Forcing (Huang et al., algorithm 1), in training and in live use the same loop.
    """
    last = len(schedule.sigmas) - 1 if exit_step is None else exit_step
    x = noise
    for step, sigma in enumerate(schedule.sigmas[: last + 1]):
        with torch.set_grad_enabled(torch.is_grad_enabled() and step == last):
            x0 = x0_from_velocity(x, denoise(x, sigma), sigma)
        if step < last:
            x = noised(x0, fresh(x0), schedule.sigmas[step + 1])
    return x0


def sample_euler(denoise: Denoise, noise: Tensor, schedule: Schedule) -> Tensor:
    """x0 by the teacher's ordinary differential equation, dx/dσ = v, in Euler steps."""
    x = noise
    for sigma, following in zip(schedule.sigmas, (*schedule.sigmas[1:], 0.0), strict=True):
        x = x + (following - sigma) * denoise(x, sigma)
    return x
