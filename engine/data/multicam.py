"""A scene seen by several cameras at once: its pictures at any size.

Reads MultiCamVideo as published and scenes in our layout alike. `MultiCamScene` decodes the videos;
`PackedScene` reads raw pictures at one size from a cache beside the data, a hundred times faster, and makes
what is not there yet. Knows nothing of pairs, augmentation or training.

Shapes: T frames asked for, H W rows and columns.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from threading import get_ident
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.data import layout
from engine.data.decode import (
    Bytes,
    Size,
    Window,
    averaged,
    centred_window,
    read_colour,
    read_grey,
    video_size,
)
from engine.data.rig import Rig, read_rig
from engine.errors import DataError


class Scene(Protocol):
    """What the pair loader needs of a scene. Pictures are ``size`` (width, height) as they lie on disk;
    ``window`` is in those pixels, and ``rig`` has the lenses of the whole picture.
    """

    path: Path
    rig: Rig
    size: Size

    def colour(self, camera: int, frames: Sequence[int], size: Size, window: Window) -> Bytes:
        """RGB, T H W 3."""

    def inverse_depth(
        self, camera: int, frames: Sequence[int], size: Size, window: Window
    ) -> NDArray[np.float32]:
        """1/m along the axis, T H W, averaged: exact on planes, between the two depths at an edge."""

    def matte(self, camera: int, frames: Sequence[int], size: Size, window: Window) -> Bytes:
        """255 where a person is, T H W."""


class MultiCamScene:
    """A scene's own files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rig = read_rig(path)
        self.size = video_size(layout.video_path(path, 0))

    def colour(self, camera: int, frames: Sequence[int], size: Size, window: Window) -> Bytes:
        return read_colour(layout.video_path(self.path, camera), frames, size, window)

    def inverse_depth(
        self, camera: int, frames: Sequence[int], size: Size, window: Window
    ) -> NDArray[np.float32]:
        return layout.decode_inverse_depth(self.stored_depth(camera, frames, size, window))

    def stored_depth(
        self, camera: int, frames: Sequence[int], size: Size, window: Window
    ) -> NDArray[np.uint16]:
        """As on disk: proportional to 1/depth, so that an average is one of inverse depths."""
        stored = read_grey(self._own(layout.depth_path(self.path, camera), "depth"), frames, size, window)
        if stored.dtype != np.uint16:
            raise DataError(f"{layout.depth_path(self.path, camera)} must have 16 bits, not {stored.dtype}")
        return stored.astype(np.uint16, copy=False)

    def matte(self, camera: int, frames: Sequence[int], size: Size, window: Window) -> Bytes:
        stored = read_grey(self._own(layout.matte_path(self.path, camera), "matte"), frames, size, window)
        return stored.astype(np.uint8, copy=False)

    def _own(self, path: Path, kind: str) -> Path:
        if not path.is_file():
            raise DataError(
                f"{path} is missing: the public MultiCamVideo has no {kind}. Train without {kind}, "
                "or on scenes rendered by `data render`"
            )
        return path


class PackedScene:
    """The scene at one size, as raw arrays under ``cache``, written on first use and when the scene is newer.

    A scene of 10 cameras and 81 frames at 112×64 takes 17 MB of colour, 12 of depth and 6 of matte.
    """

    def __init__(self, path: Path, cache: Path, size: Size) -> None:
        self.path = path
        self.size = size
        self._folder = cache
        self._scene_time_ns = _scene_time_ns(path)
        rig_path = cache / "rig.npz"
        if self._is_stale(rig_path):
            self._write(rig_path, lambda path: _save_rig(path, self._packed_rig()))
        with np.load(rig_path) as arrays:
            self.rig = Rig(**arrays)

    def colour(self, camera: int, frames: Sequence[int], size: Size, window: Window) -> Bytes:
        return self._read("colour", camera, frames, size, window)

    def inverse_depth(
        self, camera: int, frames: Sequence[int], size: Size, window: Window
    ) -> NDArray[np.float32]:
        return layout.decode_inverse_depth(self._read("depth", camera, frames, size, window))

    def matte(self, camera: int, frames: Sequence[int], size: Size, window: Window) -> Bytes:
        return self._read("matte", camera, frames, size, window)

    def pack(self, kind: str) -> bool:
        """Writes ``colour``, ``depth`` or ``matte`` if it is not there; whether it had to be written."""
        path = self._folder / f"{kind}.npy"
        if not self._is_stale(path):
            return False
        pictures = np.stack([self._decoded(kind, camera) for camera in range(self.rig.cameras)])
        self._write(path, lambda path: np.save(path, pictures))
        return True

    @cached_property
    def _scene(self) -> MultiCamScene:
        return MultiCamScene(self.path)

    @cached_property
    def _window(self) -> Window:
        return centred_window(self._scene.size, self.size)

    def _packed_rig(self) -> Rig:
        return self._scene.rig.seen_through(self._scene.size, self._window)

    def _decoded(self, kind: str, camera: int) -> NDArray[Any]:
        scene = self._scene
        view = (camera, range(self.rig.frames), self.size, self._window)
        if kind == "colour":
            return scene.colour(*view)
        return scene.stored_depth(*view) if kind == "depth" else scene.matte(*view)

    def _read(
        self, kind: str, camera: int, frames: Sequence[int], size: Size, window: Window
    ) -> NDArray[Any]:
        self.pack(kind)
        # Opened for each call: a map kept open holds a file descriptor, and there are thousands of scenes.
        stored = np.load(self._folder / f"{kind}.npy", mmap_mode="r")
        pictures: NDArray[Any] = stored[camera, list(frames)]
        if window == (0, 0, *self.size) and size == self.size:
            return pictures
        return np.stack([averaged(picture, window, size) for picture in pictures])

    def _is_stale(self, path: Path) -> bool:
        return not path.is_file() or path.stat().st_mtime_ns < self._scene_time_ns

    def _write(self, path: Path, save: Callable[[Path], None]) -> None:
        """Whole or not at all; two that write at once write the same."""
        unfinished = path.with_name(f".{os.getpid()}-{get_ident()}-{path.name}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                save(unfinished)
                unfinished.replace(path)
            finally:
                unfinished.unlink(missing_ok=True)
        except OSError as error:
            why = error.strerror or error
            raise DataError(
                f"{path} cannot be written: {why}. This cache of raw pictures takes 35 MB a scene at 112×64 "
                "and 180 at 224×128: make room on its disk (it may be removed, and fills itself again)"
            ) from error


def _save_rig(path: Path, rig: Rig) -> None:
    np.savez(
        path,
        camera_to_world=rig.camera_to_world,
        lenses=rig.lenses,
        subject_distance_m=rig.subject_distance_m,
    )


def cache_folder(root: Path, scene: Path, size: Size) -> Path:
    return root / ".cache" / f"{size[0]}x{size[1]}" / scene.relative_to(root)


def _scene_time_ns(scene: Path) -> int:
    """When the scene was finished."""
    for path in (layout.description_path(scene), layout.extrinsics_path(scene)):
        if path.is_file():
            return path.stat().st_mtime_ns
    raise DataError(f"{scene} is no finished scene: it has neither scene.json nor camera_extrinsics.json")
