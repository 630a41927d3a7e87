"""Trains the depth network on rendered scenes: the loop, its checkpoints, its log and its end.

A run is a folder: ``config.json``, ``metrics.jsonl``, ``checkpoints/training.pt`` (all that resuming needs),
``checkpoints/average.safetensors`` (the averaged weights, which are the ones to use), and at the end
``depth.onnx`` with its card. The same call goes on where the folder stops, bit for bit as if it had never
stopped. New scenes are taken up whenever a new block of data begins.

Knows nothing of how scenes are rendered or what the losses mean.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.errors import DataError, WeightsError
from engine.geometry.depth_network import SIZES, DepthMaps, DepthNetwork, Inference
from engine.model.weight_files import open_weights, save_weights
from engine.train.depth_data import BlockPlan, depth_scenes, held_out_pairs, read_block
from engine.train.depth_export import Exported, export_onnx, write_card
from engine.train.depth_losses import Truth, depth_losses, total
from engine.train.depth_pretrained import begin_with_photographs
from engine.train.depth_supply import Batch, BlockRecipe, DepthSupply
from engine.train.depth_validation import DepthScores, Infer, score
from engine.train.distributed import Precision, fast_precision
from engine.train.run_folder import alone_in

Progress = Callable[[float, str], None]  # share done in [0, 1], and what is being done

WARMUP_STEPS = 300
DECAY_SHARE = 0.3  # of all steps, at the end: the rate falls to nothing
AVERAGE = 0.999  # of the old average is kept at each step
CAMERAS_JUDGED = 2  # of each held-out scene
PAIRS_JUDGED = 4  # of each such camera
CALIBRATION = BlockPlan(clips=40, pairs_per_clip=2)
LARGEST_GRADIENT = 1.0
WEIGHT_DECAY = 0.02
ENCODER_RATE = 0.3  # of the learning rate: it has learnt already


@dataclass(frozen=True, kw_only=True, slots=True)
class DepthSettings:
    """``data`` has the folders train and heldout; ``photos`` is a folder of pictures without people, to set
    people before, with a README.md that names their origin. ``batch`` counts pairs of neighbouring frames,
    which ``workers`` processes make ahead; 0: this one makes them. ``weights`` are another run's average, to
    begin with."""

    data: Path
    out: Path
    size: str = "small"
    steps: int = 20_000
    batch: int = 8
    learning_rate: float = 1e-3
    seed: int = 0
    photos: Path | None = None
    weights: Path | None = None
    block: BlockPlan = field(default_factory=BlockPlan)
    checkpoint_every_s: float = 180.0
    log_every: int = 50
    validate_every: int = 1000
    validation_scenes: int = 40
    threads: int = 1
    workers: int = 1
    precision: Precision = field(default_factory=fast_precision)

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise ValueError(f"the size of a depth network is one of {', '.join(SIZES)}, not {self.size!r}")
        if not 1 <= self.batch <= self.block.pairs:
            raise ValueError(f"a batch has 1 to {self.block.pairs} pairs, a block's, not {self.batch}")


def train_depth(settings: DepthSettings, progress: Progress) -> DepthScores:
    """Trains up to ``settings.steps``, writes ``out/depth.onnx`` and returns how good it is."""
    with alone_in(settings.out):
        return _train(settings, progress)


def _train(settings: DepthSettings, progress: Progress) -> DepthScores:
    torch.set_num_threads(settings.threads)
    run = DepthRun(settings)
    run.resume()
    _write_text(settings.out / "config.json", json.dumps(asdict(settings), default=str, indent=1))
    log = _Log(settings.out / "metrics.jsonl")
    saved_s = time.monotonic()
    progress(run.step / settings.steps, "making the first batches")
    with closing(run.batches()) as batches:
        while run.step < settings.steps:
            batch = next(batches)
            began_s = time.monotonic()
            losses = run.learn(batch)
            run.trained_s += time.monotonic() - began_s
            log.add(losses, time.monotonic() - began_s)
            if run.step % settings.log_every == 0:
                log.write(run, settings)
                told = f"step {run.step} of {settings.steps}, loss {log.loss:.4f}"
                progress(run.step / settings.steps, told)
            if time.monotonic() - saved_s > settings.checkpoint_every_s:
                run.save()
                saved_s = time.monotonic()
            if run.step % settings.validate_every == 0:
                log.write_scores(run.step, validate(run.judged(), settings, progress))
    run.save()
    return export_depth(settings.out, settings.out, progress)


def validate(infer: Infer, settings: DepthSettings, progress: Progress) -> DepthScores:
    progress(0.0, "judging the network on held-out scenes")
    scenes = depth_scenes(settings.data, "heldout")
    if not scenes:
        raise DataError(f"{settings.data} has no finished scene with depth in heldout; render some")
    some = scenes[:: math.ceil(len(scenes) / settings.validation_scenes)]
    size = SIZES[settings.size].size
    return score(infer, held_out_pairs(settings.data, some, CAMERAS_JUDGED, PAIRS_JUDGED, size))


def export_depth(run: Path, folder: Path, progress: Progress = lambda share, what: None) -> DepthScores:
    """The averaged weights of a run's last checkpoint → ``depth.onnx`` and ``depth.md`` in ``folder``."""
    weights = open_weights(run / "checkpoints" / "average.safetensors")
    written = json.loads((run / "config.json").read_text(encoding="utf-8"))
    network = DepthNetwork(SIZES[written["size"]])
    network.load_state_dict(weights.tensors)
    settings = DepthSettings(
        data=Path(written["data"]),
        out=run,
        size=written["size"],
        seed=written["seed"],
        validation_scenes=written["validation_scenes"],
    )
    file = folder / "depth.onnx"
    export_onnx(network, file, _calibration(settings))
    scores = validate(Exported(file), settings, progress)
    facts = weights.metadata | {"size": settings.size, "photos": photos_note(written["photos"])}
    write_card(folder / "depth.md", file, facts, scores)
    return scores


