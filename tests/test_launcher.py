"""The command line before there is an environment: which Python, what to install, what to say."""

from __future__ import annotations

import importlib.util
import json
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import pytest

from plugin import environment
from plugin.environment import SetupError

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
THIS_PYTHON = ".".join(map(str, sys.version_info[:2]))


@pytest.fixture(scope="module")
def launcher() -> ModuleType:
    spec = importlib.util.spec_from_file_location("realcam_obs", ROOT / "realcam_obs.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("version", "verdict"),
    [((3, 9, 18), False), ((3, 10, 0), True), ((3, 12, 9), True), ((3, 13, 0), False), ((4, 0, 0), False)],
)
def test_the_suitable_pythons_are_3_10_to_3_12(launcher, version, verdict):
    assert launcher.suitable(version) is verdict


def test_the_suitable_pythons_are_those_of_pyproject(launcher):
    oldest, newest = launcher.OLDEST, launcher.NEWEST
    assert f'requires-python = ">=3.{oldest[1]},<3.{newest[1] + 1}"' in PYPROJECT


def test_the_help_of_setup_is_told_and_nothing_installed(launcher):
    command = [sys.executable, str(ROOT / "realcam_obs.py"), "setup", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    assert done.stdout.strip() == launcher.HELP.strip()
    for said in ("demo ", "presets ", "--with ndi, model, train or test"):
        assert said in done.stdout


def executable(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.skipif(os.name == "nt", reason="the stand-ins are shell scripts")
def test_another_python_is_found_on_the_path_and_a_dead_shim_is_passed_over(launcher, tmp_path, monkeypatch):
    executable(tmp_path / "python3.12", "echo 'python3.12: command not found' >&2; exit 127")
    executable(tmp_path / "python3.11", "echo 11")
    executable(tmp_path / "python3.10", "echo 10")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert launcher.find_python() == [str(tmp_path / "python3.11")]


def test_the_wrong_python_is_told_what_to_install(launcher):
    text = launcher.wrong_python((3, 13, 1))
    assert "3.10 to 3.12" in text and "This is 3.13.1" in text and "python.org" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("arguments", "extras"),
    [
        ([], set()),
        (["doctor"], set()),
        (["run", "--source", "obs"], set()),
        (["run", "--help"], set()),
        (["train", "teacher"], {"model", "train"}),
        (["data", "render"], {"model", "train"}),
        (["weights", "list"], {"model"}),
        (["weights", "export", "mine", "mine.onnx"], {"model", "train"}),
        (["bench", "live"], set()),
        (["bench", "model"], {"model"}),
        (["demo", "--engine", "student"], set()),
        (["demo", "--engine", "student", "--weights", "mine.onnx"], set()),
        (["demo", "--engine", "student", "--weights", "mine"], {"model"}),
        (["run", "--source", "obs", "--engine=student", "--model=wan-1.3b"], {"model"}),
        (["run", "--model", "wan2.2-5b"], {"model"}),
        (["setup"], set()),
        (["setup", "--with", "ndi"], {"ndi"}),
        (["setup", "--with", "model"], {"model"}),
        (["setup", "--with", "train"], {"model", "train"}),
        (["setup", "--with=ndi", "--with", "test"], {"ndi", "test"}),
        (["test", "-k", "osc"], {"model", "ndi", "test", "train"}),
    ],
)
def test_a_command_brings_the_extras_that_it_needs(arguments, extras):
    assert environment.wanted_extras(arguments) == extras


@pytest.mark.parametrize("options", [["--with"], ["--with", "cuda"], ["--without", "ndi"], ["ndi"]])
def test_setup_refuses_what_it_does_not_know(options):
    with pytest.raises(SetupError, match="--with model"):
        environment.wanted_extras(["setup", *options])


def test_the_extras_are_those_of_pyproject():
    for extra in environment.EXTRAS:
        assert f"\n{extra} = [" in PYPROJECT


def test_the_fingerprint_changes_with_each_of_its_parts():
    one = environment.fingerprint(b"a", frozenset({"ndi"}), "3.11")
    others = [
        environment.fingerprint(b"b", frozenset({"ndi"}), "3.11"),
        environment.fingerprint(b"a", frozenset(), "3.11"),
        environment.fingerprint(b"a", frozenset({"ndi"}), "3.12"),
    ]
    assert len({one, *others}) == 4


def test_torch_comes_from_where_it_fits_the_machine(monkeypatch):
    monkeypatch.setattr(environment, "_reachable", lambda url: True)
    assert environment.torch_index("Windows", True, {}) == environment.TORCH_CUDA_INDEX
    assert environment.torch_index("Windows", False, {}) is None
    assert environment.torch_index("Linux", True, {}) is None
    assert environment.torch_index("Linux", False, {}) == environment.TORCH_CPU_INDEX
    assert environment.torch_index("Darwin", False, {}) is None
    chosen = {environment.TORCH_INDEX_VARIABLE: "https://example.org/whl"}
    assert environment.torch_index("Linux", False, chosen) == "https://example.org/whl"


def test_an_index_out_of_reach_leaves_the_choice_to_pip(monkeypatch):
    monkeypatch.setattr(environment, "_reachable", lambda url: False)
    assert environment.torch_index("Linux", False, {}) is None


def test_torch_is_installed_first_when_it_has_an_index_of_its_own():
    runs = environment.pip_installs(PYPROJECT, frozenset({"model", "ndi"}), "https://x/whl", Path("/here"))
    assert runs[0][:2] == ["--index-url", "https://x/whl"] and runs[0][2].startswith("torch>=")
    assert runs[1] == ["--editable", "/here[model,ndi]"]
    assert environment.pip_installs(PYPROJECT, frozenset(), None, Path("/here")) == [["--editable", "/here"]]


@pytest.mark.parametrize(
    ("said", "advised"),
    [
        ("NewConnectionError('<...>: Failed to establish a new connection')", "could not be reached"),
        ("The virtual environment was not created because ensurepip is not available", "python3-venv"),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("ERROR: something else", "remove the folder .venv"),
    ],
)
def test_a_failed_setup_shows_the_last_lines_and_says_what_to_do(said, advised):
    text = environment.advice("installing", [f"line {n}" for n in range(30)] + [said], 1, Path("/x.log"))
    assert said in text and advised in text and "/x.log" in text
    assert "line 29" in text and "line 2\n" not in text


def test_what_is_there_already_is_not_told(capfd):
    said = "print('Requirement already satisfied: numpy'); print('Collecting av')"
    with subprocess.Popen([sys.executable, "-c", said], stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert len(list(environment._live("installing", process))) == 2
    shown = capfd.readouterr().err
    assert "Collecting av" in shown
    assert "numpy" not in shown


def test_a_silent_command_says_every_two_seconds_that_it_lives(capfd):
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(2.6); print('done')"],
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    assert list(environment._live("waiting", process)) == ["done"]
    process.wait()
    assert process.stdout
    process.stdout.close()
    assert "waiting    2 s" in capfd.readouterr().err


def fake_venv(folder: Path, home: Path) -> Path:
    python = environment.venv_python(folder)
    python.parent.mkdir(parents=True)
    python.touch()
    (folder / "pyvenv.cfg").write_text(f"home = {home}\nversion = {THIS_PYTHON}.7\n", encoding="utf-8")
    return folder


def test_an_environment_whose_python_is_gone_is_broken(tmp_path):
    assert environment.venv_version(tmp_path / "none") is None
    assert environment.venv_version(fake_venv(tmp_path / "whole", tmp_path)) == THIS_PYTHON
    assert environment.venv_version(fake_venv(tmp_path / "broken", tmp_path / "uninstalled")) is None


@pytest.fixture
def project(tmp_path, monkeypatch) -> tuple[Path, list[frozenset[str]]]:
    """A folder with a pyproject.toml, and the list of setups that were made in it."""
    (tmp_path / "pyproject.toml").write_text("[project]\n", encoding="utf-8")
    made: list[frozenset[str]] = []

    def set_up(folder: Path, venv: Path, extras: frozenset[str], pyproject: bytes) -> None:
        made.append(extras)
        if not venv.exists():
            fake_venv(venv, tmp_path)
        marker = {
            "fingerprint": environment.fingerprint(pyproject, extras, THIS_PYTHON),
            "extras": sorted(extras),
        }
        (venv / environment.MARKER).write_text(json.dumps(marker), encoding="utf-8")

    monkeypatch.setattr(environment, "_set_up", set_up)
    return tmp_path, made


def test_the_environment_is_made_once_and_grows_by_the_extras_that_are_asked_for(project):
    folder, made = project
    venv = folder / ".venv"
    none, ndi = frozenset[str](), frozenset({"ndi"})
    for wanted in (none, none, ndi, none, ndi):
        environment.ensure(folder, venv, wanted)
    assert made == [none, ndi]


@pytest.mark.parametrize("harm", ["pyproject", "marker", "python"])
def test_the_environment_is_redone_when_it_is_no_longer_right(project, harm):
    folder, made = project
    venv = folder / ".venv"
    environment.ensure(folder, venv, frozenset({"ndi"}))
    if harm == "pyproject":
        (folder / "pyproject.toml").write_text("[project]\nname = 'new'\n", encoding="utf-8")
    elif harm == "marker":
        (venv / environment.MARKER).write_text("{", encoding="utf-8")
    else:
        environment.venv_python(venv).unlink()
    environment.ensure(folder, venv, frozenset({"ndi"}))
    assert len(made) == 2


@pytest.mark.parametrize("sound", [True, False])
def test_an_extra_that_cannot_be_had_leaves_a_working_environment_as_it_was(tmp_path, monkeypatch, sound):
    def no_network(title: str, command: list[str], log: Path | None) -> None:
        raise SetupError("The package index could not be reached.")

    monkeypatch.setattr(environment, "_run", no_network)
    monkeypatch.setattr(environment, "_has_pip", lambda python: True)
    (tmp_path / "pyproject.toml").write_text("[project]\n", encoding="utf-8")
    venv = fake_venv(tmp_path / ".venv", tmp_path)
    pyproject = b"[project]\n" if sound else b"of an earlier version"
    found = environment.fingerprint(pyproject, frozenset(), THIS_PYTHON)
    marker = json.dumps({"fingerprint": found, "extras": []})
    (venv / environment.MARKER).write_text(marker, encoding="utf-8")
    with pytest.raises(SetupError):
        environment.ensure(tmp_path, venv, frozenset({"model"}))
    assert environment.is_finished(venv) is sound
    if sound:
        environment.ensure(tmp_path, venv, frozenset())  # and asks for no network


def test_two_setups_at_once_wait_for_each_other(project):
    folder, made = project
    with environment._only_one_setup(folder / ".venv"):
        second = threading.Thread(target=environment.ensure, args=(folder, folder / ".venv", frozenset()))
        second.start()
        time.sleep(0.5)
        assert not made
    second.join(10)
    assert len(made) == 1


@pytest.mark.slow
def test_a_broken_environment_is_made_anew_and_used(tmp_path):
    """A real one, of a project without dependencies that brings its own plugin.cli."""
    for name in ("realcam_obs.py", "plugin/__init__.py", "plugin/environment.py"):
        target = tmp_path / name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    (tmp_path / "plugin" / "cli.py").write_text(
        "import sys\nprint('arrived', sys.argv[1:])\n", encoding="utf-8"
    )
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools>=77"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "tiny"\nversion = "1"\n[tool.setuptools]\npackages = ["plugin"]\n',
        encoding="utf-8",
    )
    (tmp_path / ".venv" / "bin").mkdir(parents=True)

    def start(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(tmp_path / "realcam_obs.py"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=150, cwd=tmp_path.parent)

    before = start("--help")
    assert before.returncode == 0 and "doctor" in before.stdout and not before.stderr
    first = start("doctor", "two words")
    assert first.stdout == "arrived ['doctor', 'two words']\n", first.stderr
    assert "making it anew" in first.stderr
    second = start("doctor")
    assert second.stdout == "arrived ['doctor']\n" and not second.stderr
