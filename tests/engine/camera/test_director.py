"""The Director keeps its promises over any sequence of commands."""

from __future__ import annotations

import copy
import itertools
import math
import random
import time
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.camera.axes import AXES, PAN, ROLL, ZOOM, Limits, X, Z, from_pose, to_pose
from engine.camera.director import FULL_SPEED, Director
from engine.camera.easing import CURVES
from engine.camera.geometry import IDENTITY, Pose
from engine.camera.moves import Crane, DollyZoom, Handheld, Keyframes, Move, Orbit, Reveal, Straight
from engine.camera.preset import Choice, Preset

LIMITS = Limits()
DISTANCE_M = 2.5
STEP_S = 1 / 240

MOVES: tuple[Move, ...] = (
    Straight(pan=math.radians(30), zoom=1.5),
    Straight(pan=math.radians(-70), tilt=math.radians(20)),
    Straight(right=0.3, up=-0.2, forward=0.5),
    Orbit(math.radians(40), rise=math.radians(10), closer=0.2),
    Orbit(math.radians(-80)),
    Crane(up=0.4, forward=0.2),
    DollyZoom(forward=0.4),
    Reveal(Straight(pan=math.radians(-25), zoom=1.2)),
    Handheld(sway=math.radians(0.8), shift=0.01),
    Keyframes(((0.4, Straight(pan=math.radians(20))), (1.0, Straight(tilt=math.radians(10), zoom=2.0)))),
)
LOOP = Keyframes(
    tuple(
        (i / 4, Straight(pan=0.1 * math.cos(i * math.pi / 2), tilt=0.1 * math.sin(i * math.pi / 2)))
        for i in range(5)
    )
)

angle = st.floats(-1.2, 1.2)
length = st.floats(-2.0, 2.0)
poses = st.builds(
    Pose.from_angles,
    angle,
    angle,
    angle,
    st.tuples(length, length, length),
    st.floats(0.3, 6.0),
)
presets = st.builds(
    Preset,
    name=st.sampled_from(("one", "two")),
    move=st.sampled_from(MOVES),
    duration_s=st.floats(0.8, 6.0),
    delay_s=st.sampled_from((0.0, 0.5)),
    easing=st.sampled_from(sorted(CURVES)),
    reverse=st.booleans(),
    relative=st.booleans(),
    on_end=st.sampled_from(("hold", "return", "ping-pong")),
)

loops = st.builds(
    Preset,
    name=st.just("loop"),
    move=st.sampled_from((Handheld(0.02, 0.01), LOOP)),
    duration_s=st.floats(2.0, 6.0),
    easing=st.sampled_from(("linear", "in-out-sine")),
    relative=st.booleans(),
    on_end=st.just("loop"),
)


@dataclass(frozen=True)
class Step:
    """A command and how long to watch after it."""

    name: str
    arguments: tuple[object, ...]
    wait_s: float

    def apply(self, director: Director, now: float) -> None:
        if self.name in ("move_to", "home"):
            *first, duration_s = self.arguments
            getattr(director, self.name)(*first, now, duration_s)
        else:
            getattr(director, self.name)(*self.arguments, now)


def step(name: str, *arguments: st.SearchStrategy[object]) -> st.SearchStrategy[Step]:
    return st.builds(Step, st.just(name), st.tuples(*arguments), st.floats(0.0, 2.0))


durations = st.floats(0.8, 4.0)
commands = st.one_of(
    step("go", presets),
    step("go", presets),
    step("go", loops),
    step("move_to", poses, durations),
    step("home", durations),
    step("stop"),
    step("freeze", st.booleans()),
    step("set_velocity", st.dictionaries(st.sampled_from(AXES), st.floats(-1, 1), min_size=1)),
    step("set_velocity", st.just(dict.fromkeys(AXES, 0.0))),
    step("set_speed", st.sampled_from((0.5, 1.0, 2.0))),
)

# What these moves can be asked to do with the wildest easing at twice the speed; not tight.
FASTEST = 60.0
HARDEST = 4000.0
ZOOM_LEVELS, ZOOM_BY = 2, 16


def watched(director: Director, start_s: float, wait_s: float) -> np.ndarray:
    count = max(2, math.ceil(wait_s / STEP_S))
    return np.array([director.axes(start_s + i * STEP_S) for i in range(count + 1)])


