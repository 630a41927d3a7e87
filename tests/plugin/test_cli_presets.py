from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from engine.errors import ConfigError
from plugin.cli_presets import app
from plugin.library import PresetLibrary

BAD = "family: A\npresets:\n  a:\n    move: pan\n    angel_deg: 1\n"


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner(env={"COLUMNS": "160"}).invoke(app, list(arguments))
    if isinstance(result.exception, ConfigError):
        raise result.exception
    return result.exit_code, result.output


def picture_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def test_the_list_shows_every_preset_and_the_users_folder(tmp_path: Path) -> None:
    code, said = run("list", "--folder", str(tmp_path))
    assert code == 0
    assert all(preset.name in said for preset in PresetLibrary(tmp_path).presets)
    assert str(tmp_path) in said


def test_check_is_content_with_the_built_in_library(tmp_path: Path) -> None:
    code, said = run("check", "--folder", str(tmp_path))
    assert code == 0
    assert "all good" in said


@pytest.mark.parametrize("named", [True, False])
def test_check_exits_with_1_and_says_file_and_line(tmp_path: Path, named: bool) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(BAD)
    code, said = run("check", *([str(bad)] if named else ["--folder", str(tmp_path)]))
    assert code == 1
    assert f"{bad}:5: " in said.replace("\n", "")


def test_show_tells_a_presets_amounts_in_the_operators_units(tmp_path: Path) -> None:
    _, said = run("show", "arc-left", "--folder", str(tmp_path))
    assert "-12°" in said
    assert "0.28 of the distance" in said
    assert "pan 26°" in run("show", "74", "--folder", str(tmp_path))[1]
    assert "linger-wide" in run("show", "autopilot", "--folder", str(tmp_path))[1]


def test_an_unknown_preset_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the nearest is 'push-in'"):
        run("show", "push-inn", "--folder", str(tmp_path))


@pytest.mark.parametrize("name", ["push-and-return", "crane-high"])
def test_plot_draws_the_way_the_subject_and_three_pictures(tmp_path: Path, name: str) -> None:
    grey = tmp_path / "grey.png"
    out = tmp_path / "plot.png"
    run("plot", name, "--out", str(grey), "--folder", str(tmp_path))
    code, _ = run("plot", name, "--picture", str(grey), "--out", str(out), "--folder", str(tmp_path))
    assert code == 0
    drawn = picture_of(out)
    assert drawn.shape == (900, 1600, 3)
    assert (np.abs(drawn.astype(int) - (242, 193, 78)).max(axis=2) < 6).sum() > 300  # the subject, twice


def test_a_choice_cannot_be_plotted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="plot one of those"):
        run("plot", "surprise", "--folder", str(tmp_path))


def test_a_picture_that_is_none_is_named(tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("no picture")
    with pytest.raises(ConfigError, match=r"no picture in .*text\.png"):
        run("plot", "wide", "--picture", str(text), "--out", str(tmp_path / "a.png"))


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        run("plot", "wide", "--out", str(tmp_path / "nowhere" / "a.png"))
