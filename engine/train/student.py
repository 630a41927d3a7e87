"""What both stages of the student's training share: settings, networks, clips, and looks through the rollout.

The student is the teacher's transformer, told to stream: its file is the teacher's kind of file, with the
chunk, window, attention sink and timesteps that it was trained for. Knows nothing of losses.

Shapes: B batch, F latent frames, C channels, h w latent rows and columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from engine.diffusion.rollout import Chunk, Stream, rollout
from engine.diffusion.schedule import TIMESTEPS, Schedule
from engine.diffusion.teacher import FRAMES_KEY, SHIFT_KEY, VARIANT_KEY, Conditions
from engine.errors import ConfigError, WeightsError
from engine.frames import Pixels
from engine.model.codecs import codec_metadata, trained_codec
from engine.model.config import ModelConfig, model_config
from engine.model.dit import PairTransformer
from engine.model.fitting import config_metadata
from engine.model.weights import load_transformer, read_weights
from engine.train.batches import Collator, Dropped, SampleNoise, TeacherBatch
from engine.train.clips import TRAIN, ClipSettings, Example
from engine.train.distributed import World, compile_blocks, shard
from engine.train.loop import LoopSettings
from engine.train.pictures import decoded, psnr, strip
from engine.train.supply import Supply
from engine.train.teacher import LOOK_CLIPS, NEAR, STRIP_FRAMES, Weighting

TIMESTEPS_KEY = "timesteps"  # in the metadata of a student's file, and of no teacher's
RENOISING, SCORING, LEVELS = range(1, 4)  # the uses that one sample's noise has, beside its first


@dataclass(frozen=True, kw_only=True, slots=True)
class Streaming:
    """How the student streams, as :class:`~engine.model.config.ModelConfig` says it; None: as the weights it
    begins with. ``steps`` are spread evenly over the timesteps.
    """

    chunk: int | None = None
    steps: int | None = None
    window: int | None = None
    attention_sink: int | None = None

    def applied(self, config: ModelConfig) -> ModelConfig:
        steps = self.steps
        changed: dict[str, Any] = {
            "chunk": self.chunk,
            "window": self.window,
            "attention_sink": self.attention_sink,
            "timesteps": None if steps is None else tuple(TIMESTEPS * (1 - i / steps) for i in range(steps)),
        }
        try:
            return replace(config, **{name: value for name, value in changed.items() if value is not None})
        except ValueError as error:
            raise ConfigError(f"{error}; give --window or --chunk") from None


@dataclass(frozen=True, kw_only=True, slots=True)
class Init:
    """Causal initialisation. ``own_share`` of the chunks are noised to one of the student's own few levels,
    the others to any. There, a share ``consistency`` of what is asked for is where the student itself would
    arrive through its next level, in ``substeps`` smaller steps; the rest is the truth.
    """

    own_share: float = 0.5
    consistency: float = 0.0
    substeps: int = 4
    motion: float = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Distill:
    """Self-Forcing with distribution matching. ``critic_steps`` of the critic to each of the student (0: no
    matching, regression alone); ``regression`` weighs the squared error to the true view; ``guidance`` is
    the real score's, over the camera. ``long_share`` of the steps begin after one to ``lead_windows``
    windows of the student's own past: where a latent frame is a picture.
    """

    critic_steps: int = 4
    critic_rate: float = 0.2  # of the student's learning rate
    regression: float = 0.0
    guidance: float = 1.0
    long_share: float = 0.0
    lead_windows: int = 4

    def __post_init__(self) -> None:
        if not (self.critic_steps or self.regression):
            raise ConfigError("without a critic nothing teaches the student: give --regression a weight")


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentSettings:
    """``teacher`` and ``weights``, the student to begin with, are names or files; None: the teacher's own.

    ``frames`` are latent ones, ``weighting`` and ``latents`` are the teacher's. ``how`` says which stage.
    """

    data: Path
    loop: LoopSettings
    size: str
    teacher: str
    weights: str | None = None
    codec: str | None = None
    how: Init | Distill
    streaming: Streaming = Streaming()
    frames: int
    stride: int = 1
    learning_rate: float
    average: float
    weighting: Weighting
    loop_share: float = 0.2
    identity_share: float = 0.05
    typical_move: float | None = None
    augment: bool = True
    latents: Path | None = None
    estimated_depth: bool = True
    seed: int = 0
    workers: int = 1
    checkpointing: bool = False


Stage = Literal["init", "distill"]


def recipe(stage: Stage, size: str, data: Path, loop: LoopSettings, teacher: str) -> StudentSettings:
    """Sizes in pixels have paired data and little time: they lean on the truth. Wan's go gently."""
    in_pixels = model_config(size).codec == "pixel"
    how: Init | Distill
    if stage == "init":
        how, rate, average = Init(consistency=0.0 if in_pixels else 1.0), (3e-4 if in_pixels else 2e-5), 0.995
    else:
        how = Distill(regression=2.0, long_share=0.25) if in_pixels else Distill()
        rate, average = (5e-5 if in_pixels else 2e-6), 0.99
    return StudentSettings(
        data=data,
        loop=loop,
        size=size,
        teacher=teacher,
        how=how,
        frames=8 if in_pixels else 21,
        learning_rate=rate,
        average=average,
        weighting="clean" if in_pixels else "velocity",
        typical_move=NEAR if in_pixels else None,
        checkpointing=not in_pixels,
    )


