"""Trains the bidirectional teacher, or the prefix baseline, by flow matching.

A run is a folder: ``config.json``, ``scenes.json``, ``metrics.jsonl``, ``tensorboard/``, ``strips/``,
``checkpoints/`` and ``model.safetensors``, the averaged weights. The same command goes on where the folder
stops. Knows nothing of how scenes are made or how hints are warped.

Shapes: B batch, F latent frames, C channels, h w latent rows and columns; T frames, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from engine.diffusion.schedule import TIMESTEPS, Schedule, noised, velocity
from engine.diffusion.teacher import (
    FRAMES_KEY,
    SHIFT_KEY,
    TRANSFORMERS,
    VARIANT_KEY,
    Variant,
    sample,
    velocity_of,
)
from engine.engines.base import Progress
from engine.errors import ConfigError
from engine.frames import Pixels
from engine.model.codecs import codec_metadata, trained_codec
from engine.model.config import ModelConfig, model_config
from engine.model.dit import PairTransformer
from engine.model.fitting import config_metadata
from engine.model.weights import load_transformer
from engine.train.batches import Collator, Dropped, TeacherBatch
from engine.train.clips import TRAIN, ClipSettings, Example
from engine.train.distributed import World, compile_blocks, joined_world, shard
from engine.train.loop import LoopSettings, Part, Run
from engine.train.losses import flow_matching_loss
from engine.train.pictures import decoded, psnr, strip
from engine.train.run_folder import alone_in, check_same_run
from engine.train.supply import Supply

Trainable = Literal["all", "attention", "camera"]
Weighting = Literal["velocity", "clean"]

MODEL = "model"  # the name of its part in the loop, and of its file
CAMERA = ("plucker.", "hints.", "camera.", "stream_embedding", "mixture.")
TRAINABLE: dict[Trainable, tuple[str, ...]] = {
    "all": ("",),
    "attention": ("self_attn.", *CAMERA),
    "camera": CAMERA,
}
NEAR = 0.15  # typical move, as on air: of views farther apart most of the error is what nobody saw
LOOK_CLIPS = 12
LOOK_STEPS = (1, 6)  # of the sampler
STRIP_FRAMES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherSettings:
    """``frames`` are latent ones, ``stride`` the recording's frames from one picture to the next.

    ``weighting``: whether all noise levels ask alike for the velocity, or for the clean picture. ``motion``
    is MODEL.md's α. ``latents`` is a folder in which encoded clips are kept; they are not augmented then, or
    they would never come again. ``weights`` and ``codec`` are names or files of imported weights to start
    from.
    """

    data: Path
    loop: LoopSettings
    size: str
    variant: Variant = "pair"
    frames: int
    stride: int = 1
    learning_rate: float
    average: float = 0.999
    weighting: Weighting
    shift: float
    motion: float = 0.1
    loop_share: float = 0.2
    identity_share: float = 0.05
    typical_move: float | None = None
    augment: bool = True
    latents: Path | None = None
    dropped: Dropped
    trainable: Trainable = "all"
    weights: str | None = None
    codec: str | None = None
    estimated_depth: bool = True
    seed: int = 0
    workers: int = 1
    checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.variant not in TRANSFORMERS or self.trainable not in TRAINABLE:
            raise ValueError(f"there is no variant {self.variant!r} or no trainable part {self.trainable!r}")
        if not 0 <= self.motion <= 1 or self.shift <= 0:
            raise ValueError(f"motion is in [0, 1] and shift above 0, found {self.motion} and {self.shift}")


def recipe(size: str, data: Path, loop: LoopSettings) -> TeacherSettings:
    """What is known to work: from scratch for sizes in pixels, gently from imported weights for Wan's."""
    if model_config(size).codec == "pixel":
        return TeacherSettings(
            data=data,
            loop=loop,
            size=size,
            frames=8,
            learning_rate=1e-3,
            typical_move=NEAR,
            weighting="clean",
            shift=3.0,
            dropped=Dropped(source=0.03, camera=0.03, hints=0.03),
        )
    return TeacherSettings(
        data=data,
        loop=loop,
        size=size,
        frames=21,
        learning_rate=1e-4,
        weighting="velocity",
        shift=5.0,
        dropped=Dropped(source=0.1, camera=0.1),
        checkpointing=True,
    )


def train_teacher(settings: TeacherSettings, progress: Progress) -> None:
    """Until the loop's end; goes on with the run that is in its folder."""
    out = settings.loop.out
    with joined_world(settings.loop.precision) as world, alone_in(out) if world.is_first else nullcontext():
        if world.is_first:
            check_same_run(settings, out)
        world.wait()
        Run(TeacherTask(settings, world), settings.loop, world).train(
            progress if world.is_first else lambda share, what: None
        )


