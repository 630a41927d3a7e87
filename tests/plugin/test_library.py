from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from engine.camera.director import Director, Limits
from engine.camera.geometry import Intrinsics, plane_homography
from engine.camera.moves import Metres, Straight
from engine.camera.preset import Choice
from engine.errors import ConfigError
from plugin import library as library_module
from plugin.library import PresetLibrary, check_files

ONE = "family: Mine\npresets:\n  one: {move: pan, angle_deg: 10, slot: 1}\n"


@pytest.fixture
def built_in(tmp_path: Path) -> Path:
    folder = tmp_path / "built-in"
    folder.mkdir()
    (folder / "a.yaml").write_text(
        "family: Basic\ncolour: '#112233'\npresets:\n"
        "  wide: {move: shot, slot: 1}\n"
        "  push-in: {move: push-in, amount: 0.25, slot: 2, label: Push}\n"
        "  tight: {move: shot, zoom: 2}\n"
    )
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    return folder


def test_presets_are_found_by_name_and_by_slot(built_in: Path, folder: Path) -> None:
    library = PresetLibrary(folder, built_in)
    assert [p.name for p in library.presets] == ["wide", "push-in", "tight"]
    for key in ("push-in", "2", 2):
        found = library.find(key)
        assert found is not None
        assert (found.label, found.colour, found.family, found.kind) == (
            "Push",
            "#112233",
            "Basic",
            "push-in",
        )
    assert library.find("nothing") is None
    assert library.find("99") is None
    assert library.find("") is None
    assert library.errors == ()


def test_the_users_own_folder_need_not_be_there(
    built_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library_module, "user_folder", lambda: tmp_path / "nowhere")
    assert len(PresetLibrary(None, built_in).presets) == 3


@pytest.mark.parametrize(("is_file", "found"), [(False, "nothing"), (True, "a file")])
def test_a_mistyped_folder_is_refused_and_not_created(
    built_in: Path, tmp_path: Path, is_file: bool, found: str
) -> None:
    mistyped = tmp_path / "myne"
    if is_file:
        mistyped.touch()
    with pytest.raises(ConfigError, match=f"myne: expected a folder with presets, found {found}"):
        PresetLibrary(mistyped, built_in)
    assert mistyped.exists() == is_file


def test_the_users_preset_replaces_the_built_in_one_and_keeps_its_slot(built_in: Path, folder: Path) -> None:
    (folder / "mine.yaml").write_text(
        "family: Mine\npresets:\n  push-in: {move: push-in, amount: 0.5, duration_s: 9}\n"
    )
    found = PresetLibrary(folder, built_in).find(2)
    assert found is not None
    assert (found.name, found.duration_s, found.family) == ("push-in", 9, "Mine")


def test_the_users_slot_wins(built_in: Path, folder: Path) -> None:
    (folder / "mine.yaml").write_text(ONE)
    library = PresetLibrary(folder, built_in)
    first, wide = library.find(1), library.find("wide")
    assert first is not None
    assert first.name == "one"
    assert wide is not None
    assert wide.slot is None
    assert library.errors == ()


def test_a_bad_file_keeps_its_last_good_presets_and_says_where(built_in: Path, folder: Path) -> None:
    mine = folder / "mine.yaml"
    mine.write_text(ONE)
    library = PresetLibrary(folder, built_in)
    mine.write_text(ONE + "    angel_deg: 3\n")
    library.reload()
    assert library.find("one") is not None
    (error,) = library.errors
    assert error.path == mine
    assert error.line is not None
    assert f"{mine}:{error.line}: " in str(error)
    mine.write_text(ONE)
    library.reload()
    assert library.errors == ()


def test_a_file_that_is_gone_takes_its_presets_along(built_in: Path, folder: Path) -> None:
    (folder / "mine.yaml").write_text(ONE)
    library = PresetLibrary(folder, built_in)
    (folder / "mine.yaml").unlink()
    library.reload()
    assert library.find("one") is None
    assert library.find(1) is not None


def test_one_bad_file_does_not_harm_the_others(built_in: Path, folder: Path) -> None:
    (folder / "bad.yaml").write_text("family: [\n")
    (folder / "mine.yaml").write_text(ONE)
    library = PresetLibrary(folder, built_in)
    assert library.find("one") is not None
    assert [e.path.name for e in library.errors if e.path] == ["bad.yaml"]


