"""The engine with true parallax for machines without a GPU: depth, two layers, a memory of the background.

What only turns or zooms is left to the compositor, exactly as in the planar engine; a camera that travels is
rendered here. Where the depth network is unsure of the depth it is drawn towards the plane at the subject's
distance, and without the network all of it is that plane. Knows nothing of processes or queues.

Shapes: H W the picture's rows and columns, h w the grid's.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple, Protocol, TypeVar

import cv2
import numpy as np
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, RuntimeException

from engine.camera.geometry import IDENTITY, Intrinsics, Matrix, Pose
from engine.engines.base import (
    NOTHING_TO_REPORT,
    EngineSettings,
    Following,
    Progress,
    Rendered,
    Report,
    nothing_follows,
)
from engine.errors import EngineError
from engine.frames import Pixels
from engine.geometry.background import Background, Parallax
from engine.geometry.depth_estimator import Depth, DepthEstimator, scaled, surface_m
from engine.geometry.forward_warp import FARTHEST, is_still, rotation_homography, sharpened
from engine.geometry.layer_renderer import LayerRenderer
from engine.geometry.layers import Layers, front_depth
from engine.geometry.matte import GuidedMatte
from engine.geometry.pictures import Buffers, Bytes, Floats, Mask, shrunk
from engine.geometry.planes import LARGEST_ERROR, Planes

log = logging.getLogger(__name__)

PICTURE_THREADS = min(4, os.cpu_count() or 1)  # OpenCV's, beside those of the output, which goes first
GRID_WIDTH = 224  # the depth network's own
SURE_WITHIN = np.float32(math.log(1.25))  # what an estimate's confidence is the chance of
TOO_SURE = np.float32(2.0)  # it learnt from renderings: of what a camera sees it knows less than it says
PLANES_EVERY = 6  # frames drawn
FRONT_BLUR = (7, 7)  # cells
FRONT_RATE = np.float32(0.3)  # share of a new frame in a person's depth
WIDER_VIEW = 0.94  # of the zoom, at least: what the camera may see by the time the picture is shown

FAILURES = (EngineError, Fail, RuntimeException)  # of the network: no weights, or ONNX Runtime gave up


class Estimator(Protocol):
    def estimate(self, frame: Pixels) -> Depth: ...

    def reset(self) -> None: ...


EstimatorFor = Callable[[int, int], Estimator]  # of the frames' width and height
Made = TypeVar("Made")


class DepthEngine:
    def __init__(self, settings: EngineSettings, estimator_for: EstimatorFor = DepthEstimator) -> None:
        """``estimator_for``: the network's place may be taken by anything that knows the depth."""
        self.chunk = 1
        self.size: tuple[int, int] | None = None
        self._settings = settings
        self._scenes = Scenes(settings, estimator_for)

    def warmup(self, progress: Progress) -> None:
        """Loads the network and renders a picture with it. Without weights, the engine is the planar one."""
        cv2.setNumThreads(PICTURE_THREADS)
        progress(0.0, "loading the depth network")
        width, height = self._settings.size
        self.step([np.zeros((height, width, 3), np.uint8)], [Pose(translation=(0.1, 0.0, 0.0))])
        self.reset()
        progress(1.0, "ready")

    def step(
        self, frames: Sequence[Pixels], poses: Sequence[Pose], following: Following = nothing_follows
    ) -> list[Rendered]:
        *others, last = zip(frames, poses, strict=True)
        return [*(self._render(*other, nothing_follows) for other in others), self._render(*last, following)]

    def reset(self) -> None:
        self._scenes.reset()

    def report(self) -> Report:
        return NOTHING_TO_REPORT

    def _render(self, frame: Pixels, pose: Pose, following: Following) -> Rendered:
        scene = self._scenes.of(frame)
        if scene is None or not self._scenes.take(frame):
            return Rendered(frame, IDENTITY)
        self._scenes.look_ahead(following)
        if is_still(pose):
            return Rendered(frame, IDENTITY)
        shown = wider(pose, self._settings.subject_distance_m)
        return Rendered(scene.draw(lens_of(frame, self._settings), shown), shown)


