"""What may stand in a preset file, and how it becomes a Preset. Knows nothing of folders or slots' owners.

Degrees, seconds and factors as operators write them. Lengths are shares of the distance to the
subject; the same key with ``_m`` takes metres instead.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from engine.camera.easing import easing
from engine.camera.moves import (
    BASIC_MOVES,
    Crane,
    DollyZoom,
    Handheld,
    Keyframes,
    Length,
    Metres,
    Move,
    Orbit,
    Reveal,
    Straight,
)
from engine.camera.preset import SHORTEST_S, Choice, OnEnd, Preset, Start
from engine.errors import ConfigError
from plugin.config import HexColour, Strict, hex_colour

WHIP_LONGEST_S = 1.5


def _name(value: str) -> str:
    parts = value.split("-")
    if not all(part.isascii() and part.isalnum() and part == part.lower() for part in parts):
        raise ValueError(f'a name has small letters, digits and dashes, as in "push-in", not "{value}"')
    if value.isdecimal():
        raise ValueError(f"a name is not only a number, because slots are: {value}")
    return value


def _easing(value: str) -> str:
    try:
        return easing(value).name
    except ConfigError as error:
        raise ValueError(str(error)) from None


def _as_text(value: object) -> object:
    """A name that is a number is refused as a name, and not for being no text."""
    return str(value) if isinstance(value, int) else value


Name = Annotated[str, BeforeValidator(_as_text), AfterValidator(_name)]
EasingName = Annotated[str, AfterValidator(_easing)]
OwnColour = Annotated[
    str | None, BeforeValidator(hex_colour)
]  # left out is the family's; nothing is an error
Seconds = Annotated[float, Field(ge=SHORTEST_S, le=3600)]
Degrees = Annotated[float, Field(ge=-180, le=180)]
Share = Annotated[float, Field(ge=-4, le=4)]
MetresValue = Annotated[float, Field(ge=-100, le=100)]
Zoom = Annotated[float, Field(ge=0.1, le=16)]


class Finite(Strict):
    model_config = ConfigDict(allow_inf_nan=False)


def _either(share: float | None, metres: float | None, key: str) -> Length:
    """Exactly one of the two ways to say a length."""
    if share is not None and metres is None:
        return share
    if metres is not None and share is None:
        return Metres(metres)
    raise ValueError(f'needs either "{key}" (share of the distance to the subject) or "{key}_m" (metres)')


class Place(Finite):
    """Where a camera is, from home; what is not said stays at home."""

    pan_deg: Degrees = 0.0
    tilt_deg: Degrees = 0.0
    roll_deg: Degrees = 0.0
    right: Share | None = None
    right_m: MetresValue | None = None
    up: Share | None = None
    up_m: MetresValue | None = None
    forward: Share | None = None
    forward_m: MetresValue | None = None
    zoom: Zoom = 1.0

    def straight(self) -> Straight:
        lengths = {
            key: _either(0.0 if share is None and metres is None else share, metres, key)
            for key, share, metres in (
                ("right", self.right, self.right_m),
                ("up", self.up, self.up_m),
                ("forward", self.forward, self.forward_m),
            )
        }
        return Straight(
            pan=math.radians(self.pan_deg),
            tilt=math.radians(self.tilt_deg),
            roll=math.radians(self.roll_deg),
            zoom=self.zoom,
            **lengths,
        )


class Manner(Finite):
    """What every preset may say, whatever its move."""

    slot: Annotated[int, Field(ge=1, le=999)] | None = None
    label: Annotated[str, Field(min_length=1, max_length=40)] | None = None
    colour: OwnColour = None
    duration_s: Seconds = 3.0
    delay_s: Annotated[float, Field(ge=0, le=600)] = 0.0
    easing: EasingName = "in-out-sine"
    speed: Annotated[float, Field(ge=0.05, le=20)] = 1.0
    reverse: bool = False
    relative: bool = False
    start: Start = "blend"
    on_end: OnEnd = "hold"
    next: str | None = None

    @abstractmethod
    def to_move(self) -> Move | Choice:
        """As the camera's director runs it."""


