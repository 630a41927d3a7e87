"""What the operator's commands do: the armed preset, the modes, the lock and the joystick.

Knows nothing of OSC, HTTP or pictures, and has no clock: ``now`` is an argument. The Director does
the moving; this decides what it is told and what goes on air.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal, Protocol

from engine.camera.director import Director
from engine.camera.geometry import IDENTITY, Pose
from engine.camera.preset import Preset
from engine.errors import CommandError
from plugin.control.commands import Command, velocities
from plugin.control.table import AXES, Value
from plugin.library import nothing_like

Tally = Literal["unknown", "off", "preview", "program"]
Params = Mapping[str, Value]
Handler = Callable[[Command, float], None]

OVERRIDE_S = 10.0
PANIC_GUARD_S = 1.0  # a nervous second press must not end the panic
ERROR_SHOWN_S = 10.0
HOME_S = 2.0
POSE_S = 1.0
STARTS = frozenset({"go", "take", "cut", "auto", "next", "prev", "random", "home", "reverse"})
HELD_IN_PANIC = STARTS | {"velocity", "axis", "pose", "bypass", "freeze"}


class Mode(Enum):
    """What the operator wants on air; the compositor shows less when there is less to show."""

    LIVE = "live"
    BYPASS = "bypass"
    FREEZE = "freeze"
    SLATE = "slate"
    PANIC = "panic"


@dataclass(frozen=True, slots=True)
class View:
    """What engine and compositor need for one frame. Bypass and panic show the clean feed, not the pose,
    which is in the metres of a scene whose subject is at the distance that the session began with.
    """

    pose: Pose
    mode: Mode


class Library(Protocol):
    """What is asked of :class:`plugin.library.PresetLibrary`."""

    @property
    def presets(self) -> Sequence[Preset]: ...
    def find(self, name: str) -> Preset | None: ...


class Switcher:
    """One lock around everything; all methods may be called from any thread.

    ``handlers`` carry out the commands that are not about the camera ("reload", "reset"), outside
    the lock, so that a slow one never holds up a frame.
    """

    def __init__(
        self,
        library: Library,
        director: Director,
        handlers: Mapping[str, Handler] | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self._library = library
        self._director = director
        self._handlers = handlers or {}
        self._chance = chance or random.Random()
        self._lock = threading.RLock()
        self._last: str | None = None  # the preset that was started last
        self._reversed = False
        self._armed: str | None = None
        self._auto_duration_s = 2.0
        self._velocity = dict.fromkeys(AXES, 0.0)
        self._bypass = self._freeze = self._slate = self._panic = False
        self._panic_s = -math.inf
        self._locked = False
        self._override_until_s = -math.inf
        self._tally: Tally = "unknown"
        self._error: tuple[str, float] | None = None
        self._actions: dict[str, Callable[[Params, float], None]] = {
            "go": self._do_go,
            "arm": self._do_arm,
            "take": self._do_take,
            "auto": self._do_auto,
            "auto_duration": self._do_auto_duration,
            "cut": self._do_cut,
            "next": self._do_next,
            "prev": self._do_prev,
            "random": self._do_random,
            "stop": self._do_stop,
            "home": self._do_home,
            "reverse": self._do_reverse,
            "speed": self._do_speed,
            "velocity": self._do_velocity,
            "axis": self._do_axis,
            "pose": self._do_pose,
            "subject_distance": self._do_subject_distance,
            "panic": self._do_panic,
            "resume": self._do_resume,
            "bypass": self._do_bypass,
            "freeze": self._do_freeze,
            "slate": self._do_slate,
            "toggle": self._do_toggle,
            "lock": self._do_lock,
            "override": self._do_override,
        }

    def apply(self, command: Command, now: float) -> None:
        """Does it, or raises :class:`CommandError` and changes nothing."""
        try:
            with self._lock:
                self._permit(command, now)
                if action := self._actions.get(command.name):
                    action(command.params, now)
                    return
            if command.name not in self._handlers:
                raise CommandError(f"nothing here does {command.name!r} in this session")
            self._handlers[command.name](command, now)
        except CommandError as error:
            self.refused(str(error), now)
            raise

    def refused(self, why: str, now: float) -> None:
        """Shows the operator a command that was not understood; :meth:`apply` does so by itself."""
        with self._lock:
            self._error = (why, now)

    def set_tally(self, program: bool | None, preview: bool = False) -> None:
        """What OBS shows: None when OBS does not tell, and the lock then holds as if on program."""
        with self._lock:
            if program is None:
                self._tally = "unknown"
            else:
                self._tally = "program" if program else "preview" if preview else "off"

    def view(self, now: float) -> View:
        with self._lock:
            return View(self._director.scene_pose(now), self._mode())

    def state(self, now: float) -> dict[str, object]:
        """Everything the operator may want to see of this, for JSON."""
        with self._lock:
            status = self._director.status(now)
            return {
                "mode": self._mode().value,
                "preset": status.preset,
                "armed": self._armed,
                "reversed": self._reversed,
                "moving": status.moving,
                "progress": round(status.progress, 3),
                "remaining_s": None if status.remaining_s is None else round(status.remaining_s, 2),
                "limited": list(status.limited),
                "speed": status.speed,
                "auto_duration_s": self._auto_duration_s,
                "velocity": dict(self._velocity),
                "pose": _operators_pose(self._director.pose(now)),
                "subject_distance_m": round(self._director.distance_m(now), 3),
                "bypass": self._bypass,
                "freeze": self._freeze,
                "slate": self._slate,
                "panic": self._panic,
                "lock": self._locked,
                "locked": self._holds_back(now),
                "tally": self._tally,
                "buttons": {p.name: self._button(p.name, status.preset) for p in self._library.presets},
                "slots": {str(p.slot): p.name for p in self._library.presets if p.slot is not None},
                "last_error": self._shown_error(now),
            }

    def presets(self) -> list[dict[str, object]]:
        """The library for a page of buttons, in order."""
        return [
            {
                "name": preset.name,
                "label": preset.label,
                "family": preset.family,
                "slot": preset.slot,
                "colour": preset.colour,
                "kind": preset.kind,
                "duration_s": preset.duration_s / preset.speed,
            }
            for preset in self._library.presets
        ]

    def _mode(self) -> Mode:
        if self._slate:
            return Mode.SLATE
        if self._panic:
            return Mode.PANIC
        if self._bypass:
            return Mode.BYPASS
        return Mode.FREEZE if self._freeze else Mode.LIVE

    def _button(self, name: str, current: str | None) -> int:
        return 2 if name == current else int(name == self._armed)

    def _shown_error(self, now: float) -> str | None:
        if self._error is None or now - self._error[1] >= ERROR_SHOWN_S:
            return None
        return self._error[0]

    def _holds_back(self, now: float) -> bool:
        return self._locked and self._tally in ("program", "unknown") and now >= self._override_until_s

    def _permit(self, command: Command, now: float) -> None:
        pushed = velocities(command)
        if pushed and not any(pushed.values()):
            return  # letting go of the stick is never refused
        name = command.params.get("switch", command.name)
        if self._panic and name in HELD_IN_PANIC:
            raise CommandError(
                f"{name}: the panic button was pressed; send /realcam/resume to go back to the show"
            )
        if self._holds_back(now) and not command.while_locked:
            why = (
                "while on program" if self._tally == "program" else "and OBS does not tell what is on program"
            )
            raise CommandError(f"{name}: locked {why}; send /realcam/override first, or /realcam/lock 0")

    def _find(self, name: object) -> Preset:
        preset = self._library.find(str(name))
        if preset is None:
            raise CommandError(nothing_like(str(name), self._library.presets))
        return preset

    def _find_armed(self) -> Preset:
        if self._armed is None:
            raise CommandError("nothing is armed; arm a preset first, as with /realcam/arm push-in")
        return self._find(self._armed)

    def _current(self, now: float) -> str | None:
        """Where stepping goes on from: what the camera plays or shows, else what was started last."""
        return self._director.status(now).preset or self._last

    def _start(self, preset: Preset, now: float, duration_s: Value | None, reverse: bool = False) -> None:
        seconds = None if duration_s is None else float(duration_s)
        self._director.go(preset, now, duration_s=seconds, reverse=reverse)
        self._let_go()
        self._last, self._reversed = preset.name, reverse
        if preset.name == self._armed:
            self._armed = None

    def _let_go(self) -> None:
        """The Director drops the stick at whatever starts; it counts again when it is next pushed."""
        self._velocity = dict.fromkeys(AXES, 0.0)

    def _step(self, by: int, params: Params, now: float) -> None:
        presets = self._library.presets
        if not presets:
            raise CommandError("the library has no presets to step through")
        names = [preset.name for preset in presets]
        current = self._current(now)
        index = names.index(current) + by if current in names else (0 if by > 0 else -1)
        self._start(presets[index % len(presets)], now, params.get("duration_s"))

    def _do_go(self, params: Params, now: float) -> None:
        self._start(self._find(params["preset"]), now, params.get("duration_s"))

    def _do_arm(self, params: Params, now: float) -> None:
        self._armed = self._find(params["preset"]).name if params["preset"] else None

    def _do_take(self, params: Params, now: float) -> None:
        self._start(self._find_armed(), now, params.get("duration_s"))

    def _do_auto(self, params: Params, now: float) -> None:
        self._start(self._find_armed(), now, self._auto_duration_s)

    def _do_auto_duration(self, params: Params, now: float) -> None:
        self._auto_duration_s = float(params["duration_s"])

    def _do_cut(self, params: Params, now: float) -> None:
        preset = self._find(params["preset"]) if "preset" in params else self._find_armed()
        self._start(preset, now, 0.0)

    def _do_next(self, params: Params, now: float) -> None:
        self._step(1, params, now)

    def _do_prev(self, params: Params, now: float) -> None:
        self._step(-1, params, now)

    def _do_random(self, params: Params, now: float) -> None:
        current = self._current(now)
        others = [preset for preset in self._library.presets if preset.name != current]
        if not others:
            raise CommandError("the library has no other preset to choose")
        self._start(self._chance.choice(others), now, params.get("duration_s"))

    def _do_stop(self, params: Params, now: float) -> None:
        self._director.stop(now)
        self._let_go()

    def _do_home(self, params: Params, now: float) -> None:
        self._director.home(now, float(params.get("duration_s", HOME_S)))
        self._let_go()

    def _do_reverse(self, params: Params, now: float) -> None:
        name = self._current(now)
        if name is None:
            raise CommandError("no preset to reverse; start one first")
        was_reversed = self._reversed and name == self._last
        self._start(self._find(name), now, None, reverse=not was_reversed)

    def _do_speed(self, params: Params, now: float) -> None:
        self._director.set_speed(float(params["factor"]), now)

    def _do_velocity(self, params: Params, now: float) -> None:
        self._push({axis: float(params[axis]) for axis in AXES}, now)

    def _do_axis(self, params: Params, now: float) -> None:
        self._push({str(params["axis"]): float(params["velocity"])}, now)

    def _push(self, pushed: Mapping[str, float], now: float) -> None:
        self._director.set_velocity(pushed, now)
        self._velocity.update(pushed)

    def _do_pose(self, params: Params, now: float) -> None:
        number = {name: float(value) for name, value in params.items()}
        pose = Pose.from_angles(
            pan=math.radians(number["pan_deg"]),
            tilt=math.radians(number["tilt_deg"]),
            roll=math.radians(number["roll_deg"]),
            translation=(number["x_m"], number["y_m"], number["z_m"]),
            zoom=number["zoom"],
        )
        self._director.move_to(pose, now, number.get("duration_s", POSE_S))
        self._let_go()

    def _do_subject_distance(self, params: Params, now: float) -> None:
        self._director.set_subject_distance(float(params["distance_m"]), now)

    def _do_panic(self, params: Params, now: float) -> None:
        if self._panic:
            if now - self._panic_s >= PANIC_GUARD_S:
                self._panic = False
            return
        self._panic, self._panic_s = True, now
        self._bypass = self._freeze = self._slate = self._locked = False
        self._director.cut(IDENTITY, now)
        self._let_go()

    def _do_resume(self, params: Params, now: float) -> None:
        self._panic = False

    def _do_bypass(self, params: Params, now: float) -> None:
        self._bypass = bool(params["on"])

    def _do_freeze(self, params: Params, now: float) -> None:
        self._freeze = bool(params["on"])
        self._director.freeze(self._freeze, now)

    def _do_slate(self, params: Params, now: float) -> None:
        self._slate = bool(params["on"])

    def _do_toggle(self, params: Params, now: float) -> None:
        switches = {
            "bypass": (self._bypass, self._do_bypass),
            "freeze": (self._freeze, self._do_freeze),
            "slate": (self._slate, self._do_slate),
        }
        is_on, switch = switches[str(params["switch"])]
        switch({"on": not is_on}, now)

    def _do_lock(self, params: Params, now: float) -> None:
        self._locked = bool(params["on"])
        self._override_until_s = -math.inf

    def _do_override(self, params: Params, now: float) -> None:
        self._override_until_s = now + OVERRIDE_S


def _operators_pose(pose: Pose) -> dict[str, float]:
    angles = pose.angles()
    x_m, y_m, z_m = pose.translation
    values = {
        "pan_deg": math.degrees(angles.pan),
        "tilt_deg": math.degrees(angles.tilt),
        "roll_deg": math.degrees(angles.roll),
        "x_m": x_m,
        "y_m": y_m,
        "z_m": z_m,
        "zoom": pose.zoom,
    }
    return {name: round(value, 3) for name, value in values.items()}