@pytest.mark.parametrize(
    ("presets", "line", "says"),
    [
        (
            "  a: {move: pan, angle_deg: 1, slot: 7}\n  b: {move: tilt, angle_deg: 1, slot: 7}\n",
            4,
            "taken by",
        ),
        ("  a:\n    move: pan\n    angle_deg: 1\n    next: push-im\n", 6, 'did you mean "push-in"?'),
        ("  a:\n    move: random\n    of: [wide, wild]\n", 5, '"wild"'),
        ("  a:\n    move: pan\n    angle_deg: 1\n    duration_s: 0\n", 6, "0.05 or more, found 0"),
        ("  a:\n    move: pan\n    angle_deg: .nan\n", 5, "angle_deg"),
        ("  a:\n    move: whip-pan\n    angle_deg: 30\n    duration_s: 4\n", 6, "1.5 or less, found 4"),
        ("  a:\n    move: pan\n    angle_deg: 1\n    on_end: loop\n", 6, "ping-pong"),
        ("  a: {move: pan, angle_deg: 1, on_end: return, next: wide}\n", 3, '"next" never comes after'),
        ("  a:\n    move: pan\n    angle_deg: 1\n    easing: in-out-sin\n", 6, '"in-out-sine"'),
        ("  a:\n    move: pam\n", 4, 'did you mean "pan"?'),
        ("  a: {move: truck}\n", 3, 'needs either "right"'),
        ("  a: {move: truck, right: 1, right_m: 1}\n", 3, 'needs either "right"'),
        ("  a: {move: basic, path: up}\n", 3, "known are pan-right"),
        ("  a: {move: keyframes, frames: [{at: 0.5, zoom: 2}]}\n", 3, "must rise and end at 1"),
        ("  a: {move: handheld, sway_deg: 1, easing: in-sine}\n", 3, "expected 'linear'"),
        ("  Push In: {move: shot}\n", 3, 'small letters, digits and dashes, as in "push-in"'),
        ("  '12': {move: shot}\n", 3, "slots are"),
        ("  a: {move: shot, colour: red}\n", 3, 'expected a colour such as "#3ddc97", found red'),
        ("  a:\n    move: shot\n    colour: #ff0000\n", 5, "without quotes, what follows # is a comment"),
        ("  5: {move: shot}\n", 3, "a name is not only a number, because slots are: 5"),
        ("  a:\n    move: random\n    of: [a]\n", 5, "a: of: a preset cannot choose itself"),
        ("  a: {move: pan, angle_deg: 1, angle: 2}\n", 3, 'unknown key "angle" in presets.a'),
    ],
)
def test_what_is_wrong_with_a_preset_is_told_with_its_line(
    built_in: Path, folder: Path, presets: str, line: int, says: str
) -> None:
    mine = folder / "mine.yaml"
    mine.write_text("family: Mine\npresets:\n" + presets)
    (error,) = PresetLibrary(folder, built_in).errors
    assert says in str(error)
    assert (error.path, error.line) == (mine, line)


def test_a_name_twice_is_an_error_in_the_later_file(built_in: Path, folder: Path) -> None:
    (folder / "a.yaml").write_text(ONE)
    (folder / "b.yaml").write_text("family: B\npresets:\n  one: {move: shot}\n")
    library = PresetLibrary(folder, built_in)
    (error,) = library.errors
    assert "already used in a.yaml" in str(error)
    found = library.find("one")
    assert found is not None
    assert found.family == "Mine"


def test_a_slot_that_one_file_takes_from_another_leaves_the_other_alone(built_in: Path, folder: Path) -> None:
    """Whoever changed has made the mistake, whatever the files' order, and keeps what was good."""
    first, last = folder / "a.yaml", folder / "z.yaml"
    text = "family: F\npresets:\n"
    first.write_text(text + "  one: {move: shot, slot: 101}\n")
    last.write_text(text + "  two: {move: shot, slot: 102}\n  three: {move: shot, slot: 103}\n")
    library = PresetLibrary(folder, built_in)
    for changed in (first, last):
        good = changed.read_text()
        slot = 102 if changed is first else 101
        changed.write_text(good + f"  new: {{move: shot, slot: {slot}}}\n")
        for _ in range(2):  # and when it is read again as it is
            library.reload()
            (error,) = library.errors
            assert f"slot {slot} is already taken" in str(error)
            assert all(library.find(name) for name in ("one", "two", "three"))
            assert library.find("new") is None
        changed.write_text(good)
        library.reload()
        assert library.errors == ()


