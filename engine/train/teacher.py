"""Trains the bidirectional teacher, or the prefix baseline, by flow matching.

A run is a folder: ``config.json``, ``scenes.json``, ``metrics.jsonl``, ``tensorboard/``, ``strips/``,
``checkpoints/`` and ``model.safetensors``, the averaged weights. The same command goes on where the folder
stops. Knows nothing of how scenes are made or how hints are warped.

Shapes: B batch, F latent frames, C channels, h w latent rows and columns; T frames, H W rows and columns.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from engine.data.layout import scene_folders
from engine.diffusion.schedule import TIMESTEPS, Schedule, noised, velocity
from engine.diffusion.teacher import SHIFT_KEY, TRANSFORMERS, VARIANT_KEY, Variant, sample, velocity_of
from engine.engines.base import Progress
from engine.errors import ConfigError, DataError
from engine.frames import Pixels
from engine.model.codec import Codec
from engine.model.codecs import make_codec
from engine.model.config import ModelConfig, model_config
from engine.model.dit import PairTransformer
from engine.model.fitting import config_metadata
from engine.model.weights import load_codec, load_transformer
from engine.train.batches import Collator, Dropped, TeacherBatch, examples
from engine.train.clips import HELDOUT, TRAIN, ClipSettings, Example, example
from engine.train.distributed import World, joined_world, shard
from engine.train.loop import LoopSettings, Part, Run
from engine.train.losses import flow_matching_loss
from engine.train.scenes import NAME as SCENES
from engine.train.scenes import SceneList

Trainable = Literal["all", "attention", "camera"]
Weighting = Literal["velocity", "clean"]

CONFIG = "config.json"
MODEL = "model"  # the name of its part in the loop, and of its file
FREE_TO_CHANGE = {  # in a run that resumes: nothing that a step computes depends on it
    "data",
    "workers",
    "checkpointing",
    *(
        f"loop.{name}"
        for name in ("out", "steps", "minutes", "checkpoint_every_s", "log_every", "look_every")
    ),
}
CAMERA = ("plucker.", "hints.", "camera.", "stream_embedding", "mixture.")
TRAINABLE: dict[Trainable, tuple[str, ...]] = {
    "all": ("",),
    "attention": ("self_attn.", *CAMERA),
    "camera": CAMERA,
}
LOOK_CLIPS = 12
LOOK_STEPS = (1, 6)  # of the sampler
STRIP_FRAMES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherSettings:
    """``frames`` are latent ones, ``stride`` the recording's frames from one picture to the next.

    ``weighting``: whether all noise levels ask alike for the velocity, or for the clean picture. ``motion``
    is MODEL.md's α. ``weights`` and ``codec`` are names or files of imported weights to start from.
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
    augment: bool = True
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
    with joined_world() as world:
        if world.is_first:
            settings.loop.out.mkdir(parents=True, exist_ok=True)
            _check_same_run(settings)
        world.wait()
        Run(TeacherTask(settings, world), settings.loop, world).train(
            progress if world.is_first else lambda share, what: None
        )


