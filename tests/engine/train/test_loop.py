"""The loop on a task that is a formula."""

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engine.errors import ConfigError
from engine.model.weight_files import open_weights
from engine.train.checkpoint import checkpoints
from engine.train.distributed import World
from engine.train.loop import LoopSettings, Part, Run

ALONE = World(0, 1, torch.device("cpu"))


class Duel:
    """Two numbers, trained in turns: one learns the samples' mean, the other follows the first."""

    def __init__(self) -> None:
        self.leader, self.follower = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        for one in (self.leader, self.follower):
            nn.init.zeros_(one.weight)
        self.parts = {
            "leader": Part(model=self.leader, learning_rate=0.1, average=0.5, metadata={}),
            "follower": Part(model=self.follower, learning_rate=0.2, average=0.5, metadata={}),
        }
        self.seen: list[list[int]] = []
        self.interrupt_at = -1
        self.broken: frozenset[int] = frozenset()
        self.looked: list[float] = []

    def part_at(self, step: int) -> str:
        return "follower" if step % 3 else "leader"

    def batches(self, samples: Iterator[list[int]]) -> Iterator[list[int]]:
        for some in samples:
            self.seen.append(some)
            if len(self.seen) == self.interrupt_at:
                os.kill(os.getpid(), signal.SIGINT)
            yield some

    def loss(self, part: str, batch: list[int]) -> dict[str, Tensor]:
        if batch[0] // 2 in self.broken:
            return {"loss": self.leader.weight.sum() * self.follower.weight.sum() * torch.inf}
        if part == "leader":
            return {"loss": (self.leader.weight - torch.tensor(batch).float().mean()).square().mean()}
        return {"loss": (self.follower.weight - self.leader.weight.detach()).square().mean()}

    def look(self) -> tuple[dict[str, float], np.ndarray]:
        self.looked.append(self.leader.weight.item())
        return {"leader": self.looked[-1]}, np.zeros((8, 8, 3), np.uint8)

    def saved(self, step: int) -> None:
        pass


@pytest.fixture
def settings(tmp_path: Path) -> LoopSettings:
    return LoopSettings(out=tmp_path, batch=2, steps=9, warmup=1, log_every=1, look_every=4)


def silent(share: float, what: str) -> None:
    pass


def test_networks_take_their_turns_and_each_sample_is_used_once(settings: LoopSettings) -> None:
    task = Duel()
    Run(task, settings, ALONE).train(silent)
    assert task.seen[:9] == [[2 * step, 2 * step + 1] for step in range(9)]
    assert task.leader.weight.item() == pytest.approx(0.3, abs=0.05)  # three steps of Adam
    assert task.follower.weight.item() > 0


def test_a_look_is_at_the_averaged_weights_and_changes_none(settings: LoopSettings) -> None:
    task = Duel()
    run = Run(task, settings, ALONE)
    run.train(silent)
    plain = Duel()
    Run(plain, replace(settings, out=settings.out / "plain", look_every=100), ALONE).train(silent)
    assert torch.equal(task.leader.weight, plain.leader.weight)
    assert task.looked[0] < 0.2 < task.leader.weight.item()  # the average lags behind


def test_ctrl_c_saves_the_step_at_hand_and_the_run_goes_on_from_there(settings: LoopSettings) -> None:
    broken = Duel()
    broken.interrupt_at = 5
    before = signal.getsignal(signal.SIGINT)
    Run(broken, settings, ALONE).train(silent)
    assert signal.getsignal(signal.SIGINT) is before
    assert [path.name for path in checkpoints(settings.out / "checkpoints")] == ["step-00000005"]
    resumed, whole = Duel(), Duel()
    Run(resumed, settings, ALONE).train(silent)
    Run(whole, replace(settings, out=settings.out / "whole"), ALONE).train(silent)
    assert resumed.seen[0] == [10, 11]
    for name in ("leader", "follower"):
        assert torch.equal(getattr(resumed, name).weight, getattr(whole, name).weight)


