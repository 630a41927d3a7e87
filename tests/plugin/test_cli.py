"""The command line as a user meets it: its help, its errors, and clean ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import get_args

import av
import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from plugin import cli
from plugin.bench import free_port
from plugin.cli import EXAMPLE, app
from plugin.config import MemorySinkConfig, SessionConfig
from plugin.demo import CLIP
from plugin.session import engine_settings
from plugin.strict_yaml import load

README = EXAMPLE.parents[1] / "README.md"


def realcam(*arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "plugin.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def ports() -> list[str]:
    return ["--osc-port", str(free_port()), "--web-port", str(free_port(socket.SOCK_STREAM))]


@pytest.mark.parametrize(
    "command", [[], ["demo"], ["run"], ["presets"], ["obs"], ["doctor"], ["bench"], ["bench", "live"]]
)
def test_every_command_explains_itself(command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_the_example_session_is_valid_and_shows_the_defaults(tmp_path: Path) -> None:
    printed = realcam("run", "--example").stdout
    path = tmp_path / "session.yaml"
    path.write_text(printed, encoding="utf-8")
    config = load(path, SessionConfig)
    defaults = SessionConfig(source=config.source, sinks=config.sinks)
    assert config == defaults
    assert printed == EXAMPLE.read_text(encoding="utf-8")


def test_the_example_session_has_everything_that_can_be_set() -> None:
    shown = EXAMPLE.read_text(encoding="utf-8")
    only_for_tests = MemorySinkConfig
    for model in parts_of(SessionConfig) - {only_for_tests}:
        for key in model.model_fields:
            assert re.search(rf"\b{key}:|`{key}`", shown), f"{key} of {model.__name__}"


def parts_of(kind: object) -> set[type[BaseModel]]:
    """The models in an annotation, and all that they are made of."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {kind}.union(*(parts_of(field.annotation) for field in kind.model_fields.values()))
    return set().union(*map(parts_of, get_args(kind)))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], ["name a source", "--source"]),
        (["run", "--source", "pattern", "--size", "huge"], ["1280x720", "huge"]),
        (["run", "--source", "pattern", "--size", "1281x720"], ["width", "1281"]),
        (["run", "--source", "pattern", "--rate", "fast"], ["output.rate", "30000/1001", "fast"]),
        (["run", "--source", "pattern", "--rate", "30/0"], ["output.rate", "30000/1001", "30/0"]),
        (["run", "--source", "pattern", "--weights", "nope.onnx"], ["no file nope.onnx", "weights list"]),
        (["run", "--source", "pattern", "--frobnicate"], ["python realcam_obs.py run --help"]),
        (["run", "--source", "teapot"], ["teapot"]),
        (["run", "--source", "rtsp://[fe80::1/x"], ["url: expected an address such as", "rtsp://[fe80::1/x"]),
        (["run", "--source", "pattern", "--size", "²x2"], ["1280x720", "²x2"]),
        (["run", "--source", str(CLIP), "--sink", f"file:{CLIP}"], ["is what is played", "another file"]),
        (["run", "--source", "[/teapot]"], ["[/teapot]"]),
        (["run", "--source", "pattern", "--sink", "teapot"], ["teapot"]),
        (["run", "--config", "nowhere.yaml"], ["nowhere.yaml"]),
        (["run", "--source", "pattern", "--sink", "memory", "--presets", "myne"], ["myne", "folder"]),
        (["demo", "--input", "nowhere.mp4", "--no-browser"], ["nowhere.mp4"]),
        (["demo", "--no-browser", "--json", "/dev/null/x.json"], ["/dev/null/x.json cannot be written"]),
        (["demo", "--no-browser", "--output", "/dev/null/x.mp4"], ["/dev/null/x.mp4 cannot be written"]),
        (["presets", "plot", "wide", "--out", "/tmp/realcam-plot.txt"], ["cannot be written", ".png"]),
        (["presets", "show", "9"], ["there is no preset '9'", "slots are 1–6, 11–17"]),
        (["presets", "show", "zzzzz"], ["there is no preset 'zzzzz'", "presets list"]),
    ],
)
def test_a_mistake_is_answered_with_one_paragraph(arguments: list[str], words: list[str]) -> None:
    result = realcam(*arguments)
    said = " ".join((result.stderr + result.stdout).split())
    assert result.returncode == 2
    assert "Traceback" not in said
    assert len(said) < 700
    for word in words:
        assert word in said


def test_what_is_redirected_can_be_read_whatever_the_systems_encoding(tmp_path: Path) -> None:
    """As on Windows, where a file would be in a code page that has no arrows."""
    environment = os.environ | {"PYTHONIOENCODING": "cp1252"}
    command = [sys.executable, "-m", "plugin.cli", "run", "--example"]
    with (tmp_path / "session.yaml").open("wb") as file:
        subprocess.run(command, stdout=file, env=environment, check=True, timeout=60)
    assert (tmp_path / "session.yaml").read_text(encoding="utf-8") == EXAMPLE.read_text(encoding="utf-8")


