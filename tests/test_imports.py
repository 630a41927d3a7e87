"""Imports go one way: realcam_obs → plugin → engine. Read from the source, so nothing is imported here."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

INSIDE_OBS = sorted(
    ROOT / "plugin" / "obs" / f"{name}.py"
    for name in ("script", "tap", "relay", "scene", "sidecar", "data", "own_input")
)
BEFORE_INSTALLATION = [
    ROOT / "realcam_obs.py",
    ROOT / "plugin" / "environment.py",
    ROOT / "plugin" / "__init__.py",
]
READING_DATA = sorted((ROOT / "engine" / "data").glob("*.py"))


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """The full names of what a file imports anywhere in it, "from a import b" as a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def offenders(paths: list[Path], allowed) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in paths
        for name in imported(path)
        if not allowed(name)
    ]


def is_standard(name: str) -> bool:
    return name.partition(".")[0] in sys.stdlib_module_names


def test_the_engine_knows_nothing_of_the_plugin():
    assert not offenders(modules("engine"), lambda name: not within(name, "plugin"))


def test_nothing_imports_the_launcher():
    assert not offenders(modules("engine") + modules("plugin"), lambda name: not within(name, "realcam_obs"))


def test_the_plugin_imports_no_torch():
    assert not offenders(modules("plugin"), lambda name: not within(name, "torch"))


def test_the_camera_needs_numpy_and_the_errors_only():
    allowed = ("numpy", "engine.camera", "engine.errors")
    found = offenders(
        modules("engine/camera"), lambda name: is_standard(name) or any(within(name, one) for one in allowed)
    )
    assert not found


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("model", ("engine.diffusion", "engine.engines", "engine.train", "engine.eval", "engine.data")),
        ("diffusion", ("engine.engines", "engine.train", "engine.eval", "engine.data")),
        ("geometry", ("engine.diffusion", "engine.engines", "engine.train", "engine.eval", "engine.data")),
        ("engines", ("engine.train", "engine.eval", "engine.data")),
        ("data", ("engine.engines", "engine.train", "engine.eval")),
    ],
)
def test_inside_the_engine_imports_go_one_way(folder, forbidden):
    found = offenders(
        modules(f"engine/{folder}"), lambda name: not any(within(name, package) for package in forbidden)
    )
    assert not found


@pytest.mark.parametrize(
    ("files", "allowed"),
    [
        (READING_DATA, tuple(f"engine.data.{path.stem}" for path in READING_DATA)),
        (modules("engine/data/render"), ("engine.data.render",)),
        (
            modules("engine/data/scenes"),
            ("engine.data.scenes", "engine.data.render", "engine.data.layout", "engine.data.splits"),
        ),
        (
            modules("engine/data/bake"),
            ("engine.data.bake", "engine.data.scenes", "engine.data.render", "engine.data.layout"),
        ),
    ],
    ids=["reading", "render", "scenes", "bake"],
)
def test_inside_the_data_imports_go_one_way(files, allowed):
    found = offenders(
        files,
        lambda name: not within(name, "engine.data") or any(within(name, package) for package in allowed),
    )
    assert files and not found


def test_training_and_evaluation_know_data_as_files_only():
    making = ("engine.data.bake", "engine.data.scenes", "engine.data.render")
    found = offenders(
        modules("engine/train") + modules("engine/eval"),
        lambda name: not any(within(name, package) for package in making),
    )
    assert not found


@pytest.mark.parametrize("path", INSIDE_OBS, ids=lambda path: path.name)
def test_inside_obs_there_is_only_the_standard_library(path):
    """OBS runs the system's Python, which has none of our packages."""
    others = {f"plugin.obs.{other.stem}" for other in INSIDE_OBS}
    found = offenders(
        [path],
        lambda name: (
            is_standard(name) or within(name, "obspython") or any(within(name, other) for other in others)
        ),
    )
    assert not found


@pytest.mark.parametrize("path", BEFORE_INSTALLATION, ids=lambda path: path.name)
def test_what_runs_before_the_installation_needs_nothing_installed(path):
    def allowed(name: str) -> bool:
        return is_standard(name) or name == "plugin.environment" or name.startswith("plugin.obs.script.")

    assert not offenders([path], allowed)
