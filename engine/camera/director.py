"""The Director: commands and presets in, one pose for any instant out. Knows nothing of devices or threads.

Every method takes ``now`` in seconds and nothing else passes time, so it can be replayed and tested
without waiting. Position and velocity are continuous over every command but a cut; the pose never
leaves the limits; a move arrives when it said it would. Not locked: its owner calls it from one
thread at a time.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from engine.camera.axes import AXES, PAN, TILT, ZOOM, AxisValues, Limits, X, Y, from_pose, names, to_pose
from engine.camera.easing import easing
from engine.camera.geometry import IDENTITY, Pose
from engine.camera.glide import Glide
from engine.camera.motion import MoveClock, Playing, Shifted, fitted, phases
from engine.camera.moves import Line, Path
from engine.camera.preset import SHORTEST_S, Choice, Preset

__all__ = ["ACCELERATION", "FULL_SPEED", "Director", "DirectorStatus", "Find", "Limits"]

Find = Callable[[str], Preset | None]

# pan tilt roll (radians/s), x y z (shares of the subject's distance/s), zoom (e-folds/s)
FULL_SPEED: AxisValues = np.array((0.5, 0.35, 0.35, 0.4, 0.25, 0.35, 0.5))  # of a joystick pushed home
ACCELERATION: AxisValues = FULL_SPEED / 0.4  # from rest to full speed, and back, in 0.4 s

FREEZE_S = 0.3
RETIME_S = 0.4
DISTANCE_S = 1.0
SPEEDS = (0.05, 20.0)
ALTERNATING = ("return", "ping-pong")
MOVE_EASING = "in-out-sine"


@dataclass(frozen=True, slots=True)
class DirectorStatus:
    """``preset``: the one under way, or the one the camera has arrived at and not left since.

    ``progress`` is of all of it, or of one pass where it has no end, and then ``remaining_s`` is None.
    ``limited``: axes at a limit, and those that
    made the present move smaller than its preset asks.
    """

    moving: bool
    preset: str | None
    progress: float
    remaining_s: float | None
    limited: tuple[str, ...]
    frozen: bool
    speed: float


@dataclass(frozen=True, slots=True)
class _Distance:
    """The subject's distance, going over to a new value; cubic Hermite in its logarithm."""

    start_s: float
    before: float
    rate: float
    goal: float

    def at(self, now: float) -> tuple[float, float]:
        u = min(1.0, max(0.0, (now - self.start_s) / DISTANCE_S))
        span, m = self.goal - self.before, self.rate * DISTANCE_S
        value = self.before + span * u * u * (3 - 2 * u) + m * u * (1 - u) ** 2
        return value, (span * 6 * u * (1 - u) + m * (1 - u) * (1 - 3 * u)) / DISTANCE_S


