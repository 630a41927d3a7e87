"""A camera of this machine through FFmpeg: v4l2 on Linux, dshow on Windows, avfoundation on macOS.

Knows what each of the three calls size, rate and device. Beyond standard definition, compressed pictures are
asked for first: USB 2 carries no more than about ten uncompressed ones a second at 720p.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from engine.errors import SourceError
from plugin.clock import Clock
from plugin.config import DeviceSourceConfig
from plugin.sources.pyav import LiveSource, Opening

SYSFS = Path("/sys/class/video4linux")
WIDEST_UNCOMPRESSED = 1024
FORMATS = {"linux": "v4l2", "win32": "dshow", "darwin": "avfoundation"}
LOW_DELAY = {"fflags": "nobuffer", "probesize": "32", "analyzeduration": "0"}


@dataclass(frozen=True, slots=True)
class Device:
    """``address`` is what goes behind ``device:``; ``label`` is what people call it."""

    address: str
    label: str


class DeviceSource(LiveSource):
    def __init__(self, config: DeviceSourceConfig, clock: Clock, platform: str = sys.platform) -> None:
        self._config = config
        super().__init__(openings(config, platform), clock)

    def open(self) -> None:
        try:
            super().open()
        except SourceError as error:
            raise SourceError(f"{error} {_known()}") from error


def openings(config: DeviceSourceConfig, platform: str) -> list[Opening]:
    """The ways to open it, the best first."""
    if platform not in FORMATS:
        raise SourceError(
            f"device {config.device}: cameras are read on Linux, Windows and macOS, not {platform}"
        )
    size = {} if None in (config.width, config.height) else {"video_size": f"{config.width}x{config.height}"}
    rate = {} if config.rate is None else {"framerate": str(config.rate)}
    own = {"linux": _v4l2, "win32": _dshow, "darwin": _avfoundation}[platform]
    target, variants = own(config.device, (config.width or 0) > WIDEST_UNCOMPRESSED)
    return [
        Opening(
            name=f"device {config.device}",
            target=target,
            live=True,
            format=FORMATS[platform],
            options=LOW_DELAY | variant | size | rate,
            advice="Close other programs that use it, and ask only for sizes and rates that it has.",
        )
        for variant in variants
    ]


def list_devices(platform: str = sys.platform) -> list[Device]:
    """The cameras there are; empty where there are none or this machine does not tell."""
    if platform == "linux":
        return list_v4l2()
    if platform not in FORMATS or not hasattr(av, "enumerate_input_devices"):
        return []
    try:
        found = av.enumerate_input_devices(FORMATS[platform])
    except (av.FFmpegError, ValueError):
        return []
    cameras = [device for device in found if "video" in device.media_types or not device.media_types]
    return [Device(device.name, device.description or device.name) for device in cameras]


def list_v4l2(sysfs: Path = SYSFS) -> list[Device]:
    """Of a camera's several nodes, the first is the picture."""
    nodes = sorted(sysfs.glob("video*"), key=lambda node: int(node.name.removeprefix("video")))
    return [
        Device(f"/dev/{node.name}", (node / "name").read_text().strip())
        for node in nodes
        if (node / "index").read_text().strip() == "0"
    ]


def _v4l2(device: str, large: bool) -> tuple[str, Sequence[dict[str, str]]]:
    target = f"/dev/video{device}" if device.isdigit() else device
    return target, _compressed_first({"input_format": "mjpeg"}, large)


def _dshow(device: str, large: bool) -> tuple[str, Sequence[dict[str, str]]]:
    target = device if device.startswith("video=") else f"video={device}"
    roomy = {"rtbufsize": "100000000"}  # the default does not hold one uncompressed picture of 1080p
    return target, [roomy | variant for variant in _compressed_first({"vcodec": "mjpeg"}, large)]


def _avfoundation(device: str, large: bool) -> tuple[str, Sequence[dict[str, str]]]:
    """Its default rate, 29.97, is one that most cameras refuse; and without ":none" it opens a microphone."""
    return f"{device}:none", [{"framerate": str(Fraction(30))}, {}]


def _compressed_first(compressed: dict[str, str], large: bool) -> Sequence[dict[str, str]]:
    return [compressed, {}] if large else [{}, compressed]


def _known() -> str:
    devices = list_devices()
    if not devices:
        return "No camera is known to this machine."
    return "There are: " + ", ".join(f"{device.address} ({device.label})" for device in devices) + "."
