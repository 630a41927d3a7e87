"""Causal initialisation: the teacher's weights learn to see no future, by teacher forcing.

Of the chunks, some are at any noise level, as a diffusion model's; the others at the student's own few,
where they learn to arrive in one step: at the truth, or by causal consistency at where the student itself
would arrive through its next level. All of it goes through one pass. Trajectories of the bidirectional
teacher are no target here: they know the future, which leaves a causal student to guess.

Shapes: B batch, F latent frames, C channels, h w latent rows and columns.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from engine.diffusion.schedule import TIMESTEPS, noised, shifted, velocity
from engine.diffusion.teacher import Velocity
from engine.train.batches import TeacherBatch, generator_of
from engine.train.causal import forced_velocity
from engine.train.distributed import World, compile_blocks
from engine.train.loop import Part
from engine.train.losses import flow_matching_loss
from engine.train.student import LEVELS, Init, StudentSettings, StudentTask
from engine.train.teacher import MODEL


class InitTask(StudentTask):
    """The loop's :class:`~engine.train.loop.Task`."""

    def __init__(self, settings: StudentSettings, how: Init, world: World) -> None:
        super().__init__(settings, world)
        self._how = how
        if settings.loop.compile:
            compile_blocks(self.model)
        self.parts: Mapping[str, Part] = {
            MODEL: Part(
                model=self.model,
                learning_rate=settings.learning_rate,
                average=settings.average,
                metadata=self.metadata(),
            )
        }

    def part_at(self, step: int) -> str:
        return MODEL

    def loss(self, part: str, batch: TeacherBatch) -> dict[str, Tensor]:
        levels, following = self._levels(batch)
        sigma = levels[..., None, None, None]
        x = noised(batch.target, batch.noise, sigma)
        with self.world.precision():
            student = forced_velocity(self.model, self.config, batch.conditions, batch.target)
            made = student(x, levels * TIMESTEPS).float()
        wanted = velocity(batch.target, batch.noise)
        if self._how.consistency:
            with torch.no_grad(), self.world.precision():
                arrived = arrival(student, x, levels, following, self._how.substeps).float()
            share = self._how.consistency * (following >= 0)[..., None, None, None]
            wanted = torch.lerp(wanted, (x - arrived) / sigma, share)
        weight = sigma if self.settings.weighting == "clean" else torch.ones_like(sigma)
        every = torch.ones_like(batch.sigma)
        loss = flow_matching_loss(weight * made, weight * wanted, self._how.motion, every)
        off = (sigma * (made.detach() - velocity(batch.target, batch.noise))).square().mean((2, 3, 4))
        own = following >= 0
        told = {"psnr": off.mean(), "psnr_own": (off * own).sum() / own.sum().clamp(min=1)}
        return {"loss": loss} | {name: -10 * (error / 4).log10() for name, error in told.items()}

    def _levels(self, batch: TeacherBatch) -> tuple[Tensor, Tensor]:
        """B F noise levels, one for each chunk, and the student's own that follow them, −1 for any others."""
        drawn = [self._drawn(index, batch.target.shape[1]) for index in batch.samples]
        levels, following = (torch.stack(part).to(batch.target) for part in zip(*drawn, strict=True))
        return levels, following

    def _drawn(self, index: int, frames: int) -> tuple[Tensor, Tensor]:
        generator = generator_of(self.settings.seed, index, LEVELS)
        chunks = frames // self.config.chunk
        chance, level = torch.rand(2, chunks, generator=generator)
        own = torch.tensor((*self.schedule.sigmas, 0.0))
        which = torch.randint(len(own) - 1, (chunks,), generator=generator)
        is_own = chance < self._how.own_share
        levels = torch.where(is_own, own[which], shifted(1 - level, self.shift))  # 1 − level is above 0
        following = torch.where(is_own, own[which + 1], -1.0)
        each = self.config.chunk
        return levels.repeat_interleave(each), following.repeat_interleave(each)


def arrival(student: Velocity, x: Tensor, levels: Tensor, following: Tensor, substeps: int) -> Tensor:
    """x0 as the student says it at ``following``, B F, after ``substeps`` steps of Euler's from x at
    ``levels``; what follows nothing (−1) is let go to 0 (Song et al., *Consistency Models*, algorithm 2, with
    the weights at hand as both teacher and target).
    """
    following = following.clamp(min=0)
    for step in range(substeps):
        at = torch.lerp(levels, following, step / substeps)
        x = x + ((following - levels) / substeps)[..., None, None, None] * student(x, at * TIMESTEPS)
    last = following[..., None, None, None]
    return torch.where(last > 0, x - last * student(x, following * TIMESTEPS), x)
