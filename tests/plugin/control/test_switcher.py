from __future__ import annotations

import contextlib
import json
import math
import random
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.camera.axes import Limits
from engine.camera.director import Director
from engine.camera.geometry import IDENTITY, Pose
from engine.errors import CommandError
from plugin.control.commands import Command, example_addresses, feedback, parse
from plugin.control.osc_packet import encode
from plugin.control.switcher import ERROR_SHOWN_S, OVERRIDE_S, PANIC_GUARD_S, Mode, Switcher
from plugin.library import PresetLibrary

PRESETS = """
family: Test
presets:
  wide: {slot: 1, move: shot, duration_s: 2}
  left: {slot: 2, move: shot, pan_deg: -20, duration_s: 2}
  right: {slot: 3, move: shot, pan_deg: 20, duration_s: 2}
"""
NOW = 1000.0


class Operator:
    """Sends addresses at instants, as a controller would."""

    def __init__(
        self, folder: Path, handlers: dict[str, Callable[[Command, float], None]] | None = None
    ) -> None:
        self.file = folder / "test.yaml"
        self.file.write_text(PRESETS, encoding="utf-8")
        self.library = PresetLibrary(folder, built_in=folder / "none")
        director = Director(Limits(), 2.5, self.library.find)
        self.switcher = Switcher(self.library, director, handlers, random.Random(1))

    def send(self, address: str, *args: object, at: float = NOW) -> None:
        command = parse(address, args)
        assert isinstance(command, Command)
        self.switcher.apply(command, at)

    def is_refused(self, address: str, *args: object, at: float = NOW) -> str:
        before = self.switcher.state(at)
        with pytest.raises(CommandError) as refusal:
            self.send(address, *args, at=at)
        after = self.switcher.state(at)
        assert {**before, "last_error": None} == {**after, "last_error": None}
        assert after["last_error"] == str(refusal.value)
        return str(refusal.value)

    def tell(self, key: str, at: float = NOW) -> object:
        return self.switcher.state(at)[key]

    def pan_deg(self, at: float) -> float:
        return math.degrees(self.switcher.view(at).pose.angles().pan)


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


def test_go_moves_the_camera_to_the_preset_in_its_own_time_or_the_one_given(operator: Operator):
    operator.send("/realcam/preset/right/go", 1.0)
    assert operator.tell("preset") == "right"
    assert operator.pan_deg(NOW + 2.0) == pytest.approx(20.0, abs=0.01)
    operator.send("/realcam/preset/2/go", 1.0, 5.0, at=NOW + 3)
    assert operator.tell("moving", NOW + 7.9) is True
    assert operator.pan_deg(NOW + 8) == pytest.approx(-20.0, abs=0.01)


def test_an_armed_preset_waits_for_the_take_and_is_then_no_longer_armed(operator: Operator):
    operator.send("/realcam/preset/right/arm", 1.0)
    assert (operator.tell("armed"), operator.tell("preset")) == ("right", None)
    assert operator.tell("buttons") == {"wide": 0, "left": 0, "right": 1}
    operator.send("/realcam/take", 1.0)
    assert (operator.tell("armed"), operator.tell("preset")) == (None, "right")
    assert operator.tell("buttons") == {"wide": 0, "left": 0, "right": 2}
    assert "nothing is armed" in operator.is_refused("/realcam/take")


def test_an_empty_text_disarms(operator: Operator):
    operator.send("/realcam/arm", "left")
    operator.send("/realcam/arm", "")
    assert operator.tell("armed") is None


def test_cut_is_at_the_end_of_the_preset_at_once(operator: Operator):
    operator.send("/realcam/arm", "right")
    operator.send("/realcam/cut")
    assert operator.pan_deg(NOW) == pytest.approx(20.0)
    operator.send("/realcam/cut", "left")
    assert operator.pan_deg(NOW) == pytest.approx(-20.0)


