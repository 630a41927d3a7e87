from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from engine.diffusion.onnx_student import OnnxStudent
from engine.errors import ConfigError, WeightsError
from engine.model import weights
from engine.model.config import model_config
from engine.model.dit import PairTransformer
from engine.model.fitting import config_metadata
from engine.model.weight_files import save_weights
from plugin.cli_weights import app


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(weights, "user_folder", lambda: tmp_path / "user")
    monkeypatch.setattr(weights, "BUNDLED_FOLDER", tmp_path / "bundled")
    return tmp_path / "user"


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A tiny Wan, as its makers would publish it."""
    state = PairTransformer(model_config("tiny")).state_dict()
    path = tmp_path / "published.pth"
    torch.save({k: v for k, v in state.items() if not k.startswith(("stream", "empty", "plucker"))}, path)
    return path


def run(*arguments: str) -> str:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, list(arguments))
    if result.exception is not None:
        raise result.exception
    return result.output


def test_import_tells_what_matched_and_how_the_weights_are_called(published: Path, folder: Path) -> None:
    said = run("import", str(published), "--as", "mine")
    assert "Wan's transformer, original names" in said
    assert "69 tensors" in said and "4 tensors, zeros" in said
    assert "They are called mine" in said and (folder / "mine.safetensors").is_file()


def test_list_shows_imported_weights_and_broken_ones(published: Path, folder: Path) -> None:
    assert str(folder) in run("list")
    run("import", str(published))
    (folder / "broken.safetensors").write_bytes(b"[bold]nothing")
    said = run("list")
    row = next(line for line in said.splitlines() if line.startswith("tiny"))
    assert row.split() == ["tiny", "tiny", "wan", "plucker", "float32", *row.split()[-2:]]
    assert row.endswith("MB") and "neither safetensors" in said


def test_show_describes_a_file_and_a_name(published: Path) -> None:
    said = run("show", str(published))
    assert "Wan's transformer, original names" in said and "stream_embedding" in said
    run("import", str(published))
    said = run("show", "tiny")
    assert "RealCam's own transformer" in said and "metadata source_sha256" in said
    assert "73" in said and "plucker" in said and "float32" in said


def test_a_file_that_cannot_be_used_is_an_error_for_the_user(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_text("nothing of the kind")
    with pytest.raises(WeightsError, match=r"w\.pt"):
        run("import", str(tmp_path / "w.pt"))
    with pytest.raises(WeightsError, match="there are no weights 'unknown'"):
        run("show", "unknown")


def test_a_student_is_exported_for_machines_without_torch(tmp_path: Path) -> None:
    trained, exported = tmp_path / "mini.safetensors", tmp_path / "mini.onnx"
    config = model_config("mini")
    save_weights(
        trained, PairTransformer(config).state_dict(), {**config_metadata(config), "layout": "trained"}
    )
    assert str(exported) in run("export", str(trained), str(exported))
    assert OnnxStudent(exported).size == config.size
    with pytest.raises(ConfigError, match=r"\*\.onnx"):
        run("export", str(trained), str(tmp_path / "mini.bin"))