class Pan(Manner):
    move: Literal["pan"]
    angle_deg: Degrees

    def to_move(self) -> Move:
        return Straight(pan=math.radians(self.angle_deg))


class WhipPan(Manner):
    move: Literal["whip-pan"]
    angle_deg: Degrees
    duration_s: Annotated[float, Field(ge=SHORTEST_S, le=WHIP_LONGEST_S)] = 0.4
    easing: EasingName = "in-out-quart"

    def to_move(self) -> Move:
        return Straight(pan=math.radians(self.angle_deg))


class Tilt(Manner):
    move: Literal["tilt"]
    angle_deg: Degrees

    def to_move(self) -> Move:
        return Straight(tilt=math.radians(self.angle_deg))


class Roll(Manner):
    move: Literal["roll"]
    angle_deg: Degrees

    def to_move(self) -> Move:
        return Straight(roll=math.radians(self.angle_deg))


class ZoomMove(Manner):
    move: Literal["zoom"]
    factor: Zoom

    def to_move(self) -> Move:
        return Straight(zoom=self.factor)


class Dolly(Manner):
    move: Literal["dolly"]
    forward: Share | None = None
    forward_m: MetresValue | None = None

    def to_move(self) -> Move:
        return Straight(forward=_either(self.forward, self.forward_m, "forward"))


class Truck(Manner):
    move: Literal["truck"]
    right: Share | None = None
    right_m: MetresValue | None = None

    def to_move(self) -> Move:
        return Straight(right=_either(self.right, self.right_m, "right"))


class Pedestal(Manner):
    move: Literal["pedestal"]
    up: Share | None = None
    up_m: MetresValue | None = None

    def to_move(self) -> Move:
        return Straight(up=_either(self.up, self.up_m, "up"))


class PushIn(Manner):
    move: Literal["push-in"]
    amount: Annotated[float, Field(gt=0, le=0.9)]

    def to_move(self) -> Move:
        return Straight(forward=self.amount)


class PullOut(Manner):
    move: Literal["pull-out"]
    amount: Annotated[float, Field(gt=0, le=4)]

    def to_move(self) -> Move:
        return Straight(forward=-self.amount)


class OrbitMove(Manner):
    """``angle_deg`` is positive where the camera goes to the right."""

    move: Literal["orbit"]
    angle_deg: Degrees
    rise_deg: Annotated[float, Field(ge=-80, le=80)] = 0.0

    def to_move(self) -> Move:
        return Orbit(math.radians(self.angle_deg), math.radians(self.rise_deg))


class Arc(Manner):
    """An orbit that comes ``closer`` by a share of the distance (or goes away, below 0)."""

    move: Literal["arc"]
    angle_deg: Degrees
    closer: Annotated[float, Field(ge=-4, le=0.9)]
    rise_deg: Annotated[float, Field(ge=-80, le=80)] = 0.0

    def to_move(self) -> Move:
        return Orbit(math.radians(self.angle_deg), math.radians(self.rise_deg), self.closer)


class CraneMove(Manner):
    move: Literal["crane"]
    up: Share | None = None
    up_m: MetresValue | None = None
    right: Share = 0.0
    forward: Annotated[float, Field(ge=-4, le=0.9)] = 0.0

    def to_move(self) -> Move:
        return Crane(_either(self.up, self.up_m, "up"), self.right, self.forward)


class DollyZoomMove(Manner):
    move: Literal["dolly-zoom"]
    forward: Annotated[float, Field(ge=-4, le=0.9)] | None = None
    forward_m: MetresValue | None = None

    def to_move(self) -> Move:
        return DollyZoom(_either(self.forward, self.forward_m, "forward"))