class StudentTask:
    """What the two stages' tasks have in common: see :class:`~engine.train.loop.Task`."""

    def __init__(self, settings: StudentSettings, world: World) -> None:
        self.settings, self.world = settings, world
        self.codec = trained_codec(model_config(settings.size), settings.codec, world.device, torch.float32)
        found, self.shift = load_teacher_of(settings)
        self.teacher_config = found[1]
        model, began = found if settings.weights is None else _loaded(settings.weights, settings.size)
        self.config = settings.streaming.applied(began)
        _check_frames(settings.frames, self.config)
        self.model = self._placed(model, trained=True)
        self.schedule = Schedule.few_step(self.config.timesteps, self.config.shift)
        self._collate = Collator(
            self.config,
            self.codec,
            device=world.device,
            seed=settings.seed,
            shift=self.shift,
            dropped=Dropped(),
            latents=settings.latents,
        )
        self._supply = Supply(
            self._clip_settings(),
            settings.loop.out,
            batch=settings.loop.batch,
            workers=settings.workers,
            world=world,
            frames_at=lambda index: self._pictures(self.lead_at(index) + settings.frames),
        )
        self._shown: list[Example] | None = None

    def lead_at(self, sample: int) -> int:
        """Latent frames of the clip of that sample that come before those that are learnt from."""
        return 0

    def longest_lead(self) -> int:
        return 0

    def batches(self, samples: Iterator[list[int]]) -> Iterator[TeacherBatch]:
        return self._supply.batches(samples, self._collate)

    def saved(self, step: int) -> None:
        self._supply.grow()

    def look(self) -> tuple[dict[str, float], Pixels]:
        """PSNR of held-out clips through the rollout with one step and with all, of the last hint to beat,
        and of the end of longer ones; a strip: source, hints, sample and truth.
        """
        lead, frames = self.longest_lead(), self.settings.frames
        if self._shown is None:
            self._shown = self._supply.held_out(LOOK_CLIPS, self._pictures(lead + frames))
        errors: dict[str, list[float]] = {}
        rows: list[Pixels] = []
        first, last = slice(0, self._pictures(frames)), slice(self._pictures(lead + 1) - 1, None)
        for one in self._shown:
            batch = self._collate([one])
            shown = {f"psnr_{steps}": self._sampled(batch, steps) for steps in self._look_steps()}
            made = shown[f"psnr_{self._look_steps()[-1]}"]
            if one.hints is not None:
                shown["psnr_hint"] = one.hints[:, -1]
            for name, pictures in shown.items():
                errors.setdefault(f"heldout/{name}", []).append(psnr(pictures[first], one.target[first]))
                if lead:
                    late = psnr(pictures[last], one.target[last])
                    errors.setdefault(f"heldout/late_{name}", []).append(late)
            rows.append(strip(one, made))
        figures = {name: float(np.mean(values)) for name, values in errors.items()}
        return figures, np.concatenate(rows[:STRIP_FRAMES])

    def metadata(self) -> dict[str, str]:
        """Of the student's file."""
        config, settings = self.config, self.settings
        return {
            **config_metadata(config),
            **codec_metadata(settings.codec),
            "layout": "trained",
            TIMESTEPS_KEY: " ".join(f"{timestep:g}" for timestep in config.timesteps),
            SHIFT_KEY: str(config.shift),
            "chunk": str(config.chunk),
            "window": str(config.window),
            "attention_sink": str(config.attention_sink),
            "stage": type(settings.how).__name__.lower(),
            "teacher": Path(settings.teacher).name,
            "data": settings.data.name,
            FRAMES_KEY: str(settings.frames),
        }

    def stream(self, batch: TeacherBatch) -> Stream:
        """A new one, whose caches are of the passes' type."""
        rows, columns = batch.target.shape[-2:]
        return Stream.start(
            self.model, self.config, (columns, rows), batch=len(batch.target), dtype=self.world.dtype
        )

    def fresh(self, batch: TeacherBatch) -> SampleNoise:
        return SampleNoise(self.settings.seed, batch.samples, RENOISING)

    def teachers_copy(self, *, trained: bool) -> PairTransformer:
        """Another network, with the teacher's weights."""
        model = self._placed(_loaded(self.settings.teacher, self.settings.size)[0], trained=trained)
        if self.settings.loop.compile:
            compile_blocks(model)
        return model

    def _placed(self, model: PairTransformer, *, trained: bool) -> PairTransformer:
        model.requires_grad_(trained)
        model.checkpointing = trained and self.settings.checkpointing
        model.to(self.world.device)
        shard(model, self.world)
        return model

    def _look_steps(self) -> list[int]:
        return sorted({1, len(self.schedule.sigmas)})

    def _sampled(self, batch: TeacherBatch, steps: int) -> Pixels:
        """T H W 3 of the batch's only clip."""
        chunks = chunks_of(batch.conditions, batch.noise, self.config.chunk)
        with torch.no_grad(), self.world.precision():
            stream, fresh = self.stream(batch), self.fresh(batch)
            made = rollout(self.model, stream, chunks, self.schedule, fresh, exit_step=steps - 1)
            return decoded(self.codec, torch.cat(list(made), 1))

    def _pictures(self, latent_frames: int) -> int:
        return 1 + (latent_frames - 1) * self.config.stride[0]

    def _clip_settings(self) -> ClipSettings:
        settings, config = self.settings, self.config
        return ClipSettings(
            data=settings.data,
            split=TRAIN,
            size=config.size,
            frames=self._pictures(settings.frames),
            stride=settings.stride,
            seed=settings.seed,
            loop_share=settings.loop_share,
            identity_share=settings.identity_share,
            typical_move=settings.typical_move,
            augment=settings.augment and settings.latents is None,
            hints=bool(config.hint_channels),
            estimated_depth=settings.estimated_depth,
        )


