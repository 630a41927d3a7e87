"""Pairs of clips, and what augmentation may and may not change about them."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.data.augment import Augmentation, change_colours, spoil, through_h264, through_jpeg
from engine.data.pairs import Clip, PairDataset, mirrored
from engine.errors import DataError

SIZE = (56, 32)
NOTHING = Augmentation(
    gain_stops=0,
    white_balance=0,
    gamma=0,
    saturation=0,
    blur_px=0,
    noise=0,
    compression_share=0,
    mirror_share=0,
)


@pytest.fixture
def pairs(rendered_root: Path):
    def make(**settings) -> PairDataset:
        return PairDataset(rendered_root, "train", SIZE, 5, 2, **{"seed": 7, "depth": True} | settings)

    return make


@pytest.fixture
def worst_psnr(reprojection_psnr):
    def worst(clip: Clip) -> float:
        assert clip.source_inverse_depth is not None
        return min(
            reprojection_psnr(*values)
            for values in zip(
                clip.source,
                clip.target,
                clip.source_inverse_depth,
                clip.poses,
                clip.source_intrinsics,
                clip.target_intrinsics,
                strict=True,
            )
        )

    return worst


def same(a: Clip, b: Clip) -> bool:
    return (
        np.array_equal(a.source, b.source)
        and np.array_equal(a.target, b.target)
        and (a.poses, a.plan, a.scene) == (b.poses, b.plan, b.scene)
        and (a.source_intrinsics, a.target_intrinsics) == (b.source_intrinsics, b.target_intrinsics)
    )


def test_a_clip_has_the_shapes_it_promises(pairs):
    clip = pairs(matte=True).sample(0)
    assert clip.source.shape == clip.target.shape == (5, 32, 56, 3)
    assert clip.source_inverse_depth.shape == clip.source_matte.shape == (5, 32, 56)
    assert set(np.unique(clip.source_matte)) >= {0, 255}
    assert len(clip.poses) == len(clip.source_intrinsics) == len(clip.target_intrinsics) == 5
    np.testing.assert_array_equal(clip.subject_distance_m, np.full(5, 3.5, np.float32))
    assert np.all(np.diff(clip.plan.frames) == 2)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"packed": False},
        {"loop_share": 1.0},
        {"augmentation": replace(NOTHING, mirror_share=1.0)},
        {"augmentation": replace(NOTHING, crop_share=1.0), "packed": False},
        {"augmentation": replace(NOTHING, crop_share=1.0, mirror_share=0.5)},
    ],
    ids=["packed", "decoded", "loop", "mirrored", "cropped", "cropped when packed"],
)
def test_the_source_is_found_in_the_target_where_the_geometry_says(settings, pairs, worst_psnr):
    dataset = pairs(**settings)
    for index in range(6):
        assert worst_psnr(dataset.sample(index)) >= 33


def test_the_same_pictures_with_the_wrong_geometry_are_not_found(pairs, worst_psnr):
    clips = [
        clip
        for clip in map(pairs().sample, range(8))
        if set(clip.plan.targets) | {clip.plan.source} == {0, 2}
    ]
    assert clips
    for clip in clips:
        assert worst_psnr(clip) >= 33
        assert worst_psnr(replace(clip, poses=mirrored(clip).poses)) < 25
        assert worst_psnr(replace(clip, source=clip.source[::-1])) < 30


def test_cropping_and_mirroring_keep_the_targets_lens_the_sources_but_for_the_zoom(pairs):
    dataset = pairs(augmentation=replace(NOTHING, crop_share=1.0, mirror_share=0.5))
    for clip in map(dataset.sample, range(8)):
        for pose, source, target in zip(
            clip.poses, clip.source_intrinsics, clip.target_intrinsics, strict=True
        ):
            zoomed = source.zoomed(pose.zoom)
            np.testing.assert_allclose(
                [zoomed.fx, zoomed.fy, zoomed.cx, zoomed.cy], [target.fx, target.fy, target.cx, target.cy]
            )


def test_mirroring_twice_changes_nothing(pairs):
    clip = pairs(matte=True).sample(1)
    twice = mirrored(mirrored(clip))
    assert same(clip, twice)
    np.testing.assert_array_equal(twice.source_inverse_depth, clip.source_inverse_depth)


def test_light_changes_alike_on_source_and_target_and_spoils_only_the_source(pairs):
    alike = pairs(
        identity_share=1.0, augmentation=replace(Augmentation(), blur_px=0, noise=0, compression_share=0)
    )
    spoilt = pairs(identity_share=1.0, augmentation=Augmentation())
    for index in range(6):
        one, other = alike.sample(index), spoilt.sample(index)
        np.testing.assert_array_equal(one.source, one.target)
        np.testing.assert_array_equal(other.target, one.target)
        assert np.any(other.source != other.target)


def test_no_change_at_all_is_no_change(pairs):
    assert same(pairs(augmentation=NOTHING).sample(2), pairs().sample(2))


def test_colours_move_but_stay_near(pairs):
    video = pairs().sample(0).source
    for seed in range(8):
        (changed,) = change_colours(Augmentation(), [video], np.random.default_rng(seed))
        assert changed.dtype == np.uint8
        assert 0.5 < np.abs(changed.astype(float) - video).mean() < 60


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def test_compression_is_real_and_worse_where_asked(pairs):
    video = pairs().sample(0).source
    jpeg = [psnr(through_jpeg(video, quality), video) for quality in (10, 90)]
    h264 = [psnr(through_h264(video, factor), video) for factor in (42, 20)]
    for bad, good in (jpeg, h264):
        assert 18 < bad < good - 3 < 60


def test_a_spoilt_source_is_still_the_source(pairs):
    video = pairs().sample(0).source
    for seed in range(8):
        assert psnr(spoil(Augmentation(), video, np.random.default_rng(seed)), video) > 22


def test_a_clip_depends_on_seed_and_index_alone(pairs):
    settings = {"augmentation": Augmentation(), "loop_share": 0.5, "typical_move": 0.3}
    first, second = pairs(**settings), pairs(**settings)
    clips = [first.sample(index) for index in range(6)]
    assert all(same(second.sample(index), clips[index]) for index in reversed(range(6)))
    assert not any(same(clips[0], clip) for clip in clips[1:])
    assert not same(pairs(**settings, seed=8).sample(0), clips[0])


def test_near_targets_are_preferred_when_asked(pairs):
    def mean_move(dataset: PairDataset) -> float:
        ways = [np.linalg.norm(pose.translation) for i in range(60) for pose in dataset.sample(i).poses]
        return float(np.mean(ways))

    assert mean_move(pairs(typical_move=0.05)) < 0.7 * mean_move(pairs())


def test_every_camera_is_source_and_target_but_never_both_unless_asked(pairs):
    seen = Counter((clip.plan.source, clip.plan.targets[0]) for clip in map(pairs().sample, range(150)))
    assert set(seen) == {(a, b) for a in range(4) for b in range(4) if a != b}
    clip = pairs(identity_share=1.0).sample(0)
    np.testing.assert_array_equal(clip.source, clip.target)
    assert all(pose.translation == pytest.approx((0, 0, 0), abs=1e-9) for pose in clip.poses)


def test_small_pictures_are_kept_in_a_cache_and_big_ones_are_decoded(published_root, tmp_path):
    shutil.copytree(published_root, root := tmp_path / "data")
    PairDataset(root, "train", (512, 288), 4, 1, seed=0).sample(0)
    assert not (root / ".cache").exists()
    PairDataset(root, "train", SIZE, 4, 1, seed=0).sample(0)
    assert list((root / ".cache").rglob("colour.npy"))


@pytest.mark.parametrize(
    "wrong", [{"loop_share": 1.1}, {"typical_move": 0.0}, {"identity_share": -0.1}, {"seed": -1}]
)
def test_settings_that_make_no_sense_are_refused(pairs, wrong):
    with pytest.raises(ValueError):
        pairs(**wrong)


def test_a_root_without_scenes_and_a_recording_too_short_are_reported(rendered_root, tmp_path):
    with pytest.raises(DataError, match="no finished scene"):
        PairDataset(tmp_path, "train", SIZE, 5, 1, seed=0)
    with pytest.raises(DataError, match=r"16 frames.*needs 2 and 17"):
        PairDataset(rendered_root, "train", SIZE, 5, 4, seed=0).sample(0)
