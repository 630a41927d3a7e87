"""Walking there and back along a path: where the body is, and legs whose planted feet stay where they are.

Knows footprints, steps and turns. Knows nothing of arms, faces or meshes. Axes are the pack's (y down).

The walker's phase counts steps: foot k (left when even) swings while the phase goes from k - 0.9 to k - 0.1
and is planted otherwise, so that for a fifth of every step both feet are down.
"""

from __future__ import annotations

import math

import numpy as np

from engine.data.scenes.skeleton import DOWN, LEFT, Array, Skeleton, rotation

SAMPLE_S = 1 / 60
TURN_RAD_S, TURN_STEP_RAD = 2.2, 0.6
SOFTENING_S = 0.5  # over which speed and heading are smoothed


class Course:
    """The body's place, heading and phase, sampled over one round there and back, which repeats."""

    def __init__(self, path_m: tuple[tuple[float, float], ...], speed_m_s: float) -> None:
        points = np.array(path_m, float)
        legs = np.linalg.norm(np.diff(points, axis=0), axis=1) if len(points) > 1 else np.zeros(0)
        if points.ndim != 2 or points.shape[1:] != (2,) or len(points) < 2 or legs.min() < 0.05:
            raise ValueError(f"path_m: expected two or more x, z points 5 cm or more apart, found {path_m}")
        if speed_m_s <= 0:
            raise ValueError(f"speed_m_s: expected more than 0, found {speed_m_s}")
        there = self._walk(points, legs, speed_m_s)
        back = self._walk(points[::-1], legs[::-1], speed_m_s)
        self.step_m = 0.30 + 0.30 * speed_m_s
        place, heading = np.vstack([there[0], back[0]]), np.unwrap(np.concatenate([there[1], back[1]]))
        # A round ends as it began, but for a whole turn of the heading.
        self.round_turn = 2 * math.pi * round((heading[-1] - heading[0]) / (2 * math.pi))
        window = max(3, round(SOFTENING_S / SAMPLE_S))
        self.place = np.column_stack([_smooth(place[:, k], window, 0.0) for k in (0, 1)])
        self.heading = _smooth(heading, window, self.round_turn)
        ahead = np.linalg.norm(np.diff(self.place, axis=0, append=self.place[:1]), axis=1)
        turning = np.abs(np.diff(self.heading, append=self.heading[:1] + self.round_turn))
        phase = np.cumsum(ahead / self.step_m + turning / TURN_STEP_RAD)
        self.steps = max(2, 2 * round(phase[-1] / 2))  # a whole number of pairs, so that rounds join
        self.phase = np.concatenate([[0.0], phase]) * self.steps / phase[-1]
        self.effort = np.clip(ahead / SAMPLE_S / 0.8, 0.0, 1.0)
        self.round_s = len(self.place) * SAMPLE_S

    @staticmethod
    def _walk(points: Array, legs: Array, speed_m_s: float) -> tuple[Array, Array]:
        """Along the path at full speed, then on the spot until the way back is ahead."""
        count = math.ceil(legs.sum() / speed_m_s / SAMPLE_S)
        at = np.linspace(0.0, legs.sum(), count)
        mile = np.concatenate([[0.0], np.cumsum(legs)])
        place = np.column_stack([np.interp(at, mile, points[:, k]) for k in (0, 1)])
        which = np.clip(np.searchsorted(mile, at, side="right") - 1, 0, len(legs) - 1)
        ways = np.diff(points, axis=0)
        # A heading of 0 faces -z; positive ones turn to the right, towards -x.
        headings = np.unwrap(np.arctan2(-ways[:, 0], -ways[:, 1]))
        spin = np.linspace(0.0, math.pi, math.ceil(math.pi / TURN_RAD_S / SAMPLE_S))
        heading = np.concatenate([headings[which], headings[-1] + spin])
        return np.vstack([place, np.repeat(place[-1:], len(spin), axis=0)]), heading

    def at(self, time_s: float) -> tuple[Array, float, float, float]:
        """Place (x, z), heading, phase and effort (0 standing, 1 walking); the phase grows without end."""
        rounds, part = divmod(time_s / self.round_s, 1.0)
        index = part * len(self.place)
        low = int(index) % len(self.place)
        high, share = (low + 1) % len(self.place), index - int(index)
        place = (1 - share) * self.place[low] + share * self.place[high]
        after = self.heading[high] + (self.round_turn if high < low else 0.0)
        heading = (1 - share) * self.heading[low] + share * after
        phase = (1 - share) * self.phase[low] + share * self.phase[low + 1] + rounds * self.steps
        effort = (1 - share) * self.effort[low] + share * self.effort[high]
        return place, float(heading), float(phase), float(effort)

    def at_phase(self, phase: float) -> tuple[Array, float]:
        """Place and heading when the phase is reached."""
        part = phase % self.steps
        index = float(np.interp(part, self.phase, np.arange(len(self.phase))))
        time_s = index * SAMPLE_S
        place, heading, _, _ = self.at(min(time_s, self.round_s * (1 - 1e-9)))
        return place, heading


