from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engine.model.codec import PixelCodec
from engine.model.config import SIZES
from engine.train.batches import Collator, Dropped
from engine.train.clips import ClipSettings, example
from engine.train.latent_cache import LatentCache, encoded

CPU = torch.device("cpu")


class Counting(PixelCodec):
    """With a weight, as a codec that is a network has, and a note of the clips that it was given."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__(4)
        self.weight = nn.Parameter(torch.tensor(weight), requires_grad=False)
        self.clips = 0

    def encode(self, video: Tensor) -> Tensor:
        self.clips += len(video)
        return super().encode(video)


def clips(count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 3, 8, 12, 3), np.uint8)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_clip_is_encoded_once(tmp_path: Path) -> None:
    codec = Counting()
    first = LatentCache(codec, tmp_path).encode(clips(), CPU)
    assert codec.clips == 2
    np.testing.assert_allclose(first, encoded(Counting(), clips(), CPU), atol=1e-3)
    again = LatentCache(codec, tmp_path).encode(np.concatenate([clips()[1:], clips(3)[2:]]), CPU)
    assert codec.clips == 3
    assert torch.equal(again[0], first[1])


def test_what_another_codec_made_is_not_taken(tmp_path: Path) -> None:
    LatentCache(Counting(), tmp_path).encode(clips(), CPU)
    other = Counting(weight=2.0)
    LatentCache(other, tmp_path).encode(clips(), CPU)
    assert other.clips == 2
    assert len(files(tmp_path)) == 4


@pytest.mark.parametrize("content", [b"", b"not latents"])
def test_a_damaged_file_is_made_anew(content: bytes, tmp_path: Path) -> None:
    codec = Counting()
    first = LatentCache(codec, tmp_path).encode(clips(1), CPU)
    files(tmp_path)[0].write_bytes(content)
    for made in (2, 2):
        assert torch.equal(LatentCache(codec, tmp_path).encode(clips(1), CPU), first)
        assert codec.clips == made


def test_batches_of_kept_latents_are_the_same_batches(scenes: Path, tmp_path: Path) -> None:
    settings = ClipSettings(
        data=scenes, split="train", size=(32, 24), frames=4, stride=2, seed=3, hints=False
    )
    made = [example(settings, index) for index in (7, 8)]
    batches = []
    for latents in (None, tmp_path, tmp_path):
        codec = Counting()
        collate = Collator(
            SIZES["tiny"], codec, device=CPU, seed=5, shift=1.0, dropped=Dropped(), latents=latents
        )
        batches.append(collate([*made]))
    plain, first, again = batches
    assert codec.clips == 0
    assert torch.equal(first.target, again.target)
    assert torch.equal(first.noise, plain.noise)
    np.testing.assert_allclose(first.conditions.source, plain.conditions.source, atol=1e-3)