def _calibration(settings: DepthSettings) -> Iterator[Tensor]:
    """Pictures of training scenes, 1 3 H W, as they are."""
    scenes = depth_scenes(settings.data, "train")
    for pair in read_block(settings.data, scenes, CALIBRATION, SIZES[settings.size].size, settings.seed, 0):
        yield torch.from_numpy(pair.images[:1]).permute(0, 3, 1, 2).float() / 255


class DepthRun:
    """All that changes while training, and nothing else."""

    def __init__(self, settings: DepthSettings) -> None:
        self._settings = settings
        config = SIZES[settings.size]
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.network = DepthNetwork(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._frozen = begin_with_photographs(self.network) if config.pretrained else []
        self._before = ""
        if settings.weights is not None:
            begun = open_weights(settings.weights)
            self._fill(self.network, begun.tensors, settings.weights)
            self._before = begun.metadata.get("training", "")
        self.network.to(self.device)
        self.average = DepthNetwork(config).to(self.device)
        self.average.load_state_dict(self.network.state_dict())
        self._optimiser = torch.optim.AdamW(_groups(self.network), lr=settings.learning_rate)
        self.step = 0
        self.trained_s = 0.0
        self._begun = 0
        self._supply: DepthSupply | None = None
        self._folder = settings.out / "checkpoints"

    @property
    def scenes(self) -> int:
        """How many take part."""
        return self._supply.scenes if self._supply else 0

    def batches(self) -> Generator[Batch, None, None]:
        """From this step on, without end. Closing the iterator ends its workers."""
        settings = self._settings
        recipe = BlockRecipe(
            data=settings.data,
            size=self.network.size,
            plan=settings.block,
            batch=settings.batch,
            seed=settings.seed,
            photos=settings.photos,
        )
        self._supply = DepthSupply(recipe, settings.out, settings.workers, self._begun)
        return self._supply.batches(self.step)

    def judged(self) -> Inference:
        """The averaged network as it is used."""
        return Inference(self.average).to("cpu").eval()

    def learn(self, batch: Batch) -> dict[str, float]:
        """One step; every loss, and their weighted sum as ``total``."""
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(self._settings, self.step) * group["times"]
        images, truth = tensors(batch, self.device)
        self.network.train()
        for module in self._frozen:
            module.eval()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._settings.precision == "bf16"):
            maps = self.network(images)
        losses = depth_losses(DepthMaps(*(part.float() for part in maps)), truth)
        whole = total(losses)
        self._optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(whole)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), LARGEST_GRADIENT)
        self._optimiser.step()
        self.step += 1
        self._update_average()
        return {name: float(value.detach()) for name, value in (losses | {"total": whole}).items()}

    def _update_average(self) -> None:
        keep = min(AVERAGE, self.step / (self.step + 9))
        with torch.no_grad():
            news = self.network.state_dict()
            for name, old in self.average.state_dict().items():
                if old.is_floating_point():
                    old.lerp_(news[name], 1 - keep)
                else:
                    old.copy_(news[name])

    def save(self) -> None:
        """Writes the checkpoint; an older one stays until the new one is whole."""
        self._folder.mkdir(parents=True, exist_ok=True)
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "step": self.step,
            "trained_s": self.trained_s,
            "begun": self._supply.begun if self._supply else self._begun,
        }
        partial = self._folder / "training.pt.partial"
        torch.save(state, partial)
        partial.replace(self._folder / "training.pt")
        facts = {"scenes": self.scenes, "training": self._told()}
        save_weights(
            self._folder / "average.safetensors",
            self.average.state_dict(),
            {name: str(value) for name, value in facts.items()},
        )

    def resume(self) -> None:
        """Takes up the folder's checkpoint, if it has one."""
        file = self._folder / "training.pt"
        if not file.is_file():
            return
        state: dict[str, Any] = torch.load(file, weights_only=True, map_location="cpu")
        self._fill(self.network, state["network"], file)
        self._fill(self.average, state["average"], file)
        self._optimiser.load_state_dict(state["optimiser"])
        self.step, self.trained_s, self._begun = state["step"], state["trained_s"], state["begun"]

    def _fill(self, network: DepthNetwork, weights: dict[str, Tensor], file: Path) -> None:
        try:
            network.load_state_dict(weights)
        except RuntimeError:
            raise WeightsError(
                f"{file} belongs to a network of another size than {self._settings.size!r}; give the --size "
                "that is in its run's config.json, or another file or folder"
            ) from None

    def _told(self) -> str:
        """How the weights came to be what they are, for their card."""
        place = torch.cuda.get_device_name() if self.device.type == "cuda" else "a CPU"
        length = (
            f"{self.trained_s / 3600:.1f} hours"
            if self.trained_s > 3600
            else f"{self.trained_s / 60:.0f} minutes"
        )
        own = f"{self.step} steps of {self._settings.batch} pairs, {length} on {place}"
        return f"{self._before}; then {own}" if self._before else own


