"""The NDI source against a real sender, in a network of its own: nothing leaves this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.errors import SourceError
from engine.frames import Colour
from plugin.clock import FakeClock
from plugin.sources.ndi import NdiSource, colour_of_size

SCENE = Path(__file__).with_name("ndi_scene.py")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pytest.importorskip("cyndilib")
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("ip"):
        pytest.skip("needs root, unshare and ip")
    folder = tmp_path_factory.mktemp("ndi")
    (folder / "ndi-config.v1.json").write_text(json.dumps({"ndi": {"networks": {"ips": "127.0.0.1,"}}}))
    done = subprocess.run(
        ["unshare", "-n", "sh", "-c", f"ip link set lo up && exec {sys.executable} {SCENE}"],
        env=os.environ | {"NDI_CONFIG_DIR": str(folder), "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.mark.ndi
def test_pictures_come_at_the_senders_rate_each_once(report: dict[str, Any]) -> None:
    assert 80 <= report["frames"] <= 96, report
    assert report["distinct"] == report["read"] >= report["frames"] - 1
    assert report["rising"]


@pytest.mark.ndi
def test_pixels_and_latency_are_right(report: dict[str, Any]) -> None:
    assert report["colour"] == "bt709"
    assert report["mean_error"] < 3, report
    assert report["age_p50_ms"] < 150, report


@pytest.mark.ndi
def test_the_sender_sees_the_tally(report: dict[str, Any]) -> None:
    assert report["tally"] == [True, False]


@pytest.mark.ndi
def test_absent_and_vanished_senders_are_errors_and_a_new_one_is_found_again(report: dict[str, Any]) -> None:
    assert "no NDI source of this name" in report["absent"]
    assert "no new picture" in report["lost"]
    assert report["back"]


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cyndilib.finder", None)
    with pytest.raises(SourceError, match="setup --with ndi"):
        NdiSource("camera", FakeClock()).open()


def test_the_colour_follows_the_size() -> None:
    matrices = [colour_of_size(*size) for size in ((720, 576), (1280, 720), (1920, 1080), (3840, 2160))]
    assert matrices == [Colour(m, False) for m in ("bt601", "bt709", "bt709", "bt2020")]  # type: ignore[arg-type]
