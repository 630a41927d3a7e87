"""Trains the depth network on rendered scenes: what a step learns from, and how a run becomes a file.

Knows nothing of how scenes are rendered, what the losses mean, or how a loop goes on where it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.engines.base import Progress
from engine.errors import ConfigError, DataError, WeightsError
from engine.frames import Pixels
from engine.geometry.depth_network import SIZES, DepthMaps, DepthNetwork, Inference
from engine.model.weight_files import open_weights
from engine.train.clips import HELDOUT, TRAIN
from engine.train.depth_data import BlockPlan, Views, depth_scenes, held_out_pairs, read_block
from engine.train.depth_export import Exported, export_onnx, write_card
from engine.train.depth_losses import Truth, depth_losses, total
from engine.train.depth_pretrained import begin_with_photographs
from engine.train.depth_supply import Batch, BlockRecipe, DepthSupply
from engine.train.depth_validation import DepthScores, Infer, score
from engine.train.distributed import World, joined_world
from engine.train.loop import LoopSettings, Part, Run
from engine.train.run_folder import CONFIG, alone_in, check_same_run
from engine.train.scenes import NAME, SceneList

NETWORK = "depth"
CAMERAS_JUDGED = 2  # of each held-out scene
PAIRS_JUDGED = 4  # of each such camera
SHOWN = 4  # of the pairs judged, in a strip
CALIBRATION = BlockPlan(clips=40, pairs_per_clip=2)
WEIGHT_DECAY = 0.02
ENCODER_RATE = 0.3  # of the learning rate: it has learnt already
SIZE, PAIRS, DEVICE, BEFORE = "size", "pairs", "device", "before"  # in the metadata of a run's weights


@dataclass(frozen=True, kw_only=True, slots=True)
class DepthSettings:
    """``data`` has the folders train and heldout; ``photos`` is a folder of pictures without people, to set
    people before, with a README.md that names their origin. A step's batch counts pairs of neighbouring
    frames, which ``workers`` processes make ahead; 0: this one makes them. ``weights`` are another run's
    average, to begin with.
    """

    data: Path
    loop: LoopSettings
    size: str = "small"
    learning_rate: float = 1e-3
    seed: int = 0
    photos: Path | None = None
    weights: Path | None = None
    block: BlockPlan = field(default_factory=BlockPlan)
    validation_scenes: int = 40
    threads: int = 1
    workers: int = 1

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise ValueError(f"the size of a depth network is one of {', '.join(SIZES)}, not {self.size!r}")
        if self.loop.batch > self.block.pairs:
            raise ValueError(f"a batch has 1 to {self.block.pairs} pairs, a block's, not {self.loop.batch}")


def train_depth(settings: DepthSettings, progress: Progress) -> DepthScores | None:
    """Until the loop's end; goes on with the run that is in its folder. At the end, writes ``depth.onnx`` and
    its card there and returns how good it is; None if it was interrupted.
    """
    torch.set_num_threads(settings.threads)
    out = settings.loop.out
    with joined_world(settings.loop.precision) as world, alone_in(out):
        if world.size > 1 or settings.loop.accumulate > 1:
            raise ConfigError("the depth network is small: it is trained by one process, in whole batches")
        check_same_run(settings, out)
        if not Run(DepthTask(settings, world), settings.loop, world).train(progress):
            return None
        return export_depth(out, out, progress)


def export_depth(run: Path, folder: Path, progress: Progress = lambda share, what: None) -> DepthScores:
    """A run's averaged weights → ``depth.onnx`` and ``depth.md`` in ``folder``."""
    progress(1.0, "exporting")
    weights = open_weights(run / f"{NETWORK}.safetensors")
    written = json.loads((run / CONFIG).read_text(encoding="utf-8"))
    data, size = Path(written["data"]), weights.metadata[SIZE]
    network = DepthNetwork(SIZES[size])
    network.load_state_dict(weights.tensors)
    file = folder / "depth.onnx"
    export_onnx(network, file, _calibration(data, network.size, written["seed"]))
    scores = score(Exported(file), judged_pairs(data, network.size, written["validation_scenes"]))
    facts = {
        "size": size,
        "training": history(weights.metadata),
        "scenes": str(len(SceneList(run / NAME))),
        "photos": photos_note(written["photos"]),
    }
    write_card(folder / "depth.md", file, facts, scores)
    return scores


