"""From a setting to a sink, and from a word on the command line to a setting."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from engine.errors import ConfigError
from plugin import config
from plugin.sinks.base import Sink
from plugin.sinks.file import SUFFIXES, FileSink
from plugin.sinks.memory import MemorySink
from plugin.sinks.ndi import NdiSink
from plugin.sinks.obs_media import ObsMediaSink
from plugin.sinks.virtual_camera import VirtualCameraSink, driver_installed
from plugin.strict_yaml import describe

SPELLINGS = (
    "virtual-camera, virtual-camera:DEVICE, obs-media, obs-media:PORT, ndi, ndi:NAME, file:PATH, "
    "preview or memory"
)


def make_sink(sink: config.SinkConfig) -> Sink:
    match sink:
        case config.VirtualCameraSinkConfig():
            return VirtualCameraSink(sink.device, sink.backend)
        case config.ObsMediaSinkConfig():
            return ObsMediaSink(sink.host, sink.port)
        case config.NdiSinkConfig():
            return NdiSink(sink.name)
        case config.FileSinkConfig():
            return FileSink(sink.path)
        case config.MemorySinkConfig():
            return MemorySink(sink.length)
        case config.PreviewSinkConfig():
            from plugin.sinks.preview import PreviewSink

            return PreviewSink(sink)


def parse_sink(text: str) -> config.SinkConfig:
    """Takes "obs-media:9462", "file:out.mp4", or just "out.mp4"."""
    kind, _, rest = text.partition(":")
    try:
        match kind, rest:
            case "virtual-camera", _:
                return config.VirtualCameraSinkConfig(kind="virtual-camera", device=rest or None)
            case "obs-media", "":
                return config.ObsMediaSinkConfig(kind="obs-media")
            case "obs-media", port:
                return config.ObsMediaSinkConfig.model_validate({"kind": "obs-media", "port": port})
            case "ndi", "":
                return config.NdiSinkConfig(kind="ndi")
            case "ndi", name:
                return config.NdiSinkConfig(kind="ndi", name=name)
            case "file", path if path:
                return config.FileSinkConfig(kind="file", path=Path(path))
            case "preview", "":
                return config.PreviewSinkConfig(kind="preview")
            case "memory", "":
                return config.MemorySinkConfig(kind="memory")
    except ValidationError as error:
        why = describe(error.errors()[0], config.ObsMediaSinkConfig)  # the only one that may not hold
        raise ConfigError(f"cannot send to {text!r}: {why}") from error
    if Path(text).suffix.lower() in SUFFIXES:
        return config.FileSinkConfig(kind="file", path=Path(text))
    raise ConfigError(f"cannot send to {text!r}: a sink is written {SPELLINGS}")


def default_sinks() -> list[config.SinkConfig]:
    """Where the picture goes when nobody said: a virtual camera if there is one, else straight to OBS."""
    preview = config.PreviewSinkConfig(kind="preview")
    if driver_installed():
        return [config.VirtualCameraSinkConfig(kind="virtual-camera"), preview]
    return [config.ObsMediaSinkConfig(kind="obs-media"), preview]
