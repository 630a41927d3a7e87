from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.model.camera_encoder import plucker_rays
from engine.model.codecs import make_codec
from engine.model.config import SIZES, ModelConfig
from engine.train.batches import Collator, Dropped, TeacherBatch, examples
from engine.train.clips import ClipSettings, Example, example, spoiled_truth

HINTED = replace(SIZES["tiny"], head="mixture", hint_channels=2 * 48 + 16, guide_channels=16)


@pytest.fixture
def clips(scenes: Path) -> ClipSettings:
    return ClipSettings(data=scenes, split="train", size=(32, 24), frames=4, stride=2, seed=3, hints=False)


def collator(
    config: ModelConfig = SIZES["tiny"], *, shift: float = 1.0, dropped: Dropped | None = None
) -> Collator:
    return Collator(
        config,
        make_codec(config),
        device=torch.device("cpu"),
        seed=5,
        shift=shift,
        dropped=dropped or Dropped(),
    )


def hinted(index: int) -> Example:
    rng = np.random.default_rng(index)
    pictures = rng.integers(0, 256, (4, 4, 24, 32, 3), dtype=np.uint8)
    return Example(
        index=index,
        source=pictures[:, 0],
        target=pictures[:, 1],
        poses=np.tile(np.eye(3, 4, dtype=np.float32), (4, 1, 1)),
        lenses=np.tile(np.array([1.0, 1.3, 0.5, 0.5], np.float32), (4, 1)),
        hints=pictures[:, 2:],
        seen=rng.integers(0, 256, (4, 24, 32), dtype=np.uint8),
    )


def test_a_batch_holds_what_the_clip_holds(clips: ClipSettings) -> None:
    made = [example(clips, index) for index in (7, 8)]
    batch = collator()([*made])
    codec = make_codec(SIZES["tiny"])
    for row, one in enumerate(made):
        for latents, pictures in ((batch.conditions.source, one.source), (batch.target, one.target)):
            video = codec.decode(latents[row : row + 1])[0]
            back = ((video + 1) * 127.5).round().byte().movedim(1, -1).numpy()
            np.testing.assert_array_equal(back, pictures)
        rays = plucker_rays(torch.from_numpy(one.poses), torch.from_numpy(one.lenses), 6, 8)
        assert batch.conditions.rays is not None
        torch.testing.assert_close(batch.conditions.rays[row], rays)
    assert (np.abs(made[0].poses[:, 0, 3]) > 0.1).all()  # the cameras stand apart


def test_hints_are_folded_as_pictures_with_what_was_seen_behind_them() -> None:
    one = hinted(0)
    assert one.hints is not None and one.seen is not None
    hints = collator(HINTED)([one]).conditions.hints
    assert hints is not None and hints.shape == (1, 4, 112, 6, 8)
    codec = make_codec(HINTED)
    for number in range(2):
        video = codec.decode(hints[:, :, 48 * number : 48 * (number + 1)])[0]
        np.testing.assert_array_equal(
            ((video + 1) * 127.5).round().byte().movedim(1, -1).numpy(), one.hints[:, number]
        )
    seen = torch.nn.functional.pixel_shuffle(hints[0, :, 96:], 4)[:, 0]
    np.testing.assert_allclose(seen.numpy(), one.seen / 255, atol=1e-6)


def test_a_samples_noise_is_its_own_whoever_is_beside_it() -> None:
    both, alone = collator()([hinted(4), hinted(9)]), collator()([hinted(9)])
    assert torch.equal(both.noise[1:], alone.noise)
    assert torch.equal(both.sigma[1:], alone.sigma)
    assert not torch.equal(both.noise[0], both.noise[1])


def test_noise_levels_follow_the_shift_and_never_are_nothing() -> None:
    def levels(shift: float) -> torch.Tensor:
        return torch.cat([collator(shift=shift)([hinted(index)]).sigma for index in range(200)])

    plain, high = levels(1.0), levels(5.0)
    assert plain.min() > 0 and high.max() <= 1
    torch.testing.assert_close(high, 5 * plain / (1 + 4 * plain))
    assert 0.4 < plain.mean() < 0.6


def dropped_batches(dropped: Dropped) -> list[TeacherBatch]:
    collate = collator(HINTED, dropped=dropped)
    return [collate([hinted(index)]) for index in range(40)]


def test_a_source_that_is_withheld_shows_in_no_hint_and_as_often_as_asked() -> None:
    without = [batch for batch in dropped_batches(Dropped(source=0.4)) if not batch.conditions.source.any()]
    assert 8 <= len(without) <= 24
    for batch in without:
        assert batch.conditions.hints is not None and not batch.conditions.hints.any()
        assert batch.conditions.rays is not None and batch.conditions.rays.any()
        assert batch.target.any()


def test_a_camera_that_is_withheld_shows_in_no_ray_and_no_hint() -> None:
    for batch in dropped_batches(Dropped(camera=1.0)):
        assert batch.conditions.rays is not None and not batch.conditions.rays.any()
        assert batch.conditions.hints is not None and not batch.conditions.hints.any()
        assert batch.conditions.source.any()


def test_workers_make_the_same_examples_in_the_same_order_and_end(clips: ClipSettings) -> None:
    def made(workers: int) -> list[list[Example]]:
        lists = ([2 * step, 2 * step + 1] for step in count())
        found = examples(lambda index: clips, lists, lambda index: None, workers)
        some = [next(found) for _ in range(3)]
        found.close()  # type: ignore[attr-defined]
        return some

    for ours, theirs in zip(made(0), made(1), strict=True):
        assert [one.index for one in ours] == [one.index for one in theirs]
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a.source, b.source)
            np.testing.assert_array_equal(a.poses, b.poses)


def test_a_spoiled_depth_is_wrong_by_a_little_and_smoothly() -> None:
    truth = np.full((3, 24, 32), 0.5, np.float32)
    spoiled = np.stack(list(spoiled_truth(truth, 11)))
    error = np.log(spoiled / truth)
    assert 0.03 < np.abs(error).mean() < 0.3
    assert np.abs(np.diff(error, axis=2)).max() < 0.1
    np.testing.assert_array_equal(error[0], error[2])
    np.testing.assert_array_equal(spoiled, np.stack(list(spoiled_truth(truth, 11))))
