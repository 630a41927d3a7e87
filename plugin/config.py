"""What a session is made of: one strict schema for the session file and the command line's flags.

Knows nothing of the things it configures. Degrees here, radians inside (DESIGN of the units: the
suffix says which).
"""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
)

from engine.engines.base import BUDGET_MS


class Strict(BaseModel):
    """Base of every user-facing model: unknown keys are errors, values are fixed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _rate(value: object) -> Fraction:
    """ "30", 29.97, "30000/1001": the NTSC rates are taken for what they mean."""
    try:
        rate = Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"a frame rate is written as 30, 29.97 or 30000/1001, not {value}") from None
    ntsc = Fraction(round(rate * Fraction(1001, 1000)) * 1000, 1001)
    exact = ntsc if rate.denominator != 1 and abs(ntsc - rate) < Fraction(1, 100) else rate
    if not 1 <= exact <= 240:
        raise ValueError(f"a frame rate lies between 1 and 240, not {value}")
    return exact


def hex_colour(value: object) -> object:
    if value is None:
        raise ValueError(
            'expected a colour such as "#3ddc97", found nothing; without quotes, what follows # is a comment'
        )
    if not isinstance(value, str) or not re.fullmatch("#[0-9a-fA-F]{6}", value):
        raise ValueError(f'expected a colour such as "#3ddc97", found {value}')
    return value


def _url(value: str) -> str:
    try:
        urlsplit(value)
    except ValueError as error:
        raise ValueError(f"expected an address such as rtsp://camera/live, found {value} ({error})") from None
    return value


def _beside_file(path: Path, info: ValidationInfo) -> Path:
    """A session file's paths start at its own folder, wherever it is run from; a flag's where it is run."""
    return info.context["folder"] / path if info.context else path


def _weights(file_or_name: str, info: ValidationInfo) -> str:
    file = _beside_file(Path(file_or_name), info)
    return str(file) if info.context and file.is_file() else file_or_name


GivenPath = Annotated[Path, AfterValidator(_beside_file)]
Rate = Annotated[Fraction, BeforeValidator(_rate), PlainSerializer(str)]
HexColour = Annotated[str, BeforeValidator(hex_colour)]
Even = Annotated[int, Field(ge=64, le=4096, multiple_of=2)]
Port = Annotated[int, Field(ge=1, le=65535)]


class FileSourceConfig(Strict):
    kind: Literal["file"]
    path: GivenPath
    loop: bool = True


class DeviceSourceConfig(Strict):
    """A camera of this machine: "/dev/video0", "video=USB Camera" (Windows), "0" (macOS)."""

    kind: Literal["device"]
    device: str
    width: Annotated[int, Field(ge=16, le=8192)] | None = None
    height: Annotated[int, Field(ge=16, le=8192)] | None = None
    rate: Rate | None = None


class UrlSourceConfig(Strict):
    kind: Literal["url"]
    url: Annotated[str, AfterValidator(_url)]


class ObsSourceConfig(Strict):
    """The tap of the OBS script on ``port``; ``screenshots_of`` instead polls pictures (a few a second)."""

    kind: Literal["obs"]
    port: Port = 9461
    screenshots_of: str | None = None


class NdiSourceConfig(Strict):
    """``name``: a part of the NDI source's name; the first match is taken."""

    kind: Literal["ndi"]
    name: str


class PatternSourceConfig(Strict):
    kind: Literal["pattern"]
    width: Even = 1280
    height: Even = 720
    rate: Rate = Fraction(30)


SourceConfig = Annotated[
    FileSourceConfig
    | DeviceSourceConfig
    | UrlSourceConfig
    | ObsSourceConfig
    | NdiSourceConfig
    | PatternSourceConfig,
    Field(discriminator="kind"),
]


class VirtualCameraSinkConfig(Strict):
    kind: Literal["virtual-camera"]
    device: str | None = None
    backend: str | None = None


class ObsMediaSinkConfig(Strict):
    """Waits on loopback for the media source that ``obs add`` puts into OBS."""

    kind: Literal["obs-media"]
    host: str = "127.0.0.1"
    port: Port = 9462


class NdiSinkConfig(Strict):
    kind: Literal["ndi"]
    name: str = "RealCam"


class FileSinkConfig(Strict):
    kind: Literal["file"]
    path: GivenPath


