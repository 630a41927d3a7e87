"""Checkpoints: all that resuming needs, complete or not there.

A checkpoint is a folder ``step-00001234`` of torch.distributed.checkpoint, written by all processes
together, each its shards; it appears under its name when it is whole, and is read back by any number of
processes. Beside the tensors lies ``progress.json`` with the numbers. Knows nothing of what they mean.
"""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException

from engine.errors import WeightsError
from engine.train.distributed import World

NAME = re.compile(r"step-(\d{8})")
PROGRESS = "progress.json"
KEPT = 2


def save(
    folder: Path, step: int, tensors: Mapping[str, Tensor], progress: dict[str, Any], world: World
) -> Path:
    """Adds a checkpoint and lets the oldest go."""
    done = folder / f"step-{step:08d}"
    partial = folder / f"{done.name}.partial"
    if world.is_first:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    world.wait()
    with _alone_is_meant():
        state_dict_saver.save(dict(tensors), checkpoint_id=partial, no_dist=world.size == 1)
    if world.is_first:
        (partial / PROGRESS).write_text(json.dumps(progress), encoding="utf-8")
        shutil.rmtree(done, ignore_errors=True)
        partial.replace(done)
        for old in checkpoints(folder)[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)
    world.wait()
    return done


def checkpoints(folder: Path) -> list[Path]:
    """The whole ones, the newest last."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name))


def load(checkpoint: Path, tensors: Mapping[str, Tensor], world: World) -> dict[str, Any]:
    """Fills the tensors in place, sharded or not, and returns the progress."""
    try:
        with _alone_is_meant():
            state_dict_loader.load(dict(tensors), checkpoint_id=checkpoint, no_dist=world.size == 1)
        progress: dict[str, Any] = json.loads((checkpoint / PROGRESS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError, KeyError, CheckpointException) as error:
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise WeightsError(
            f"the checkpoint {checkpoint} cannot be resumed: {reason[0]}; remove it to go on from the one "
            "before, or choose another --out"
        ) from error
    return progress


@contextmanager
def _alone_is_meant() -> Iterator[None]:
    """A single process that says so is warned of it all the same."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        yield