class TeacherTask:
    """The loop's :class:`~engine.train.loop.Task`."""

    def __init__(self, settings: TeacherSettings, world: World) -> None:
        self._settings, self._world = settings, world
        self._codec = _codec(settings).to(world.device)
        self._model, self._config = _model(settings, world.device)
        metadata = {
            **config_metadata(self._config),
            "layout": "trained",
            VARIANT_KEY: settings.variant,
            SHIFT_KEY: str(settings.shift),
            "data": str(settings.data),
            "frames": str(settings.frames),
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
        self._collate = Collator(
            self._config,
            self._codec,
            device=world.device,
            seed=settings.seed,
            shift=settings.shift,
            dropped=settings.dropped,
        )
        self._clips = self._clip_settings()
        self._scenes = SceneList(settings.loop.out / SCENES)
        self._next_sample = 0  # the first that no batch was begun for
        self._shown: list[Example] | None = None

    def part_at(self, step: int) -> str:
        return MODEL

    def batches(self, samples: Iterator[list[int]]) -> Iterator[TeacherBatch]:
        first = next(samples)
        self._next_sample = first[0] // self._settings.loop.batch * self._settings.loop.batch
        self._grow()
        made = examples(self._clips, chain([first], samples), self._scene_count, self._settings.workers)
        try:
            for some in made:
                yield self._collate(some)
        finally:
            made.close()  # type: ignore[attr-defined]

    def loss(self, part: str, batch: TeacherBatch) -> dict[str, Tensor]:
        settings = self._settings
        sigma = batch.sigma[:, None, None, None, None]
        x = noised(batch.target, batch.noise, sigma)
        levels = (batch.sigma * TIMESTEPS)[:, None].expand(x.shape[:2])
        with self._precision():
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
            self._shown = [example(self._held_out(), index) for index in range(LOOK_CLIPS)]
        errors: dict[str, list[float]] = {}
        rows: list[Pixels] = []
        for one in self._shown:
            batch = self._collate([one])
            for steps in LOOK_STEPS:
                made = self._sampled(batch, steps)
                errors.setdefault(f"heldout/psnr_{steps}", []).append(_psnr(made, one.target))
            if one.hints is not None:
                errors.setdefault("heldout/psnr_hint", []).append(_psnr(one.hints[:, -1], one.target))
            rows.append(_strip(one, made))
        figures = {name: float(np.mean(values)) for name, values in errors.items()}
        return figures, np.concatenate(rows[:STRIP_FRAMES])

    def saved(self, step: int) -> None:
        self._grow()

    def _sampled(self, batch: TeacherBatch, steps: int) -> Pixels:
        """T H W 3 of the batch's only clip."""
        schedule = Schedule.many_step(steps, self._settings.shift)
        with torch.no_grad(), self._precision():
            x0 = sample(self._model, batch.conditions, self._config.reach, batch.noise, schedule)
            video = self._codec.decode(x0.float())[0]
        return np.asarray(((video.clamp(-1, 1) + 1) * 127.5).round().byte().movedim(1, -1).cpu().numpy())

    def _scene_count(self, index: int) -> int:
        self._next_sample = max(self._next_sample, index + 1)
        return self._scenes.count_at(index)

    def _grow(self) -> None:
        """New scenes join from the next step on that no process has begun."""
        settings, world = self._settings, self._world
        step = -(-self._next_sample // settings.loop.batch)
        there = scene_folders(settings.data, TRAIN) if world.is_first else []
        step, there = world.from_first((step, there))
        self._scenes.grow(step * settings.loop.batch, there)
        if not len(self._scenes):
            raise DataError(f"{settings.data / TRAIN} has no finished scene: render some with `data render`")
        if world.is_first:
            self._scenes.write()
        world.wait()

    def _clip_settings(self) -> ClipSettings:
        settings, config = self._settings, self._config
        return ClipSettings(
            data=settings.data,
            split=TRAIN,
            size=config.size,
            frames=1 + (settings.frames - 1) * config.stride[0],
            stride=settings.stride,
            seed=settings.seed,
            loop_share=settings.loop_share,
            identity_share=settings.identity_share,
            augment=settings.augment,
            hints=bool(config.hint_channels),
            estimated_depth=settings.estimated_depth,
            scenes=settings.loop.out / SCENES,
        )

    def _held_out(self) -> ClipSettings:
        """Clips to look at, as they are; of the training scenes while there are no others."""
        split = HELDOUT if scene_folders(self._settings.data, HELDOUT) else TRAIN
        return replace(
            self._clips, split=split, loop_share=0.0, identity_share=0.0, augment=False, scenes=None
        )

    def _precision(self) -> AbstractContextManager[Any]:
        if self._world.device.type == "cuda":
            return torch.autocast("cuda", torch.bfloat16)
        return nullcontext()


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


def _codec(settings: TeacherSettings) -> Codec:
    config = model_config(settings.size)
    if settings.codec is not None:
        codec = load_codec(settings.codec, "cpu", torch.float32)
    elif config.codec == "pixel":
        codec = make_codec(config)
    else:
        raise ConfigError(
            f"{config.name} is trained on latents: name the VAE's weights with --codec, imported by "
            "`weights import` (Wan2.1's VAE or TAEHV)"
        )
    return codec.eval().requires_grad_(False)


def _check_same_run(settings: TeacherSettings) -> None:
    """Writes the settings into the folder, or compares with those that are there."""
    path = settings.loop.out / CONFIG
    wanted = json.loads(json.dumps(asdict(settings), default=str))
    if path.exists():
        there, here = _flat(json.loads(path.read_text(encoding="utf-8"))), _flat(wanted)
        for key in sorted((there.keys() | here.keys()) - FREE_TO_CHANGE):
            if there.get(key) != here.get(key):
                raise ConfigError(
                    f"{settings.loop.out} holds a run with {key} = {there.get(key)!r}, and this one has "
                    f"{here.get(key)!r}: give the same settings to go on with it, or another --out"
                )
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(wanted, indent=1), encoding="utf-8")
    partial.replace(path)


def _flat(settings: dict[str, Any], root: str = "") -> dict[str, Any]:
    """Nested keys joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{root}{key}.") if isinstance(value, dict) else {root + key: value}
    return flat


def _psnr(made: Pixels, truth: Pixels) -> float:
    """The mean over the frames, decibels."""
    error = np.square(made.astype(np.float32) - truth).mean((1, 2, 3))
    return float(np.mean(10 * np.log10(255**2 / np.maximum(error, 1e-3))))


def _strip(one: Example, made: Pixels) -> Pixels:
    """The clip's last frame: source, hints, sample, truth."""
    hints = [] if one.hints is None else list(one.hints[-1])
    return np.concatenate([one.source[-1], *hints, made[-1], one.target[-1]], axis=1)