def largest_leap(director: Director, start_s: float, end_s: float) -> float:
    """The largest change of velocity between instants that are some microseconds apart: looks closer
    and closer at where the velocity changes most, since a jump stays as it is and a ramp shrinks.
    """
    for _ in range(ZOOM_LEVELS + 1):
        times = np.linspace(start_s, end_s, max(ZOOM_BY, math.ceil((end_s - start_s) / STEP_S)) + 1)
        velocities = np.array([director.velocity(t) for t in times])
        leaps = np.abs(np.diff(velocities, axis=0)).max(axis=1)
        start_s, end_s = times[leaps.argmax()], times[leaps.argmax() + 1]
    return float(leaps.max())


@settings(max_examples=80, deadline=None)
@given(st.lists(commands, min_size=1, max_size=6))
def test_any_commands_keep_the_camera_inside_its_limits_without_jumps(steps: list[Step]) -> None:
    director, now = Director(LIMITS, DISTANCE_M), 10.0
    for each in steps:
        before, velocity_before = director.axes(now), director.velocity(now)
        each.apply(director, now)
        assert np.allclose(director.axes(now), before, atol=1e-6), each
        assert np.allclose(director.velocity(now), velocity_before, atol=1e-3), each
        future = copy.deepcopy(director)
        seen = watched(director, now, each.wait_s)
        end_s = now + (len(seen) - 1) * STEP_S
        assert not LIMITS.beyond(seen).any()
        speeds = np.diff(seen, axis=0) / STEP_S
        assert np.abs(speeds).max() < FASTEST
        assert largest_leap(future, now, end_s) < HARDEST * STEP_S / ZOOM_BY**ZOOM_LEVELS
        now = end_s


@settings(max_examples=60, deadline=None)
@given(st.lists(commands, max_size=4), poses, durations)
def test_a_pose_is_reached_at_the_stated_time_whatever_went_before(
    steps: list[Step], pose: Pose, duration_s: float
) -> None:
    director, now = Director(LIMITS, DISTANCE_M), 0.0
    for each in steps:
        each.apply(director, now)
        now += each.wait_s
    director.set_speed(1.0, now)
    director.move_to(pose, now, duration_s)
    goal = LIMITS.clamp(from_pose(pose, DISTANCE_M))
    assert director.status(now).remaining_s == pytest.approx(duration_s)
    assert np.allclose(director.axes(now + duration_s), goal, atol=1e-9)
    assert np.allclose(director.velocity(now + duration_s - 1e-7), 0, atol=1e-3)
    assert not director.status(now + duration_s).moving
    assert director.status(now + duration_s - 0.05).moving


@settings(max_examples=60, deadline=None)
@given(st.lists(commands, max_size=3), presets)
def test_a_preset_is_at_its_end_at_the_stated_time(steps: list[Step], preset: Preset) -> None:
    if preset.on_end in ("ping-pong", "loop") or preset.relative:
        return
    straight, now = Director(LIMITS, DISTANCE_M), 0.0
    straight.go(preset, now)
    director = Director(LIMITS, DISTANCE_M)
    for each in steps:
        each.apply(director, now)
        now += each.wait_s
    director.set_speed(1.0, now)
    director.go(preset, now)
    total_s = preset.delay_s + preset.duration_s * (2 if preset.on_end == "return" else 1)
    assert np.allclose(director.axes(now + total_s), straight.axes(total_s), atol=1e-6)
    assert director.status(now + total_s) == straight.status(total_s)


@settings(max_examples=60, deadline=None)
@given(st.lists(commands, max_size=3), presets.filter(lambda preset: "circ" not in preset.easing))
def test_the_velocity_is_the_derivative_of_the_position(steps: list[Step], preset: Preset) -> None:
    """Without circ, whose infinite speed at one instant is too sharp for the easing's table."""
    director, now = Director(LIMITS, DISTANCE_M), 0.0
    for each in steps:
        each.apply(director, now)
        now += each.wait_s
    director.go(preset, now)
    h = 1e-5
    for instant in np.linspace(now + h, now + 4.0, 9):
        before, velocity, after = (
            director.axes(instant - h),
            director.velocity(instant),
            director.axes(instant),
        )
        assert np.allclose((after - before) / h, velocity, atol=HARDEST * h)


