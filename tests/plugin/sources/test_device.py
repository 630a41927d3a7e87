"""Cameras: what each system is asked for, and how the ones there are get listed."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from engine.errors import SourceError
from plugin.clock import FakeClock
from plugin.config import DeviceSourceConfig
from plugin.sources import device
from plugin.sources.device import Device, DeviceSource, list_devices, list_v4l2, openings

HD = {"width": 1280, "height": 720, "rate": Fraction(30)}


def config(name: str, **settings: object) -> DeviceSourceConfig:
    return DeviceSourceConfig(kind="device", device=name, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("platform", "name", "target"),
    [
        ("linux", "/dev/video2", "/dev/video2"),
        ("linux", "2", "/dev/video2"),
        ("win32", "USB Camera", "video=USB Camera"),
        ("win32", "video=USB Camera", "video=USB Camera"),
        ("darwin", "0", "0:none"),
    ],
)
def test_each_system_is_asked_in_its_own_words(platform: str, name: str, target: str) -> None:
    assert {opening.target for opening in openings(config(name), platform)} == {target}


@pytest.mark.parametrize("platform", ["linux", "win32", "darwin"])
def test_size_and_rate_are_asked_for(platform: str) -> None:
    for opening in openings(config("0", **HD), platform):
        assert opening.options["video_size"] == "1280x720"
        assert opening.options["framerate"] == "30"


@pytest.mark.parametrize(("platform", "key"), [("linux", "input_format"), ("win32", "vcodec")])
def test_compressed_pictures_come_first_only_when_they_are_large(platform: str, key: str) -> None:
    large = [opening.options.get(key) for opening in openings(config("0", **HD), platform)]
    small = [opening.options.get(key) for opening in openings(config("0", width=640, height=480), platform)]
    assert (large, small) == (["mjpeg", None], [None, "mjpeg"])


def test_an_unknown_system_is_an_error() -> None:
    with pytest.raises(SourceError, match="freebsd"):
        openings(config("0"), "freebsd")


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    for node, name, index in (
        ("video0", "HD Webcam", 0),
        ("video1", "HD Webcam", 1),
        ("video10", "RealCam", 0),
    ):
        (tmp_path / node).mkdir()
        (tmp_path / node / "name").write_text(f"{name}\n")
        (tmp_path / node / "index").write_text(f"{index}\n")
    return tmp_path


def test_each_camera_is_listed_once_in_the_order_of_numbers(sysfs: Path) -> None:
    assert list_v4l2(sysfs) == [Device("/dev/video0", "HD Webcam"), Device("/dev/video10", "RealCam")]


@pytest.mark.parametrize("platform", ["linux", "win32", "darwin", "freebsd"])
def test_listing_cameras_works_where_there_are_none(platform: str) -> None:
    assert isinstance(list_devices(platform), list)


@pytest.mark.skipif(not Path("/sys").exists(), reason="v4l2 is Linux")
def test_a_missing_camera_is_an_error_that_names_those_there_are(
    monkeypatch: pytest.MonkeyPatch, sysfs: Path
) -> None:
    monkeypatch.setattr(device, "list_devices", lambda: list_v4l2(sysfs))
    source = DeviceSource(config("/dev/video77"), FakeClock(), "linux")
    with pytest.raises(SourceError, match=r"/dev/video77: there is no such .*RealCam"):
        source.open()
    source.close()