def judged_pairs(data: Path, size: tuple[int, int], most_scenes: int) -> list[Views]:
    """Of held-out scenes, the same ones each time."""
    scenes = depth_scenes(data, HELDOUT)
    if not scenes:
        raise DataError(f"{data} has no finished scene with depth in heldout; render some")
    some = scenes[:: -(-len(scenes) // most_scenes)]
    return list(held_out_pairs(data, some, CAMERAS_JUDGED, PAIRS_JUDGED, size))


def history(metadata: Mapping[str, str]) -> str:
    """How a run's weights came to be what they are, for their card."""
    hours = float(metadata["hours"])
    length = f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes"
    own = f"{metadata['steps']} steps of {metadata[PAIRS]} pairs, {length} on {metadata[DEVICE]}"
    return f"{metadata[BEFORE]}; then {own}" if BEFORE in metadata else own


def photos_note(folder: str | None) -> str:
    """What a card says of the photos: their README.md, which names their origin and licence."""
    if folder is None:
        return "nothing else"
    readme = Path(folder) / "README.md"
    if not readme.is_file():
        return f"as backdrops of some people, the photos of `{folder}`"
    return "as backdrops of some people, " + " ".join(readme.read_text(encoding="utf-8").split())


def _calibration(data: Path, size: tuple[int, int], seed: int) -> Iterator[Tensor]:
    """Pictures of training scenes, 1 3 H W, as they are."""
    for pair in read_block(data, depth_scenes(data, TRAIN), CALIBRATION, size, seed, 0):
        yield torch.from_numpy(pair.images[:1]).permute(0, 3, 1, 2).float() / 255


class DepthTask:
    """The loop's :class:`~engine.train.loop.Task`."""

    def __init__(self, settings: DepthSettings, world: World) -> None:
        self._settings, self._world = settings, world
        config = SIZES[settings.size]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.network = DepthNetwork(config)
        self._frozen = begin_with_photographs(self.network) if config.pretrained else []
        on_gpu = world.device.type == "cuda"
        metadata = {
            SIZE: settings.size,
            PAIRS: str(settings.loop.batch),
            DEVICE: f"an {torch.cuda.get_device_name()}" if on_gpu else "a CPU",
        }
        if settings.weights is not None:
            metadata[BEFORE] = self._begin_with(settings.weights)
        self.network.to(world.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.parts: Mapping[str, Part] = {
            NETWORK: Part(
                model=self.network,
                learning_rate=settings.learning_rate,
                betas=(0.9, 0.999),
                weight_decay=WEIGHT_DECAY,
                rates={"encoder.": ENCODER_RATE},
                metadata=metadata,
            )
        }
        self._judged: list[Views] | None = None

    def part_at(self, step: int) -> str:
        return NETWORK

    def batches(self, samples: Iterator[list[int]]) -> Iterator[Batch]:
        settings = self._settings
        recipe = BlockRecipe(
            data=settings.data,
            size=self.network.size,
            plan=settings.block,
            batch=settings.loop.batch,
            seed=settings.seed,
            photos=settings.photos,
        )
        first = next(samples)
        supply = DepthSupply(recipe, settings.loop.out, settings.workers)
        with closing(supply.batches(first[0] // settings.loop.batch)) as made:
            for _, batch in zip(chain([first], samples), made, strict=False):
                yield batch

    def loss(self, part: str, batch: Batch) -> dict[str, Tensor]:
        images, truth = tensors(batch, self._world.device)
        self.network.train()
        for module in self._frozen:
            module.eval()
        with self._world.precision():
            maps = self.network(images)
        losses = depth_losses(DepthMaps(*(part.float() for part in maps)), truth)
        return {"loss": total(losses), **losses}

    def look(self) -> tuple[dict[str, float], Pixels]:
        """The scores on held-out scenes; a strip: picture, inverse depth and the true one."""
        settings = self._settings
        if self._judged is None:
            self._judged = judged_pairs(settings.data, self.network.size, settings.validation_scenes)
        infer = Inference(self.network).to("cpu").eval()
        scores = score(infer, self._judged).as_dict()
        rows = [_strip(infer, pair) for pair in self._judged[:: -(-len(self._judged) // SHOWN)]]
        return {f"heldout/{name}": value for name, value in scores.items()}, np.concatenate(rows)

    def saved(self, step: int) -> None:
        """New scenes join whenever a block is begun."""

    def _begin_with(self, file: Path) -> str:
        """Another run's weights; returns their history."""
        begun = open_weights(file)
        try:
            self.network.load_state_dict(begun.tensors)
            return history(begun.metadata)
        except (RuntimeError, KeyError):
            raise WeightsError(
                f"{file} is not a depth network of the size {self._settings.size!r}: give --weights the "
                f"{NETWORK}.safetensors of a run of that size"
            ) from None


def tensors(batch: Batch, device: torch.device) -> tuple[Tensor, Truth]:
    """Images N 3 H W in [0, 1], channels last in memory, and the truth, on the device."""
    images, inverse_depth, matte, known = (part.to(device, non_blocking=True) for part in batch)
    return images.permute(0, 3, 1, 2).float() / 255, Truth(inverse_depth.log(), matte, known)


def _strip(infer: Infer, pair: Views) -> Pixels:
    """Of its first frame, H 3·W 3. Both depths are drawn in the truth's range."""
    image, truth = pair.images[0], pair.inverse_depth()[0]
    with torch.inference_mode():
        made = infer(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)[0][0].numpy()
    made = made * (np.median(truth) / np.median(made))
    grey = [np.clip(255 * one / truth.max(), 0, 255).astype(np.uint8) for one in (made, truth)]
    return np.concatenate([image, *(np.repeat(one[..., None], 3, -1) for one in grey)], axis=1)