@settings(max_examples=40, deadline=None)
@given(st.lists(commands, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_asking_for_the_pose_changes_nothing(steps: list[Step], chance: random.Random) -> None:
    asked, unasked, now = Director(LIMITS, DISTANCE_M), Director(LIMITS, DISTANCE_M), 0.0
    for each in steps:
        each.apply(asked, now)
        each.apply(unasked, now)
        for instant in sorted(chance.uniform(now, now + each.wait_s) for _ in range(5)):
            assert asked.pose(instant) == asked.pose(instant)
            asked.status(instant)
        now += each.wait_s
        assert np.allclose(asked.axes(now), unasked.axes(now), atol=1e-9)


def test_a_new_director_shows_the_source() -> None:
    assert Director(LIMITS, DISTANCE_M).pose(5.0) == IDENTITY


def test_a_move_of_no_duration_is_a_cut() -> None:
    director = Director(LIMITS, DISTANCE_M)
    director.move_to(Pose.from_angles(pan=0.2), 1.0, 0.0)
    assert director.pose(1.0).angles().pan == pytest.approx(0.2)
    director.go(Preset(name="p", move=Straight(pan=-0.3)), 2.0, duration_s=0.0)
    assert director.pose(2.0).angles().pan == pytest.approx(-0.3)
    assert director.status(2.0).preset == "p"


def test_a_cut_jumps_and_rests() -> None:
    director = Director(LIMITS, DISTANCE_M)
    director.go(Preset(name="p", move=Straight(pan=0.5)), 0.0)
    director.cut(Pose.from_angles(tilt=0.1), 1.0)
    assert director.pose(1.0).angles().tilt == pytest.approx(0.1)
    assert director.pose(9.0) == director.pose(1.0)


def test_firing_the_preset_that_the_camera_is_at_moves_nothing() -> None:
    director = Director(LIMITS, DISTANCE_M)
    preset = Preset(name="p", move=Straight(pan=0.5, forward=0.3))
    director.go(preset, 0.0)
    there = director.axes(5.0)
    director.go(preset, 5.0)
    assert np.allclose(watched(director, 5.0, 3.0), there)


def test_translation_scales_with_the_subject_and_metres_do_not() -> None:
    for distance_m in (2.0, 8.0):
        director = Director(LIMITS, distance_m)
        director.go(Preset(name="p", move=Straight(right=0.25)), 0.0, duration_s=0.0)
        assert director.pose(0.0).translation[0] == pytest.approx(0.25 * distance_m)


def test_a_new_subject_distance_leaves_the_planes_picture_and_glides_in_metres() -> None:
    director = Director(LIMITS, 2.0)
    director.go(Preset(name="p", move=Straight(right=0.25), duration_s=4.0), 0.0)
    director.set_subject_distance(3.0, 2.0)
    before_m, rate_before = director.distance_m(2.4), director.distance_m(2.4) - director.distance_m(2.399)
    director.set_subject_distance(6.0, 2.4)
    assert director.distance_m(2.4) == pytest.approx(before_m)
    assert director.distance_m(2.401) - before_m == pytest.approx(rate_before, rel=0.1)
    metres = [director.pose(2.4 + i / 240).translation[0] for i in range(500)]
    assert np.abs(np.diff(metres)).max() < 0.02
    assert np.abs(np.diff(metres, 2)).max() * 240**2 < 20
    assert director.distance_m(3.5) == pytest.approx(6.0)
    assert director.pose(4.0).translation[0] == pytest.approx(0.25 * 6.0)


def test_an_orbit_beyond_the_limits_becomes_a_smaller_orbit_that_still_looks_at_the_subject() -> None:
    director = Director(LIMITS, 1.0)
    director.go(Preset(name="o", move=Orbit(math.radians(80))), 0.0)
    for now in (1.0, 2.0, 3.0):
        pose = director.pose(now)
        away = np.array((0, 0, 1)) - pose.translation
        assert np.allclose(pose.matrix()[:, 2], away / np.linalg.norm(away), atol=1e-9)
    assert director.pose(3.0).angles().pan == pytest.approx(-LIMITS.pan, abs=1e-3)
    assert "pan" in director.status(3.0).limited


def test_an_overshoot_on_the_way_back_makes_the_move_smaller_too() -> None:
    director = Director(LIMITS, DISTANCE_M)
    director.cut(Pose.from_angles(pan=LIMITS.pan - 0.02), 0.0)
    there_and_back = Preset(
        name="p", move=Straight(pan=-0.5), easing="out-back", relative=True, on_end="return"
    )
    director.go(there_and_back, 0.0)
    assert director.status(0.0).limited == ("pan",)
    assert watched(director, 0.0, 6.0)[:, PAN].max() == pytest.approx(LIMITS.pan, abs=1e-3)


def test_limits_of_zero_lock_an_axis() -> None:
    director = Director(Limits(roll=0.0, forward=0.0), DISTANCE_M)
    director.set_velocity({"roll": 1.0, "z": 1.0, "pan": 0.3}, 0.0)
    values = director.axes(2.0)
    assert values[ROLL] == 0
    assert values[Z] == 0
    assert values[PAN] > 0.1
    assert director.status(2.0).limited == ()


def test_the_joystick_drives_all_axes_at_once_and_rests_on_release() -> None:
    director = Director(LIMITS, DISTANCE_M)
    director.set_velocity({"pan": 1.0, "x": -0.5}, 0.0)
    director.set_velocity({"zoom": 0.5}, 0.1)
    velocity = director.velocity(0.6)
    assert velocity[ZOOM] == pytest.approx(0.5 * FULL_SPEED[ZOOM])
    assert velocity[X] < 0 < velocity[PAN]
    director.set_velocity({"pan": 0.0, "x": 0.0, "zoom": 0.0}, 0.7)
    assert np.allclose(director.velocity(1.3), 0)
    assert not director.status(1.3).moving


def test_a_resting_joystick_does_not_interrupt_a_move_and_a_pushed_one_does() -> None:
    director = Director(LIMITS, DISTANCE_M)
    director.go(Preset(name="p", move=Straight(pan=0.5)), 0.0)
    director.set_velocity({"pan": 0.0}, 1.0)
    assert director.status(1.0).preset == "p"
    director.set_velocity({"pan": -0.1}, 1.1)
    assert director.status(1.1).preset is None


def test_the_joystick_stops_at_the_limit_and_says_so() -> None:
    director = Director(LIMITS, DISTANCE_M)
    director.set_velocity({"pan": 1.0}, 0.0)
    assert director.axes(60.0)[PAN] == pytest.approx(LIMITS.pan)
    assert director.status(60.0).limited == ("pan",)
    director.set_velocity({"pan": -1.0}, 60.0)
    assert director.axes(60.5)[PAN] < LIMITS.pan - 0.05


def test_freezing_pauses_the_moves_clock_and_resumes_to_the_goal() -> None:
    director = Director(LIMITS, DISTANCE_M)
    director.go(Preset(name="p", move=Straight(pan=0.5), duration_s=3.0), 0.0)
    director.freeze(True, 1.0)
    assert director.status(2.0).frozen
    held = director.axes(2.0)
    assert np.allclose(director.axes(60.0), held)
    assert not director.status(60.0).moving
    director.freeze(False, 60.0)
    assert director.axes(63.0)[PAN] == pytest.approx(0.5)


def test_speed_changes_how_long_a_move_takes() -> None:
    director = Director(LIMITS, DISTANCE_M)
    director.set_speed(2.0, 0.0)
    director.go(Preset(name="p", move=Straight(pan=0.5), duration_s=4.0, speed=0.5), 0.0, speed=2.0)
    assert director.status(0.0).remaining_s == pytest.approx(2.0)
    assert director.axes(2.0)[PAN] == pytest.approx(0.5)


def test_handheld_sets_in_and_dies_away_smoothly_where_the_camera_was() -> None:
    director = Director(LIMITS, DISTANCE_M)
    director.cut(Pose.from_angles(pan=0.2), 0.0)
    shaky = Preset(name="h", move=Handheld(sway=0.01), duration_s=8.0, easing="linear", relative=True)
    director.go(shaky, 0.0)
    seen = watched(director, 0.0, 8.0)
    assert np.abs(seen[:24] - seen[0]).max() < 1e-4
    assert 0.005 < np.std(seen[500:-500, PAN]) < 0.02
    assert np.allclose(seen[-1], seen[0], atol=1e-9)


def test_a_steady_loop_has_no_stop_at_its_seam() -> None:
    director = Director(LIMITS, DISTANCE_M)
    director.go(Preset(name="l", move=LOOP, duration_s=4.0, on_end="loop", easing="linear"), 0.0)
    assert np.allclose(director.velocity(8 - 1e-6), director.velocity(8 + 1e-6), atol=1e-4)
    assert np.linalg.norm(director.velocity(8.0)) > 0.05
    assert director.status(9.0).remaining_s is None


def test_return_goes_back_once_and_ping_pong_for_ever() -> None:
    director = Director(LIMITS, DISTANCE_M)
    there = Straight(pan=0.5)
    director.go(Preset(name="r", move=there, duration_s=1.0, on_end="return"), 0.0)
    assert [round(director.axes(t)[PAN], 6) for t in (1.0, 2.0, 3.0)] == [0.5, 0.0, 0.0]
    director.go(Preset(name="r", move=there, duration_s=1.0, on_end="ping-pong"), 10.0)
    assert [round(director.axes(t)[PAN], 6) for t in (11.0, 12.0, 21.0, 22.0)] == [0.5, 0.0, 0.5, 0.0]


def test_the_next_preset_starts_the_instant_this_one_ends_however_late_somebody_asks() -> None:
    library = {
        "a": Preset(name="a", move=Straight(pan=0.5), duration_s=1.0, next="b"),
        "b": Preset(name="b", move=Straight(tilt=0.2), duration_s=2.0, next="gone"),
    }
    director = Director(LIMITS, DISTANCE_M, find=library.get)
    director.go(library["a"], 0.0)
    assert director.status(2.0).preset == "b"
    assert director.status(2.0).progress == pytest.approx(0.5)
    assert director.pose(3.0).angles().tilt == pytest.approx(0.2)
    assert not director.status(4.0).moving


def test_a_choice_takes_one_of_its_presets_but_not_the_one_the_camera_is_at() -> None:
    library = {name: Preset(name=name, move=Straight(pan=0.1 * i)) for i, name in enumerate("abc")}
    pick = Preset(name="pick", move=Choice(("a", "b", "c")))
    director = Director(LIMITS, DISTANCE_M, find=library.get, chance=random.Random(7))
    seen = []
    for i in range(30):
        director.go(pick, 10.0 * i)
        seen.append(director.status(10.0 * i).preset)
    assert set(seen) == {"a", "b", "c"}
    assert all(a != b for a, b in itertools.pairwise(seen))


def test_a_choice_that_is_its_own_next_goes_on_for_ever() -> None:
    library = {
        name: Preset(name=name, move=Straight(pan=0.1 * i), duration_s=1.0) for i, name in enumerate("ab")
    }
    library["auto"] = Preset(name="auto", move=Choice(("a", "b")), next="auto")
    director = Director(LIMITS, DISTANCE_M, find=library.get)
    director.go(library["auto"], 0.0)
    assert director.status(100.5).moving


def test_a_reveal_that_cuts_begins_where_it_starts() -> None:
    director = Director(LIMITS, DISTANCE_M)
    director.go(Preset(name="r", move=Reveal(Straight(pan=-0.4)), start="cut"), 0.0)
    assert director.axes(0.0)[PAN] == pytest.approx(-0.4)
    assert director.axes(3.0)[PAN] == pytest.approx(0.0)


@pytest.mark.parametrize("move", MOVES, ids=lambda move: type(move).__name__)
def test_a_pose_costs_less_than_a_tenth_of_a_millisecond(move: Move) -> None:
    director = Director(LIMITS, DISTANCE_M)
    director.move_to(Pose.from_angles(pan=0.3), 0.0, 0.0)
    director.go(Preset(name="p", move=move), 0.0)
    best = math.inf
    for i in range(200):
        start = time.perf_counter()
        director.pose(1.0 + i / 200)
        best = min(best, time.perf_counter() - start)
    assert best < 100e-6


def test_bad_numbers_are_refused_and_change_nothing() -> None:
    director = Director(LIMITS, DISTANCE_M)
    with pytest.raises(ValueError, match="zoomm"):
        director.set_velocity({"zoomm": 1.0}, 0.0)
    with pytest.raises(ValueError, match="between -1 and 1"):
        director.set_velocity({"pan": math.nan}, 0.0)
    with pytest.raises(ValueError, match="speed"):
        director.set_speed(0.0, 0.0)
    with pytest.raises(ValueError, match="duration"):
        director.go(Preset(name="p", move=Straight(pan=0.1)), 0.0, duration_s=-1.0)
    with pytest.raises(ValueError, match="distance"):
        director.set_subject_distance(0.0, 0.0)
    assert director.pose(0.0) == IDENTITY


@example(Pose.from_angles(0.1, 0.2, 0.3, (1.0, 2.0, 3.0), 1.5))
@settings(deadline=None)
@given(poses)
def test_axes_and_poses_convert_back_and_forth(pose: Pose) -> None:
    again = to_pose(from_pose(pose, DISTANCE_M), DISTANCE_M)
    assert np.allclose(again.matrix(), pose.matrix())
    assert np.allclose(again.translation, pose.translation)
    assert again.zoom == pytest.approx(pose.zoom)
