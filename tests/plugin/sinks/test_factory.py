from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import ConfigError
from plugin import config
from plugin.sinks import factory
from plugin.sinks.file import FileSink
from plugin.sinks.memory import MemorySink
from plugin.sinks.ndi import NdiSink
from plugin.sinks.obs_media import ObsMediaSink
from plugin.sinks.preview import PreviewSink
from plugin.sinks.virtual_camera import VirtualCameraSink


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("virtual-camera", config.VirtualCameraSinkConfig(kind="virtual-camera")),
        (
            "virtual-camera:/dev/video10",
            config.VirtualCameraSinkConfig(kind="virtual-camera", device="/dev/video10"),
        ),
        ("obs-media", config.ObsMediaSinkConfig(kind="obs-media")),
        ("obs-media:9500", config.ObsMediaSinkConfig(kind="obs-media", port=9500)),
        ("ndi", config.NdiSinkConfig(kind="ndi")),
        ("ndi:Stage left", config.NdiSinkConfig(kind="ndi", name="Stage left")),
        ("file:out.mkv", config.FileSinkConfig(kind="file", path=Path("out.mkv"))),
        ("out.mp4", config.FileSinkConfig(kind="file", path=Path("out.mp4"))),
        (r"C:\shows\out.MP4", config.FileSinkConfig(kind="file", path=Path(r"C:\shows\out.MP4"))),
        ("preview", config.PreviewSinkConfig(kind="preview")),
        ("memory", config.MemorySinkConfig(kind="memory")),
    ],
)
def test_a_word_on_the_command_line_is_a_sink(text: str, expected: config.SinkConfig) -> None:
    assert factory.parse_sink(text) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("vcam", "a sink is written virtual-camera"),
        ("file:", "a sink is written virtual-camera"),
        ("memory:3", "a sink is written virtual-camera"),
        ("obs-media:http", 'port: expected a whole number, found "http"'),
        ("obs-media:99999", "port: expected 65535 or less"),
    ],
)
def test_a_word_that_is_no_sink_is_refused_with_what_to_write(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        factory.parse_sink(text)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("virtual-camera", VirtualCameraSink),
        ("obs-media", ObsMediaSink),
        ("ndi", NdiSink),
        ("out.mp4", FileSink),
        ("preview", PreviewSink),
        ("memory", MemorySink),
    ],
)
def test_every_setting_makes_its_sink(text: str, kind: type) -> None:
    assert isinstance(factory.make_sink(factory.parse_sink(text)), kind)


@pytest.mark.parametrize(("installed", "first"), [(True, "virtual-camera"), (False, "obs-media")])
def test_without_a_virtual_camera_the_picture_goes_straight_to_obs(
    monkeypatch: pytest.MonkeyPatch, installed: bool, first: str
) -> None:
    monkeypatch.setattr(factory, "driver_installed", lambda: installed)
    assert [sink.kind for sink in factory.default_sinks()] == [first, "preview"]