def test_auto_takes_the_time_that_was_set_for_it(operator: Operator):
    operator.send("/realcam/auto/duration_s", 7)
    operator.send("/realcam/arm", "right")
    operator.send("/realcam/auto")
    assert operator.tell("remaining_s") == pytest.approx(7.0)


def test_next_and_prev_step_through_the_library_in_its_order_and_round(operator: Operator):
    steps = []
    for address in ("next", "next", "next", "next", "prev", "prev"):
        operator.send(f"/realcam/{address}")
        steps.append(operator.tell("preset"))
    assert steps == ["wide", "left", "right", "wide", "right", "left"]


def test_prev_starts_at_the_end(operator: Operator):
    operator.send("/realcam/prev")
    assert operator.tell("preset") == "right"


def test_random_never_repeats_the_current_preset(operator: Operator):
    for _ in range(20):
        before = operator.tell("preset")
        operator.send("/realcam/random")
        assert operator.tell("preset") != before


def test_reverse_runs_the_last_preset_the_other_way_and_then_forwards_again(operator: Operator):
    assert "start one first" in operator.is_refused("/realcam/reverse")
    operator.send("/realcam/preset/right/go")
    operator.send("/realcam/reverse", at=NOW + 3)
    assert operator.tell("reversed") is True
    assert operator.pan_deg(NOW + 6) == pytest.approx(0.0, abs=0.01)
    operator.send("/realcam/reverse", at=NOW + 7)
    assert operator.pan_deg(NOW + 10) == pytest.approx(20.0, abs=0.01)


def test_speed_holds_for_moves_to_come(operator: Operator):
    operator.send("/realcam/speed", 2)
    operator.send("/realcam/preset/right/go")
    assert operator.tell("remaining_s") == pytest.approx(1.0)


def test_home_and_stop_bring_the_camera_to_rest(operator: Operator):
    operator.send("/realcam/preset/right/go")
    operator.send("/realcam/stop", at=NOW + 1)
    assert operator.tell("moving", NOW + 3) is False
    operator.send("/realcam/home", 1.5, at=NOW + 4)
    assert operator.pan_deg(NOW + 5.5) == pytest.approx(0.0, abs=1e-6)


def test_axes_move_the_camera_and_a_start_takes_over_from_them(operator: Operator):
    operator.send("/realcam/cam/pan", 1.0)
    operator.send("/realcam/cam/zoom", 0.5)
    assert operator.tell("velocity")["pan"] == 1.0  # type: ignore[index]
    assert operator.pan_deg(NOW + 1) > 5
    operator.send("/realcam/preset/left/go", at=NOW + 1)
    assert set(operator.tell("velocity", NOW + 1).values()) == {0.0}  # type: ignore[attr-defined]
    assert operator.pan_deg(NOW + 4) == pytest.approx(-20.0, abs=0.01)


