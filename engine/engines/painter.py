"""The mini student with all that it needs and leaves: its hints, which are the base at its own size, its
corrections of the base, its health.

It paints beside the picture that goes out, for the next one: nobody waits for it, and corrections are carried
from view to view anyway.

Knows when to begin anew (after a cut or a rest), and what to do when its picture drifts: forget what it made;
if that does not help, forget everything; if that does not either, rest for a while. Knows nothing of pictures
at full size or of budgets. Times are arguments, but for how long the network took.

Shapes: h w the student's rows and columns.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import cv2
import numpy as np
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

from engine.camera.geometry import Intrinsics, Pose
from engine.engines.base import EngineSettings
from engine.engines.budget import Level
from engine.engines.corrections import Corrections
from engine.engines.depth import lens_of
from engine.engines.health import DriftWatch
from engine.errors import EngineError
from engine.frames import Pixels
from engine.geometry.delivery import Correction, Delivery, Small
from engine.geometry.depth_estimator import THUMBNAIL, is_cut
from engine.geometry.hints import Hints, hints_of_view
from engine.geometry.pictures import Floats, Size, shrunk

log = logging.getLogger(__name__)

STUDENT_FAILURES = (EngineError, Fail, InvalidArgument, RuntimeException)
FORGETS_AFTER_S = 0.5  # of rest: what it painted before is of another time
TRAVELS_AT = 0.02  # of the subject's distance: from here on the camera does not only turn
AGAIN_WITHIN_S = 12.0  # a drift that soon after the last one calls for more
RESTS_S = 30.0

Clock = Callable[[], float]


class Painted(Protocol):
    @property
    def pixels(self) -> Floats: ...


class Student(Protocol):
    """One stream. Pictures are of its ``size`` (width, height); ``steps`` may change between them."""

    size: Size
    steps: int

    @property
    def available_steps(self) -> tuple[int, ...]: ...

    def see(self, source: Pixels) -> None: ...

    def paint(self, hints: Hints, pose: Pose, source_lens: Intrinsics) -> Painted:
        """The frame that was seen last."""

    def reset(self) -> None: ...

    def re_anchor(self) -> None: ...


Result = TypeVar("Result", covariant=True)


class Pending(Protocol[Result]):
    def result(self) -> Result: ...


class Worker(Protocol):
    """Does one thing after the other beside its caller, as an executor of one thread does."""

    def submit(self, what: Callable[[], Result], /) -> Pending[Result]: ...


class Painting(NamedTuple):
    """Of one view, while it is being made."""

    job: Pending[tuple[Floats, Correction]]  # the picture h w 3, 0…255, and what it corrects in ``small``
    small: Small
    pose: Pose
    now: float


class Painter:
    """Frame after frame: ``look``, then either ``rest`` or ``paint`` and ``correction``. From ``begin``, any
    time between ``look`` and ``paint``, the student looks at the frame beside its caller; from ``paint`` on
    it paints it, and by the next one's that must be done. Only the worker touches the student.
    """

    def __init__(self, student: Student, settings: EngineSettings, clock: Clock, worker: Worker) -> None:
        self.size = student.size
        self._worker = worker
        self._seen: Pending[None] | None = None  # the newest frame, by the student
        self._painting: Painting | None = None
        self.failed: Exception | None = None
        self._student = student
        self._clock = clock
        self._settings = settings
        self._watch = DriftWatch()
        self._re_anchors = 0
        self._corrections: Corrections | None = None
        self._thumbnail: Floats | None = None
        self._turn = 0
        self._painted_s = self._rests_until = float("-inf")
        self._drifts: deque[float] = deque(maxlen=3)

    @property
    def available_steps(self) -> tuple[int, ...]:
        return self._student.available_steps

    def reset(self) -> None:
        """The next frame belongs to another picture."""
        self._worker.submit(self._student.reset)
        self._watch.reset()
        self._painting = self._corrections = self._thumbnail = None
        self._seen = None
        self._turn = 0
        self._painted_s = self._rests_until = float("-inf")
        self._drifts.clear()

    def health(self) -> Mapping[str, float]:
        figures = self._watch.figures
        return {**(figures.as_dict() if figures else {}), "re_anchors": self._re_anchors}

    def trouble(self, now: float) -> str:
        """Why it does not paint, though it could; empty if it does."""
        return "its picture went wrong" if now < self._rests_until else ""

    def look(self, frame: Pixels, pose: Pose) -> None:
        """The newest frame H W 3, to be painted from ``pose``."""
        small = shrunk(frame, self.size)
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32) / np.float32(255)
        thumbnail = cv2.resize(grey, THUMBNAIL, interpolation=cv2.INTER_AREA)
        if self._thumbnail is not None and is_cut(self._thumbnail, thumbnail):
            self.reset()
        self._thumbnail = thumbnail
        self._frame, self._pose = small, pose
        self._seen = None
        self._lens = lens_of(frame, self._settings).scaled(*self.size)
        if self._corrections is None:
            self._corrections = Corrections(self._lens, self._settings.subject_distance_m)

    def idles(self, level: Level, now: float) -> bool:
        """Whether there is nothing to do at this level: no painting, and no correction left to fade."""
        return not self._paints(level, now) and self._corrections is not None and self._corrections.is_none

    def rest(self) -> None:
        """This picture needs no painting."""
        self._painting = None
        if self._corrections is not None:
            self._corrections.rest()

    def begin(self, level: Level, now: float) -> None:
        """Sets the student to work, if it is this frame's turn: on what it is shown, which needs no hints."""
        assert self._corrections is not None
        if not self._paints(level, now):
            return
        self._turn += 1
        if self._turn % level.every and not self._corrections.is_none:
            return
        if now - self._painted_s > FORGETS_AFTER_S:
            self._worker.submit(self._student.reset)
            self._watch.reset()
        self._seen = self._worker.submit(partial(self._see, self._frame, level.steps))

    def paint(self, delivery: Delivery, small: Small, level: Level, now: float) -> float | None:
        """Takes up what was painted of the view before, and has this one painted: the base, which is the
        student's hint as well, is corrected by it. The seconds that the student was waited for.
        """
        assert self._corrections is not None
        waited_s = None if self._painting is None else self._take_up(self._painting)
        if not self._paints(level, now):
            self._corrections.end(now)
        elif self._seen is not None:
            warped = np.clip(np.rint(small.colour), 0, 255).astype(np.uint8)
            hints = hints_of_view(self._frame, warped, small.seen, self._lens, self._pose)
            paint = partial(self._painted, self._seen, hints, self._pose, self._lens, delivery, small)
            self._painting = Painting(self._worker.submit(paint), small, self._pose, now)
            self._painted_s = now
        self._corrections.hold(self._pose)
        return waited_s

    def _see(self, frame: Pixels, steps: int) -> None:
        self._student.steps = steps
        self._student.see(frame)

    def _painted(
        self,
        seen: Pending[None],
        hints: Hints,
        pose: Pose,
        lens: Intrinsics,
        delivery: Delivery,
        small: Small,
    ) -> tuple[Floats, Correction]:
        seen.result()
        pixels = self._student.paint(hints, pose, lens).pixels
        return pixels, delivery.correction(pixels, small)

    def _take_up(self, painting: Painting) -> float | None:
        """A painting that is done, or will be soon; None if it failed."""
        assert self._corrections is not None
        self._painting = None
        began = self._clock()
        try:
            pixels, correction = painting.job.result()
        except STUDENT_FAILURES as error:
            self.failed = error
            return None
        waited_s = self._clock() - began
        if not np.isfinite(pixels).all():
            self._remedy("its picture is not made of numbers", painting.now)
            return waited_s
        self._corrections.paint(correction, painting.pose, painting.now)
        if drifted := self._watch.see(painting.now, pixels, painting.small):
            self._remedy(drifted, painting.now)
        return waited_s

    def correction(self, small: Small, now: float) -> Correction:
        """Of the base: none where a camera that does not travel shows what was seen, which is exact."""
        assert self._corrections is not None
        travelled = np.linalg.norm(self._pose.translation) / (TRAVELS_AT * self._settings.subject_distance_m)
        found = self._corrections.at(now)
        if travelled >= 1:
            return found
        exact = np.float32(1 - travelled * travelled * (3 - 2 * travelled)) * small.seen
        return found.mixed(Correction.none(self.size), exact)

    def _paints(self, level: Level, now: float) -> bool:
        return level.steps > 0 and self.failed is None and now >= self._rests_until

    def _remedy(self, drifted: str, now: float) -> None:
        assert self._corrections is not None
        self._watch.reset()
        self._corrections.fade(now)
        self._drifts.append(now)
        recent = sum(now - then < AGAIN_WITHIN_S for then in self._drifts)
        if recent == 1:
            self._re_anchors += 1
            self._worker.submit(self._student.re_anchor)
            log.warning("the student is anchored anew: %s", drifted)
        elif recent == 2:
            self._worker.submit(self._student.reset)
            log.warning("the student begins anew: %s, still", drifted)
        else:
            self._rests_until = now + RESTS_S
            log.warning("the student rests for %.0f s: %s, again and again", RESTS_S, drifted)
