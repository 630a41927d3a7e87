"""The table of addresses itself, and what a row of it is. Only data: it is read in commands.py.

Triggers happen on the press of a button; values are kept and can be queried; feedback is told to
subscribers and to who asks; a reply only to who sent something.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Value = float | int | str | bool

AXES = ("pan", "tilt", "roll", "zoom", "x", "y", "z")
SWITCHES = ("bypass", "freeze", "slate")


@dataclass(frozen=True, kw_only=True, slots=True)
class Argument:
    """One argument: its name with the unit as suffix, its type and the range it is refused outside of."""

    name: str
    type: Literal["float", "int", "switch", "text"] = "float"
    optional: bool = False
    low: float = float("-inf")
    high: float = float("inf")

    def range_text(self) -> str:
        """ "−1 … 1", or nothing when there is no range."""
        if self.type == "switch":
            return "0 or 1"
        return "" if self.low == float("-inf") else f"{self.low:g} … {self.high:g}"

    def text(self) -> str:
        """ "duration_s (float, 0.1 … 120)", in brackets when optional."""
        kind = ", ".join(filter(None, (self.type, self.range_text())))
        text = f"{self.name} ({kind})"
        return f"[{text}]" if self.optional else text


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One address. ``state`` is the key of the state that answers a query, with the path's names."""

    group: str
    address: str
    name: str
    help: str
    kind: Literal["trigger", "value", "feedback", "reply"] = "trigger"
    arguments: tuple[Argument, ...] = ()
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    while_locked: bool = False
    state: str = ""

    @property
    def blank(self) -> Value:
        """What a query is answered with while the state knows nothing."""
        type = self.arguments[0].type if self.arguments else "text"
        if type == "text":
            return ""
        return 0.0 if type == "float" else 0

    def when_locked(self) -> str:
        """What it does while the lock holds."""
        if self.while_locked:
            return "acts"
        return "told" if self.kind in ("feedback", "reply") else "refused"

    def signature(self) -> str:
        return " ".join(argument.text() for argument in self.arguments)


def _feedback(name: str, type: Literal["float", "int", "text"], help: str, state: str = "") -> Row:
    return Row(
        group="Feedback",
        address=f"/realcam/state/{name}",
        name=name,
        kind="feedback",
        arguments=(Argument(name=name, type=type),),
        help=help,
        state=state or name,
    )


DURATION = Argument(name="duration_s", optional=True, low=0.1, high=120.0)
PRESET = Argument(name="preset", type="text")


def _axis(name: str) -> Argument:
    return Argument(name=name, low=-1.0, high=1.0)