class Shot(Manner, Place):
    """A framing to go to, as a position preset of a remote camera."""

    move: Literal["shot"]

    def to_move(self) -> Move:
        return self.straight()


class RevealMove(Manner, Place):
    """Starts at this place, by a cut, and comes home."""

    move: Literal["reveal"]
    start: Start = "cut"

    def to_move(self) -> Move:
        return Reveal(self.straight())


class KeyframePlace(Place):
    at: Annotated[float, Field(ge=0, le=1)]


class KeyframesMove(Manner):
    """``frames``: places at shares of the duration, in order; the last is at 1."""

    move: Literal["keyframes"]
    frames: Annotated[list[KeyframePlace], Field(min_length=1, max_length=100)]

    def to_move(self) -> Move:
        times = [frame.at for frame in self.frames]
        if times != sorted(set(times)) or times[-1] != 1 or times == [0]:
            raise ValueError(f'the frames\' "at" must rise and end at 1, found {times}')
        return Keyframes(tuple((frame.at, frame.straight()) for frame in self.frames))


class HandheldMove(Manner):
    """``sway_deg`` and ``shift`` are effective values: peaks are about three times as large."""

    move: Literal["handheld"]
    sway_deg: Annotated[float, Field(ge=0, le=10)]
    shift: Annotated[float, Field(ge=0, le=0.2)] = 0.0
    frequency_hz: Annotated[float, Field(ge=0.05, le=5)] = 0.8
    seed: Annotated[int, Field(ge=0)] = 1
    duration_s: Seconds = 20.0
    easing: Literal["linear"] = "linear"
    relative: bool = True

    def to_move(self) -> Move:
        return Handheld(math.radians(self.sway_deg), self.shift, self.frequency_hz, self.seed)


class Basic(Manner):
    """One of ReCamMaster's ten basic paths, for comparison with the literature."""

    move: Literal["basic"]
    path: str
    duration_s: Seconds = 5.4  # its 81 frames at 15 a second
    easing: EasingName = "linear"

    def to_move(self) -> Move:
        if self.path not in BASIC_MOVES:
            raise ValueError(f'there is no basic path "{self.path}"; known are {", ".join(BASIC_MOVES)}')
        return BASIC_MOVES[self.path]


class Random(Finite):
    """One of these presets each time, in its own manner; ``next`` comes after it, if said."""

    move: Literal["random"]
    of: Annotated[list[str], Field(min_length=1)]
    slot: Annotated[int, Field(ge=1, le=999)] | None = None
    label: Annotated[str, Field(min_length=1, max_length=40)] | None = None
    colour: OwnColour = None
    next: str | None = None


MoveConfig = Annotated[
    Pan
    | WhipPan
    | Tilt
    | Roll
    | ZoomMove
    | Dolly
    | Truck
    | Pedestal
    | PushIn
    | PullOut
    | OrbitMove
    | Arc
    | CraneMove
    | DollyZoomMove
    | Shot
    | RevealMove
    | KeyframesMove
    | HandheldMove
    | Basic
    | Random,
    Field(discriminator="move"),
]


class PresetFile(Strict):
    """A family of presets, with the colour that they share."""

    family: Annotated[str, Field(min_length=1, max_length=40)]
    colour: HexColour = "#8b98a9"
    presets: Annotated[dict[Name, MoveConfig], Field(min_length=1)]


def to_preset(name: str, config: MoveConfig, file: PresetFile) -> Preset:
    """``ValueError`` where parts of it do not fit together."""
    if isinstance(config, Random) and name in config.of:
        raise ValueError("of: a preset cannot choose itself")
    manner = config.model_dump(include=set(Manner.model_fields), exclude_none=True)
    return Preset(
        **{
            "label": name.replace("-", " ").capitalize(),
            "colour": file.colour,
            **manner,
            "name": name,
            "move": Choice(tuple(config.of)) if isinstance(config, Random) else config.to_move(),
            "kind": config.move,
            "family": file.family,
        }
    )
