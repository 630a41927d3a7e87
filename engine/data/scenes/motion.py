"""How people move: speaking, gesturing, standing, sitting and walking as functions of time, and captured
clips.

Knows which bone turns how far at a time. Knows nothing of meshes, shapes or clothes.

Everything repeats exactly for the same seed and time, and never for ever: movements are sums of sines whose
periods have no common multiple, and sequences of postures drawn by their number. Axes are the pack's: y
down, facing -z, the person's left at +x. Angles in radians, lengths as shares of the arm where a posture
should fit all bodies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from engine.data.scenes.captured import CLIPS, captured_stance
from engine.data.scenes.skeleton import BACK, DOWN, LEFT, Array, Skeleton, Stance, rotation
from engine.data.scenes.walking import Course, walking_legs

SIDES = (("L", 1.0), ("R", -1.0))
FORWARD = -BACK


@dataclass(frozen=True, kw_only=True)
class Presenting:
    """Stands, speaks and gestures; ``energy`` from 0 (calm) to 1 (lively)."""

    seed: int
    energy: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Stands and listens: weight shifts, breath, glances."""

    seed: int


@dataclass(frozen=True, kw_only=True)
class Sitting:
    """Sits over the origin on a seat, hands on the thighs or on a desk in front; speaks when ``speaks``."""

    seed: int
    seat_m: float = 0.45
    desk_m: float | None = None  # height of a desk's top, whose edge is 0.25 to 0.3 m before the origin
    speaks: bool = True


@dataclass(frozen=True, kw_only=True)
class Walking:
    """Walks there and back, turning at both ends, along x, z points in the person's own frame."""

    seed: int
    path_m: tuple[tuple[float, float], ...]
    speed_m_s: float = 1.1


@dataclass(frozen=True, kw_only=True)
class Captured:
    """A captured clip (one of `CLIPS`), played forth and back."""

    clip: str
    speed: float = 0.7  # of the captured one

    def __post_init__(self) -> None:
        if self.clip not in CLIPS:
            raise ValueError(f"clip {self.clip!r}: expected one of {', '.join(CLIPS)}")


Motion = Presenting | Standing | Sitting | Walking | Captured


def stance(motion: Motion, skeleton: Skeleton, time_s: float) -> Stance:
    """The posture of a body in a motion at a time."""
    match motion:
        case Presenting():
            return _presenting(motion, skeleton, time_s)
        case Standing():
            return _standing(motion, skeleton, time_s)
        case Sitting():
            return _sitting(motion, skeleton, time_s)
        case Walking():
            return _walking(motion, skeleton, time_s)
        case Captured():
            return captured_stance(motion.clip, motion.speed * time_s, skeleton)