class TeacherTask:
    """The loop's :class:`~engine.train.loop.Task`."""

    def __init__(self, settings: TeacherSettings, world: World) -> None:
        self._settings, self._world = settings, world
        self._codec = trained_codec(model_config(settings.size), settings.codec, world.device, torch.float32)
        self._model, self._config = _model(settings, world.device)
        metadata = {
            **config_metadata(self._config),
            **codec_metadata(settings.codec),
            "layout": "trained",
            VARIANT_KEY: settings.variant,
            SHIFT_KEY: str(settings.shift),
            "data": settings.data.name,
            FRAMES_KEY: str(settings.frames),
        }
        self.parts: Mapping[str, Part] = {
            MODEL: Part(
                model=self._model,
                learning_rate=settings.learning_rate,
                average=settings.average,
                metadata=metadata,
            )
        }
        shard(self._model, world)
        if settings.loop.compile:
            compile_blocks(self._model)
        self._collate = Collator(
            self._config,
            self._codec,
            device=world.device,
            seed=settings.seed,
            shift=settings.shift,
            dropped=settings.dropped,
            latents=settings.latents,
        )
        self._supply = Supply(
            ClipSettings(
                data=settings.data,
                split=TRAIN,
                size=self._config.size,
                frames=1 + (settings.frames - 1) * self._config.stride[0],
                stride=settings.stride,
                seed=settings.seed,
                loop_share=settings.loop_share,
                identity_share=settings.identity_share,
                typical_move=settings.typical_move,
                augment=settings.augment and settings.latents is None,
                hints=bool(self._config.hint_channels),
                estimated_depth=settings.estimated_depth,
            ),
            settings.loop.out,
            batch=settings.loop.batch,
            workers=settings.workers,
            world=world,
        )
        self._shown: list[Example] | None = None

    def part_at(self, step: int) -> str:
        return MODEL

    def batches(self, samples: Iterator[list[int]]) -> Iterator[TeacherBatch]:
        return self._supply.batches(samples, self._collate)

    def loss(self, part: str, batch: TeacherBatch) -> dict[str, Tensor]:
        settings = self._settings
        sigma = batch.sigma[:, None, None, None, None]
        x = noised(batch.target, batch.noise, sigma)
        levels = (batch.sigma * TIMESTEPS)[:, None].expand(x.shape[:2])
        with self._world.precision():
            made = velocity_of(self._model, batch.conditions, self._config.reach)(x, levels)
        weight = batch.sigma.square() if settings.weighting == "clean" else torch.ones_like(batch.sigma)
        wanted = velocity(batch.target, batch.noise)
        loss = flow_matching_loss(made, wanted, settings.motion, weight)
        off = (sigma * (made.detach().float() - wanted)).square().mean()
        return {"loss": loss, "psnr": -10 * (off / 4).log10()}  # of x0, whose range is 2

    def look(self) -> tuple[dict[str, float], Pixels]:
        """PSNR of held-out clips at few and more steps, of the last hint to beat, and a strip: source, hints,
        sample and truth.
        """
        if self._shown is None:
            self._shown = self._supply.held_out(LOOK_CLIPS)
        errors: dict[str, list[float]] = {}
        rows: list[Pixels] = []
        for one in self._shown:
            batch = self._collate([one])
            for steps in LOOK_STEPS:
                made = self._sampled(batch, steps)
                errors.setdefault(f"heldout/psnr_{steps}", []).append(psnr(made, one.target))
            if one.hints is not None:
                errors.setdefault("heldout/psnr_hint", []).append(psnr(one.hints[:, -1], one.target))
            rows.append(strip(one, made))
        figures = {name: float(np.mean(values)) for name, values in errors.items()}
        return figures, np.concatenate(rows[:STRIP_FRAMES])

    def saved(self, step: int) -> None:
        self._supply.grow()

    def _sampled(self, batch: TeacherBatch, steps: int) -> Pixels:
        """T H W 3 of the batch's only clip."""
        schedule = Schedule.many_step(steps, self._settings.shift)
        with torch.no_grad(), self._world.precision():
            x0 = sample(self._model, batch.conditions, self._config.reach, batch.noise, schedule)
            return decoded(self._codec, x0)


def _model(settings: TeacherSettings, device: torch.device) -> tuple[PairTransformer, ModelConfig]:
    config, kind = model_config(settings.size), TRANSFORMERS[settings.variant]
    if settings.weights is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            model = kind(config)
    else:
        found, config = load_transformer(settings.weights, "cpu", torch.float32)
        if config.name != settings.size:
            raise ConfigError(
                f"the weights {settings.weights} are of size {config.name}, not {settings.size}"
            )
        with torch.device("meta"):
            model = kind(config)
        model.load_state_dict(found.state_dict(), assign=True)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(part in name for part in TRAINABLE[settings.trainable]))
    model.checkpointing = settings.checkpointing
    return model.to(device).train(), config
