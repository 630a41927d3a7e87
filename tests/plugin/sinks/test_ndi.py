from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from engine.errors import SinkError
from plugin.sinks.base import OutputFormat
from plugin.sinks.ndi import NdiSink

REPOSITORY = Path(__file__).parents[3]
SCRIPT = REPOSITORY / "tests" / "ndi" / "sink_checks.py"
ONLY_LOOPBACK = '{"ndi": {"networks": {"ips": "127.0.0.1,"}}}'

needs_ndi = pytest.mark.ndi


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, cannot_run: Callable[[str], NoReturn]) -> dict[str, Any]:
    """What a receiver saw of our sender, in a network namespace that nothing leaves."""
    if importlib.util.find_spec("cyndilib") is None:
        cannot_run("needs the extra ndi: pip install -e .[ndi]")
    if not (shutil.which("unshare") and shutil.which("ip") and os.geteuid() == 0):
        cannot_run("needs a network namespace: root, unshare (util-linux) and ip (iproute2)")
    folder = tmp_path_factory.mktemp("ndi")
    (folder / "ndi-config.v1.json").write_text(ONLY_LOOPBACK)
    done = subprocess.run(
        ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", sys.executable, SCRIPT],
        cwd=REPOSITORY,
        env={**os.environ, "NDI_CONFIG_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=90,
    )
    reports = [line for line in done.stdout.splitlines() if line.startswith("REPORT ")]
    assert reports, f"the check ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    report: dict[str, Any] = json.loads(reports[0].removeprefix("REPORT "))
    return report


@needs_ndi
def test_a_receiver_gets_distinct_pictures_in_order_at_the_rate(seen: dict[str, Any]) -> None:
    received = seen["received"]
    assert received["rate"] == "30"
    assert received["in order"]
    assert received["distinct"] / received["seconds"] == pytest.approx(30, rel=0.1)


@needs_ndi
def test_the_colours_arrive_as_bt709(seen: dict[str, Any]) -> None:
    assert seen["received"]["colour"] == pytest.approx([255, 0, 0], abs=4)


@needs_ndi
def test_the_tally_of_a_receiver_can_be_read(seen: dict[str, Any]) -> None:
    assert seen["received"]["tally"]


@needs_ndi
def test_without_a_receiver_the_sink_waits_and_drops_nothing(seen: dict[str, Any]) -> None:
    assert seen["alone"] == {"state": "waiting", "detail": "an NDI receiver", "dropped": 0}


@needs_ndi
def test_pushing_never_blocks_whether_receivers_come_or_go(seen: dict[str, Any]) -> None:
    assert seen["longest push ms"] < 100
    assert seen["end"] == "stopped"


def test_without_the_package_the_user_is_told_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, output: OutputFormat
) -> None:
    monkeypatch.setitem(sys.modules, "cyndilib.sender", None)
    sink = NdiSink("RealCam")
    with pytest.raises(SinkError, match=r"realcam_obs\.py setup --with ndi"):
        sink.open(output)
    sink.close()
