from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from engine.errors import ConfigError
from plugin.clock import FakeClock
from plugin.config import (
    DeviceSourceConfig,
    FileSourceConfig,
    NdiSourceConfig,
    ObsSourceConfig,
    PatternSourceConfig,
    SourceConfig,
    UrlSourceConfig,
)
from plugin.sources import device, file, ndi, obs, pattern, url
from plugin.sources.factory import make_source, parse_source

SAID = {
    "file:clips/one.mp4": FileSourceConfig(kind="file", path=Path("clips/one.mp4")),
    "device:/dev/video0": DeviceSourceConfig(kind="device", device="/dev/video0"),
    "device:video=USB Camera": DeviceSourceConfig(kind="device", device="video=USB Camera"),
    "rtsp://cam/one": UrlSourceConfig(kind="url", url="rtsp://cam/one"),
    "url:udp://127.0.0.1:5000": UrlSourceConfig(kind="url", url="udp://127.0.0.1:5000"),
    "obs": ObsSourceConfig(kind="obs"),
    "obs:9000": ObsSourceConfig(kind="obs", port=9000),
    "ndi:STUDIO (Camera 1)": NdiSourceConfig(kind="ndi", name="STUDIO (Camera 1)"),
    "pattern": PatternSourceConfig(kind="pattern"),
}


@pytest.mark.parametrize("text", SAID)
def test_every_way_to_name_a_source_is_understood(text: str) -> None:
    assert parse_source(text) == SAID[text]


def test_a_file_that_is_there_needs_no_prefix(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.touch()
    assert parse_source(str(clip)) == FileSourceConfig(kind="file", path=clip)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("missing.mp4", "no such file"),
        ("", "no such file"),
        ("file:", "no such file"),
        ("webcam:0", "no such kind"),
        ("obs:port", 'port: expected a whole number, found "port"'),
        ("obs:70000", "port: expected 65535 or less"),
    ],
)
def test_anything_else_is_an_error_that_lists_the_ways(text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=rf"{expected}.*Expected one of clip\.mp4, file:"):
        parse_source(text)


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (FileSourceConfig(kind="file", path=Path("clip.mp4")), file.FileSource),
        (DeviceSourceConfig(kind="device", device="0"), device.DeviceSource),
        (UrlSourceConfig(kind="url", url="udp://127.0.0.1:5000"), url.UrlSource),
        (ObsSourceConfig(kind="obs"), obs.ObsSource),
        (ObsSourceConfig(kind="obs", screenshots_of="Camera"), obs.ObsScreenshots),
        (NdiSourceConfig(kind="ndi", name="Camera"), ndi.NdiSource),
        (PatternSourceConfig(kind="pattern", rate=Fraction(60)), pattern.PatternSource),
    ],
)
def test_every_setting_makes_its_source_without_opening_it(config: SourceConfig, kind: type) -> None:
    source = make_source(config, FakeClock())
    assert type(source) is kind
    assert source.name
    source.close()