def test_every_mistake_of_a_session_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "show.yaml"
    path.write_text("source: {kind: pattern}\nsinks: [{kind: memory}]\noutput: {width: 1}\nweb: {port: x}\n")
    result = realcam("run", "--config", str(path))
    assert result.returncode == 2
    assert [line.partition(": ")[2] for line in result.stderr.splitlines()] == [
        f"{path}:3: output.width: expected a multiple of 2, found 1",
        f'{path}:4: web.port: expected a whole number, found "x"',
    ]


def test_the_students_flags_reach_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[SessionConfig] = []
    monkeypatch.setattr(cli, "_go_on_air", lambda config, verbose: started.append(config))
    flags = ["--model", "wan-1.3b", "--weights", "student", "--codec", "vae"]
    result = CliRunner().invoke(app, ["run", "--source", "pattern", *flags])
    assert result.exit_code == 0, result.output
    settings = engine_settings(started[0])
    assert (settings.model, settings.weights, settings.codec) == ("wan-1.3b", "student", "vae")


def test_an_unknown_key_in_a_session_file_names_file_line_and_the_nearest_key(tmp_path: Path) -> None:
    path = tmp_path / "session.yaml"
    path.write_text("source: {kind: pattern}\nsinks: [{kind: memory}]\noutput:\n  hight: 720\n")
    result = realcam("run", "--config", str(path))
    said = " ".join(result.stderr.split())
    assert result.returncode == 2
    assert "session.yaml:4" in said
    assert "height" in said


def test_a_port_in_use_is_one_paragraph() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        result = realcam("run", "--source", "pattern", "--sink", "memory", "--osc-port", str(port))
    assert result.returncode == 2
    words = f"osc: cannot listen on 127.0.0.1 UDP port {port}"
    assert words in result.stderr
    assert words.replace(str(port), "9000") in README.read_text(encoding="utf-8")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_show_cleanly_and_finishes_the_recording(how: signal.Signals, tmp_path: Path) -> None:
    clip = tmp_path / "out.mp4"
    arguments = ["--source", "pattern", "--sink", f"file:{clip}", "--size", "320x180", *ports()]
    web_port = arguments[-1]
    process = subprocess.Popen(
        [sys.executable, "-m", "plugin.cli", "run", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for_frames(int(web_port), 45)
        process.send_signal(how)
        _, errors = process.communicate(timeout=15)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    with av.open(str(clip)) as container:
        assert sum(1 for _ in container.decode(video=0)) > 30


def wait_for_frames(web_port: int, frames: int) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{web_port}/state", timeout=1) as answer:
                if json.load(answer)["output"]["sent"] >= frames:
                    return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("never on air")


@pytest.mark.slow
def test_the_demo_moves_the_bundled_clip_and_says_how_fast(tmp_path: Path) -> None:
    clip, figures_path = tmp_path / "demo.mp4", tmp_path / "demo.json"
    result = realcam("demo", "--output", str(clip), "--json", str(figures_path), "--no-browser")
    assert result.returncode == 0, result.stderr
    figures = json.loads(figures_path.read_text())
    assert len(set(figures["presets"])) >= 3
    assert figures["dropped"] == 0
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        frames = sum(1 for _ in container.decode(stream))
        assert (stream.width, stream.height, stream.average_rate) == (1280, 720, 30)
        assert frames >= 300
    assert abs(figures["frames_out"] - frames) <= 2


@pytest.mark.slow
def test_bench_live_measures_from_the_pixels(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    result = realcam("bench", "live", "--seconds", "5", "--json", str(path), "--engine-delay-ms", "100")
    assert result.returncode == 0, result.stderr
    figures = json.loads(path.read_text())
    assert {"p50", "p99"} == set(figures["output_interval_ms"])
    assert {"p50", "p95"} == set(figures["control_to_photon_ms"]) == set(figures["glass_to_glass_ms"])
    assert figures["commands_seen"] >= figures["commands"] - 1 > 3
    assert 0 < figures["control_to_photon_ms"]["p50"] < 100
    assert 100 < figures["glass_to_glass_ms"]["p50"] < 400
    assert {"cpu_cores", "dropped", "repeated", "rss_mb"} <= set(figures)
    assert path.stat().st_size > 0


@pytest.mark.parametrize("flag", ["--compile", "--fp8"])
def test_what_only_a_gpu_does_is_not_measured_of_the_mini(flag):
    result = CliRunner().invoke(app, ["bench", "model", "--size", "mini", flag])
    assert result.exit_code == 2
    assert "the mini runs on the processor" in " ".join(result.output.replace("│", " ").split())
