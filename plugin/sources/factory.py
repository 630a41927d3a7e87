"""From a setting to a source, and from a word on the command line to a setting. Opens nothing."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import ValidationError

from engine.errors import ConfigError
from plugin.clock import Clock
from plugin.config import (
    DeviceSourceConfig,
    FileSourceConfig,
    NdiSourceConfig,
    ObsConfig,
    ObsSourceConfig,
    PatternSourceConfig,
    SourceConfig,
    UrlSourceConfig,
)
from plugin.sources import device, file, ndi, obs, pattern, url
from plugin.sources.base import Source
from plugin.strict_yaml import describe

SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
CONFIG_OF_KIND: dict[str, tuple[type[SourceConfig], str]] = {  # and what stands behind the colon
    "file": (FileSourceConfig, "path"),
    "device": (DeviceSourceConfig, "device"),
    "url": (UrlSourceConfig, "url"),
    "obs": (ObsSourceConfig, "port"),
    "ndi": (NdiSourceConfig, "name"),
}
WAYS = "clip.mp4, file:clip.mp4, device:/dev/video0, rtsp://…, url:…, obs, obs:PORT, ndi:NAME or pattern"


def make_source(config: SourceConfig, clock: Clock, obs_config: ObsConfig | None = None) -> Source:
    """``obs_config``: where obs-websocket is, for screenshots."""
    match config:
        case FileSourceConfig():
            return file.FileSource(config, clock)
        case DeviceSourceConfig():
            return device.DeviceSource(config, clock)
        case UrlSourceConfig():
            return url.UrlSource(config, clock)
        case ObsSourceConfig(screenshots_of=str() as name):
            return obs.ObsScreenshots(name, obs_config or ObsConfig(), clock)
        case ObsSourceConfig():
            return obs.ObsSource(config, clock)
        case NdiSourceConfig():
            return ndi.NdiSource(config.name, clock)
        case PatternSourceConfig():
            return pattern.PatternSource(config.width, config.height, config.rate, clock)


def parse_source(text: str) -> SourceConfig:
    """What stands behind ``--source``; ConfigError says which ways there are."""
    kind, _, rest = text.partition(":")
    try:
        if SCHEME.match(text):
            kind = "url"
            return UrlSourceConfig(kind="url", url=text)
        if kind in CONFIG_OF_KIND and rest:
            config, field = CONFIG_OF_KIND[kind]
            return config.model_validate({"kind": kind, field: rest})
        if text == "obs":
            return ObsSourceConfig(kind="obs")
        if text == "pattern":
            return PatternSourceConfig(kind="pattern")
    except ValidationError as error:
        why = describe(error.errors()[0], CONFIG_OF_KIND[kind][0])
        raise ConfigError(f"source {text!r}: {why}. Expected one of {WAYS}") from error
    if Path(text).is_file():
        return FileSourceConfig(kind="file", path=Path(text))
    raise ConfigError(f"source {text!r}: there is no such file and no such kind. Expected one of {WAYS}")
