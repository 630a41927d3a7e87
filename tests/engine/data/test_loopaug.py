"""Plans of clips that come back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.data.loopaug import SAME_VIEW, Plan, closed_walk, excursions, loop, straight
from engine.data.pairs import PairDataset

SIZE = (28, 16)


@pytest.mark.parametrize(("length", "stride", "recorded"), [(3, 1, 2), (16, 1, 81), (15, 4, 81), (49, 1, 30)])
def test_a_walk_ends_where_it_began_in_steps_of_the_stride(length, stride, recorded):
    rng = np.random.default_rng(0)
    for _ in range(200):
        home = int(rng.integers(recorded))
        if home < stride and home + stride >= recorded:
            continue
        walk = closed_walk(rng, home=home, length=length, stride=stride, recorded=recorded)
        assert len(walk) == length
        assert walk[0] == walk[-1] == home
        assert min(walk) >= 0
        assert max(walk) < recorded
        assert set(np.abs(np.diff(walk))) <= {0, stride}
        assert len(set(walk)) > 1, "it never left"


def test_walks_differ_in_turning_points_direction_and_dwell():
    rng = np.random.default_rng(1)
    walks = [closed_walk(rng, home=40, length=16, stride=1, recorded=81) for _ in range(300)]
    assert {max(walk) - 40 for walk in walks} >= set(range(8))
    assert {40 - min(walk) for walk in walks} >= set(range(8))
    assert any(np.count_nonzero(np.diff(walk)) == 15 - 1 for walk in walks), "none without dwelling"
    assert any(np.count_nonzero(np.diff(walk)) < 9 for walk in walks), "none that dwells"
    assert any(40 in walk[4:-4] and len(set(walk[2:6]) | set(walk[-6:-2])) > 3 for walk in walks), (
        "none twice"
    )


@pytest.mark.parametrize("wrong", [{"length": 2}, {"recorded": 4}, {"home": 81}])
def test_a_walk_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError):
        closed_walk(np.random.default_rng(0), **{"home": 0, "length": 9, "stride": 4, "recorded": 81} | wrong)


def test_excursions_lie_between_visits_to_one_meeting_and_do_not_overlap():
    meets = np.zeros(10, bool)
    meets[[3, 5]] = True
    assert excursions([3, 4, 5, 6, 6, 5, 4, 3, 3, 2, 3], meets) == [(2, 5), (8, 10)]
    assert excursions([3, 3, 4], meets) == []


def test_the_target_changes_camera_only_where_both_have_the_same_view():
    rng = np.random.default_rng(2)
    meetings = np.zeros((4, 81), bool)
    meetings[1] = True  # the target is always where it is itself
    meetings[2, [10, 40, 41]] = True
    changes, homes = set(), set()
    for _ in range(200):
        plan = loop(rng, source=0, target=1, frames=16, stride=1, recorded=81, meetings=meetings)
        assert plan.targets[0] == plan.targets[-1] == 1
        assert plan.frames[0] == plan.frames[-1]
        homes.add(plan.frames[0])
        for k in range(1, 16):
            if plan.targets[k] != plan.targets[k - 1]:
                assert {plan.targets[k], plan.targets[k - 1]} == {1, 2}
                staying = k - 1 if plan.targets[k] == 2 else k
                assert meetings[2, plan.frames[staying]]
                changes.add(plan.frames[staying])
    assert changes == {10, 40, 41}
    assert len(homes) > 40, "loops begin anywhere, not only where cameras meet"


def test_a_straight_plan_is_one_pair_of_cameras_forwards_in_time():
    assert straight(0, 2, 5, 4, 3) == Plan(0, (2, 2, 2, 2), (5, 8, 11, 14))


def test_a_loop_clip_ends_with_the_very_pictures_poses_and_lenses_it_began_with(rendered_root: Path):
    dataset = PairDataset(rendered_root, "train", SIZE, 9, 1, seed=3, loop_share=1.0, depth=True)
    switched = 0
    for index in range(24):
        clip = dataset.sample(index)
        for video in (clip.source, clip.target, clip.source_inverse_depth):
            np.testing.assert_array_equal(video[0], video[-1])
        for values in (clip.poses, clip.source_intrinsics, clip.target_intrinsics):
            assert values[0] == values[-1]
        assert any(np.any(frame != clip.source[0]) for frame in clip.source[1:-1])
        switched += len(set(clip.plan.targets)) > 1
    assert switched >= 3


def test_a_change_of_camera_is_no_jump_of_the_pose(rendered_root: Path):
    dataset = PairDataset(rendered_root, "train", SIZE, 12, 1, seed=5, loop_share=1.0)
    clips = [clip for clip in map(dataset.sample, range(24)) if len(set(clip.plan.targets)) > 1]
    assert clips
    for clip in clips:
        places = np.array([pose.translation for pose in clip.poses])
        assert np.linalg.norm(np.diff(places, axis=0), axis=1).max() < 0.1 + SAME_VIEW