class Scenes:
    """The scene that frames are taken into, a new one when their size changes; none once depth has failed."""

    def __init__(self, settings: EngineSettings, estimator_for: EstimatorFor) -> None:
        self.failure: Exception | None = None
        self._settings, self._estimator_for = settings, estimator_for
        self._scene: Scene | None = None
        self._worker = ThreadPoolExecutor(1, "depth")

    def of(self, frame: Pixels) -> Scene | None:
        """For frames of this size."""
        size = (frame.shape[1], frame.shape[0])
        if self.failure is None and (self._scene is None or self._scene.size != size):
            self._scene = self._tried(lambda: Scene(size, self._estimator_for(*size)))
        return self._scene

    def take(self, frame: Pixels) -> bool:
        """The newest frame, into its scene; False: there is no depth to be had."""
        if (scene := self.of(frame)) is not None:
            self._tried(lambda: scene.take(frame, self._settings.subject_distance_m))
        return self.failure is None

    def look_ahead(self, following: Following) -> None:
        """The frame that is taken next may be there already."""
        if (scene := self._scene) is not None:
            for frame in following():
                if (frame.shape[1], frame.shape[0]) == scene.size:
                    scene.look_ahead(frame, self._worker)

    def reset(self) -> None:
        """Forget: the next frame belongs to another picture."""
        if self._scene is not None:
            self._scene.reset()

    def _tried(self, what: Callable[[], Made]) -> Made | None:
        try:
            return what()
        except FAILURES as error:
            log.warning("no depth, so moves show a flat picture, as the planar engine does: %s", error)
            self.failure, self._scene = error, None
            return None


class Ahead(NamedTuple):
    """A frame whose depth is estimated before it is taken."""

    frame: Pixels
    depth: Future[Depth]