def test_all_axes_can_be_set_in_one_message(operator: Operator):
    operator.send("/realcam/cam/velocity", 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    assert operator.tell("velocity") == {
        "pan": 0.1, "tilt": 0.2, "roll": 0.3, "zoom": 0.4, "x": 0.5, "y": 0.6, "z": 0.7,
    }  # fmt: skip


def test_a_pose_is_travelled_to_or_cut_to(operator: Operator):
    operator.send("/realcam/cam/pose", 10, 5, 0, 0.1, 0, 0.2, 1.5, 0)
    assert operator.tell("pose") == pytest.approx(
        {"pan_deg": 10, "tilt_deg": 5, "roll_deg": 0, "x_m": 0.1, "y_m": 0, "z_m": 0.2, "zoom": 1.5}, abs=1e-3
    )
    operator.send("/realcam/cam/pose", 0, 0, 0, 0, 0, 0, 1)
    assert operator.tell("moving", NOW + 0.9) is True
    assert operator.tell("moving", NOW + 1.1) is False


def test_the_subject_distance_is_taken_over(operator: Operator):
    operator.send("/realcam/cam/subject_distance", 4)
    assert operator.tell("subject_distance_m", NOW + 2) == pytest.approx(4.0)


def test_the_modes_cover_each_other_slate_first_then_bypass_then_freeze(operator: Operator):
    operator.send("/realcam/freeze", 1)
    operator.send("/realcam/bypass", 1)
    operator.send("/realcam/slate/toggle", 1)
    shown = [operator.switcher.view(NOW).mode]
    for address in ("slate/toggle", "bypass/toggle", "freeze/toggle"):
        operator.send(f"/realcam/{address}", 1)
        shown.append(operator.switcher.view(NOW).mode)
    assert shown == [Mode.SLATE, Mode.BYPASS, Mode.FREEZE, Mode.LIVE]


def test_freeze_pauses_the_move_and_lets_it_go_on(operator: Operator):
    operator.send("/realcam/preset/right/go")
    operator.send("/realcam/freeze", 1, at=NOW + 0.5)
    assert operator.pan_deg(NOW + 10) == pytest.approx(operator.pan_deg(NOW + 20))
    assert operator.pan_deg(NOW + 20) < 19
    operator.send("/realcam/freeze", 0, at=NOW + 20)
    assert operator.pan_deg(NOW + 24) == pytest.approx(20.0, abs=0.01)


def test_panic_shows_the_clean_feed_at_once_whatever_is_on_and_unlocks(operator: Operator):
    operator.send("/realcam/preset/right/go")
    for address in ("freeze", "slate", "lock"):
        operator.send(f"/realcam/{address}", 1, at=NOW + 1)
    operator.send("/realcam/panic", 1, at=NOW + 1)
    view = operator.switcher.view(NOW + 1)
    assert (view.mode, view.pose) == (Mode.PANIC, IDENTITY)
    assert operator.tell("lock", NOW + 1) is False


def test_in_panic_the_camera_stays_but_the_slate_can_be_shown(operator: Operator):
    operator.send("/realcam/panic")
    for address in ("/realcam/preset/left/go", "/realcam/home", "/realcam/bypass/toggle", "/realcam/next"):
        assert "/realcam/resume" in operator.is_refused(address)
    assert "/realcam/resume" in operator.is_refused("/realcam/cam/pan", 0.5)
    operator.send("/realcam/slate", 1)
    assert operator.switcher.view(NOW).mode is Mode.SLATE


def test_a_nervous_second_press_does_not_end_the_panic_but_a_later_one_does(operator: Operator):
    operator.send("/realcam/panic")
    operator.send("/realcam/panic", at=NOW + PANIC_GUARD_S / 2)
    assert operator.switcher.view(NOW + 1).mode is Mode.PANIC
    operator.send("/realcam/panic", at=NOW + PANIC_GUARD_S)
    assert operator.switcher.view(NOW + 1) == operator.switcher.view(NOW + 9)
    assert operator.switcher.view(NOW + 1).mode is Mode.LIVE


def test_resume_comes_back_from_panic(operator: Operator):
    operator.send("/realcam/panic")
    operator.send("/realcam/resume")
    operator.send("/realcam/preset/left/go")
    assert operator.switcher.view(NOW).mode is Mode.LIVE


@pytest.mark.parametrize(
    ("program", "held"), [(True, True), (None, True), (False, False)], ids=["program", "unknown", "off air"]
)
def test_the_lock_holds_on_program_and_while_nobody_knows(
    operator: Operator, program: bool | None, held: bool
):
    operator.switcher.set_tally(program)
    operator.send("/realcam/lock", 1)
    assert operator.tell("locked") is held
    if held:
        why = "while on program" if program else "and OBS does not tell"
        assert f"locked {why}" in operator.is_refused("/realcam/preset/left/go")
    else:
        operator.send("/realcam/preset/left/go")


def test_arming_stopping_and_panicking_work_while_locked(operator: Operator):
    operator.send("/realcam/lock", 1)
    for address in ("/realcam/preset/left/arm", "/realcam/stop", "/realcam/override", "/realcam/panic"):
        operator.send(address)


@pytest.mark.parametrize("button", ["/realcam/lock", "/realcam/panic"])
def test_letting_go_of_the_stick_is_never_refused(operator: Operator, button: str):
    operator.send("/realcam/cam/pan", 1.0)
    operator.send(button, 1)
    operator.is_refused("/realcam/cam/pan", 0.5)
    operator.send("/realcam/cam/pan", 0.0)
    operator.send("/realcam/cam/velocity", *[0] * 7)


def test_an_override_opens_the_lock_for_ten_seconds(operator: Operator):
    operator.send("/realcam/lock", 1)
    operator.send("/realcam/override")
    operator.send("/realcam/preset/left/go", at=NOW + OVERRIDE_S - 0.1)
    operator.is_refused("/realcam/preset/right/go", at=NOW + OVERRIDE_S)


def test_an_unknown_preset_is_refused_with_the_nearest_name(operator: Operator):
    assert "the nearest is 'right'" in operator.is_refused("/realcam/preset/rigth/go")
    operator.file.unlink()
    operator.library.reload()
    assert "the library is empty" in operator.is_refused("/realcam/preset/rigth/go")
    assert "no presets" in operator.is_refused("/realcam/next")
    assert "no other preset" in operator.is_refused("/realcam/random")


def test_a_refusal_is_shown_for_a_while(operator: Operator):
    operator.is_refused("/realcam/take")
    assert operator.tell("last_error", NOW + ERROR_SHOWN_S) is None


def test_commands_of_others_go_to_their_handlers_under_the_same_lock(tmp_path: Path):
    done: list[str] = []
    operator = Operator(tmp_path, {"reset": lambda command, now: done.append(command.name)})
    operator.send("/realcam/reset")
    operator.send("/realcam/lock", 1)
    operator.is_refused("/realcam/reset")
    assert done == ["reset"]
    assert "nothing here does" in operator.is_refused("/realcam/reload")


def test_the_tally_is_told(operator: Operator):
    told = [operator.tell("tally")]
    for program, preview in ((True, True), (False, True), (False, False)):
        operator.switcher.set_tally(program, preview)
        told.append(operator.tell("tally"))
    assert told == ["unknown", "program", "preview", "off"]


def test_the_state_and_the_presets_are_ready_for_json_and_for_feedback(operator: Operator):
    state = operator.switcher.state(NOW)
    json.dumps([state, operator.switcher.presets()], allow_nan=False)
    told = feedback(state)
    assert told["/realcam/state/mode"] == ["live"]
    assert told["/realcam/preset/left/state"] == [0]


BUILT_IN = PresetLibrary(Path(__file__).parent)  # none of the user's
ADDRESSES = [address for address, _, _ in example_addresses([preset.name for preset in BUILT_IN.presets])]
VALUES = st.lists(st.floats(-150, 150) | st.floats(0, 1) | st.sampled_from([0, 1, "wide", True]), max_size=8)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(ADDRESSES), VALUES, st.floats(0, 5)), max_size=15))
def test_any_sequence_of_commands_is_carried_out_or_refused(sent: list[tuple[str, list[object], float]]):
    switcher = Switcher(BUILT_IN, Director(Limits(), 2.5, BUILT_IN.find))
    now = NOW
    for address, args, wait_s in sent:
        now += wait_s
        with contextlib.suppress(CommandError):
            command = parse(address, args)
            if isinstance(command, Command):
                switcher.apply(command, now)
        assert np.isfinite(switcher.view(now).pose.to_array()).all()
        state = switcher.state(now)
        json.dumps(state, allow_nan=False)
        for told, values in feedback(state).items():
            encode(told, values)


def test_commands_and_views_may_come_from_many_threads(operator: Operator):
    failures: list[BaseException] = []

    def use(address: str) -> None:
        try:
            for step in range(25):
                operator.send(address, at=NOW + step / 50)
                operator.switcher.view(NOW + step / 50)
                operator.switcher.state(NOW + step / 50)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=use, args=[f"/realcam/{a}"]) for a in ("next", "prev", "stop", "home")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert isinstance(operator.switcher.view(NOW + 10).pose, Pose)
