"""Camera paths: where they begin, how far they go, that loops close, and that they keep out of things."""

import math

import numpy as np
import pytest

from engine.data.scenes.paths import FAMILIES, Flight, draw, flights, fly
from engine.data.splits import SPLITS, scene_generator

FRAMES = 31
DISTANCE_M = 1.6
LOOPS = ("loop", "view-loop", "glance", "there-and-back", "figure-eight")
STILL = ("hold", "tripod")


def flight_of(family: str, seed: int, base: np.ndarray | None = None) -> Flight:
    base = np.eye(4) if base is None else base
    path = draw(np.random.default_rng(seed), family, DISTANCE_M, FRAMES)
    return fly(path, base, DISTANCE_M)


def turned(pose: np.ndarray) -> float:
    """The angle of a rotation, in radians."""
    return math.acos(np.clip((np.trace(pose[:3, :3]) - 1) / 2, -1, 1))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_path_begins_at_the_common_view_and_is_rigid_and_smooth(family: str) -> None:
    for seed in range(5):
        flight = flight_of(family, seed)
        poses = flight.camera_to_world
        np.testing.assert_allclose(poses[0], np.eye(4), atol=1e-9)
        assert flight.zoom[0] == pytest.approx(1.0)
        rotations = poses[:, :3, :3]
        np.testing.assert_allclose(
            rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (FRAMES, 1, 1)), atol=1e-9
        )
        steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
        assert steps.max() < 0.35 * 81 / FRAMES
        assert flight.zoom.min() > 0.4 and flight.zoom.max() < 2.2


@pytest.mark.parametrize("family", LOOPS)
def test_a_loop_leaves_rests_and_comes_back_exactly(family: str) -> None:
    for seed in range(5):
        flight = flight_of(family, seed)
        np.testing.assert_array_equal(flight.camera_to_world[-1], flight.camera_to_world[0])
        assert flight.zoom[-1] == flight.zoom[0]
        away = [turned(pose) + np.linalg.norm(pose[:3, 3]) for pose in flight.camera_to_world]
        assert max(away) > 0.05


@pytest.mark.parametrize(
    ("family", "low_deg", "high_deg"),
    [("pan", 5, 20), ("wide-pan", 15, 50), ("tilt", 5, 30), ("arc", 5, 20), ("wide-arc", 15, 75)],
)
def test_turns_stay_within_multicamvideos_ranges(family: str, low_deg: float, high_deg: float) -> None:
    for seed in range(20):
        angle = math.degrees(turned(flight_of(family, seed).camera_to_world[-1]))
        assert low_deg - 1e-6 <= angle <= high_deg + 1e-6


@pytest.mark.parametrize("family", ["wide-slide", "wide-crane"])
def test_wide_translations_are_a_quarter_to_all_of_the_subjects_distance(family: str) -> None:
    for seed in range(20):
        way = np.linalg.norm(flight_of(family, seed).camera_to_world[-1][:3, 3])
        assert 0.25 * DISTANCE_M <= way <= 1.3 * DISTANCE_M


def test_an_arc_keeps_its_distance_from_the_subject_and_looks_at_it() -> None:
    for seed in range(10):
        subject = np.array([0.0, 0.0, DISTANCE_M, 1.0])
        for pose in flight_of("wide-arc", seed).camera_to_world:
            seen = np.linalg.inv(pose) @ subject
            np.testing.assert_allclose(seen[:3], [0, 0, DISTANCE_M], atol=1e-9)


def test_pure_turns_and_zooms_do_not_move_the_camera() -> None:
    for family in ("pan", "tilt", "zoom", "diagonal", "glance", "punch-in"):
        assert np.abs(flight_of(family, 3).camera_to_world[:, :3, 3]).max() == 0.0


def test_a_zoom_changes_the_focal_length_and_nothing_else() -> None:
    flight = flight_of("zoom", 4)
    np.testing.assert_array_equal(flight.camera_to_world, np.tile(np.eye(4), (FRAMES, 1, 1)))
    assert abs(math.log(flight.zoom[-1])) > 0.09


@pytest.mark.parametrize("split", SPLITS.values(), ids=lambda split: split.name)
def test_most_cameras_of_a_split_move_as_a_live_show_does(split) -> None:
    small = total = 0
    for number in range(12):
        chance = scene_generator(split, number, 1)
        for flight in flights(split, chance, np.eye(4), DISTANCE_M, FRAMES, 10, lambda places: True):
            assert flight.family in split.families
            way = np.linalg.norm(flight.camera_to_world[:, :3, 3], axis=1).max()
            angle = max(turned(pose) for pose in flight.camera_to_world)
            small += bool(way <= 0.55 and angle <= math.radians(25))
            total += 1
    assert small / total > 0.7


def test_a_path_that_would_leave_the_free_space_is_shortened() -> None:
    def clear(places: np.ndarray) -> bool:
        return bool((np.abs(places) <= 0.3).all())

    for number in range(6):
        chance = scene_generator(SPLITS["train"], number, 1)
        for flight in flights(SPLITS["train"], chance, np.eye(4), DISTANCE_M, FRAMES, 10, clear):
            assert clear(flight.camera_to_world[:, :3, 3])


def test_the_same_chance_flies_the_same_paths() -> None:
    first, second = (
        flights(
            SPLITS["heldout"],
            scene_generator(SPLITS["heldout"], 5, 1),
            np.eye(4),
            2.0,
            FRAMES,
            6,
            lambda p: True,
        )
        for _ in range(2)
    )
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.camera_to_world, b.camera_to_world)
        assert a.family == b.family


def test_the_splits_share_no_family_of_paths() -> None:
    train, heldout = (set(SPLITS[name].families) for name in ("train", "heldout"))
    assert not train & heldout
    assert train | heldout == set(FAMILIES)


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(ValueError, match="teleport"):
        draw(np.random.default_rng(0), "teleport", 1.0, 3)
