"""The command, on tiny data, from weights to page."""

from __future__ import annotations

import json

import pytest
import torch
import typer
from typer.testing import CliRunner

from engine.diffusion.teacher import SHIFT_KEY, VARIANT_KEY
from engine.errors import ConfigError, EngineError
from engine.eval import session
from engine.eval.cases import SPLIT
from engine.eval.session import Request, protocol_of
from engine.model.config import model_config
from engine.model.dit import PairTransformer
from engine.model.fitting import config_metadata
from engine.model.weight_files import save_weights
from plugin import cli_eval

SMALLEST = {"drift_cases": 0, "length_cases": 0, "step_cases": 1, "steps": (1,), "loop_cases": 1}


@pytest.fixture
def command(monkeypatch):
    """With a protocol cut to a few seconds, and without the depth engine, which has its own tests."""

    def smallest(request: Request):
        return session.replace(protocol_of(request), scenes=1, frames=6, **SMALLEST)

    def missing(*size):
        raise EngineError("no network here")

    monkeypatch.setattr(session, "protocol_of", smallest)
    monkeypatch.setattr(session, "DepthEstimator", missing)
    app = typer.Typer()
    app.command("eval")(cli_eval.evaluate)
    return lambda *arguments: CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)


def test_the_command_measures_writes_and_says_what_is_absent(command, data, tmp_path):
    config = model_config("tiny")
    weights = tmp_path / "teacher.safetensors"
    torch.manual_seed(0)
    metadata = {**config_metadata(config), "layout": "trained", VARIANT_KEY: "pair", SHIFT_KEY: "3.0"}
    save_weights(weights, PairTransformer(config).state_dict(), metadata)
    json_path, report = tmp_path / "eval.json", tmp_path / "report"
    done = command(
        "--data", data, "--weights", weights, "--json", json_path, "--report", report, "--steps", 1, "--quick"
    )
    assert done.exit_code == 0
    assert "teacher" in done.output
    assert "no network here" in done.output
    found = json.loads(json_path.read_text())
    assert found["protocol"]["split"] == SPLIT
    assert set(found["tables"]["fidelity"]) == {
        "copy", "rotation", "plane", "teacher", "best plane", "true geometry", "truth"
    }  # fmt: skip
    assert found["curves"]["steps"]["psnr_db"]["teacher"]["1"]["n"] == 1
    assert [path.name for path in report.iterdir()] == ["index.html"]
    assert (report / "index.html").stat().st_size > 50_000


def test_a_size_that_is_none_is_refused(command, data):
    with pytest.raises(ConfigError, match="112x64"):
        command("--data", data, "--size", "large")


def test_large_pictures_are_looked_at_less_often():
    small, large = (
        protocol_of(Request(data=None, size=size, scenes=1, pairs=1, teacher_steps=1))
        for size in ((112, 64), (1280, 720))
    )
    assert small.pace.psnr < large.pace.psnr
    assert small.drift_to == 10_000


def test_tests_can_be_left_out_and_clips_be_shorter():
    request = Request(data=None, size=(112, 64), scenes=1, pairs=1, teacher_steps=1)
    short = protocol_of(session.replace(request, frames=33, without=("drift", "length")))
    assert (short.frames, short.drift_cases, short.length_cases) == (33, 0, 0)
    assert short.loop_cases == protocol_of(request).loop_cases > 0


def test_a_test_that_is_none_is_named(command, data):
    with pytest.raises(ConfigError, match="'taste': what can be left out is loop, identity"):
        command("--data", data, "--without", "taste")