def chunks_of(conditions: Conditions, noise: Tensor, chunk: int) -> list[Chunk]:
    """A clip as the rollout takes it."""
    parts = [(start, start + chunk) for start in range(0, noise.shape[1], chunk)]
    told = [conditions.between(*part) for part in parts]
    return [
        Chunk(one.source, noise[:, first:end], rays=one.rays, extrinsics=one.extrinsics, hints=one.hints)
        for one, (first, end) in zip(told, parts, strict=True)
    ]


def load_teacher_of(settings: StudentSettings) -> tuple[tuple[PairTransformer, ModelConfig], float]:
    """The teacher, its config, and the shift of the noise levels that it was trained at."""
    metadata = read_weights(settings.teacher).file.metadata
    if TIMESTEPS_KEY in metadata or metadata.get(VARIANT_KEY, "pair") != "pair":
        kind = "a student" if TIMESTEPS_KEY in metadata else f"of the variant {metadata[VARIANT_KEY]!r}"
        raise WeightsError(
            f"{settings.teacher} is {kind}; a student's teacher is bidirectional, with synchronised pairs: "
            "give --teacher the model.safetensors of a run of `train teacher`"
        )
    found = _loaded(settings.teacher, settings.size)
    return found, float(metadata.get(SHIFT_KEY, found[1].shift))


def _loaded(path: str, size: str) -> tuple[PairTransformer, ModelConfig]:
    """Mapped from the file: whoever trains it must not write there."""
    model, config = load_transformer(path, "cpu", torch.float32)
    if config.name != size:
        raise ConfigError(f"the weights {path} are of size {config.name}, not {size}: give --size or others")
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(own, assign=True)
    return model, config


def _check_frames(frames: int, config: ModelConfig) -> None:
    if frames % config.chunk:
        below = max(config.chunk, frames // config.chunk * config.chunk)
        raise ConfigError(
            f"clips of {frames} latent frames are not made of whole chunks of {config.chunk}: "
            f"give --frames {below} or {below + config.chunk}"
        )
