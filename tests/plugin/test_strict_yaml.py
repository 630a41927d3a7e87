from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import ConfigError
from plugin.config import EngineConfig, FileSinkConfig, FileSourceConfig, SessionConfig
from plugin.strict_yaml import load, load_document

SESSION = "source: {kind: pattern}\nsinks:\n  - kind: preview\n"


def refusal(tmp_path: Path, text: str) -> ConfigError:
    path = tmp_path / "session.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        load(path, SessionConfig)
    assert refused.value.path == path
    assert str(path) in str(refused.value)
    return refused.value


def test_the_example_session_loads() -> None:
    load(Path("plugin/session.example.yaml"), SessionConfig)


def test_a_good_file_becomes_the_model(tmp_path: Path) -> None:
    path = tmp_path / "session.yaml"
    path.write_text("\ufeff" + SESSION + "output:\n  rate: 29.97\n", encoding="utf-8")
    assert str(load(path, SessionConfig).output.rate) == "30000/1001"


def test_paths_start_at_the_folder_of_the_session_file(tmp_path: Path) -> None:
    path = tmp_path / "session.yaml"
    (tmp_path / "student.onnx").touch()
    path.write_text(
        "source: {kind: file, path: clips/a.mp4}\n"
        "sinks: [{kind: file, path: /tmp/out.mp4}]\n"
        "presets: {folder: mine}\npicture: {slate: slate.png}\n"
        "engine: {prompt: ../words.safetensors, weights: student.onnx}\n"
    )
    session = load(path, SessionConfig)
    assert isinstance(session.source, FileSourceConfig) and isinstance(session.sinks[0], FileSinkConfig)
    assert session.source.path == tmp_path / "clips" / "a.mp4"
    assert session.sinks[0].path == Path("/tmp/out.mp4")
    assert session.presets.folder == tmp_path / "mine"
    assert session.picture.slate == tmp_path / "slate.png"
    assert session.engine.prompt == tmp_path / ".." / "words.safetensors"
    assert session.engine.weights == str(tmp_path / "student.onnx")


def test_weights_that_are_no_file_there_are_a_name(tmp_path: Path) -> None:
    path = tmp_path / "session.yaml"
    path.write_text(SESSION + "engine: {weights: my-weights}\n")
    assert load(path, SessionConfig).engine.weights == "my-weights"