TABLE: tuple[Row, ...] = (
    Row(
        group="Moves",
        address="/realcam/preset/{preset}/go",
        name="go",
        arguments=(DURATION,),
        help="Starts the preset of this name or slot from where the camera is.",
    ),
    Row(
        group="Moves",
        address="/realcam/preset/{preset}/arm",
        name="arm",
        while_locked=True,
        help="Makes the preset of this name or slot the next to be taken.",
    ),
    Row(
        group="Moves",
        address="/realcam/preset/{preset}/cut",
        name="cut",
        help="Jumps to the end of the preset of this name or slot.",
    ),
    Row(
        group="Moves",
        address="/realcam/arm",
        name="arm",
        kind="value",
        arguments=(PRESET,),
        while_locked=True,
        state="armed",
        help="Arms a preset by name or slot; an empty text disarms.",
    ),
    Row(
        group="Moves",
        address="/realcam/take",
        name="take",
        arguments=(DURATION,),
        help="Starts the armed preset, in its own time or the one given.",
    ),
    Row(
        group="Moves",
        address="/realcam/auto",
        name="auto",
        help="Starts the armed preset in the time set by /realcam/auto/duration_s.",
    ),
    Row(
        group="Moves",
        address="/realcam/auto/duration_s",
        name="auto_duration",
        kind="value",
        arguments=(Argument(name="duration_s", low=0.1, high=120.0),),
        while_locked=True,
        state="auto_duration_s",
        help="The time that /realcam/auto takes for a move.",
    ),
    Row(
        group="Moves",
        address="/realcam/cut",
        name="cut",
        arguments=(Argument(name="preset", type="text", optional=True),),
        help="Jumps at once to the end of the armed preset, or of the one named.",
    ),
    Row(
        group="Moves",
        address="/realcam/next",
        name="next",
        arguments=(DURATION,),
        help="Starts the preset after the current one in the library's order.",
    ),
    Row(
        group="Moves",
        address="/realcam/prev",
        name="prev",
        arguments=(DURATION,),
        help="Starts the preset before the current one in the library's order.",
    ),
    Row(
        group="Moves",
        address="/realcam/random",
        name="random",
        arguments=(DURATION,),
        help="Starts any preset but the current one.",
    ),
    Row(
        group="Moves",
        address="/realcam/stop",
        name="stop",
        while_locked=True,
        help="Brings the move and every axis to a soft stop where the camera is.",
    ),
    Row(
        group="Moves",
        address="/realcam/home",
        name="home",
        arguments=(DURATION,),
        help="Travels back to the real camera's own view.",
    ),
    Row(
        group="Moves",
        address="/realcam/reverse",
        name="reverse",
        help="Runs the current or last preset the other way; once more, forwards again.",
    ),
    Row(
        group="Moves",
        address="/realcam/speed",
        name="speed",
        kind="value",
        arguments=(Argument(name="factor", low=0.1, high=10.0),),
        state="speed",
        help="Speed of moves, now and to come; 1 is as authored.",
    ),
    Row(
        group="Camera",
        address="/realcam/cam/velocity",
        name="velocity",
        kind="value",
        arguments=tuple(_axis(axis) for axis in AXES),
        state="velocity",
        help="All seven joystick axes in one message, so that none starts later than the others.",
    ),
    Row(
        group="Camera",
        address="/realcam/cam/pose",
        name="pose",
        kind="value",
        arguments=(
            Argument(name="pan_deg", low=-180.0, high=180.0),
            Argument(name="tilt_deg", low=-90.0, high=90.0),
            Argument(name="roll_deg", low=-180.0, high=180.0),
            Argument(name="x_m", low=-100.0, high=100.0),
            Argument(name="y_m", low=-100.0, high=100.0),
            Argument(name="z_m", low=-100.0, high=100.0),
            Argument(name="zoom", low=0.1, high=20.0),
            Argument(name="duration_s", optional=True, low=0.0, high=120.0),
        ),
        state="pose",
        help="Travels to a pose relative to the real camera: pan right, tilt up, roll clockwise, x right, "
        "y down, z forward. In 1 s without a duration, at once with 0. Limits apply.",
    ),
    Row(
        group="Camera",
        address="/realcam/cam/subject_distance",
        name="subject_distance",
        kind="value",
        arguments=(Argument(name="distance_m", low=0.1, high=200.0),),
        state="subject_distance_m",
        help="How far the subject is: what moves that are given in metres are measured by.",
    ),
    Row(
        group="Camera",
        address="/realcam/cam/{axis}",
        name="axis",
        kind="value",
        arguments=(_axis("velocity"),),
        choices={"axis": AXES},
        state="velocity.{axis}",
        help="Joystick axis as a velocity, 0 stops: pan right, tilt up, roll clockwise, zoom in, x right, "
        "y down, z forward.",
    ),
    Row(
        group="Safety",
        address="/realcam/panic",
        name="panic",
        while_locked=True,
        help="Always works: the clean feed at once, the camera at home, the lock off. Again, a second "
        "later or more: back to the show.",
    ),
    Row(
        group="Safety",
        address="/realcam/resume",
        name="resume",
        while_locked=True,
        help="Comes back from panic.",
    ),
    Row(
        group="Safety",
        address="/realcam/bypass",
        name="bypass",
        kind="value",
        arguments=(Argument(name="on", type="switch"),),
        state="bypass",
        help="Shows the clean feed as it comes in.",
    ),
    Row(
        group="Safety",
        address="/realcam/freeze",
        name="freeze",
        kind="value",
        arguments=(Argument(name="on", type="switch"),),
        state="freeze",
        help="Holds the picture and the move; off goes on from there.",
    ),
    Row(
        group="Safety",
        address="/realcam/slate",
        name="slate",
        kind="value",
        arguments=(Argument(name="on", type="switch"),),
        state="slate",
        help="Shows the slate.",
    ),
    Row(
        group="Safety",
        address="/realcam/{switch}/toggle",
        name="toggle",
        choices={"switch": SWITCHES},
        help="Turns it on, or off when it is on.",
    ),
    Row(
        group="Safety",
        address="/realcam/lock",
        name="lock",
        kind="value",
        arguments=(Argument(name="on", type="switch"),),
        while_locked=True,
        state="lock",
        help="While locked and on program (or while OBS does not tell), only what has 'acts' in the last "
        "column acts.",
    ),
    Row(
        group="Safety",
        address="/realcam/override",
        name="override",
        while_locked=True,
        help="Lets commands through the lock for ten seconds.",
    ),
    Row(
        group="Safety",
        address="/realcam/reset",
        name="reset",
        help="Makes the engine forget the past, when its picture has gone wrong.",
    ),
    Row(
        group="System",
        address="/realcam/subscribe",
        name="subscribe",
        kind="trigger",
        arguments=(
            Argument(name="port", type="int", optional=True, low=2, high=65535),
            Argument(name="ttl_s", optional=True, low=1.0, high=3600.0),
        ),
        while_locked=True,
        help="Sends feedback to the sender, to its own port or the one given, for ttl_s (10 s); "
        "send it again before that to go on.",
    ),
    Row(
        group="System",
        address="/realcam/unsubscribe",
        name="unsubscribe",
        arguments=(Argument(name="port", type="int", optional=True, low=2, high=65535),),
        while_locked=True,
        help="Ends the feedback to the sender.",
    ),
    Row(
        group="System",
        address="/realcam/ping",
        name="ping",
        while_locked=True,
        help="Answers /realcam/pong to the sender.",
    ),
    Row(
        group="System",
        address="/realcam/pong",
        name="pong",
        kind="reply",
        help="The answer to /realcam/ping.",
    ),
    Row(
        group="System",
        address="/realcam/error",
        name="error",
        kind="reply",
        arguments=(Argument(name="sentence", type="text"),),
        help="The answer to what was refused: what was expected and what was found.",
    ),
    Row(
        group="System",
        address="/realcam/reload",
        name="reload",
        while_locked=True,
        help="Reads the preset files again; a bad file keeps the last good one.",
    ),
    Row(
        group="System",
        address="/realcam/state",
        name="state",
        kind="feedback",
        state="*",
        help="Answers all of the feedback below, once.",
    ),
    _feedback("mode", "text", "live, bypass, freeze, slate or panic."),
    _feedback("rung", "text", "What the output can show, best first: engine, hold, clean or slate."),
    _feedback("preset", "text", "The current or last preset; empty for none."),
    _feedback("armed", "text", "The armed preset; empty for none."),
    _feedback("moving", "int", "1 while the camera moves."),
    _feedback("progress", "float", "Share of the move that is done, 0 … 1."),
    _feedback("remaining_s", "float", "Seconds until the move ends."),
    _feedback("speed", "float", "Speed of moves."),
    _feedback("limited", "text", "The axes that are held by a limit."),
    _feedback("lock", "int", "1 while the lock is set."),
    _feedback("locked", "int", "1 while the lock holds commands back."),
    _feedback("tally", "text", "program, preview, off or unknown."),
    _feedback("fps", "float", "Frames a second that go out."),
    _feedback("latency_ms", "float", "From the source's picture to the output, typical (p50)."),
    _feedback("drops", "int", "Frames dropped or missed since the start."),
    _feedback("source", "text", "State of the source.", "source.state"),
    _feedback("engine", "text", "State of the engine.", "engine.state"),
    _feedback("engine_detail", "text", "Why that, and how well it renders now.", "engine.detail"),
    _feedback("engine_fps", "float", "Pictures a second that the engine renders.", "engine.fps"),
    _feedback("health_error", "float", "The student against the source, in levels of 255.", "health.error"),
    _feedback("health_sharpness", "float", "Its sharpness; 1 is the source's.", "health.sharpness"),
    _feedback("health_colour", "float", "How far its colours are off, in levels.", "health.colour"),
    _feedback("error", "text", "The last command that was refused, and why.", "last_error"),
    Row(
        group="Feedback",
        address="/realcam/preset/{preset}/state",
        name="preset_state",
        kind="feedback",
        arguments=(Argument(name="state", type="int"),),
        state="buttons.{preset}",
        help="For the lamp of a button: 0 idle, 1 armed, 2 current.",
    ),
)
