"""The student on machines without a GPU: engine ``depth`` at full size, repainted by the mini at its own.

The base is the frame seen from the wanted pose; shrunk, it is the hint by which the mini paints the same
view, so that the two agree but for what the mini knows better. What goes out is the base where it was seen,
its detail in the student's colours where it was made up, and the student's own pixels where the two disagree.
A camera at rest passes frames on, and one that only turns is exact wherever the source was looking: there the
student paints what lies beyond.

Whatever fails or costs too much ends in what engine ``depth`` does. Knows nothing of processes or queues.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from engine.camera.geometry import IDENTITY, Pose
from engine.engines.base import EngineSettings, Following, Progress, Rendered, Report, nothing_follows
from engine.engines.budget import Budget, Costs, Level, levels_of
from engine.engines.depth import PICTURE_THREADS, EstimatorFor, Scene, Scenes, lens_of, wider
from engine.engines.painter import STUDENT_FAILURES, Clock, Painter, Student, Worker
from engine.errors import EngineError
from engine.frames import Pixels
from engine.geometry.delivery import Delivery
from engine.geometry.depth_estimator import DepthEstimator
from engine.geometry.forward_warp import is_still

log = logging.getLogger(__name__)

WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "mini.onnx"
EXPORTED = ".onnx"
MEASURED_SIZE = (1280, 720)
MEASURED_FRAMES = 8  # so that the student's memory is full
NO_STUDENT = Level(0)

StudentFor = Callable[[str], Student]


def open_student(weights: str) -> Student:
    """Of an exported file, or of trained weights (a file or a name), which are exported first, if torch is
    there to do it. Raises :class:`engine.errors.EngineError`.
    """
    from engine.diffusion.onnx_student import OnnxStudent

    if weights.endswith(EXPORTED):
        return OnnxStudent(Path(weights))
    try:
        from engine.diffusion.export import export_student
        from engine.model.weights import find_weights
    except ModuleNotFoundError as error:
        raise EngineError(
            f"{weights} is not an exported student ({EXPORTED}), and to export it takes the package "
            f"{error.name}: python realcam_obs.py setup --with train"
        ) from error
    with TemporaryDirectory() as folder:
        exported = Path(folder) / f"student{EXPORTED}"
        export_student(find_weights(weights), exported)
        return OnnxStudent(exported)


class MiniEngine:
    def __init__(
        self,
        settings: EngineSettings,
        student_for: StudentFor = open_student,
        estimator_for: EstimatorFor = DepthEstimator,
        clock: Clock = time.perf_counter,
        worker: Worker | None = None,
        frame_clock: Clock | None = None,
    ) -> None:
        """The networks' places may be taken by anything that does what they do. The student looks at frames
        on the ``worker`` (None: a thread of its own), while their depth is estimated and the base drawn.
        ``clock`` tells how long things take; ``frame_clock``, asked once for each frame, when they are shown,
        if that is not now.
        """
        self.chunk = 1
        self.size: tuple[int, int] | None = None
        self._settings = settings
        self._clock = clock
        self._frame_clock = frame_clock or clock
        self._now = 0.0  # by the frame clock
        self._scenes = Scenes(settings, estimator_for)
        self._student_for = student_for
        self._worker: Worker = worker or ThreadPoolExecutor(1, "student")
        self._painter: Painter | None = None
        self._delivery: Delivery | None = None
        self._budget: Budget | None = None
        self._trouble = ""  # why there is no student

    def warmup(self, progress: Progress) -> None:
        """Loads the networks and measures what this machine can do with them in the time there is."""
        cv2.setNumThreads(PICTURE_THREADS)
        progress(0.0, "loading the student")
        try:
            student = self._student_for(self._settings.weights or str(WEIGHTS))
            self._painter = Painter(student, self._settings, self._clock, self._worker)
        except STUDENT_FAILURES as error:
            self._do_without(error)
        self._measure(progress)
        self.reset()
        progress(1.0, "ready")

    def step(
        self, frames: Sequence[Pixels], poses: Sequence[Pose], following: Following = nothing_follows
    ) -> list[Rendered]:
        *others, last = zip(frames, poses, strict=True)
        return [*(self._step(*other, nothing_follows) for other in others), self._step(*last, following)]

    def reset(self) -> None:
        self._scenes.reset()
        if self._painter is not None:
            self._painter.reset()

    def report(self) -> Report:
        health = {} if self._painter is None else self._painter.health()
        trouble = self._trouble or ("" if self._painter is None else self._painter.trouble(self._now))
        if self._scenes.failure is not None:
            trouble = f"and no depth: {self._scenes.failure}"
        if trouble:
            return Report(level=f"{NO_STUDENT.text()}: {trouble}", health=health)
        return Report(level="" if self._budget is None else self._budget.text(), health=health)

    def _step(self, frame: Pixels, pose: Pose, following: Following) -> Rendered:
        level = NO_STUDENT if self._budget is None else self._budget.level
        began = self._clock()
        rendered, student_s = self._render(frame, pose, level, following)
        if self._budget is not None and rendered.pose != IDENTITY:
            now = self._clock()
            self._budget.spend(now, now - began - (student_s or 0.0), student_s)
        return rendered

    def _render(
        self, frame: Pixels, pose: Pose, level: Level, following: Following = nothing_follows
    ) -> tuple[Rendered, float | None]:
        """And the seconds that the student was waited for, if it was asked."""
        shown = wider(pose, self._settings.subject_distance_m)
        now = self._now = self._frame_clock()
        scene = self._scenes.of(frame)
        painter = self._painter_for(scene)
        if painter is not None:
            painter.look(frame, shown)
            if not is_still(shown):
                painter.begin(level, now)
        if not self._scenes.take(frame) or scene is None:
            return Rendered(frame, IDENTITY), None
        self._scenes.look_ahead(following)
        if painter is None or painter.idles(level, now):
            if is_still(pose):
                return Rendered(frame, IDENTITY), None
            return Rendered(scene.draw(lens_of(frame, self._settings), shown), shown), None
        return self._paint(scene, painter, frame, shown, level, now)

    def _paint(
        self, scene: Scene, painter: Painter, frame: Pixels, pose: Pose, level: Level, now: float
    ) -> tuple[Rendered, float | None]:
        if pose == IDENTITY:
            painter.rest()
            return Rendered(frame, IDENTITY), None
        assert self._delivery is not None
        base = scene.draw_seen(lens_of(frame, self._settings), pose)
        small = self._delivery.small(base)
        if is_still(pose):
            if small.seen.min() >= 1:  # the compositor's reprojection is all there is to do
                painter.rest()
                return Rendered(frame, IDENTITY), None
            painter.begin(level, now)
        student_s = painter.paint(self._delivery, small, level, now)
        if painter.failed is not None and not self._trouble:
            self._do_without(painter.failed)
        picture = self._delivery.draw(base, small, painter.correction(small, now))
        return Rendered(picture, pose), student_s

    def _painter_for(self, scene: Scene | None) -> Painter | None:
        """Of what the scene shows; None: nothing is painted where there is no depth to be had."""
        if scene is None or self._painter is None:
            return None
        if self._delivery is None or self._delivery.size != scene.size:
            self._painter.reset()
            self._delivery = Delivery(scene.size, self._painter.size)
        return self._painter

    def _do_without(self, error: Exception) -> None:
        """The painter stays until its last correction has faded."""
        log.warning("the student cannot paint, so moves are what engine depth shows: %s", error)
        self._trouble = str(error)

    def _measure(self, progress: Progress) -> None:
        """Renders a few frames with each number of steps, and begins with the most that fits the budget."""
        frame = _noise(self._settings.size)
        rest_s: list[float] = []
        student_s: dict[int, float] = {}
        steps = [] if self._painter is None else sorted(self._painter.available_steps)
        for number, count in enumerate(steps):
            progress(0.2 + 0.8 * number / len(steps), f"measuring this machine: {Level(count).text()}")
            spent = [self._measured(frame, 0.1 + 0.01 * at, count) for at in range(MEASURED_FRAMES)]
            if self._trouble or self._scenes.failure is not None:
                return
            rest_s += [rest for rest, _ in spent[1:]]
            student_s[count] = float(np.median([student for _, student in spent[MEASURED_FRAMES // 2 :]]))
        if student_s:
            costs = Costs(float(np.median(rest_s)), student_s)
            self._budget = Budget(self._settings.budget_ms / 1000, levels_of(steps), costs)
            log.info("measured: %s", costs.text())
        else:
            self._render(frame, Pose(translation=(0.1, 0.0, 0.0)), NO_STUDENT)

    def _measured(self, frame: Pixels, sideways_m: float, steps: int) -> tuple[float, float]:
        """Seconds without waiting for the student, and those of waiting."""
        began = self._clock()
        _, student_s = self._render(frame, Pose(translation=(sideways_m, 0.0, 0.0)), Level(steps))
        return self._clock() - began - (student_s or 0.0), student_s or 0.0


def _noise(largest: tuple[int, int]) -> Pixels:
    """A picture to measure with."""
    scale = min(1.0, *(most / side for most, side in zip(largest, MEASURED_SIZE, strict=True)))
    columns, rows = (round(side * scale) for side in MEASURED_SIZE)
    return np.random.default_rng(0).integers(0, 256, (rows, columns, 3), np.uint8)
