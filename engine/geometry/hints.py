"""The geometric hints of the mini student: what geometry alone knows of the view that is wanted.

The same layers and the same memory of the background as the engine ``depth``, at the model's size; what
stands in front is told by depth alone. Knows nothing of models, networks or people.

Shapes: H W the model's rows and columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np

from engine.camera.geometry import Intrinsics, Pose
from engine.frames import Pixels
from engine.geometry.background import Background, foreground_of
from engine.geometry.forward_warp import FARTHEST, is_still, rotation_homography
from engine.geometry.layer_renderer import LayerRenderer
from engine.geometry.layers import Layers, front_depth
from engine.geometry.pictures import Floats, Size

Picture = TypeVar("Picture", Pixels, Floats)


@dataclass(frozen=True, slots=True)
class Hints:
    """``rotated`` H W 3: the source turned and zoomed, from where the real camera is; ``warped`` H W 3: from
    where the virtual camera is, by depth; ``visible`` H W, 0…1: where ``warped`` shows what was really seen,
    now or earlier.
    """

    rotated: Pixels
    warped: Pixels
    visible: Floats


def hints_of_view(frame: Pixels, view: Floats, seen: Floats, source: Intrinsics, pose: Pose) -> Hints:
    """Of a ``frame`` H W 3 by the lens ``source`` whose ``view`` H W 3 from ``pose`` was drawn already, with
    the share H W of it that was really ``seen``.
    """
    warped = np.clip(np.rint(view), 0, 255).astype(np.uint8)
    return Hints(turned(frame, source, pose), warped, seen)


def turned(picture: Picture, source: Intrinsics, pose: Pose, border: int = cv2.BORDER_REPLICATE) -> Picture:
    """As a camera in the same place sees it that only turns and zooms."""
    homography = rotation_homography(source, source, pose)
    found: Picture = cv2.warpPerspective(  # type: ignore[assignment]
        picture, homography, (source.width, source.height), flags=cv2.INTER_LINEAR, borderMode=border
    )
    return found


class HintMaker:
    """For frames of one size, in their order."""

    def __init__(self, width: int, height: int) -> None:
        self._size: Size = (width, height)
        self._background = Background(self._size, self._size)
        self._all_seen = np.ones((height, width), np.float32)
        self._renderer = LayerRenderer(self._size, self._size)

    def step(self, frame: Pixels, inverse_depth_m: Floats, source: Intrinsics, pose: Pose) -> Hints:
        """Of the next frame: ``take`` and ``draw``."""
        self.take(frame, inverse_depth_m)
        return self.draw(source, pose)

    def take(self, frame: Pixels, inverse_depth_m: Floats) -> None:
        """The next ``frame`` H W 3 and its inverse depth H W in 1/m."""
        if frame.shape != (*self._size[::-1], 3) or inverse_depth_m.shape != self._size[::-1]:
            raise ValueError(
                f"frame and depth are {self._size[1]} rows of {self._size[0]}, "
                f"not {frame.shape} and {inverse_depth_m.shape}"
            )
        self._frame = frame
        self._opaque = cv2.cvtColor(frame, cv2.COLOR_RGB2RGBA)
        self._inverse_depth = np.maximum(inverse_depth_m, np.float32(FARTHEST))
        self._front = foreground_of(self._inverse_depth)
        self._background.update(self._opaque, frame, self._inverse_depth, self._front)

    def draw(self, source: Intrinsics, pose: Pose) -> Hints:
        """Of the newest frame, taken by the lens ``source``, as wanted from ``pose``."""
        rotated = turned(self._frame, source, pose)
        if is_still(pose):
            return Hints(rotated, rotated, turned(self._all_seen, source, pose, cv2.BORDER_CONSTANT))
        share, small_share = self._front.view(np.uint8) * np.uint8(255), self._front.astype(np.float32)
        layers = Layers.of(
            self._opaque,
            self._frame,
            share,
            (0, 0),
            small_share,
            front_depth(self._inverse_depth, small_share),
            self._background.plate(),
        )
        picture = self._renderer.draw(layers, source, pose)
        visible = picture[..., 3] * np.float32(1 / 255)
        warped: Pixels = cv2.cvtColor(picture, cv2.COLOR_RGBA2RGB)  # type: ignore[assignment]
        return Hints(rotated, warped, visible)

    def reset(self) -> None:
        """Forget the past: the next frame belongs to another picture."""
        self._background.reset()
        self._renderer.reset()
