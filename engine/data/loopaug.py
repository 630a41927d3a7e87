"""LoopAug: clips whose camera leaves a view and comes back to it, from recordings whose cameras never did.

RealCam's loop-closed data augmentation (arXiv 2605.06051), as this project understands it. Any instant of a
synchronised recording may follow any neighbouring one, forwards or backwards, if source and target go
together: the pair stays true. So a clip walks out from an instant and back to it, and the target's view at
its end is that of its beginning, exactly, in time and pose. Where two cameras stand at the same place, the
target may change from one to the other unseen: between two visits to such an instant it follows the other.

A clip is a plan, of frames and cameras, and no more: knows nothing of pictures, files or augmentation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SAME_VIEW = 0.01  # by Rig.move_sizes: one per cent of the subject's distance, or half a degree
SWITCHING_SHARE = 0.5  # of loops, where cameras meet; the others begin anywhere
LONGEST_DWELL = 0.25  # of an excursion
SHORTEST_WITH_TWO_EXCURSIONS = 12  # frames of a clip


@dataclass(frozen=True)
class Plan:
    """Which camera and which frame of the recording each frame of a clip shows."""

    source: int
    targets: tuple[int, ...]
    frames: tuple[int, ...]


def straight(source: int, target: int, start: int, frames: int, stride: int) -> Plan:
    """Forwards in time."""
    return Plan(source, (target,) * frames, tuple(range(start, start + frames * stride, stride)))


def loop(
    rng: np.random.Generator,
    *,
    source: int,
    target: int,
    frames: int,
    stride: int,
    recorded: int,
    meetings: NDArray[np.bool_],
) -> Plan:
    """A clip that begins and ends at the same frame of the same camera.

    ``recorded``: how many frames there are. ``meetings``, cameras × recorded: where another camera has the
    target's view. Half of the loops begin there, if there is such a place, so that the target may leave along
    one camera's path and the next time along another's.
    """
    others = np.flatnonzero(meetings.any(axis=1) & (np.arange(len(meetings)) != target))
    switches = rng.random() < SWITCHING_SHARE and len(others) > 0
    other = int(rng.choice(others)) if switches else target
    homes = np.flatnonzero(meetings[other]) if switches else np.arange(recorded)
    walk = closed_walk(rng, home=int(rng.choice(homes)), length=frames, stride=stride, recorded=recorded)
    targets = [target] * frames
    visits = excursions(walk, meetings[other]) if switches else []
    for left, back in visits:
        if len(visits) == 1 or rng.random() < 0.5:
            targets[left + 1 : back] = [other] * (back - left - 1)
    return Plan(source, tuple(targets), tuple(walk))


def excursions(walk: Sequence[int], meets: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Pairs of places in the walk, next visits to one meeting instant, between which it was elsewhere.

    They do not overlap: a later one begins where an earlier one ended, or after.
    """
    found: list[tuple[int, int]] = []
    last_visit: dict[int, int] = {}
    for place, frame in enumerate(walk):
        if not meets[frame]:
            continue
        left = last_visit.get(frame)
        if left is not None and place - left > 1 and (not found or left >= found[-1][1]):
            found.append((left, place))
        last_visit[frame] = place
    return found


def closed_walk(rng: np.random.Generator, *, home: int, length: int, stride: int, recorded: int) -> list[int]:
    """Frames of a recording that begin and end at ``home``, each ``stride`` from the last, or the same.

    One excursion or two, each to a turning point of its own where it may dwell, as it may at home.
    """
    if length < 3 or recorded <= stride:
        raise ValueError(f"a loop has at least 3 frames of {stride + 1} recorded, not {length} of {recorded}")
    if not 0 <= home < recorded:
        raise ValueError(f"home is one of {recorded} frames, not {home}")
    steps = length - 1
    parts = [steps]
    if length >= SHORTEST_WITH_TWO_EXCURSIONS and rng.random() < 0.5:
        first = int(rng.integers(steps // 3, steps - steps // 3 + 1))
        parts = [first, steps - first]
    walk = [home]
    for part in parts:
        walk += _excursion(rng, home, part, stride, recorded)
    return walk


def _excursion(rng: np.random.Generator, home: int, steps: int, stride: int, recorded: int) -> list[int]:
    """``steps`` frames after ``home``: dwell, out, dwell, back home."""
    room = {1: (recorded - 1 - home) // stride, -1: home // stride}
    ways = [way for way in room if room[way] > 0]
    if not ways:
        raise ValueError(f"frame {home} of {recorded} has no neighbour {stride} away")
    way = int(rng.choice(ways, p=np.array([room[w] for w in ways]) / sum(room[w] for w in ways)))
    there = int(rng.integers(int(steps * LONGEST_DWELL) + 1))
    farthest = min((steps - there) // 2, room[way])
    out = int(rng.integers((farthest + 1) // 2, farthest + 1))
    at_home = steps - there - 2 * out
    path = [home + way * stride * k for k in range(1, out + 1)]
    before = int(rng.integers(at_home + 1))
    return [
        *[home] * before,
        *path,
        *[path[-1]] * there,
        *path[-2::-1],
        home,
        *[home] * (at_home - before),
    ]
