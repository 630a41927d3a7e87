"""Trained weights as methods: a teacher, or the prefix baseline, clip by clip; a student as the live engine.

Which of them a file holds, its metadata say; a mini may also be the exported file that goes on air. Knows
nothing of figures.

Shapes: T frames, H W rows and columns; B batch (1), F latent frames, C channels, h w latent rows and columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain, count, islice
from pathlib import Path

import numpy as np
import torch

from engine.camera.geometry import Intrinsics, Pose
from engine.data import layout
from engine.data.decode import Size
from engine.data.loopaug import straight
from engine.data.pairs import Clip
from engine.diffusion.rollout import Stream, rollout
from engine.diffusion.schedule import Schedule
from engine.diffusion.teacher import FRAMES_KEY, SHIFT_KEY, VARIANT_KEY, load_teacher, sample
from engine.engines.base import EngineSettings
from engine.engines.mini import EXPORTED, MiniEngine, open_student
from engine.engines.painter import Painted, Student
from engine.engines.student import StudentEngine
from engine.errors import WeightsError
from engine.eval.cases import Shot
from engine.eval.methods import EngineMethod, Method, engine_settings, resized
from engine.frames import Pixels
from engine.geometry.hints import Hints
from engine.model.codec import Codec
from engine.model.codecs import CODEC_KEY, trained_codec
from engine.model.config import ModelConfig, model_config
from engine.model.dit import PairTransformer
from engine.model.weights import Checkpoint, load_transformer, read_weights
from engine.train.batches import Collator, Dropped, SampleNoise, TeacherBatch
from engine.train.clips import HELDOUT, ClipSettings, Example, at_size, hints_of, matrix
from engine.train.pictures import decoded
from engine.train.student import RENOISING, chunks_of

SEED = 0
UNLIMITED_MS = 1e9  # of budget: what is measured is the student at its best
ABOUT = {
    "pair": "bidirectional teacher with synchronised pairs",
    "prefix": "bidirectional model with the source as a prefix, as ReCamMaster has it",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """A file, and what it is called in the tables."""

    path: Path
    label: str | None = None

    @classmethod
    def parse(cls, text: str) -> Weights:
        """``path`` or ``label=path``."""
        label, equals, path = text.partition("=")
        return cls(path=Path(path), label=label) if equals else cls(path=Path(text))


def model_methods(
    files: Iterable[Weights], teacher_steps: int, size: Size, codec: str | None = None
) -> list[Method]:
    """The methods of each file, for pictures of ``size``; a teacher with that many steps, a student with its
    own. ``codec``: weights for those that work on latents, instead of the ones they were trained through.
    """
    found: list[Method] = []
    for file in files:
        if file.path.suffix == EXPORTED:
            found += painted_methods(file.label or "student", file.path, model_config("mini"), size)
            continue
        checkpoint = read_weights(file.path)
        through = codec_of(checkpoint, codec)
        variant = checkpoint.file.metadata.get(VARIANT_KEY)
        if variant is not None:
            label = file.label or {"pair": "teacher"}.get(variant, variant)
            if variant == "prefix":
                found.append(
                    TeacherMethod(f"{label}, in clips", file.path, teacher_steps, through, in_clips=True)
                )
            found.append(TeacherMethod(label, file.path, teacher_steps, through))
        else:
            found += student_methods(file.label or "student", file.path, checkpoint.size, size, through)
    return found


def student_methods(label: str, path: Path, name: str, size: Size, codec: str | None = None) -> list[Method]:
    """The student of a named size."""
    config = model_config(name)
    if config.hint_channels:
        chunk = int(read_weights(path).file.metadata.get("chunk", config.chunk))
        return painted_methods(label, path, config, size) if chunk == 1 else [RolloutMethod(label, path)]
    return [
        EngineMethod(
            label,
            f"causal student {path.name}, through the live engine",
            StudentEngine,
            lambda shot: engine_settings("student", shot, model=name, weights=str(path), codec=codec),
        )
    ]


def codec_of(checkpoint: Checkpoint, asked: str | None) -> str | None:
    """The weights of its codec: what is asked for, or else what its training wrote; None for pixels."""
    if not isinstance(checkpoint.config, ModelConfig) or checkpoint.config.codec == "pixel":
        return None
    found = asked or checkpoint.file.metadata.get(CODEC_KEY)
    if found is None:
        raise WeightsError(
            f"{checkpoint.file.path} works on latents and does not say by which VAE: import one by "
            "`weights import` (TAEHV, or Wan2.1's VAE) and name it with --codec"
        )
    return found


def painted_methods(label: str, path: Path, config: ModelConfig, size: Size) -> list[Method]:
    """A mini student; for pictures larger than its own, also what plain enlarging would give."""
    methods: list[Method] = [PaintedMethod(label, path)]
    if size[0] > config.size[0]:
        methods.append(PaintedMethod(f"{label}, enlarged", path, enlarged=True))
    return methods


class PaintedMethod(EngineMethod):
    """A mini student through the live engine, detail transfer and all, with all the time that it needs. With
    ``enlarged`` the whole engine works at the student's own size, and its picture is scaled up.
    """

    def __init__(self, name: str, path: Path, *, steps: int | None = None, enlarged: bool = False) -> None:
        about = f"causal student {path.name}, " + (
            "at its own size, scaled up" if enlarged else "through the live engine"
        )
        super().__init__(
            name, about, self._engine, partial(engine_settings, "student", budget_ms=UNLIMITED_MS)
        )
        self._path, self._steps, self._enlarged = path, steps, enlarged
        self.remembers = self.streams = not enlarged  # which is there to be compared picture by picture

    def at_steps(self, steps: int) -> list[PaintedMethod]:
        """The same, if it can take that many."""
        if steps not in self._student.available_steps:
            return []
        return [PaintedMethod(self.name, self._path, steps=steps, enlarged=self._enlarged)]

    def render(self, shot: Shot) -> Iterator[Pixels]:
        if not self._enlarged:
            return super().render(shot)
        return (resized(frame, shot.size) for frame in super().render(_shrunk(shot, self._student.size)))

    @cached_property
    def _student(self) -> Student:
        return open_student(str(self._path))

    @cached_property
    def _default_steps(self) -> int:
        return self._student.steps

    def _engine(self, settings: EngineSettings) -> MiniEngine:
        student = _AtSteps(self._student, self._steps or self._default_steps)
        student.reset()
        # what it remembers, fades and watches for goes by the clip's time, not by this machine's
        frame_clock = count(0.0, 1 / layout.FPS).__next__
        return MiniEngine(settings, student_for=lambda weights: student, frame_clock=frame_clock)


class _AtSteps:
    """The student, with one number of steps to choose from."""

    def __init__(self, student: Student, steps: int) -> None:
        self.size, self.steps, self.available_steps = student.size, steps, (steps,)
        self._student = student
        self.see, self.reset, self.re_anchor = student.see, student.reset, student.re_anchor

    def paint(self, hints: Hints, pose: Pose, source_lens: Intrinsics) -> Painted:
        self._student.steps = self.steps
        return self._student.paint(hints, pose, source_lens)


def _shrunk(shot: Shot, size: tuple[int, int]) -> Shot:
    return replace(
        shot,
        source=[resized(frame, size) for frame in shot.source],
        lenses=[lens.scaled(*size) for lens in shot.lenses],
    )


class TeacherMethod:
    """A whole shot at once, at the model's own size; or ``in_clips`` as long as those that it was trained on,
    one after the other: fair to a model that cannot do with longer ones.
    """

    streams = False

    def __init__(
        self, name: str, path: Path, steps: int, codec: str | None = None, *, in_clips: bool = False
    ) -> None:
        self.name = name
        self._path, self._steps, self._codec, self._in_clips = path, steps, codec, in_clips
        self.remembers = not in_clips
        metadata = read_weights(path).file.metadata
        self._shift = None if SHIFT_KEY not in metadata else float(metadata[SHIFT_KEY])
        self._trained_frames = int(metadata[FRAMES_KEY]) if FRAMES_KEY in metadata else None
        trained = f", trained on {self._trained_frames} latent frames" if self._trained_frames else ""
        self.about = (
            f"{ABOUT.get(metadata.get(VARIANT_KEY, ''), 'model')} {path.name}, {steps} steps{trained}"
        )

    def at_steps(self, steps: int) -> list[TeacherMethod]:
        return [TeacherMethod(self.name, self._path, steps, self._codec, in_clips=self._in_clips)]

    def render(self, shot: Shot) -> Iterator[Pixels]:
        _ = self._model
        return self._rendered(shot)

    @cached_property
    def identity(self) -> str:
        """Changes whenever the pictures would."""
        files = (self._path, self._codec)
        digests = " ".join(read_weights(file).file.sha256() for file in files if file is not None)
        clips = " in clips" if self._in_clips else ""
        return f"{digests} {self._steps} steps, shift {self._shift}{clips}"

    @cached_property
    def _model(self) -> tuple[PairTransformer, ModelConfig, Codec]:
        model, config = load_teacher(self._path, "cpu", torch.float32)
        return model, config, trained_codec(config, self._codec, "cpu", torch.float32)

    @torch.inference_mode()
    def _rendered(self, shot: Shot) -> Iterator[Pixels]:
        model, config, codec = self._model
        batch = _batch(shot, config, codec)
        shift = config.shift if self._shift is None else self._shift
        schedule = Schedule.many_step(self._steps, shift)
        frames = batch.noise.shape[1]
        each = self._trained_frames or frames if self._in_clips else frames
        clips = [(first, min(first + each, frames)) for first in range(0, frames, each)]
        made = [
            sample(
                model, batch.conditions.between(*clip), config.reach, batch.noise[:, slice(*clip)], schedule
            )
            for clip in clips
        ]
        pictures = decoded(codec, torch.cat(made, dim=1))
        for picture in pictures[: len(shot)]:
            yield resized(picture, shot.size)


class RolloutMethod:
    """A mini student of chunks of several frames, which the live engine does not run: in PyTorch, at its own
    size, without detail transfer. All hints are there before the first chunk is asked for.
    """

    remembers, streams = True, False

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.about = f"causal student {path.name}, by the rollout of its training"
        self._path = path

    def render(self, shot: Shot) -> Iterator[Pixels]:
        model, config = load_transformer(self._path, "cpu", torch.float32)
        codec = trained_codec(config, None, "cpu", torch.float32)
        whole = -len(shot) % config.chunk + len(shot)
        return self._rendered(model, config, codec, _batch(shot.lasting(whole), config, codec), shot)

    @torch.inference_mode()
    def _rendered(
        self, model: PairTransformer, config: ModelConfig, codec: Codec, batch: TeacherBatch, shot: Shot
    ) -> Iterator[Pixels]:
        stream = Stream.start(model, config, config.latent_size(*config.size))
        chunks = chunks_of(batch.conditions, batch.noise, config.chunk)
        schedule = Schedule.few_step(config.timesteps, config.shift)
        fresh = SampleNoise(SEED, batch.samples, RENOISING)
        made = (decoded(codec, x0) for x0 in rollout(model, stream, chunks, schedule, fresh))
        for picture in islice(chain.from_iterable(made), len(shot)):
            yield resized(picture, shot.size)


def _batch(shot: Shot, config: ModelConfig, codec: Codec) -> TeacherBatch:
    """What training would make of the shot, whole."""
    collate = Collator(config, codec, device=torch.device("cpu"), seed=SEED, shift=1.0, dropped=Dropped())
    return collate([_example(shot, config)])


def _example(shot: Shot, config: ModelConfig) -> Example:
    """The shot as training sees its clips, with the source in the place of the truth that nobody has. The
    source's lens and the subject's distance are those of the beginning, as for the engines.
    """
    frames = len(shot)
    settings = ClipSettings(
        data=Path(),
        split=HELDOUT,
        size=config.size,
        frames=frames,
        stride=1,
        seed=SEED,
        hints=bool(config.hint_channels),
    )
    lenses = [shot.lenses[0].scaled(*settings.read_size)] * frames
    targets = [lens.zoomed(pose.zoom) for lens, pose in zip(lenses, shot.poses, strict=True)]
    source = np.stack([resized(frame, settings.read_size) for frame in shot.source])
    clip = Clip(
        source=source,
        target=source,
        poses=list(shot.poses),
        source_intrinsics=lenses,
        target_intrinsics=targets,
        subject_distance_m=np.full(frames, shot.distances_m[0], np.float32),
        source_inverse_depth=None,
        source_matte=None,
        scene=Path(),
        plan=straight(0, 0, 0, frames, 1),
    )
    hints, seen = hints_of(settings, clip, 0) if settings.hints else (None, None)
    small = at_size(source, config.size)
    return Example(
        index=0,
        source=small,
        target=small,
        poses=np.stack([matrix(pose) for pose in clip.poses]),
        lenses=np.array([layout.normalised(lens) for lens in targets], np.float32),
        hints=hints,
        seen=seen,
    )
