"""Self-Forcing with distribution matching (Huang et al., *Self Forcing*, algorithm 1; Yin et al., *DMD2*).

The student makes its clips by the live rollout, on its own past; the frozen teacher and a critic, which
learns what the student makes, say how they should differ. All draws that decide how a step runs are of the
step and not of its samples, so that every process does the same.

Shapes: B batch, F latent frames, C channels, h w latent rows and columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.diffusion.rollout import rollout
from engine.diffusion.schedule import TIMESTEPS, noised, velocity, x0_from_velocity
from engine.diffusion.teacher import Conditions, velocity_of
from engine.errors import ConfigError
from engine.model.config import model_config
from engine.model.dit import PairTransformer
from engine.train.batches import SampleNoise, TeacherBatch
from engine.train.distributed import World, gathered_again
from engine.train.loop import Part
from engine.train.losses import distribution_matching_loss, flow_matching_loss
from engine.train.student import SCORING, Distill, StudentSettings, StudentTask, chunks_of
from engine.train.teacher import MODEL

CRITIC = "critic"
BETAS = (0.0, 0.999)
GRADIENTS_SURVIVE = (2, 11)  # the first PyTorch whose autocast keeps them
LEVELS = (0.02, 0.98)  # the least and the most noise at which the scores are compared


@dataclass(frozen=True, slots=True)
class Turn:
    """How one step unrolls: which denoising step of every chunk is learnt from, and how many latent frames
    of the student's own past come before.
    """

    exit_step: int
    lead: int


@dataclass(frozen=True, slots=True)
class Scores:
    """The frozen teacher, and the critic of what the student makes."""

    real: PairTransformer
    fake: PairTransformer


class DistillTask(StudentTask):
    """The loop's :class:`~engine.train.loop.Task`."""

    def __init__(self, settings: StudentSettings, how: Distill, world: World) -> None:
        self._how = how
        _check_lead(how, settings.size)
        _check_autocast(torch.__version__, world.dtype)
        super().__init__(settings, world)
        student = Part(
            model=self.model,
            learning_rate=settings.learning_rate,
            betas=BETAS,
            average=settings.average,
            metadata=self.metadata(),
        )
        self.parts: Mapping[str, Part] = {MODEL: student}
        self.scores: Scores | None = None
        if how.critic_steps:
            self.scores = Scores(self.teachers_copy(trained=False), self.teachers_copy(trained=True))
            critic = Part(
                model=self.scores.fake,
                learning_rate=how.critic_rate * settings.learning_rate,
                betas=BETAS,
                average=None,
                metadata={},
            )
            self.parts = {MODEL: student, CRITIC: critic}

    def part_at(self, step: int) -> str:
        """The critic first: until it differs from the teacher it has nothing to say."""
        return MODEL if step % (self._how.critic_steps + 1) == self._how.critic_steps else CRITIC

    def turn_at(self, step: int) -> Turn:
        rng = np.random.default_rng((self.settings.seed, step))
        exit_step = int(rng.integers(len(self.schedule.sigmas)))
        windows = int(rng.integers(self._how.lead_windows)) + 1
        is_long = rng.random() < self._how.long_share
        return Turn(exit_step, windows * self._window() if is_long else 0)

    def lead_at(self, sample: int) -> int:
        return self.turn_at(sample // self.settings.loop.batch).lead

    def longest_lead(self) -> int:
        return self._how.lead_windows * self._window() if self._how.long_share else 0

    def loss(self, part: str, batch: TeacherBatch) -> dict[str, Tensor]:
        turn = self.turn_at(batch.samples[0] // self.settings.loop.batch)
        learnt = slice(turn.lead, turn.lead + self.settings.frames)
        given = batch.conditions.between(learnt.start, learnt.stop)
        noise = SampleNoise(self.settings.seed, batch.samples, SCORING)
        level = batch.sigma.clamp(*LEVELS)
        if self.scores and part == CRITIC:
            with torch.no_grad():
                x0 = self._rolled(batch, turn)
            gathered_again(self.model)
            return self._critic_loss(self.scores.fake, x0, given, noise(x0), level)
        x0 = self._rolled(batch, turn)
        error = (x0 - batch.target[:, learnt]).square().mean()
        told = {"loss": self._how.regression * error, "psnr": -10 * (error.detach() / 4).log10()}
        if self.scores:
            matching = self._matching(self.scores, x0, given, noise(x0), level)
            told |= {"loss": matching + told["loss"], "matching": matching}
        return told

    def _rolled(self, batch: TeacherBatch, turn: Turn) -> Tensor:
        """x0 of the frames that are learnt from, after their lead."""
        chunks = chunks_of(batch.conditions, batch.noise, self.config.chunk)
        before = turn.lead // self.config.chunk
        stream, fresh = self.stream(batch), self.fresh(batch)
        with self.world.precision():
            with torch.no_grad():
                for _ in rollout(self.model, stream, chunks[:before], self.schedule, fresh):
                    pass
            made = rollout(
                self.model, stream, chunks[before:], self.schedule, fresh, exit_step=turn.exit_step
            )
            return torch.cat(list(made), 1).float()

    def _critic_loss(
        self, critic: PairTransformer, x0: Tensor, given: Conditions, noise: Tensor, level: Tensor
    ) -> dict[str, Tensor]:
        """Flow matching on what the student made."""
        x = noised(x0, noise, _like(level, x0))
        with self.world.precision():
            made = self._velocity(critic, x, given, level)
        weight = level.square() if self.settings.weighting == "clean" else torch.ones_like(level)
        return {"loss": flow_matching_loss(made, velocity(x0, noise), 0.0, weight)}

    def _matching(
        self, scores: Scores, x0: Tensor, given: Conditions, noise: Tensor, level: Tensor
    ) -> Tensor:
        with torch.no_grad(), self.world.precision():
            x = noised(x0, noise, _like(level, x0))
            fake = self._clean(scores.fake, x, given, level)
            real = self._clean(scores.real, x, given, level)
            if self._how.guidance != 1:
                without = self._clean(scores.real, x, given.without_camera(), level)
                real = without + self._how.guidance * (real - without)
        for score in (scores.fake, scores.real):
            gathered_again(score)
        return distribution_matching_loss(x0, fake, real)

    def _velocity(self, model: PairTransformer, x: Tensor, given: Conditions, level: Tensor) -> Tensor:
        timesteps = (level * TIMESTEPS)[:, None].expand(x.shape[:2])
        return velocity_of(model, given, self.teacher_config.reach)(x, timesteps).float()

    def _clean(self, model: PairTransformer, x: Tensor, given: Conditions, level: Tensor) -> Tensor:
        return x0_from_velocity(x, self._velocity(model, x, given, level), _like(level, x))

    def _window(self) -> int:
        """Latent frames of the whole chunks that a window holds."""
        return self.config.window // self.config.chunk * self.config.chunk


def _check_lead(how: Distill, size: str) -> None:
    """The teacher knows whole clips, and what is learnt from behind a lead is to be one."""
    pictures = model_config(size).stride[0]
    if how.long_share and pictures > 1:
        raise ConfigError(
            f"--long-share {how.long_share:g} asks the teacher about clips without their beginning: at the "
            f"size {size} their first latent frame stands for {pictures} pictures, and in all that it knows "
            "for a single one; leave --long-share out"
        )


def _like(level: Tensor, x: Tensor) -> Tensor:
    """B to go with B F C h w."""
    return level.view(-1, *[1] * (x.ndim - 1))


def _check_autocast(version: str, dtype: torch.dtype) -> None:
    """Before 2.11 a weight that autocast first met in a pass without gradients had none afterwards either
    (pytorch#165068): all that the rollout's first steps touch.
    """
    release = tuple(int(part) for part in version.split(".")[:2])
    if dtype != torch.float32 and release < GRADIENTS_SURVIVE:
        raise ConfigError(
            f"PyTorch {version} loses gradients of a rollout in bfloat16: give --precision fp32, or install "
            f"PyTorch {'.'.join(map(str, GRADIENTS_SURVIVE))} or later"
        )
