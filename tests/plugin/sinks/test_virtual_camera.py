from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

import pytest

from engine.errors import SinkError
from plugin.sinks import virtual_camera
from plugin.sinks.base import OutputFormat
from plugin.sinks.virtual_camera import VirtualCameraSink

if sys.platform == "linux":
    from plugin.sinks import v4l2loopback

REPOSITORY = Path(__file__).parents[3]
RUN_IN_VM = REPOSITORY / "tests" / "vm" / "run-in-vm"
GUEST_SCRIPT = REPOSITORY / "tests" / "vm" / "virtual_camera_guest.py"
VM_TIMEOUT_S = 400

# What the user is told to load, with more buffers than the driver's two: with two, a reader that
# emulation slows down is overtaken by the writer while it copies.
MODULE_OPTIONS = "devices=1 video_nr=10 card_label=RealCam exclusive_caps=1 max_buffers=8"

STARTS = ["first start", "after a stop", "after kill -9", "reader that stayed", "after a rescue"]

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="v4l2loopback is a driver of Linux")
in_vm = pytest.mark.vm
with_time_for_a_boot = pytest.mark.timeout(VM_TIMEOUT_S + 30)


@pytest.fixture(scope="module")
def seen(cannot_run: Callable[[str], NoReturn]) -> dict[str, Any]:
    """What happened to the sink on a real v4l2loopback, in one boot of the virtual machine."""
    missing = [tool for tool in ("apt-get", "dpkg", "gcc", "make") if shutil.which(tool) is None]
    if missing:
        cannot_run(
            f"the virtual machine is built with {', '.join(missing)}, which this system lacks: "
            f"run on Debian or Ubuntu, after apt-get update && apt-get install gcc make dpkg libelf1"
        )
    done = subprocess.run(
        [RUN_IN_VM, sys.executable, "-X", "faulthandler", GUEST_SCRIPT],
        cwd=REPOSITORY,
        env={**os.environ, "VCAM_TIMEOUT": str(VM_TIMEOUT_S), "VCAM_MODOPTS": MODULE_OPTIONS},
        capture_output=True,
        text=True,
        timeout=VM_TIMEOUT_S + 20,
    )
    reports = [line for line in done.stdout.splitlines() if line.startswith("REPORT ")]
    assert reports, f"the machine ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    report: dict[str, Any] = json.loads(reports[0].removeprefix("REPORT "))
    assert "error" not in report, report["error"]
    return report


@in_vm
@with_time_for_a_boot
@pytest.mark.parametrize("start", STARTS)
def test_every_start_shows_a_reader_the_exact_pixels_at_a_constant_rate(
    seen: dict[str, Any], start: str
) -> None:
    read = seen[start]
    assert read["size"] == [320, 180]
    assert all(read["exact"])
    assert read["nominal rate"] == "25"
    assert read["indices per second"] == pytest.approx(25, rel=0.05)
    indices = read["indices"]
    assert indices == sorted(set(indices))
    sent = indices[-1] - indices[0] + 1
    assert len(indices) > 0.5 * sent  # emulation on a busy machine loses some; a real one loses none


@in_vm
@with_time_for_a_boot
def test_a_device_in_use_is_refused_and_left_alone(seen: dict[str, Any]) -> None:
    assert "/dev/video10 is in use: another program sends to it" in seen["second writer"]


@in_vm
@with_time_for_a_boot
def test_the_size_of_a_device_that_is_being_read_is_never_changed(seen: dict[str, Any]) -> None:
    assert "/dev/video10 is being read at 320×180 and cannot change to 640×360" in seen["other size"]


@in_vm
@with_time_for_a_boot
def test_a_device_that_a_dead_program_left_unusable_is_rescued(seen: dict[str, Any]) -> None:
    assert seen["left behind"], "the trap was not set, so the rescue proves nothing"
    assert seen["after a rescue"]["indices"]


class RefusingBackend:
    def __init__(self, problem: str, asked: list[str]) -> None:
        self._problem = problem
        self._asked = asked

    def __call__(self, **_: object) -> None:
        self._asked.append(self._problem)
        raise RuntimeError(self._problem)