def test_the_rate_is_level_then_falls_to_nothing_and_some_weights_have_a_share_of_it(
    settings: LoopSettings,
) -> None:
    task = Duel()
    task.parts["leader"] = replace(task.parts["leader"], rates={"weight": 0.5})
    run = Run(task, replace(settings, steps=10, decay=0.4, look_every=100), ALONE)
    assert run.train(silent)
    told = [json.loads(line) for line in (settings.out / "metrics.jsonl").read_text().splitlines()]
    rates = {row["step"]: row.get("leader/rate", row.get("follower/rate")) for row in told}
    level = {name: task.parts[name].learning_rate for name in ("leader", "follower")}
    shares = [rates[step] / level["follower" if (step - 1) % 3 else "leader"] for step in range(1, 11)]
    assert shares == pytest.approx([1, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25])
    used = {name: part._optimiser.param_groups[0]["lr"] for name, part in run._parts.items()}
    assert used["leader"] == pytest.approx(0.5 * 0.25 * level["leader"])
    assert used["follower"] == pytest.approx(0.5 * level["follower"])


class Normalised(Duel):
    """The leader has a normalisation, whose statistics no gradient changes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm = nn.BatchNorm1d(1)
        self.leader = nn.Sequential(self.norm, nn.Linear(1, 1))  # type: ignore[assignment]
        self.parts = {"leader": Part(model=self.leader, learning_rate=0.1, average=0.5, metadata={})}

    def part_at(self, step: int) -> str:
        return "leader"

    def loss(self, part: str, batch: list[int]) -> dict[str, Tensor]:
        return {"loss": (self.leader(torch.tensor(batch).float()[:, None]) - 1).square().mean()}

    def look(self) -> tuple[dict[str, float], np.ndarray]:
        self.looked.append(self.norm.running_mean.item())  # type: ignore[union-attr]
        return {}, np.zeros((8, 8, 3), np.uint8)


def test_what_normalisations_remember_is_averaged_saved_and_resumed(settings: LoopSettings) -> None:
    whole = Normalised()
    Run(whole, replace(settings, steps=6), ALONE).train(silent)
    saved = open_weights(settings.out / "leader.safetensors").tensors
    mean = whole.norm.running_mean
    assert mean is not None and 0 < saved["0.running_mean"].item() < mean.item()  # it lags behind
    assert saved["0.num_batches_tracked"] == 6
    assert whole.looked == [pytest.approx(whole.looked[0])] and whole.looked[0] < mean.item()
    out = settings.out / "halves"
    Run(Normalised(), replace(settings, out=out, steps=3), ALONE).train(silent)
    halves = Normalised()
    Run(halves, replace(settings, out=out, steps=6), ALONE).train(silent)
    assert torch.equal(halves.norm.running_mean, mean)  # type: ignore[arg-type]
    for name, tensor in open_weights(out / "leader.safetensors").tensors.items():
        assert torch.equal(tensor, saved[name]), name


def test_the_time_of_a_run_counts_what_was_trained_before(settings: LoopSettings) -> None:
    Run(Duel(), replace(settings, steps=4), ALONE).train(silent)
    task = Duel()
    run = Run(task, replace(settings, steps=None, minutes=1e-9), ALONE)
    assert run.trained_s > 0
    run.train(silent)
    assert task.seen == []


def test_two_checkpoints_are_kept_and_a_half_written_one_is_not_taken(settings: LoopSettings) -> None:
    Run(Duel(), replace(settings, checkpoint_every_s=0.0), ALONE).train(silent)
    folder = settings.out / "checkpoints"
    assert [path.name for path in checkpoints(folder)] == ["step-00000008", "step-00000009"]
    (folder / "step-00000010.partial").mkdir()
    assert Run(Duel(), settings, ALONE).step == 9


def test_gradients_that_are_not_finite_change_nothing_and_are_counted(settings: LoopSettings) -> None:
    task = Duel()
    task.broken = frozenset({3})
    run = Run(task, settings, ALONE)
    run.train(silent)
    told = [json.loads(line) for line in (settings.out / "metrics.jsonl").read_text().splitlines()]
    assert [row["leader/skipped"] for row in told if "leader/skipped" in row] == [0, 1, 0]
    leader = run._parts["leader"]
    assert leader.updates == 2
    assert all(tensor.isfinite().all() for tensor in leader.tensors().values())


def test_a_run_without_sound_gradients_ends_and_says_at_which_step(settings: LoopSettings) -> None:
    task = Duel()
    task.broken = frozenset(range(3, 1000))
    with pytest.raises(ConfigError, match=r"step 33: .* of follower were not finite in 20 .*--learning-rate"):
        Run(task, replace(settings, steps=100), ALONE).train(silent)
    assert task.leader.weight.isfinite() and task.follower.weight.isfinite()


def test_a_batch_that_does_not_split_is_refused(settings: LoopSettings) -> None:
    with pytest.raises(ConfigError, match="does not split"):
        Run(Duel(), replace(settings, accumulate=3), ALONE)
