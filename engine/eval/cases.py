"""What is asked in an evaluation and what the right answer is: held-out pairs of views, chosen by a seed.

A method is given a `Shot`, in which the answer is not; only an oracle, marked as such, sees the `Case`.
Knows nothing of methods or figures.

Shapes: T frames, H W rows and columns.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, overload

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.camera.geometry import Intrinsics, Pose
from engine.data import layout
from engine.data.decode import Size, centred_window
from engine.data.multicam import MultiCamScene
from engine.data.rig import Rig
from engine.errors import DataError
from engine.eval.camera_view import View
from engine.eval.metrics import Mask
from engine.frames import Pixels

T = TypeVar("T")
Floats = NDArray[np.floating]

SPLIT = "heldout"
SEEN_TOLERANCE = 0.05  # of the inverse depth: nearer than this it is the same surface
SEEN_FLOOR = 0.01  # 1/m, for what is far away
LEAST_SEEN = 0.3  # of the target, at every look: one that looks elsewhere asks for invention only
LOOKS = 5  # at a pair's overlap
LEAST_MOVE = 0.05  # by Rig.move_sizes, on average: else it is the identity, which has its own test


class PingPong(Sequence[T]):
    """A sequence played to its end, back to its beginning, and so on: long, without a cut."""

    def __init__(self, items: Sequence[T], length: int) -> None:
        self._items, self._length = items, length

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._length))]
        if not -self._length <= index < self._length:
            raise IndexError(index)
        return self._items[ping_pong(index % self._length, len(self._items))]


def ping_pong(index: int, length: int) -> int:
    """The place of frame ``index`` in a clip of ``length`` frames that goes to and fro: 0 1 2 1 0 1 …"""
    place = index % max(1, 2 * length - 2)
    return min(place, 2 * length - 2 - place) if length > 1 else 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Shot:
    """What a method is given: the source and the poses wanted, T of each."""

    source: Sequence[Pixels]
    poses: Sequence[Pose]
    lenses: Sequence[Intrinsics]  # of the source; the target's are these, zoomed by the pose
    distances_m: Sequence[float]  # of the subject, from the source

    @property
    def size(self) -> Size:
        return self.lenses[0].width, self.lenses[0].height

    def __len__(self) -> int:
        return len(self.poses)

    def travel(self) -> float:
        """How far the virtual camera is from the real one, in distances of the subject, on average."""
        ways = [
            float(np.linalg.norm(pose.translation)) / distance_m
            for pose, distance_m in zip(self.poses, self.distances_m, strict=True)
        ]
        return sum(ways) / len(ways)

    def lasting(self, frames: int) -> Shot:
        """The shot's first frames, or the shot to and fro until there are so many."""
        return Shot(
            source=PingPong(self.source, frames),
            poses=PingPong(self.poses, frames),
            lenses=PingPong(self.lenses, frames),
            distances_m=PingPong(self.distances_m, frames),
        )

    def still(self) -> Shot:
        """The same source from a virtual camera that stays where the real one is."""
        return Shot(
            source=self.source,
            poses=[Pose()] * len(self),
            lenses=self.lenses,
            distances_m=self.distances_m,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A shot with the truth: what the target's camera saw, and what of it the source saw as well."""

    name: str
    scene: str
    family: str  # of the scene, and
    move: str  # of the target's path
    shot: Shot
    truth: Sequence[Pixels]  # T H W 3
    inverse_depth: Floats  # of the source, T H W, 1/m
    target_inverse_depth: Floats  # T H W
    seen: Sequence[Mask]  # T H W: pixels of the target that the source shows
    camera_to_world: Floats  # of the target, T 4 4

    def view(self, frame: int) -> View:
        """The source of one frame, to find a camera by."""
        return View(
            source=self.shot.source[frame],
            inverse_depth=self.inverse_depth[frame],
            intrinsics=self.shot.lenses[frame],
            distance_m=self.shot.distances_m[frame],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two cameras of a scene."""

    scene: Path
    source: int
    target: int

    @property
    def name(self) -> str:
        cameras = f"{layout.camera_name(self.source)}-{layout.camera_name(self.target)}"
        return f"{self.scene.parent.name}/{self.scene.name}/{cameras}"


def choose_pairs(
    root: Path, *, scenes: int, pairs: int, seed: int, frames: int, split: str = SPLIT
) -> list[Pair]:
    """``pairs`` of each of ``scenes`` held-out scenes: always the same for the same seed and data.

    Which scenes come first depends on their names alone, so more scenes keep those that were there. Pairs are
    of different views that overlap, by the true depth of a few frames.
    """
    folders = layout.scene_folders(root, split)
    if not folders:
        raise DataError(
            f"{root / split} has no finished scene: render some with "
            f"`data render --split {split} --out {root}`, or give --data the folder above {split}"
        )
    folders.sort(key=lambda path: hashlib.sha256(f"{seed} {path.relative_to(root)}".encode()).digest())
    return [pair for folder in folders[:scenes] for pair in _pairs_of(folder, pairs, seed, frames)]


def load_case(pair: Pair, size: Size, frames: int) -> Case:
    """The pair's first ``frames`` frames (all, if it has fewer) at a size."""
    scene = MultiCamScene(pair.scene)
    numbers = range(min(frames, scene.rig.frames))
    window = centred_window(scene.size, size)
    rig = scene.rig.seen_through(scene.size, window)
    colours = [scene.colour(camera, numbers, size, window) for camera in (pair.source, pair.target)]
    depths = [scene.inverse_depth(camera, numbers, size, window) for camera in (pair.source, pair.target)]
    shot = Shot(
        source=list(colours[0]),
        poses=[rig.relative_pose(pair.source, pair.target, i) for i in numbers],
        lenses=[rig.intrinsics(pair.source, i, size) for i in numbers],
        distances_m=rig.subject_distance_m[pair.source, : len(numbers)].tolist(),
    )
    family, moves = _description(pair.scene)
    return Case(
        name=pair.name,
        scene=f"{pair.scene.parent.name}/{pair.scene.name}",
        family=family,
        move=moves.get(layout.camera_name(pair.target), "unknown"),
        shot=shot,
        truth=list(colours[1]),
        inverse_depth=depths[0],
        target_inverse_depth=depths[1],
        seen=[seen_by_source(depths[0][i], depths[1][i], shot.lenses[i], shot.poses[i]) for i in numbers],
        camera_to_world=rig.camera_to_world[pair.target, : len(numbers)],
    )


def seen_by_source(source_depth: Floats, target_depth: Floats, lens: Intrinsics, pose: Pose) -> Mask:
    """H W, True for pixels of the target whose surface the source shows, by both true inverse depths."""
    x, y, inverse = source_place(target_depth, lens, pose)
    found = cv2.remap(
        source_depth.astype(np.float32),
        x.astype(np.float32),
        y.astype(np.float32),
        cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=-1,
    )
    inside = (x > -0.5) & (y > -0.5) & (x < lens.width - 0.5) & (y < lens.height - 0.5) & (inverse >= 0)
    same = np.abs(found - inverse) < np.maximum(SEEN_TOLERANCE * inverse, SEEN_FLOOR)
    return np.asarray(inside & same)


def source_place(target_depth: Floats, lens: Intrinsics, pose: Pose) -> tuple[Floats, Floats, Floats]:
    """Where the source has each pixel of the target: its x and y, and its inverse depth there (below 0:
    behind), each H W.
    """
    zoomed = lens.zoomed(pose.zoom)
    y, x = np.mgrid[: lens.height, : lens.width].astype(np.float64)
    rays = np.stack([(x - zoomed.cx) / zoomed.fx, (y - zoomed.cy) / zoomed.fy, np.ones_like(x)], axis=2)
    # points times their inverse depth, so that infinity is a direction
    points = rays @ pose.matrix().T + np.array(pose.translation) * target_depth[..., None]
    forward = np.where(np.abs(points[..., 2]) < 1e-6, 1e-6, points[..., 2])
    across, down = points[..., 0] / forward, points[..., 1] / forward
    return lens.fx * across + lens.cx, lens.fy * down + lens.cy, target_depth / forward


def _pairs_of(folder: Path, pairs: int, seed: int, frames: int) -> Iterator[Pair]:
    scene = MultiCamScene(folder)
    rng = np.random.default_rng([seed, *folder.name.encode(), *folder.parent.name.encode()])
    last = min(frames, scene.rig.frames) - 1
    looks = sorted({round(k * last / (LOOKS - 1)) for k in range(LOOKS)})
    moves = scene.rig.move_sizes(looks).mean(axis=2)
    cameras = [(s, t) for s in range(scene.rig.cameras) for t in range(scene.rig.cameras) if s != t]
    found = 0
    for index in rng.permutation(len(cameras)):
        source, target = cameras[index]
        if found < pairs and moves[source, target] >= LEAST_MOVE and _overlap(scene, source, target, looks):
            found += 1
            yield Pair(scene=folder, source=source, target=target)


def _overlap(scene: MultiCamScene, source: int, target: int, looks: Sequence[int]) -> bool:
    size = layout.SIZE[0] // 2, layout.SIZE[1] // 2
    window = centred_window(scene.size, size)
    rig: Rig = scene.rig.seen_through(scene.size, window)
    ours, theirs = (scene.inverse_depth(camera, looks, size, window) for camera in (source, target))
    shares = [
        seen_by_source(
            ours[k], theirs[k], rig.intrinsics(source, i, size), rig.relative_pose(source, target, i)
        ).mean()
        for k, i in enumerate(looks)
    ]
    return float(min(shares)) >= LEAST_SEEN


def _description(folder: Path) -> tuple[str, dict[str, str]]:
    """The scene's family, and the name of each camera's path; a public scene has neither."""
    path = layout.description_path(folder)
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return str(found.get("family", "unknown")), {k: str(v) for k, v in found.get("paths", {}).items()}
