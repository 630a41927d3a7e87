"""Renders scenes into MultiCamVideo's layout.

Knows when a scene is finished: it is made in a hidden folder and moved into place whole, so that a name
``scene{N}`` is always complete, and a stopped run goes on where it was. Knows nothing of how a scene is made
up or drawn, nor of codecs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.camera.geometry import Intrinsics
from engine.data import layout
from engine.data.render.renderer import Renderer
from engine.data.scenes.build import Set, build
from engine.data.scenes.files import SceneFiles, write_cameras, write_description
from engine.data.scenes.pack import Pack
from engine.data.scenes.paths import Flight, flights
from engine.data.scenes.scene import Scene
from engine.data.scenes.sets import make_scene
from engine.data.splits import Split, scene_generator

REVISION = 1  # of what scenes look like; scenes of another revision are made anew
NEAREST_CHEST_M = 0.2  # a camera that has turned away from the person still has a distance
PATHS_PURPOSE = 1  # of chance: the scene itself is 0


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How much of a scene is rendered."""

    width: int = layout.SIZE[0]
    height: int = layout.SIZE[1]
    frames: int = layout.FRAMES
    cameras: int = layout.CAMERAS

    def __post_init__(self) -> None:
        if self.width < 16 or self.height < 16 or self.width % 2 or self.height % 2:
            raise ValueError(f"width and height are even and at least 16, not {self.width}×{self.height}")
        if self.frames < 1 or self.cameras < 1:
            raise ValueError(f"at least one frame and one camera, not {self.frames} and {self.cameras}")


def finished_scene(root: Path, split: Split, number: int, shape: Shape) -> Path | None:
    """The folder of a scene that is whole: everything that scene.json names is there at its size."""
    for folder in sorted((root / split.name).glob(f"*/scene{number}")):
        if _is_whole(folder, shape):
            return folder
    return None


def _is_whole(folder: Path, shape: Shape) -> bool:
    try:
        told = json.loads(layout.description_path(folder).read_text())
        wanted = [REVISION, [shape.width, shape.height], shape.frames, shape.cameras]
        sizes = {name: (folder / name).stat().st_size for name in told["files"]}
        found = [told["revision"], told["size"], told["frames"], told["cameras"]]
        return bool(found == wanted and sizes == told["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write_scene(
    root: Path, split: Split, number: int, shape: Shape, pack: Pack, renderer: Renderer
) -> Iterator[float]:
    """Renders one scene, replacing any broken one; yields the share that is done. Closing it half-way
    leaves nothing.
    """
    scene = make_scene(split, number, pack)
    final = layout.scene_folder(root, split.name, scene.lens, number)
    folder = final.with_name(f".scene{number}.partial")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield from _render(folder, split, number, scene, shape, pack, renderer)
        for old in (root / split.name).glob(f"*/scene{number}"):
            shutil.rmtree(old)
        folder.replace(final)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _render(
    folder: Path, split: Split, number: int, scene: Scene, shape: Shape, pack: Pack, renderer: Renderer
) -> Iterator[float]:
    made = build(scene, pack)
    ways = _ways(split, number, scene, made, shape)
    lenses = [_lenses(scene, way, shape) for way in ways]
    distances: list[list[float]] = [[] for _ in ways]
    size = (shape.width, shape.height)
    with SceneFiles(folder, size, shape.frames, shape.cameras) as files:
        for frame in range(shape.frames):
            time_s = frame / layout.FPS
            cameras = [
                (way.camera_to_world[frame], lens[frame]) for way, lens in zip(ways, lenses, strict=True)
            ]
            views = renderer.render(made.stage, time_s, cameras)
            files.add(views)
            chest = np.append(made.chest(time_s), 1.0)
            for camera, (pose, _) in enumerate(cameras):
                distances[camera].append(
                    round(max(NEAREST_CHEST_M, float((np.linalg.inv(pose) @ chest)[2])), 4)
                )
            yield (frame + 1) / shape.frames
    write_cameras(folder, [list(way.camera_to_world) for way in ways], lenses)
    _describe(folder, split, number, scene, made, shape, ways, distances)


def _ways(split: Split, number: int, scene: Scene, made: Set, shape: Shape) -> list[Flight]:
    chest = np.linalg.inv(scene.base) @ np.append(made.chest(0.0), 1.0)
    chance = scene_generator(split, number, PATHS_PURPOSE)
    return flights(split, chance, scene.base, float(chest[2]), shape.frames, shape.cameras, scene.clear)


def _lenses(scene: Scene, way: Flight, shape: Shape) -> list[Intrinsics]:
    focal = scene.focal * shape.width
    middle = ((shape.width - 1) / 2, (shape.height - 1) / 2)
    return [
        Intrinsics(focal * z, focal * z, *middle, shape.width, shape.height) for z in map(float, way.zoom)
    ]


def _describe(
    folder: Path,
    split: Split,
    number: int,
    scene: Scene,
    made: Set,
    shape: Shape,
    ways: list[Flight],
    distances: list[list[float]],
) -> None:
    names = [layout.camera_name(camera) for camera in range(shape.cameras)]
    told = {
        "number": number,
        "seed": [split.key, number],
        "split": split.name,
        "family": scene.family,
        "renderer": "moderngl",
        "revision": REVISION,
        "fps": layout.FPS,
        "size": [shape.width, shape.height],
        "frames": shape.frames,
        "cameras": shape.cameras,
        "lens": scene.lens,
        "people": [person.seed for person in scene.people],
        "paths": dict(zip(names, (way.family for way in ways), strict=True)),
        "subject_distance_m": dict(zip(names, distances, strict=True)),
        "assets": [vars(credit) for credit in made.credits],
    }
    write_description(folder, told)