class PreviewSinkConfig(Strict):
    """The picture on the control page."""

    kind: Literal["preview"]
    width: Even = 960
    rate: Rate = Fraction(15)


class MemorySinkConfig(Strict):
    kind: Literal["memory"]
    length: Annotated[int, Field(ge=1, le=10_000)] = 2


SinkConfig = Annotated[
    VirtualCameraSinkConfig
    | ObsMediaSinkConfig
    | NdiSinkConfig
    | FileSinkConfig
    | PreviewSinkConfig
    | MemorySinkConfig,
    Field(discriminator="kind"),
]


class LimitsConfig(Strict):
    """The envelope that no move leaves: both ways for the angles, metres per metre of subject distance."""

    pan_deg: Annotated[float, Field(ge=0, le=80)] = 45.0
    tilt_deg: Annotated[float, Field(ge=0, le=60)] = 30.0
    roll_deg: Annotated[float, Field(ge=0, le=180)] = 45.0
    sideways: Annotated[float, Field(ge=0, le=4)] = 1.5
    vertical: Annotated[float, Field(ge=0, le=4)] = 0.75
    forward: Annotated[float, Field(ge=0, le=0.9)] = 0.75
    backward: Annotated[float, Field(ge=0, le=4)] = 1.0
    zoom_in: Annotated[float, Field(ge=1, le=16)] = 4.0
    zoom_out: Annotated[float, Field(gt=0, le=1)] = 0.5


class CameraConfig(Strict):
    horizontal_fov_deg: Annotated[float, Field(ge=5, le=150)] = 60.0
    subject_distance_m: Annotated[float, Field(ge=0.1, le=200)] = 2.5
    limits: LimitsConfig = LimitsConfig()


EngineName = Literal["planar", "depth", "student"]
ModelName = Literal["mini", "wan-1.3b", "wan2.2-5b"]


class EngineConfig(Strict):
    """``model`` and what follows are the student's: its size, its weights (a file or a name of
    ``weights list``), those of the VAE that the large sizes need, the embedding of a text prompt (a file),
    on a GPU whether to compile it and to use 8 bit floating point, and without one how long it may take
    for a picture.
    """

    name: EngineName = "student"
    model: ModelName = "mini"
    weights: Annotated[str, AfterValidator(_weights)] | None = None
    codec: Annotated[str, AfterValidator(_weights)] | None = None
    prompt: GivenPath | None = None
    compile: bool = False
    fp8: bool = False
    budget_ms: Annotated[float, Field(ge=10, le=10_000)] = BUDGET_MS
    delay_ms: Annotated[float, Field(ge=0, le=10_000)] = 0.0


class PictureConfig(Strict):
    """``overscan``: the share of the source kept outside the picture, so that small moves stay inside."""

    overscan: Annotated[float, Field(ge=0, le=0.4)] = 0.0
    border: Literal["mirror", "colour"] = "mirror"
    slate_colour: HexColour = "#1b2430"
    slate: GivenPath | None = None
    slate_text: str = "Back in a moment"


class OutputConfig(Strict):
    width: Even = 1280
    height: Even = 720
    rate: Rate = Fraction(30)


class OscConfig(Strict):
    """``allow``: addresses that may send, besides this machine; needs a ``host`` beyond loopback."""

    host: str = "127.0.0.1"
    port: Port = 9000
    allow: list[str] = []


class WebConfig(Strict):
    enabled: bool = True
    host: str = "127.0.0.1"
    port: Port = 9001


class PresetsConfig(Strict):
    """``folder``: files there come on top of the built-in library; default: the user's own folder."""

    folder: GivenPath | None = None


class ObsConfig(Strict):
    """obs-websocket; ``tally_input`` is the input in OBS whose program state is followed. Without a
    ``password``, that of the environment or of an OBS on this machine.
    """

    enabled: bool = False
    host: str = "127.0.0.1"
    port: Port = 4455
    password: str = ""
    tally_input: str = "RealCam"


class SessionConfig(Strict):
    source: SourceConfig
    sinks: Annotated[list[SinkConfig], Field(min_length=1)]
    output: OutputConfig = OutputConfig()
    camera: CameraConfig = CameraConfig()
    engine: EngineConfig = EngineConfig()
    picture: PictureConfig = PictureConfig()
    osc: OscConfig = OscConfig()
    web: WebConfig = WebConfig()
    presets: PresetsConfig = PresetsConfig()
    obs: ObsConfig = ObsConfig()