class Director:
    """``find`` looks up presets that follow others; ``chance`` makes the choices of random ones."""

    def __init__(
        self,
        limits: Limits,
        subject_distance_m: float,
        find: Find = lambda name: None,
        chance: random.Random | None = None,
    ) -> None:
        self.limits = limits
        self._find = find
        self._chance = chance or random.Random()
        self._motion: Glide | Playing = Glide.resting(np.zeros(len(AXES)), 0.0)
        self._preset: Preset | None = None
        self._reduced: tuple[str, ...] = ()
        self._speed = 1.0
        self._move_speed = 1.0
        self._frozen = False
        self._stick: dict[str, float] = {}
        _check_distance(subject_distance_m)
        self._scene_distance_m = subject_distance_m
        goal = math.log(subject_distance_m)
        self._distance = _Distance(0.0, goal, 0.0, goal)

    def go(
        self,
        preset: Preset,
        now: float,
        *,
        duration_s: float | None = None,
        speed: float = 1.0,
        reverse: bool = False,
    ) -> None:
        """Starts a preset, whatever is under way. ``duration_s`` replaces the preset's own duration
        and speed; shorter than :data:`SHORTEST_S`, it is a cut to the end of the move.
        """
        if not 0 < speed < math.inf:
            raise ValueError(f"a speed is a factor above 0, not {speed:g}")
        _check_duration(duration_s)
        self._settle(now)
        chosen = self._chosen(preset)
        if chosen is None:
            return
        if reverse:
            chosen = replace(chosen, reverse=not chosen.reverse)
        if duration_s is not None:
            chosen = replace(chosen, duration_s=max(SHORTEST_S, duration_s), speed=1.0)
        if duration_s is not None and duration_s < SHORTEST_S:
            self._cut_to_end(chosen, now)
        else:
            self._play(chosen, now, chosen.speed * speed)

    def move_to(self, pose: Pose, now: float, duration_s: float) -> None:
        """Goes to a pose, in a straight line on every axis; a zero duration is a cut."""
        _check_duration(duration_s)
        self._settle(now)
        if duration_s < SHORTEST_S:
            self.cut(pose, now)
            return
        goal = from_pose(pose, self.distance_m(now))
        clamped = self.limits.clamp(goal)
        self._begin(
            Playing(
                path=Line(clamped),
                timing=easing(MOVE_EASING),
                duration_s=duration_s,
                delay_s=0.0,
                passes=1,
                alternate=False,
                reverse=False,
                clock=MoveClock(now, 0.0, self._speed, self._speed),
                before=self._glide(now),
            ),
            reduced=names(self.limits.beyond(goal)),
        )

    def home(self, now: float, duration_s: float = 2.0) -> None:
        """Back to exactly the source's picture."""
        self.move_to(IDENTITY, now, duration_s)

    def cut(self, pose: Pose, now: float) -> None:
        """The one command that jumps."""
        self._settle(now)
        goal = from_pose(pose, self.distance_m(now))
        self._begin(Glide.resting(self.limits.clamp(goal), now), reduced=names(self.limits.beyond(goal)))

    def stop(self, now: float) -> None:
        """Comes to rest where it is, as fast as is smooth."""
        self._settle(now)
        self._begin(self._glide(now))

    def freeze(self, on: bool, now: float) -> None:
        """Pauses the move under way, or lets it go on. Another motion ends the pause."""
        self._settle(now)
        if isinstance(self._motion, Playing) and on != self._frozen:
            self._frozen = on
            self._motion = self._motion.retimed(now, self._rate(), FREEZE_S)

    def set_speed(self, factor: float, now: float) -> None:
        """A master speed for the move under way, the joystick and all that follows."""
        if not SPEEDS[0] <= factor <= SPEEDS[1]:
            raise ValueError(f"a speed lies between {SPEEDS[0]:g} and {SPEEDS[1]:g}, not {factor:g}")
        self._settle(now)
        self._speed = factor
        if isinstance(self._motion, Playing):
            self._motion = self._motion.retimed(now, self._rate(), RETIME_S)
        elif any(self._stick.values()):
            self._motion = self._glide(now, self._wanted(now))

    def set_velocity(self, axes: Mapping[str, float], now: float) -> None:
        """A joystick: −1…1 on some of :data:`AXES`; those not named stay as they are pushed.

        It takes over from a move when it is pushed, but not when it is at rest.
        """
        if unknown := axes.keys() - set(AXES):
            raise ValueError(f"unknown axes {sorted(unknown)}; there are {', '.join(AXES)}")
        if not all(math.isfinite(value) for value in axes.values()):
            raise ValueError(f"a joystick's axis lies between -1 and 1: {dict(axes)}")
        self._settle(now)
        was_pushed = any(self._stick.values())
        stick = self._stick | {name: max(-1.0, min(1.0, value)) for name, value in axes.items()}
        if not was_pushed and not any(stick.values()):
            return
        driven = self._glide(now, self._wanted(now, stick))
        self._begin(driven)
        self._stick = stick

    def set_subject_distance(self, metres: float, now: float) -> None:
        """The camera keeps its place in shares of the distance, so the plane's picture does not jump;
        the metres follow within a second.
        """
        _check_distance(metres)
        value, rate = self._distance.at(now)
        self._distance = _Distance(now, value, rate, math.log(metres))

    def pose(self, now: float) -> Pose:
        return to_pose(self.axes(now), self.distance_m(now))

    def scene_pose(self, now: float) -> Pose:
        """For what shows the scene, in which the subject stays as far away as it was at first: a picture
        depends on shares of the distance only, so a new one changes :meth:`pose` and not the picture.
        """
        return to_pose(self.axes(now), self._scene_distance_m)

    def axes(self, now: float) -> AxisValues:
        """The seven :data:`AXES`."""
        self._settle(now)
        return self.limits.clamp(self._motion.values(now))

    def velocity(self, now: float) -> AxisValues:
        """Of the seven, per second."""
        self._settle(now)
        return self._motion.velocity(now)

    def distance_m(self, now: float) -> float:
        """The subject's distance that :meth:`pose` is made with at this instant."""
        return math.exp(self._distance.at(now)[0])

    def status(self, now: float) -> DirectorStatus:
        values = self.axes(now)
        motion = self._motion
        at_limit = self.limits.reached(values)
        playing = isinstance(motion, Playing)
        return DirectorStatus(
            moving=now < motion.end_s and not (playing and self._frozen),
            preset=self._preset.name if self._preset else None,
            progress=motion.progress(now) if isinstance(motion, Playing) else float(now >= motion.end_s),
            remaining_s=self._remaining_s(now),
            limited=tuple(name for name in AXES if name in at_limit or name in self._reduced),
            frozen=self._frozen,
            speed=self._speed,
        )

    def _remaining_s(self, now: float) -> float | None:
        if not isinstance(self._motion, Playing):
            return max(0.0, self._motion.end_s - now)
        left = self._motion.total_s - self._motion.clock.elapsed(now)
        return left / (self._move_speed * self._speed) if math.isfinite(left) else None

    def _rate(self) -> float:
        return 0.0 if self._frozen else self._move_speed * self._speed

    def _chosen(self, preset: Preset) -> Preset | None:
        """Resolves a choice, and one within it; avoids the preset that the camera is at."""
        seen = {preset.name}
        while isinstance(preset.move, Choice):
            found = [p for name in preset.move.of if name not in seen and (p := self._find(name))]
            here = self._preset.name if self._preset else None
            fresh = [p for p in found if p.name != here] or found
            if not fresh:
                return None
            picked = self._chance.choice(fresh)
            seen.add(picked.name)
            preset = replace(picked, on_end="hold", next=preset.next) if preset.next else picked
        return preset

    def _play(self, preset: Preset, now: float, speed: float) -> None:
        before = self._glide(now)
        path, reduced = self._path(preset, before.goal, now)
        if preset.start == "cut":
            before = Glide.resting(path.at(1.0 if preset.reverse else 0.0), now)
        rate = speed * self._speed
        playing = Playing(
            path=path,
            timing=preset.timing(),
            duration_s=preset.duration_s,
            delay_s=preset.delay_s,
            passes={"hold": 1, "return": 2}.get(preset.on_end, math.inf),
            alternate=preset.on_end in ALTERNATING,
            reverse=preset.reverse,
            clock=MoveClock(now, 0.0, rate, rate),
            before=before,
            crossfade=preset.on_end == "loop",
        )
        if playing.leaves(self.limits):
            playing = replace(playing, crossfade=True)
        self._begin(playing, preset, reduced)
        self._move_speed = speed

    def _cut_to_end(self, preset: Preset, now: float) -> None:
        path, reduced = self._path(preset, self._glide(now).goal, now)
        self._begin(Glide.resting(path.at(0.0 if preset.reverse else 1.0), now), preset, reduced)

    def _path(self, preset: Preset, here: AxisValues, now: float) -> tuple[Path, tuple[str, ...]]:
        """Within the limits, and the axes that it was made smaller for."""
        path = preset.path(self.distance_m(now), preset.duration_s)
        if preset.relative:
            path = Shifted(path, here)
        alternates = preset.on_end in ALTERNATING
        forwards, backwards = not preset.reverse or alternates, preset.reverse or alternates
        return fitted(path, phases(preset.timing(), preset.duration_s, forwards, backwards), self.limits)

    def _begin(
        self, motion: Glide | Playing, preset: Preset | None = None, reduced: tuple[str, ...] = ()
    ) -> None:
        self._motion = motion
        self._preset = preset
        self._reduced = reduced
        self._move_speed = 1.0
        self._frozen = False
        self._stick = {}

    def _settle(self, now: float) -> None:
        """Replaces moves that have ended by rest, or by what follows, as of the instant they ended."""
        while isinstance(self._motion, Playing) and (end_s := self._motion.end_s) <= now:
            self._motion = Glide.resting(self.limits.clamp(self._motion.goal), end_s)
            self._frozen = False
            following = self._preset.next if self._preset else None
            found = self._find(following) if following else None
            if found and (chosen := self._chosen(found)):
                self._play(chosen, end_s, chosen.speed)

    def _glide(self, now: float, wanted: AxisValues | None = None) -> Glide:
        """From the present position and velocity to rest, or to the wanted velocity."""
        values, velocity = self._motion.values(now), self._motion.velocity(now)
        if wanted is None:
            wanted = np.zeros(len(AXES))
        return Glide.driven(values, velocity, wanted, ACCELERATION, self.limits, now)

    def _wanted(self, now: float, stick: Mapping[str, float] | None = None) -> AxisValues:
        """Velocities for the stick; a long lens moves slower, so that the picture does not run away."""
        pushed = self._stick if stick is None else stick
        share = np.array([pushed.get(name, 0.0) for name in AXES])
        wanted: AxisValues = share * FULL_SPEED * self._speed
        zoom = math.exp(max(0.0, float(self._motion.values(now)[ZOOM])))
        wanted[[PAN, TILT, X, Y]] /= zoom
        return wanted


def _check_duration(duration_s: float | None) -> None:
    if duration_s is not None and not 0 <= duration_s < math.inf:
        raise ValueError(f"a duration is never negative: {duration_s:g} s")


def _check_distance(metres: float) -> None:
    if not 0 < metres < math.inf:
        raise ValueError(f"the subject's distance is a length above 0, not {metres:g} m")
