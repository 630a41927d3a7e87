from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import CommandError
from plugin.control import commands
from plugin.control.commands import Command, Query, parse
from plugin.control.table import TABLE


def test_a_button_acts_on_the_press_and_not_on_the_release():
    press = Command("go", {"preset": "push-in"})
    for value in (1, 1.0, True, "1"):
        assert parse("/realcam/preset/push-in/go", [value]) == press
    for value in (0, 0.0, False, "0"):
        assert parse("/realcam/preset/push-in/go", [value]) is None
    assert parse("/realcam/preset/push-in/go", []) == press


def test_a_trigger_without_arguments_takes_any_other_number_for_a_press():
    assert parse("/realcam/stop", [127]) == Command("stop", while_locked=True)


def test_a_duration_comes_after_the_press_or_alone_when_it_is_neither_zero_nor_one():
    assert parse("/realcam/home", [2.5]) == Command("home", {"duration_s": 2.5})
    assert parse("/realcam/home", ["2.5"]) == Command("home", {"duration_s": 2.5})
    assert parse("/realcam/home", [1, 1]) == Command("home", {"duration_s": 1.0})
    assert parse("/realcam/home", [0, 3.0]) is None


def test_a_preset_is_meant_by_name_or_by_slot():
    assert parse("/realcam/preset/7/go", [1.0]) == Command("go", {"preset": "7"})
    assert parse("/realcam/arm", [3.0]) == Command("arm", {"preset": "3"}, while_locked=True)
    assert parse("/realcam/cut", ["push-in"]) == Command("cut", {"preset": "push-in"})
    assert parse("/realcam/cut", []) == parse("/realcam/cut", [1.0]) == Command("cut")


def test_a_value_without_arguments_is_a_query():
    assert parse("/realcam/speed", []) == Query("/realcam/speed", "speed", 0.0)
    assert parse("/realcam/cam/pan", []) == Query("/realcam/cam/pan", "velocity.pan", 0.0)
    assert parse("/realcam/state/mode", []) == Query("/realcam/state/mode", "mode")
    assert parse("/realcam/preset/wide/state", []) == Query("/realcam/preset/wide/state", "buttons.wide", 0)


def test_feedback_that_is_sent_back_means_nothing():
    told = {**commands.feedback({"mode": "live", "buttons": {"wide": 1}}), "/realcam/error": ["no"]}
    assert {parse(address, values) for address, values in told.items()} == {None}
    assert parse("/realcam/pong", []) is None


@pytest.mark.parametrize("value", [0.5, "0.5", " 0.5 "])
def test_numbers_are_taken_as_numbers_and_as_text(value: object):
    assert parse("/realcam/cam/tilt", [value]) == Command("axis", {"axis": "tilt", "velocity": 0.5})


@pytest.mark.parametrize(
    ("value", "on"), [(1, True), (127.0, True), ("on", True), ("Off", False), (False, False), ("0", False)]
)
def test_a_switch_is_off_at_zero_and_on_at_any_other_number(value: object, on: bool):
    assert parse("/realcam/bypass", [value]) == Command("bypass", {"on": on})


def test_switches_have_a_button_that_toggles():
    assert parse("/realcam/slate/toggle", [1.0]) == Command("toggle", {"switch": "slate"})
    assert parse("/realcam/slate/toggle", [0.0]) is None


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), "nan", "-inf", "fast", None, b"1", [1.0], (0, 1, 2, 3)]
)
def test_what_is_not_a_finite_number_is_refused(value: object):
    with pytest.raises(CommandError, match=r"/realcam/speed: factor is a number, found"):
        parse("/realcam/speed", [value])


@pytest.mark.parametrize("value", [float("nan"), None, b"\x01"])
def test_what_is_not_a_finite_number_presses_no_button(value: object):
    with pytest.raises(CommandError, match="button's value is a number"):
        parse("/realcam/take", [value])


def test_a_value_outside_its_range_is_refused_with_the_range():
    with pytest.raises(CommandError, match=r"/realcam/cam/pan: velocity lies in -1 … 1, found 1.5"):
        parse("/realcam/cam/pan", [1.5])
    with pytest.raises(CommandError, match=r"duration_s lies in 0.1 … 120, found -2"):
        parse("/realcam/home", [-2])