def test_a_next_that_is_gone_is_told_but_takes_no_button_away(built_in: Path, folder: Path) -> None:
    (folder / "a.yaml").write_text("family: A\npresets:\n  a: {move: pan, angle_deg: 1, next: gone}\n")
    library = PresetLibrary(folder, built_in)
    assert library.find("a") is not None
    assert len(library.errors) == 1


def test_degrees_shares_and_metres_become_a_move(built_in: Path, folder: Path) -> None:
    (folder / "a.yaml").write_text(
        "family: A\npresets:\n  a: {move: shot, pan_deg: 180, right_m: 0.5, up: 0.1, zoom: 2}\n"
        "  b: {move: random, of: [a, wide], next: b}\n"
    )
    library = PresetLibrary(folder, built_in)
    a, b = library.find("a"), library.find("b")
    assert a is not None
    assert a.move == Straight(pan=pytest.approx(3.14159265), right=Metres(0.5), up=0.1, zoom=2)
    assert b is not None
    assert (b.move, b.next) == (Choice(("a", "wide")), "b")


def test_a_changed_file_is_read_again_in_the_users_own_folder_which_is_created(
    built_in: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library_module, "user_folder", lambda: folder / "new")
    library = PresetLibrary(None, built_in)
    stop, changed = threading.Event(), threading.Event()
    thread = library.watch(stop, changed.set)
    try:
        for _ in range(50):  # until the watcher has begun to look
            if (folder / "new").is_dir():
                (folder / "new" / "mine.yaml").write_text(ONE)
            if changed.wait(0.3):
                break
        assert library.find("one") is not None
    finally:
        stop.set()
        thread.join(5)
    assert not thread.is_alive()


def test_files_are_checked_on_top_of_the_built_in_library(folder: Path) -> None:
    good, bad = folder / "good.yaml", folder / "bad.yaml"
    good.write_text("family: A\npresets:\n  a: {move: pan, angle_deg: 1, slot: 1, next: push-in}\n")
    bad.write_text("family: A\npresets:\n  a: {move: pan, angle_deg: 1, slot: 1, next: gone}\n")
    assert check_files([good]) == (1, [])
    count, errors = check_files([good, bad])
    assert count == 2
    assert [e.path for e in errors] == [bad] * 3


def test_the_built_in_library_is_good_and_complete(tmp_path: Path) -> None:
    library = PresetLibrary(tmp_path)
    assert library.errors == ()
    slots = [p.slot for p in library.presets if p.slot is not None]
    assert len(slots) == len(set(slots)) >= 24
    assert len({p.label for p in library.presets}) == len(library.presets)
    assert len([p for p in library.presets if p.kind == "basic"]) == 10
    kinds = {p.kind for p in library.presets}
    assert {
        "shot",
        "push-in",
        "orbit",
        "arc",
        "crane",
        "dolly-zoom",
        "whip-pan",
        "handheld",
        "random",
    } <= kinds


def test_built_in_presets_play_within_the_default_limits(tmp_path: Path) -> None:
    library = PresetLibrary(tmp_path)
    for preset in library.presets:
        if isinstance(preset.move, Choice):
            continue
        director = Director(Limits(), 2.5)
        director.go(preset, 0.0)
        assert director.status(0.0).limited == (), preset.name


def test_the_shots_stay_inside_the_real_cameras_picture(tmp_path: Path) -> None:
    """As the head of their file promises: for a lens of 60° and 16:9."""
    lens = Intrinsics.from_horizontal_fov(1280, 720, np.radians(60))
    corners = np.array([(x, y, 1.0) for x in (0, 1279) for y in (0, 719)]).T
    for preset in PresetLibrary(tmp_path).presets:
        if preset.family != "Shots":
            continue
        director = Director(Limits(), 2.5)
        director.go(preset, 0.0, duration_s=0.0)
        homography = np.linalg.inv(plane_homography(lens, lens, director.pose(0.0), 2.5))
        x, y, w = homography @ corners
        assert (x / w >= -0.5).all(), preset.name
        assert (x / w <= 1279.5).all(), preset.name
        assert (y / w >= -0.5).all(), preset.name
        assert (y / w <= 719.5).all(), preset.name