def _smooth(values: Array, window: int, round_step: float) -> Array:
    """Twice a moving average over a ring whose values grow by `round_step` a round."""
    for _ in range(2):
        pad = window // 2
        ring = np.concatenate([values[-pad:] - round_step, values, values[:pad] + round_step])
        kernel = np.ones(2 * pad + 1) / (2 * pad + 1)
        values = np.convolve(ring, kernel, mode="valid")
    return values


def _ease(x: float) -> float:
    x = min(max(x, 0.0), 1.0)
    return x * x * (3 - 2 * x)


def walking_legs(
    course: Course, skeleton: Skeleton, turns: dict[str, Array], time_s: float
) -> tuple[Array, float, float]:
    """Adds the turns of root and legs; returns the body's shift, the swing of the left leg (-1..1) and the
    effort."""
    place, heading, phase, effort = course.at(time_s)
    swing = math.sin(math.pi * phase)
    turns["root"] = rotation(DOWN, heading) @ rotation(LEFT, -0.04 * effort)
    root = skeleton.joint("root")
    sink = 0.018 + 0.02 * effort * (1 + 0.8 * math.cos(2 * math.pi * phase))
    feet = {
        side: _foot(course, skeleton, side, parity, phase, effort) for side, parity in (("L", 0), ("R", 1))
    }
    shift_m = np.array([place[0] - root[0], sink, place[1] - root[2]])
    for side, (ankle, _) in feet.items():
        limb = (f"pelvis.{side}", f"upperleg01.{side}", f"lowerleg01.{side}", f"foot.{side}")
        shift_m[1] += _shortfall(skeleton, turns, shift_m, limb, ankle)
    for side, (ankle, turn) in feet.items():
        limb = (f"pelvis.{side}", f"upperleg01.{side}", f"lowerleg01.{side}", f"foot.{side}")
        ahead = rotation(DOWN, heading) @ np.array([0.0, 0.0, -1.0])
        shin = skeleton.reach(turns, shift_m, limb, ankle, ahead)
        turns[f"foot.{side}"] = shin.T @ turn
    return shift_m, swing, effort


def _shortfall(
    skeleton: Skeleton, turns: dict[str, Array], shift_m: Array, limb: tuple[str, str, str, str], ankle: Array
) -> float:
    """How far the hips must sink for the leg to reach the ankle's place, metres."""
    frame = skeleton.frame(limb[0], turns, shift_m)
    hip = frame[:, :3] @ skeleton.joint(limb[1]) + frame[:, 3]
    leg = 0.99 * (skeleton.length(limb[1], limb[2]) + skeleton.length(limb[2], limb[3]))
    across = math.hypot(ankle[0] - hip[0], ankle[2] - hip[2])
    drop = math.sqrt(max(leg**2 - across**2, 0.0))
    return max(0.0, float(ankle[1] - hip[1]) - drop)


def _footprint(course: Course, skeleton: Skeleton, side: str, number: float) -> tuple[Array, float]:
    """Where the ankle of a planted foot is above the floor's x, z, and the foot's heading.

    The body is above foot k in the middle of its stance, at phase k + 1/2.
    """
    place, heading = course.at_phase(number + 0.5)
    ankle = skeleton.joint(f"foot.{side}")
    aside = rotation(DOWN, heading) @ np.array([0.55 * ankle[0], 0.0, ankle[2] - skeleton.joint("root")[2]])
    return np.array([place[0] + aside[0], ankle[1], place[1] + aside[2]]), heading


def _foot(
    course: Course, skeleton: Skeleton, side: str, parity: int, phase: float, effort: float
) -> tuple[Array, Array]:
    """The ankle's place (3,) and the foot's rotation, planted or swinging."""
    number = (
        2 * math.floor((phase + 0.9 - parity) / 2) + parity
    )  # the last foot of this side that began to swing
    part = (phase - (number - 0.9)) / 0.8  # of the swing; beyond 1 the foot is planted, until 2.5
    here, heading = _footprint(course, skeleton, side, number)
    sign = 1.0 if side == "L" else -1.0
    if part >= 1:
        ankle, lift, toe = here, 0.0, -0.55 * effort * _ease((part - 1.9) / 0.6)
        if part < 1.25:
            toe = 0.22 * effort * (1 - _ease((part - 1) / 0.25))
    else:
        before, old_heading = _footprint(course, skeleton, side, number - 2)
        share = _ease(part)
        veer = (heading - old_heading + math.pi) % (2 * math.pi) - math.pi
        ankle, heading = before + share * (here - before), old_heading + share * veer
        lift = (0.04 + 0.05 * effort) * math.sin(math.pi * part)
        toe = effort * (-0.55 * (1 - _ease(part / 0.55)) + 0.22 * _ease((part - 0.5) / 0.5))
    flat = rotation(DOWN, heading - sign * 0.1)
    turn = flat @ rotation(LEFT, -toe)
    joint, ball = skeleton.joint(f"foot.{side}"), skeleton.joint(f"toe1-1.{side}")
    heel = joint + np.array([0.0, 0.0, 0.05])
    pivot = ball if toe < 0 else heel
    pivot = np.array([joint[0], 0.0, pivot[2]])
    # Rolling over the ball, or landing on the heel: the pivot stays, the ankle moves around it.
    moved = flat @ (pivot - joint) - turn @ (pivot - joint)
    return ankle + moved - np.array([0.0, lift, 0.0]), turn
