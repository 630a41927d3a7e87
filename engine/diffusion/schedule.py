"""Noise levels of flow matching, and the conversions between what a model says and what it means.

x_σ = (1 − σ)·x0 + σ·ε and v = ε − x0, so x0 = x_σ − σ·v (Lipman et al., *Flow Matching for Generative
Modeling*; Wan and Self-Forcing use the same). Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

TIMESTEPS = 1000.0


def shifted(sigma: Tensor, shift: float) -> Tensor:
    """σ' = s·σ / (1 + (s − 1)·σ): more of the steps at high noise (Esser et al., eq. 23)."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def noised(x0: Tensor, noise: Tensor, sigma: Tensor | float) -> Tensor:
    return (1 - sigma) * x0 + sigma * noise


def velocity(x0: Tensor, noise: Tensor) -> Tensor:
    return noise - x0


def x0_from_velocity(x: Tensor, velocity: Tensor, sigma: Tensor | float) -> Tensor:
    return x - sigma * velocity


@dataclass(frozen=True, slots=True)
class Schedule:
    """The noise levels that a sampler visits, falling, without the final 0."""

    sigmas: tuple[float, ...]

    def __post_init__(self) -> None:
        falling = all(a > b for a, b in zip(self.sigmas, self.sigmas[1:], strict=False))
        if not self.sigmas or not falling or not 0 < self.sigmas[-1] <= self.sigmas[0] <= 1:
            raise ValueError(f"noise levels fall from at most 1 to above 0, found {self.sigmas}")

    @classmethod
    def few_step(cls, timesteps: Sequence[float], shift: float) -> Schedule:
        """A student's: its timesteps in 0…1000, warped by the shift."""
        return cls(tuple(shifted(torch.tensor(timesteps, dtype=torch.float64) / TIMESTEPS, shift).tolist()))

    @classmethod
    def many_step(cls, steps: int, shift: float) -> Schedule:
        """A teacher's: evenly spaced from 1, warped by the shift."""
        levels = torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64)[:-1]
        return cls(tuple(shifted(levels, shift).tolist()))