def test_weights_of_a_flag_stay_as_they_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mini").touch()
    assert EngineConfig(weights="./mini").weights == "./mini"  # "mini" would be a name


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (
            "source:\n  kind: obs\n  prot: 3\nsinks: [{kind: preview}]\n",
            3,
            'unknown key "prot" in source; did you mean "port"?',
        ),
        (SESSION + "camera:\n  limits:\n    pan_degg: 4\n", 6, 'in camera.limits; did you mean "pan_deg"?'),
        (SESSION + "  - kind: virtual-camera\n    devise: x\n", 5, 'in sinks[2]; did you mean "device"?'),
        (SESSION + "xyzzy: 1\n", 4, "known are source, sinks, output"),
        (
            "source:\n  kind: obbs\nsinks: [{kind: preview}]\n",
            2,
            'there is no kind "obbs"; did you mean "obs"?',
        ),
        (
            "source:\n  port: 1\nsinks: [{kind: preview}]\n",
            1,
            '"kind" is missing in source; it is one of file, device',
        ),
        ("source: {kind: pattern}\n", 1, '"sinks" is missing'),
        ("source: {kind: ndi}\nsinks: [{kind: preview}]\n", 1, '"name" is missing in source'),
        (SESSION + "    width: 65\n", 4, "sinks[1].width: expected a multiple of 2, found 65"),
        (SESSION + "output:\n  width: wide\n", 5, 'output.width: expected a whole number, found "wide"'),
        (
            SESSION + "output:\n  rate: 1000\n",
            5,
            "output.rate: a frame rate lies between 1 and 240, not 1000",
        ),
        (SESSION + "picture:\n  overscan: 0.9\n", 5, "expected 0.4 or less, found 0.9"),
        (SESSION + "picture:\n  border: mirrored\n", 5, "expected 'mirror' or 'colour', found \"mirrored\""),
        (SESSION + "osc:\n  allow: [a, {}]\n", 5, "osc.allow[2]: expected text, found a mapping"),
        (SESSION + "web:\n  enabled: maybe\n", 5, 'web.enabled: expected true or false, found "maybe"'),
        ("source: {kind: pattern}\nsinks:\n", 2, "sinks: expected a list, found nothing"),
        ("source: {kind: pattern}\nsinks: []\n", 2, "expected a list of 1 or more, found a list of 0"),
        ("- a\n", 1, "the file: expected a mapping, found a list of 1"),
        ("", 1, "is empty"),
        (
            SESSION + "    width: 640\n    width: 960\n",
            5,
            '"width" stands here a second time; it is already on line 4',
        ),
        (SESSION + "web: {port: 1, port: 2}\n", 4, '"port" stands here a second time'),
        ("source: {kind: pattern\nsinks:\n", 2, "this is not YAML"),
        ("source:\n\tkind: pattern\n", 2, "indent with spaces, not with tabs"),
        (
            SESSION + "output:\n  rate: 1/0\n",
            5,
            "a frame rate is written as 30, 29.97 or 30000/1001, not 1/0",
        ),
        ("a: " + "[" * 2000, None, "is nested too deeply"),
        (SESSION + "output:\n  rate: 29,97\n", 5, "a frame rate is written as 30, 29.97 or 30000/1001"),
        ("source: &a [*a]\n", 1, "source"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, text: str, line: int, says: str) -> None:
    error = refusal(tmp_path, text)
    assert says in str(error)
    assert error.line == line


def test_all_of_several_errors_are_told(tmp_path: Path) -> None:
    error = refusal(tmp_path, SESSION + "output:\n  width: 1\nweb:\n  port: x\n")
    assert (error.line, [other.line for other in error.others]) == (5, [7])
    assert "output.width" in str(error) and "web.port" in str(error.others[0])


def test_a_misspelt_key_is_told_before_the_key_that_is_missing_for_it(tmp_path: Path) -> None:
    error = refusal(tmp_path, SESSION.replace("sinks", "sink"))
    assert 'did you mean "sinks"?' in str(error)


def test_no_object_is_ever_built(tmp_path: Path) -> None:
    error = refusal(
        tmp_path, f"source: !!python/object/apply:pathlib.Path.touch ['{tmp_path / 'touched'}']\n"
    )
    assert error.line == 1
    assert not (tmp_path / "touched").exists()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml: cannot be read: No such file"):
        load(tmp_path / "gone.yaml", SessionConfig)
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        load(tmp_path / "latin.yaml", SessionConfig)
    (tmp_path / "date.yaml").write_text("source: 2024-99-99\n")
    with pytest.raises(ConfigError, match=r"month must be in 1\.\.12"):
        load(tmp_path / "date.yaml", SessionConfig)


def test_no_message_speaks_of_the_library_that_checks(tmp_path: Path) -> None:
    for text in (SESSION + "engine: 3\n", SESSION + "osc: {port: 99999}\n", SESSION + "web: {port: 1.5}\n"):
        said = str(refusal(tmp_path, text)).lower()
        assert "pydantic" not in said
        assert "input should" not in said


def test_a_document_knows_the_line_of_every_key(tmp_path: Path) -> None:
    path = tmp_path / "session.yaml"
    path.write_text(SESSION + "web:\n  port: 9005\n", encoding="utf-8")
    document = load_document(path, SessionConfig)
    assert document.line("web", "port") == 5
    assert document.line("sinks", 0) == 3
    assert document.line("web", "host") == 4
