"""The training loop, the only one: steps, averages, clipping, checkpoints, logs, an end by time or Ctrl-C.

What is trained, on what and by which loss is a :class:`Task`'s business; a task may train several networks
in turns, as distribution matching does with a generator and a critic. What a step does depends on the seed
and its number alone, so a run that resumes is the run that never stopped, bit for bit.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from engine.engines.base import Progress
from engine.errors import ConfigError
from engine.frames import Pixels
from engine.model.weight_files import save_weights
from engine.train import checkpoint
from engine.train.distributed import Precision, World, fast_precision, gathered_again, whole
from engine.train.logbook import Logbook

Batch = TypeVar("Batch")
CHECKPOINTS = "checkpoints"
AVERAGE_STARTS = 10  # steps over which the average still follows closely
MOST_SKIPPED = 20  # updates in a row without sound gradients, before the run ends


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One network that is trained, and how. ``average`` is the decay of its weights' running mean; None: it
    keeps none and leaves no file, as it serves the training alone. ``rates`` are shares of the learning rate,
    for weights whose names begin so.
    """

    model: nn.Module
    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    average: float | None = 0.999
    rates: Mapping[str, float] = field(default_factory=dict)
    metadata: Mapping[str, str]  # of the file of its averaged weights


class Task(Protocol[Batch]):
    """What is trained. Samples have numbers: the same number is the same sample, noise included."""

    parts: Mapping[str, Part]

    def part_at(self, step: int) -> str:
        """Which network this step trains."""

    def batches(self, samples: Iterator[list[int]]) -> Iterator[Batch]:
        """A batch for each list of samples, made ahead. Closing the iterator ends its workers."""

    def loss(self, part: str, batch: Batch) -> dict[str, Tensor]:
        """Means over the batch; ``loss`` is the one that is minimised, the others are only told."""

    def look(self) -> tuple[dict[str, float], Pixels]:
        """How good the networks are now, as figures and as a picture; all processes look together."""

    def saved(self, step: int) -> None:
        """A checkpoint of this step is whole: the moment to take up new data."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopSettings:
    """``batch`` is of a whole step, over all processes and all ``accumulate`` passes of each. The run ends
    after ``steps`` or ``minutes`` of training in all, resumed or not; None: no end but Ctrl-C. Over the last
    ``decay`` of the run the learning rate falls to nothing. ``precision`` is of the products.
    """

    out: Path
    batch: int
    accumulate: int = 1
    steps: int | None = None
    minutes: float | None = None
    precision: Precision = field(default_factory=fast_precision)
    compile: bool = False
    warmup: int = 100
    decay: float = 0.0
    largest_gradient: float = 1.0
    checkpoint_every_s: float = 240.0
    log_every: int = 10
    look_every: int = 500

    def __post_init__(self) -> None:
        if min(self.batch, self.accumulate, self.log_every, self.look_every) < 1:
            raise ValueError("batch, accumulate, log_every and look_every are at least 1")


class Trained:
    """One part with all that training it needs to remember."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.updates = 0
        self.skipped_in_a_row = 0
        self.weights = {n: p for n, p in part.model.named_parameters() if p.requires_grad}
        self._buffers = dict(part.model.named_buffers())  # such as normalisations' statistics
        statistics = {n: b for n, b in self._buffers.items() if b.is_floating_point()}
        self._averaged: dict[str, Tensor] = {} if part.average is None else {**self.weights, **statistics}
        self.average = {n: t.detach().clone() for n, t in self._averaged.items()}
        self._optimiser = torch.optim.AdamW(
            self._groups(),
            lr=part.learning_rate,
            betas=part.betas,
            weight_decay=part.weight_decay,
            foreach=True,
        )
        for weight in self.weights.values():  # now and not at the first step, so that it can be resumed into
            self._optimiser.state[weight] = {
                "step": torch.tensor(0.0),
                "exp_avg": torch.zeros_like(weight),
                "exp_avg_sq": torch.zeros_like(weight),
            }

    def _groups(self) -> list[dict[str, Any]]:
        """The optimiser's: weights of one rate each."""
        groups: dict[float, list[Tensor]] = {}
        for name, weight in self.weights.items():
            rates = self.part.rates.items()
            share = next((share for beginning, share in rates if name.startswith(beginning)), 1.0)
            groups.setdefault(share, []).append(weight)
        return [{"params": weights, "share": share} for share, weights in groups.items()]

    def update(self, warmup: int, largest_gradient: float, fading: float) -> tuple[Tensor, float]:
        """One step of the optimiser from the gradients that are there; their norm and the rate used, of which
        the share ``fading`` is left. If they are not finite they are forgotten: clipping would spread them to
        every weight, moment and average.
        """
        rate = self.part.learning_rate * min(1.0, (self.updates + 1) / max(1, warmup), fading)
        for group in self._optimiser.param_groups:
            group["lr"] = rate * group["share"]
        norm = whole(torch.nn.utils.clip_grad_norm_(self.weights.values(), largest_gradient))
        if not norm.isfinite():
            self._optimiser.zero_grad(set_to_none=True)
            self.skipped_in_a_row += 1
            return norm, rate
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self.updates += 1
        self.skipped_in_a_row = 0
        if self.part.average is not None:
            keep = min(self.part.average, self.updates / (self.updates + AVERAGE_STARTS))
            with torch.no_grad():
                for name, average in self.average.items():
                    average.lerp_(self._averaged[name], 1 - keep)
        return norm, rate

    def tensors(self) -> dict[str, Tensor]:
        """To be saved, and to be filled when a run resumes."""
        found = {}
        for name, weight in self.weights.items():
            state = self._optimiser.state[weight]
            found[f"weights.{name}"] = weight.detach()
            found[f"first_moment.{name}"] = state["exp_avg"]
            found[f"second_moment.{name}"] = state["exp_avg_sq"]
        found |= {f"buffers.{name}": buffer for name, buffer in self._buffers.items()}
        return found | {f"average.{name}": average for name, average in self.average.items()}

    def resumed(self, updates: int) -> None:
        """After the tensors were filled."""
        self.updates = updates
        for state in self._optimiser.state.values():
            state["step"].fill_(updates)

    def averaged_weights(self) -> dict[str, Tensor]:
        """The whole model's, on the CPU; every process must ask."""
        tensors = {**dict(self.part.model.named_parameters()), **self._buffers}
        return {name: whole(self.average.get(name, own)).cpu() for name, own in tensors.items()}

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The model with its averaged weights, if it keeps them."""
        own = {name: tensor.detach().clone() for name, tensor in self._averaged.items()}
        self._put(self.average)
        try:
            yield
        finally:
            self._put(own)

    def _put(self, values: Mapping[str, Tensor]) -> None:
        gathered_again(self.part.model)
        with torch.no_grad():
            for name, value in values.items():
                self._averaged[name].copy_(value)


class Run(Generic[Batch]):
    """A task on its way. ``step`` counts the steps that are done."""

    def __init__(self, task: Task[Batch], settings: LoopSettings, world: World) -> None:
        if settings.batch % (world.size * settings.accumulate):
            raise ConfigError(
                f"a batch of {settings.batch} does not split into {world.size} processes "
                f"of {settings.accumulate} passes each"
            )
        self.step = 0
        self.trained_s = 0.0
        self._task, self._settings, self._world = task, settings, world
        self._parts = {name: Trained(part) for name, part in task.parts.items()}
        self._resume()
        self._saved_step = self.step
        self._book = Logbook(settings.out, self.step) if world.is_first else None
        self._recent: list[dict[str, Tensor]] = []

    def train(self, progress: Progress) -> bool:
        """Until the end, or until Ctrl-C (False); either way the last checkpoint is of the last
        step.
        """
        settings = self._settings
        batches = self._task.batches(self._samples())
        saved_s = self.trained_s
        try:
            with _interrupts() as is_interrupted:
                while not self._is_done():
                    began = time.monotonic()
                    self._learn(batches)
                    self.trained_s += time.monotonic() - began
                    if self.step % settings.log_every == 0:
                        self._log(progress)
                    if self.step % settings.look_every == 0:
                        self._look(progress)
                    is_due = self.trained_s - saved_s > settings.checkpoint_every_s
                    stop, save = self._world.any(is_interrupted(), is_due)
                    if save:
                        self.save()
                        saved_s = self.trained_s
                    if stop:
                        progress(self._share(), f"interrupted at step {self.step}, saving")
                        break
        finally:
            batches.close()  # type: ignore[attr-defined]
        if self.step != self._saved_step:
            self.save()
        if self._book:
            self._book.close()
        return self._is_done()

    def save(self) -> None:
        """A checkpoint, and beside the checkpoints each part's averaged weights as they are used."""
        out, world = self._settings.out, self._world
        tensors = {f"{p}.{n}": t for p, part in self._parts.items() for n, t in part.tensors().items()}
        numbers = {
            "step": self.step,
            "trained_s": self.trained_s,
            "updates": {name: part.updates for name, part in self._parts.items()},
        }
        checkpoint.save(out / CHECKPOINTS, self.step, tensors, numbers, world)
        for name, part in self._parts.items():
            if part.part.average is None:
                continue
            weights = part.averaged_weights()
            if world.is_first:
                told = {"steps": str(self.step), "hours": f"{self.trained_s / 3600:.2f}"}
                save_weights(out / f"{name}.safetensors", weights, {**part.part.metadata, **told})
        self._saved_step = self.step
        self._task.saved(self.step)

    def _resume(self) -> None:
        found = checkpoint.checkpoints(self._settings.out / CHECKPOINTS)
        if not found:
            return
        tensors = {f"{p}.{n}": t for p, part in self._parts.items() for n, t in part.tensors().items()}
        numbers: dict[str, Any] = checkpoint.load(found[-1], tensors, self._world)
        self.step, self.trained_s = numbers["step"], numbers["trained_s"]
        for name, part in self._parts.items():
            part.resumed(numbers["updates"][name])

    def _samples(self) -> Iterator[list[int]]:
        """The numbers of this process's samples, a list for each pass."""
        settings, world = self._settings, self._world
        own = settings.batch // world.size
        step, size = self.step, own // settings.accumulate
        while True:
            first = step * settings.batch + world.rank * own
            for start in range(first, first + own, size):
                yield list(range(start, start + size))
            step += 1

    def _learn(self, batches: Iterator[Batch]) -> None:
        settings = self._settings
        name = self._task.part_at(self.step)
        part = self._parts[name]
        began = time.monotonic()
        waited_s = 0.0
        told: dict[str, Tensor] = {}
        for _ in range(settings.accumulate):
            asked = time.monotonic()
            batch = next(batches)
            waited_s += time.monotonic() - asked
            losses = self._task.loss(name, batch)
            torch.autograd.backward(losses["loss"] / settings.accumulate)
            for key, value in losses.items():
                share = value.detach() / settings.accumulate
                told[key] = told[key] + share if key in told else share
        norm, rate = part.update(settings.warmup, settings.largest_gradient, self._fading())
        self.step += 1
        if part.skipped_in_a_row == MOST_SKIPPED:
            raise ConfigError(
                f"step {self.step}: the gradients of {name} were not finite in {MOST_SKIPPED} of its steps "
                "in a row, and none of them changed it: lower --learning-rate, or give --precision fp32"
            )
        seconds = torch.tensor(time.monotonic() - began, dtype=torch.float64)
        told |= {"gradient": norm, "rate": torch.tensor(rate), "skipped": (~norm.isfinite()).float()}
        told |= {"step_s": seconds, "wait_s": torch.tensor(waited_s, dtype=torch.float64)}
        self._recent.append({f"{name}/{key}": value for key, value in told.items()})

    def _log(self, progress: Progress) -> None:
        """The means since the last time, over the steps and the processes."""
        rows: dict[str, list[Tensor]] = {}
        for row in self._recent:
            for key, value in row.items():
                rows.setdefault(key, []).append(value.detach().to(self._world.device).float())
        means = {key: torch.stack(values).mean() for key, values in rows.items()}
        self._recent.clear()
        told = self._world.mean(means)
        if self._book:
            self._book.write(self.step, self.trained_s, told)
        losses = "  ".join(f"{key} {value:.4f}" for key, value in told.items() if key.endswith("/loss"))
        progress(self._share(), f"step {self.step}  {losses}")

    def _look(self, progress: Progress) -> None:
        progress(self._share(), f"step {self.step}  looking")
        averaged = [part.averaged() for part in self._parts.values()]
        for context in averaged:
            context.__enter__()
        try:
            with torch.compiler.set_stance("force_eager"):  # its shapes are not those that were compiled for
                figures, pixels = self._task.look()
        finally:
            for context in reversed(averaged):
                context.__exit__(None, None, None)
        if self._book:
            self._book.write(self.step, self.trained_s, figures)
            self._book.write_strip(self.step, pixels)
        told = "  ".join(f"{key} {value:.3f}" for key, value in figures.items())
        progress(self._share(), f"step {self.step}  {told}")

    def _share(self) -> float:
        """How much of the run is done."""
        settings = self._settings
        of_steps = self.step / settings.steps if settings.steps else 0.0
        of_time = self.trained_s / (60 * settings.minutes) if settings.minutes else 0.0
        return min(1.0, max(of_steps, of_time))

    def _fading(self) -> float:
        """How much of the learning rate is left."""
        decay = self._settings.decay
        return min(1.0, (1 - self._share()) / decay) if decay else 1.0

    def _is_done(self) -> bool:
        return self._world.any(self._share() >= 1.0)[0]


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C (or torchrun's request to end) into a flag; the second one ends at once."""
    seen = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield seen.is_set
        return

    def note(*_: object) -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)
        seen.set()

    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in previous:
        signal.signal(number, note)
    try:
        yield seen.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
