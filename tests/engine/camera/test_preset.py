from __future__ import annotations

import pytest

from engine.camera.easing import Steady
from engine.camera.moves import Handheld, Straight
from engine.camera.preset import Choice, Preset
from engine.errors import ConfigError

MOVE = Straight(pan=0.2)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"duration_s": 0.0}, "duration"),
        ({"delay_s": -1.0}, "delay"),
        ({"speed": 0.0}, "speed"),
        ({"on_end": "explode"}, "on_end"),
        ({"on_end": "loop"}, "ping-pong"),
        ({"on_end": "return", "next": "b"}, "next"),
        ({"move": Choice(())}, "choose"),
    ],
)
def test_a_preset_that_cannot_be_is_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Preset(**{"name": "a", "move": MOVE, **wrong})  # type: ignore[arg-type]


def test_an_unknown_easing_is_refused() -> None:
    with pytest.raises(ConfigError, match="in-out-sine"):
        Preset(name="a", move=MOVE, easing="in-out-sin")


def test_only_an_endless_linear_loop_has_no_rest() -> None:
    shaky = Preset(name="a", move=Handheld(0.01), on_end="loop", easing="linear")
    assert isinstance(shaky.timing(), Steady)
    assert not isinstance(Preset(name="a", move=MOVE, easing="linear").timing(), Steady)


def test_a_choice_has_no_path_of_its_own() -> None:
    with pytest.raises(ValueError, match="choose first"):
        Preset(name="a", move=Choice(("b",))).path(2.0, 1.0)