def test_too_few_and_too_many_arguments_are_refused_with_the_signature():
    with pytest.raises(CommandError, match=r"takes pan \(float, -1 … 1\) .* found 2 argument"):
        parse("/realcam/cam/velocity", [0.1, 0.2])
    with pytest.raises(CommandError, match=r"found 2 argument"):
        parse("/realcam/bypass", [1, 1])


@pytest.mark.parametrize(
    ("address", "args"),
    [("/realcam/preset/\ud800/go", [1]), ("/realcam/arm", ["\udfff"]), ("/realcam/arm", [10**5000])],
)
def test_what_could_be_told_to_nobody_is_refused_with_a_sentence_that_can(address: str, args: list[object]):
    with pytest.raises(CommandError) as error:
        parse(address, args)
    assert str(error.value).encode()


def test_a_value_that_is_nested_too_deeply_is_refused():
    nested: list[object] = []
    for _ in range(2000):
        nested = [nested]
    with pytest.raises(CommandError, match="factor is a number, found"):
        parse("/realcam/speed", [nested])


def test_an_unknown_address_is_answered_with_the_nearest_one():
    for wrong, right in {
        "/realcam/hom": "/realcam/home",
        "/realcam/cam/pam": "/realcam/cam/pan",
        "/realcam/preset/push-in/goo": "/realcam/preset/push-in/go",
    }.items():
        with pytest.raises(CommandError, match=re.escape(f"the nearest is {right}")):
            parse(wrong, [])


@given(
    st.text(max_size=300),
    st.lists(st.none() | st.floats() | st.integers() | st.text() | st.binary() | st.booleans()),
)
def test_any_address_and_values_are_understood_or_refused(address: str, args: list[object]):
    for where in (address, f"/realcam/{address}", "/realcam/home", "/realcam/cam/pan"):
        try:
            parse(where, args)
        except CommandError as error:
            assert len(str(error)) < 600


def test_no_address_hides_another():
    for address, row, path in commands.example_addresses(["push-in"]):
        assert commands._find(address) == (row, path)


def test_every_row_says_what_it_does_and_values_can_be_asked_for():
    for row in TABLE:
        assert row.help.endswith("."), row.address
        assert bool(row.state) == (row.kind in ("value", "feedback")), row.address


def test_a_query_is_answered_from_the_state_as_osc_values():
    state = {"mode": "live", "limited": ["pan", "zoom"], "lock": True, "pose": {"a": 1.0, "b": 2.0}}
    answers = [Query("", key).answer(state) for key in (*state, "armed", "pose.b", "mode.b")]
    assert answers == [["live"], ["pan, zoom"], [1], [1.0, 2.0], [""], [2.0], [""]]


def test_feedback_has_a_value_of_its_type_at_every_address_and_a_lamp_for_every_preset():
    told = commands.feedback({"mode": "live", "fps": 29.97, "buttons": {"wide": 2, "push-in": 0}})
    assert told["/realcam/state/mode"] == ["live"]
    assert told["/realcam/state/fps"] == [29.97]
    assert told["/realcam/state/latency_ms"] == [0.0]
    assert told["/realcam/preset/wide/state"] == [2]
    assert told["/realcam/preset/push-in/state"] == [0]


def test_the_engines_level_and_health_are_told():
    engine = {"state": "live", "detail": "student at 1 step: the machine is busy", "fps": 12.5}
    told = commands.feedback({"engine": engine, "health": {"error": 7.5, "sharpness": 0.9}})
    assert told["/realcam/state/engine_detail"] == ["student at 1 step: the machine is busy"]
    assert told["/realcam/state/engine_fps"] == [12.5]
    assert told["/realcam/state/health_error"] == [7.5]
    assert told["/realcam/state/health_colour"] == [0.0]


def test_the_documentation_is_in_step_with_the_table():
    page = Path(commands.__file__).parents[1] / "docs" / "osc.md"
    assert page.read_text(encoding="utf-8") == commands.markdown(), (
        "run: python -c 'from plugin.control.commands import markdown; print(markdown(), end=\"\")'"
        " > plugin/docs/osc.md"
    )