def tensors(batch: Batch, device: torch.device) -> tuple[Tensor, Truth]:
    """Images N 3 H W in [0, 1], channels last in memory, and the truth, on the device."""
    images, inverse_depth, matte, known = (part.to(device, non_blocking=True) for part in batch)
    return images.permute(0, 3, 1, 2).float() / 255, Truth(inverse_depth.log(), matte, known)


def learning_rate(settings: DepthSettings, step: int) -> float:
    """Up, level, and down to nothing over the last part: what is learnt on the level does not depend on how
    long it is, so a run may be made longer or shorter on resuming."""
    rising = (step + 1) / WARMUP_STEPS
    falling = (settings.steps - step) / (DECAY_SHARE * settings.steps)
    return settings.learning_rate * min(1.0, rising, falling)


def photos_note(folder: str | None) -> str:
    """What a card says of the photos: their README.md, which names their origin and licence."""
    if folder is None:
        return "nothing else"
    readme = Path(folder) / "README.md"
    if not readme.is_file():
        return f"as backdrops of some people, the photos of `{folder}`"
    return "as backdrops of some people, " + " ".join(readme.read_text(encoding="utf-8").split())


class _Log:
    """Averages since the last line, and the lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[dict[str, float]] = []
        self._seconds: list[float] = []
        self.loss = math.nan

    def add(self, losses: dict[str, float], seconds: float) -> None:
        self._rows.append(losses)
        self._seconds.append(seconds)

    def write(self, run: DepthRun, settings: DepthSettings) -> None:
        means = {name: float(np.mean([row[name] for row in self._rows])) for name in self._rows[0]}
        self.loss = means["total"]
        seconds_per_step = float(np.mean(self._seconds))
        self._append(
            {
                "step": run.step,
                "trained_s": round(run.trained_s),
                "scenes": run.scenes,
                "learning_rate": learning_rate(settings, run.step - 1),
                "pictures_per_s": 2 * settings.batch / seconds_per_step,
                **means,
            }
        )
        self._rows.clear()
        self._seconds.clear()

    def write_scores(self, step: int, scores: DepthScores) -> None:
        self._append({"step": step, "heldout": scores.as_dict()})

    def _append(self, row: dict[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def _groups(network: DepthNetwork) -> list[dict[str, Any]]:
    """Weights are drawn to zero; offsets and scales are not. ``times`` is of the learning rate."""
    encoder = {id(p) for p in network.encoder.parameters()}
    groups = []
    for is_encoder, is_weight in itertools.product((False, True), repeat=2):
        parameters = [
            p
            for p in network.parameters()
            if p.requires_grad and (id(p) in encoder) is is_encoder and (p.ndim > 1) is is_weight
        ]
        decay, times = WEIGHT_DECAY if is_weight else 0.0, ENCODER_RATE if is_encoder else 1.0
        groups.append({"params": parameters, "weight_decay": decay, "times": times})
    return groups


def _write_text(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