@pytest.fixture
def without_loopbacks(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform == "linux":
        monkeypatch.setattr(v4l2loopback, "find_loopbacks", list)


@pytest.fixture
def with_a_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform == "linux":
        device = v4l2loopback.Loopback("/dev/video99", "RealCam")
        monkeypatch.setattr(v4l2loopback, "find_loopbacks", lambda: [device])
        monkeypatch.setattr(v4l2loopback, "accepts_writer", lambda path: True)


@on_linux
def test_without_the_driver_the_user_is_told_how_to_load_it_and_what_needs_none(
    without_loopbacks: None, output: OutputFormat
) -> None:
    sink = VirtualCameraSink(None, None)
    with pytest.raises(SinkError, match="modprobe v4l2loopback devices=1 video_nr=10") as caught:
        sink.open(output)
    assert "card_label=RealCam exclusive_caps=1" in str(caught.value)
    assert "obs-media" in str(caught.value)
    sink.close()


@on_linux
def test_a_device_that_does_not_exist_is_named(output: OutputFormat) -> None:
    with pytest.raises(SinkError, match=r"/dev/video98: No such file"):
        VirtualCameraSink("/dev/video98", None).open(output)


@pytest.mark.parametrize(
    ("system", "advice"), [("win32", "install Unity Capture"), ("darwin", "start its virtual camera once")]
)
def test_the_errors_of_all_backends_are_reported_together_best_backend_first(
    monkeypatch: pytest.MonkeyPatch, with_a_loopback: None, output: OutputFormat, system: str, advice: str
) -> None:
    asked: list[str] = []
    backends = {name: RefusingBackend(f"{name} said no", asked) for name in ("obs", "unitycapture")}
    monkeypatch.setattr(virtual_camera, "BACKENDS", backends)
    monkeypatch.setattr("pyvirtualcam.camera.BACKENDS", backends)
    monkeypatch.setattr(virtual_camera, "_ADVICE", {sys.platform: virtual_camera._ADVICE[system]})
    with pytest.raises(SinkError, match=advice) as caught:
        VirtualCameraSink(None, None).open(output)
    assert asked == ["unitycapture said no", "obs said no"]
    assert all(problem in str(caught.value) for problem in asked)


def test_an_unknown_backend_is_refused_with_those_that_exist(
    with_a_loopback: None, output: OutputFormat
) -> None:
    with pytest.raises(SinkError, match="no virtual camera backend 'dshow' on this system, only"):
        VirtualCameraSink(None, "dshow").open(output)


MakeDevice = Callable[[str, str, str], None]


@pytest.fixture
def make_device(tmp_path: Path) -> MakeDevice:
    """Lays out one device as the driver does in /sys/class/video4linux."""

    def make(name: str, label: str, image_format: str) -> None:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "name").write_text(label + "\n")
        (folder / "max_openers").write_text("10\n")
        (folder / "format").write_text(image_format)

    return make


@on_linux
def test_the_device_labelled_realcam_is_preferred_over_the_first(
    tmp_path: Path, make_device: MakeDevice
) -> None:
    (tmp_path / "video0").mkdir()
    (tmp_path / "video0" / "name").write_text("A real webcam\n")
    make_device("video9", "OBS Virtual Camera", "")
    make_device("video2", "Dummy", "")
    make_device("video10", "RealCam", "")
    found = v4l2loopback.find_loopbacks(tmp_path)
    assert [device.path for device in found] == ["/dev/video10", "/dev/video2", "/dev/video9"]


@on_linux
def test_the_running_size_is_what_the_driver_shows_and_none_for_a_free_device(
    tmp_path: Path, make_device: MakeDevice
) -> None:
    make_device("video3", "RealCam", "NV12:1280x720@30000/1001\n")
    make_device("video4", "RealCam", "")
    assert v4l2loopback.running_size("/dev/video3", tmp_path) == (1280, 720)
    assert v4l2loopback.running_size("/dev/video4", tmp_path) is None
    assert v4l2loopback.running_size("/dev/video5", tmp_path) is None


def test_the_first_picture_is_black_in_limited_range() -> None:
    black = virtual_camera._black(OutputFormat(64, 64, Fraction(30)))
    assert black.shape == (96, 64)
    assert (black[:64] == 16).all() and (black[64:] == 128).all()
