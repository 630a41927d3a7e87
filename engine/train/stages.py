"""The student's training, stage by stage: a run is a folder, and goes on where it stopped."""

from __future__ import annotations

from contextlib import nullcontext

from engine.engines.base import Progress
from engine.errors import ConfigError
from engine.train.causal_init import InitTask
from engine.train.distill import DistillTask
from engine.train.distributed import joined_world
from engine.train.loop import Run
from engine.train.run_folder import alone_in, check_same_run
from engine.train.student import Init, StudentSettings


def train_student(settings: StudentSettings, progress: Progress) -> None:
    """Until the loop's end."""
    how = settings.how
    if settings.weights is None and not isinstance(how, Init):
        raise ConfigError(
            "distillation begins with an initialised student: give --weights the model.safetensors of a run "
            "of `train student --stage init`"
        )
    with joined_world(settings.loop.precision) as world:
        task = InitTask(settings, how, world) if isinstance(how, Init) else DistillTask(settings, how, world)
        # settings that do not fit have left no trace in the folder
        with alone_in(settings.loop.out) if world.is_first else nullcontext():
            if world.is_first:
                check_same_run(settings, settings.loop.out)
            world.wait()
            Run(task, settings.loop, world).train(progress if world.is_first else lambda share, what: None)