class Scene:
    """What is known of the picture in front of the camera, for frames of one size."""

    def __init__(self, size: tuple[int, int], estimator: Estimator) -> None:
        width, height = self.size = size
        grid_width = min(GRID_WIDTH, 2 * width)
        self._grid = (grid_width, max(2, round(grid_width * height / width)))
        self._half_size = ((width + 1) // 2, (height + 1) // 2)
        self._estimator = estimator
        self._ahead: Ahead | None = None
        self._background = Background(size, self._grid)
        self._front_depth: Floats | None = None
        self._buffers = Buffers()
        self._renderer = LayerRenderer(size, self._grid)
        self._planes = Planes(self._grid)
        self._drawn = 0  # frames

    def reset(self) -> None:
        """Forget: the next frame belongs to another picture."""
        if self._ahead is not None:
            self._ahead.depth.exception()  # only waited for
            self._ahead = None
        self._estimator.reset()
        self._background.reset()
        self._renderer.reset()
        self._planes.reset()
        self._front_depth = None
        self._drawn = 0

    def take(self, frame: Pixels, subject_distance_m: float) -> None:
        """The newest frame, H W 3."""
        depth = self._estimated(frame)
        self._frame = frame
        self._opaque = self._buffers.bytes("opaque", *frame.shape[:2], 4)
        cv2.cvtColor(frame, cv2.COLOR_RGB2RGBA, dst=self._opaque)
        self._half = cv2.resize(self._opaque, self._half_size, interpolation=cv2.INTER_AREA)
        enough = self._half if self._half_size[0] >= self._grid[0] else self._opaque
        self._small = cv2.cvtColor(shrunk(enough, self._grid), cv2.COLOR_RGBA2RGB)
        self._matte = GuidedMatte.of(self._on_grid(depth.matte), self._small)
        metric, plane = scaled(depth, surface_m(subject_distance_m)), np.float32(1 / subject_distance_m)
        self._confidence = self._on_grid(depth.confidence)
        drawn = plane + self._confidence * (self._on_grid(metric.inverse_depth) - plane)
        self._inverse_depth = sharpened(np.maximum(drawn, FARTHEST))
        # what is remembered is relative: how far the subject is, is told anew with every frame
        self._scale = metric.subject / depth.subject
        relative = self._inverse_depth / np.float32(self._scale)
        self._background.update(self._opaque, self._small, relative, self._matte.on_grid)

    def look_ahead(self, frame: Pixels, worker: ThreadPoolExecutor) -> None:
        """What will be taken next: its depth is estimated on the worker, beside the drawing of this one."""
        self._ahead = Ahead(frame, worker.submit(self._estimator.estimate, frame))

    def draw(self, lens: Intrinsics, pose: Pose) -> Pixels:
        """The newest frame, taken by ``lens``, seen from ``pose``."""
        picture: Pixels = cv2.cvtColor(self.draw_seen(lens, pose), cv2.COLOR_RGBA2RGB)  # type: ignore[assignment]
        return picture

    def draw_seen(self, lens: Intrinsics, pose: Pose) -> Bytes:
        """The same as H W 4, and in the last channel how far it shows what was really seen, now or earlier,
        0…255. It is drawn over by the next call.
        """
        return self._turned(lens, pose) if is_still(pose) else self._travelled(lens, pose)

    def _estimated(self, frame: Pixels) -> Depth:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            depth = ahead.depth.result()
            if ahead.frame is frame:
                return depth
        return self._estimator.estimate(frame)

    def _turned(self, lens: Intrinsics, pose: Pose) -> Bytes:
        """From where the real camera is: needs no depth, and is exact."""
        homography = rotation_homography(lens, lens, pose)
        turned = self._buffers.bytes("turned", *self._opaque.shape)
        cv2.warpPerspective(self._opaque, homography, self.size, dst=turned, borderMode=cv2.BORDER_REPLICATE)
        if not _looks_inside(homography, self.size):
            seen = cv2.warpPerspective(self._opaque[..., 3], homography, self.size)
            cv2.insertChannel(seen, turned, 3)
        return turned

    def _travelled(self, lens: Intrinsics, pose: Pose) -> Bytes:
        share, corner = self._matte.enlarged(self._half, self.size)
        small_share = self._matte.on_grid
        plate = self._background.plate(self._parallax(lens, pose))
        if self._drawn % PLANES_EVERY == 0:
            self._planes.learn(plate.inverse_depth, self._error(small_share > 0))
        self._drawn += 1
        flat = self._planes.flattened(plate.inverse_depth) * np.float32(self._scale)
        front = self._steadied(front_depth(self._inverse_depth, small_share))
        plate = replace(plate, inverse_depth=np.maximum(flat, FARTHEST))
        layers = Layers.of(self._opaque, self._small, share, corner, small_share, front, plate)
        return self._renderer.draw(layers, lens, pose)

    def _parallax(self, lens: Intrinsics, pose: Pose) -> Parallax:
        """How far what is behind people comes out. ``around``: of somebody who fills half the picture."""
        person = self._matte.on_grid > 0.5
        if person.all() or not person.any():
            return Parallax(0.0, 0.0, 0.0)
        nearer = float(np.median(self._inverse_depth[person]) - np.median(self._inverse_depth[~person]))
        right, down, forward = (part * max(0.0, nearer) for part in pose.translation)
        cells = lens.fx * self._grid[0] / self.size[0]
        return Parallax(right * cells, down * cells, max(0.0, -forward) * self._grid[0] / 4)

    def _error(self, person: Mask) -> Floats:
        """The expected relative error of the background's depth, on the grid: the scale b of a Laplace
        distribution, of which ``confidence`` is P(|error| < SURE_WITHIN) = 1 − e^(−SURE_WITHIN / b), times
        TOO_SURE.
        """
        error = -TOO_SURE * SURE_WITHIN / np.log(np.clip(1 - self._confidence, 1e-30, 0.999))
        return np.asarray(np.where(person, LARGEST_ERROR, error), np.float32)

    def _steadied(self, front: Floats) -> Floats:
        """People are drawn by a smooth and slow depth: it may be a little off, it must not shiver."""
        smooth = cv2.blur(front, FRONT_BLUR)
        if self._front_depth is not None:
            smooth = self._front_depth + FRONT_RATE * (smooth - self._front_depth)
        self._front_depth = smooth
        return smooth

    def _on_grid(self, values: Floats) -> Floats:
        return cv2.resize(values, self._grid)


def _looks_inside(homography: Matrix, size: tuple[int, int]) -> bool:
    """Whether all four corners of the target come from the source's picture."""
    last_x, last_y = size[0] - 1, size[1] - 1
    corners = np.array([[0, last_x, 0, last_x], [0, 0, last_y, last_y], [1, 1, 1, 1]])
    x, y, w = np.linalg.solve(homography, corners)
    x, y = x / w, y / w
    within = (x > -0.01) & (x < last_x + 0.01) & (y > -0.01) & (y < last_y + 0.01) & (w > 0)
    return bool(within.all())


def lens_of(frame: Pixels, settings: EngineSettings) -> Intrinsics:
    """The real camera's, for frames of that size."""
    height, width = frame.shape[:2]
    return Intrinsics.from_horizontal_fov(width, height, settings.horizontal_fov)


def wider(pose: Pose, distance_m: float) -> Pose:
    """A little more than the pose sees, where that costs no sharpness: where the picture is magnified."""
    magnified = pose.zoom / max(1 - pose.translation[2] / distance_m, 1e-3)
    return replace(pose, zoom=pose.zoom * min(1.0, max(WIDER_VIEW, 1 / magnified)))