class Drift:
    """Smooth, endless, seeded wandering: `drift(channel, period, t)` is within -1..1, with deviation about
    0.5."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng((seed, 1))
        self.phases = rng.uniform(0, 2 * math.pi, (64, 3))

    def __call__(self, channel: int, period_s: float, time_s: float) -> float:
        a = 2 * math.pi * time_s / period_s
        p, q, r = self.phases[channel]
        return 0.5 * math.sin(a + p) + 0.3 * math.sin(1.618 * a + q) + 0.2 * math.sin(2.803 * a + r)


@lru_cache(maxsize=256)
def _drift(seed: int) -> Drift:
    return Drift(seed)


@lru_cache(maxsize=4096)
def _draws(seed: int, channel: int, number: int) -> Array:
    """Eight numbers in 0..1 for the numbered posture of a sequence."""
    return np.random.default_rng((seed, channel, number & 0xFFFFFFFF)).random(8)


def _ease(x: float) -> float:
    """From 0 to 1 with no speed and no acceleration at the ends (minimum jerk)."""
    x = min(max(x, 0.0), 1.0)
    return x * x * x * (10 + x * (6 * x - 15))


def _face(seed: int, time_s: float, speaks: float) -> dict[str, float]:
    """Speech as syllables within phrases, blinks every few seconds, brows."""
    d = _drift(seed)
    phrase = _ease(0.5 + 1.6 * d(0, 5.3, time_s) + 0.7) * speaks
    syllable = 0.5 + 0.5 * math.sin(2 * math.pi * 4.3 * time_s + 3 * d(1, 1.7, time_s))
    opening = phrase * syllable * (0.55 + 0.45 * d(2, 0.9, time_s))
    rounding = phrase * max(0.0, d(3, 0.55, time_s))
    number = math.floor(time_s / 3.4)
    blink = 0.0
    for k in (number - 1, number):
        moment = 3.4 * (k + 0.15 + 0.7 * float(_draws(seed, 2, k)[0]))
        blink = max(blink, math.exp(-(((time_s - moment) / 0.07) ** 4)))
    return {
        "jaw": max(0.0, 0.45 * opening),
        "lips": max(0.0, 0.5 * opening),
        "funnel": 0.4 * rounding,
        "pucker": 0.25 * rounding,
        "smile": max(0.0, 0.4 + 0.5 * d(4, 7.1, time_s)) * (1 - 0.4 * speaks),
        "blink": 0.95 * blink,
        "brows": max(0.0, 0.4 + 0.8 * d(5, 2.9, time_s)) * (0.4 + 0.6 * speaks),
    }


def _upper_body(turns: dict[str, Array], seed: int, time_s: float, liveliness: float) -> None:
    """Breath, sway of the spine, glances of head and eyes, nods with speech."""
    d = _drift(seed)
    breath = math.sin(2 * math.pi * time_s / 3.9)
    lean, twist, side = (d(k, p, time_s) for k, p in ((6, 6.7), (7, 8.9), (8, 7.7)))
    turns["spine04"] = rotation(DOWN, 0.04 * twist) @ rotation(BACK, 0.025 * side)
    turns["spine02"] = rotation(DOWN, 0.05 * twist) @ rotation(LEFT, 0.012 * breath + 0.03 * lean)
    glance = _ease(0.5 + 1.5 * d(9, 4.7, time_s)) - 0.5  # looks, rests, looks elsewhere
    yaw = 0.5 * glance + 0.12 * liveliness * d(10, 1.9, time_s)
    nod = 0.07 * d(11, 2.3, time_s) + 0.05 * liveliness * d(12, 0.8, time_s)
    tilt = 0.07 * d(13, 3.7, time_s)
    turns["neck01"] = rotation(DOWN, 0.4 * yaw) @ rotation(LEFT, 0.4 * nod)
    turns["head"] = rotation(DOWN, 0.6 * yaw) @ rotation(LEFT, 0.6 * nod) @ rotation(BACK, tilt)
    look = rotation(DOWN, -0.35 * yaw + 0.1 * d(14, 1.3, time_s)) @ rotation(LEFT, -0.5 * nod)
    for name, sign in SIDES:
        turns[f"eye.{name}"] = look
        turns[f"clavicle.{name}"] = rotation(BACK, sign * (0.015 - 0.02 * breath))


def _arm(
    turns: dict[str, Array],
    shift_m: Array,
    skeleton: Skeleton,
    side: str,
    wrist: Array,
    pole: Array,
    twist_rad: float,
    bend_rad: float,
    curl_rad: float,
) -> None:
    """Wrist to a point; then the forearm and hand turn by `twist`, the hand flexes, the fingers curl.

    At rest the thumb points forwards, so that turning about the forward axis flexes hand and fingers.
    """
    limb = (f"shoulder01.{side}", f"upperarm01.{side}", f"lowerarm01.{side}", f"wrist.{side}")
    skeleton.reach(turns, shift_m, limb, wrist, pole)
    fore = skeleton.joint(f"wrist.{side}") - skeleton.joint(f"lowerarm01.{side}")
    sign = 1.0 if side == "L" else -1.0
    turns[f"lowerarm02.{side}"] = rotation(fore, -sign * 0.55 * twist_rad)
    turns[f"wrist.{side}"] = rotation(FORWARD, sign * bend_rad) @ rotation(fore, -sign * 0.45 * twist_rad)
    for finger in range(2, 6):
        for joint, share in ((1, 0.7), (2, 1.0), (3, 0.6)):
            bend = share * curl_rad * (0.6 + 0.12 * finger)
            turns[f"finger{finger}-{joint}.{side}"] = rotation(FORWARD, -sign * bend)


def _chest_point(turns: dict[str, Array], shift_m: Array, skeleton: Skeleton, offset: Array) -> Array:
    """A point carried by the chest, `offset` from the joint of the middle spine."""
    frame = skeleton.frame("spine02", turns, shift_m)
    return np.asarray(frame[:, :3] @ (skeleton.joint("spine03") + offset) + frame[:, 3])


@dataclass(frozen=True)
class _Hand:
    """A posture of one arm: where the wrist is from the middle spine (to the side, up and forwards, as
    shares of
    the arm's length), and how forearm, hand and fingers turn."""

    aside: float
    up: float
    forward: float
    twist: float
    bend: float
    curl: float

    def towards(self, other: _Hand, share: float) -> _Hand:
        mix = [(1 - share) * a + share * b for a, b in zip(self.values(), other.values(), strict=True)]
        return _Hand(*mix)

    def values(self) -> tuple[float, ...]:
        return (self.aside, self.up, self.forward, self.twist, self.bend, self.curl)


HANGING = _Hand(0.44, -0.64, 0.10, 0.1, 0.05, 0.45)
FOLDED = _Hand(0.06, -0.04, 0.50, 0.0, -0.1, 0.75)
OPEN = _Hand(0.50, 0.10, 0.48, 1.1, 0.1, 0.15)
RAISED = _Hand(0.40, 0.40, 0.42, 0.6, 0.2, 0.35)
POINTING = _Hand(0.62, 0.30, 0.42, 0.4, 0.0, 0.6)
LOW_OPEN = _Hand(0.42, -0.10, 0.48, 0.9, 0.1, 0.25)
GESTURES = (FOLDED, OPEN, RAISED, LOW_OPEN, POINTING, LOW_OPEN, OPEN)


def _gesture(seed: int, side: int, time_s: float, energy: float) -> _Hand:
    """The posture of one hand: moves to the next in about half a second, stays, beats with the speech."""
    period_s = 2.6 - 1.3 * energy
    number, part = divmod(time_s / period_s, 1.0)

    def posture(k: float) -> _Hand:
        draw = _draws(seed, 3, int(k))  # both hands often do the same
        if draw[0] > 0.35 + 0.6 * energy:
            return FOLDED if draw[1] < 0.5 else HANGING
        alone = draw[2] < 0.45
        if alone and (draw[3] < 0.5) == (side == 0):
            return FOLDED if draw[4] < 0.3 else HANGING
        return GESTURES[int(draw[5 + (side if alone else 0)] * len(GESTURES))]

    begin = 0.25 * float(_draws(seed, 4 + side, int(number))[0])
    share = _ease((part - begin) * period_s / 0.62)
    hand = posture(number - 1).towards(posture(number), share)
    d = _drift(seed)
    beat = 0.06 * d(20 + side, 0.75, time_s) * (0.3 + energy)
    return _Hand(
        hand.aside + 0.03 * d(22 + side, 1.7, time_s),
        hand.up + beat,
        hand.forward + 0.5 * beat,
        hand.twist + beat,
        hand.bend - 2 * beat,
        hand.curl,
    )


def _place_arms(
    turns: dict[str, Array], shift_m: Array, skeleton: Skeleton, hands: tuple[_Hand, _Hand]
) -> None:
    for (side, sign), hand in zip(SIDES, hands, strict=True):
        arm = skeleton.length(f"upperarm01.{side}", f"wrist.{side}")
        offset = arm * np.array([sign * hand.aside, -hand.up, -hand.forward])
        wrist = _chest_point(turns, shift_m, skeleton, offset)
        pole = np.array([sign * 0.55, 0.8, 0.7])
        _arm(turns, shift_m, skeleton, side, wrist, pole, hand.twist, hand.bend, hand.curl)


def _planted_legs(turns: dict[str, Array], shift_m: Array, skeleton: Skeleton, spread_m: float) -> None:
    """Feet flat on their places, knees forwards."""
    for side, sign in SIDES:
        ankle = skeleton.joint(f"foot.{side}").copy()
        ankle[0] = sign * (0.6 * abs(ankle[0]) + spread_m)
        limb = (f"pelvis.{side}", f"upperleg01.{side}", f"lowerleg01.{side}", f"foot.{side}")
        shin = skeleton.reach(turns, shift_m, limb, ankle, np.array([sign * 0.15, 0.0, -1.0]))
        turns[f"foot.{side}"] = shin.T @ rotation(DOWN, -sign * 0.16)


def _standing_root(turns: dict[str, Array], seed: int, time_s: float) -> Array:
    """Weight shifted from leg to leg, hips following; the knees give, so that the feet stay."""
    d = _drift(seed)
    weight = 2 * _ease(0.5 + 1.3 * d(15, 9.1, time_s)) - 1
    turns["root"] = rotation(DOWN, 0.10 * d(16, 11.3, time_s)) @ rotation(BACK, 0.025 * weight)
    turns["spine05"] = rotation(BACK, -0.03 * weight)
    return np.array([0.035 * weight, 0.012 + 0.006 * abs(weight), 0.012 * d(17, 6.1, time_s)])


def _presenting(motion: Presenting, skeleton: Skeleton, time_s: float) -> Stance:
    turns: dict[str, Array] = {}
    shift_m = _standing_root(turns, motion.seed, time_s)
    _upper_body(turns, motion.seed, time_s, 0.4 + motion.energy)
    hands = tuple(_gesture(motion.seed, side, time_s, motion.energy) for side in (0, 1))
    _place_arms(turns, shift_m, skeleton, (hands[0], hands[1]))
    _planted_legs(turns, shift_m, skeleton, 0.025)
    return Stance(turns=turns, shift_m=shift_m, face=_face(motion.seed, time_s, 1.0))


def _standing(motion: Standing, skeleton: Skeleton, time_s: float) -> Stance:
    turns: dict[str, Array] = {}
    shift_m = _standing_root(turns, motion.seed, time_s)
    _upper_body(turns, motion.seed, time_s, 0.3)
    hands = tuple(_gesture(motion.seed, side, 0.35 * time_s, -0.3) for side in (0, 1))
    _place_arms(turns, shift_m, skeleton, (hands[0], hands[1]))
    _planted_legs(turns, shift_m, skeleton, 0.025)
    return Stance(turns=turns, shift_m=shift_m, face=_face(motion.seed, time_s, 0.0))


def _sitting(motion: Sitting, skeleton: Skeleton, time_s: float) -> Stance:
    """The pelvis on the seat, thighs forwards, feet flat in front."""
    turns: dict[str, Array] = {}
    d = _drift(motion.seed)
    _upper_body(turns, motion.seed, time_s, 0.6 if motion.speaks else 0.3)
    turns["root"] = rotation(DOWN, 0.05 * d(16, 11.3, time_s))
    turns["spine05"] = rotation(LEFT, -0.10 + 0.04 * d(18, 8.3, time_s))
    hip = 0.5 * (skeleton.joint("upperleg01.L") + skeleton.joint("upperleg01.R"))
    shift_m = np.array([0.0, -(motion.seat_m + 0.085), 0.02]) - np.array([0.0, hip[1], hip[2]])
    for side, sign in SIDES:
        foot = skeleton.joint(f"foot.{side}")
        thigh = skeleton.length(f"upperleg01.{side}", f"lowerleg01.{side}")
        ankle = np.array([sign * (0.13 + 0.02 * d(19, 13.0, time_s)), foot[1], -0.92 * thigh])
        limb = (f"pelvis.{side}", f"upperleg01.{side}", f"lowerleg01.{side}", f"foot.{side}")
        shin = skeleton.reach(turns, shift_m, limb, ankle, np.array([sign * 0.25, -1.0, -0.6]))
        turns[f"foot.{side}"] = shin.T @ rotation(DOWN, -sign * 0.14)
    _place_arms(turns, shift_m, skeleton, _seated_hands(motion, skeleton, shift_m, turns, time_s))
    speaks = 1.0 if motion.speaks else 0.0
    return Stance(turns=turns, shift_m=shift_m, face=_face(motion.seed, time_s, speaks))


def _seated_hands(
    motion: Sitting, skeleton: Skeleton, shift_m: Array, turns: dict[str, Array], time_s: float
) -> tuple[_Hand, _Hand]:
    """On the desk or on the thighs, and now and then a gesture above."""
    arm = skeleton.length("upperarm01.L", "wrist.L")
    chest = float(_chest_point(turns, shift_m, skeleton, np.zeros(3))[1])
    hip = float((skeleton.joint("upperleg01.L") + shift_m)[1])
    rest_y = hip - 0.11 if motion.desk_m is None else -motion.desk_m - 0.045
    rest = _Hand(0.24, (chest - rest_y) / arm, 0.50 if motion.desk_m is None else 0.62, 0.35, 0.1, 0.4)
    hands = []
    for side in (0, 1):
        number, part = divmod(time_s / 2.9 + 0.37 * side, 1.0)
        now, before = (float(_draws(motion.seed, 6 + side, int(k))[0] > 0.6) for k in (number, number - 1))
        lifted = before + (now - before) * _ease(part * 4)
        gesture = _gesture(motion.seed, side, time_s, 0.9)
        above = _Hand(
            max(gesture.aside, 0.15),
            max(gesture.up, rest.up + 0.15),
            max(gesture.forward, 0.45),
            gesture.twist,
            gesture.bend,
            gesture.curl,
        )
        hands.append(rest.towards(above, lifted if motion.speaks else 0.0))
    return hands[0], hands[1]


@lru_cache(maxsize=64)
def _course(motion: Walking) -> Course:
    return Course(motion.path_m, motion.speed_m_s)


def _walking(motion: Walking, skeleton: Skeleton, time_s: float) -> Stance:
    turns: dict[str, Array] = {}
    _upper_body(turns, motion.seed, time_s, 0.3)
    course = _course(motion)
    shift_m, swing, effort = walking_legs(course, skeleton, turns, time_s)
    turns["spine03"] = rotation(DOWN, 0.10 * effort * swing)
    hands = tuple(
        _Hand(
            HANGING.aside,
            HANGING.up + 0.04 * effort,
            HANGING.forward - 0.05 + sign * 0.34 * effort * swing,
            HANGING.twist,
            HANGING.bend,
            HANGING.curl,
        )
        for sign in (-1.0, 1.0)
    )
    _place_arms(turns, shift_m, skeleton, (hands[0], hands[1]))
    return Stance(turns=turns, shift_m=shift_m, face=_face(motion.seed, time_s, 0.0))
