"""The methods that anyone could think of first, and the oracles that bound them. A model that does not beat
these has learned nothing.

Knows nothing of figures. Engines and models are wrapped by :mod:`engine.eval.methods`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np

from engine.camera.geometry import Intrinsics, Pose, plane_homography
from engine.engines.depth import DepthEngine
from engine.eval.cases import Case, Shot, source_place
from engine.eval.methods import EngineMethod, engine_settings, resized, warped
from engine.eval.metrics import psnr
from engine.frames import Pixels

SEARCHED_WIDTH = 160
PLANES_M = tuple(np.geomspace(1.0, 30.0, 24).tolist())  # where the oracle looks for the best plane


class Copy:
    """The source, unmoved."""

    name = "copy"
    about = "the source, unmoved"
    remembers = False
    streams = True

    def render(self, shot: Shot) -> Iterator[Pixels]:
        yield from shot.source


class Rotation:
    """Exact for pan, tilt, roll and zoom; knows no translation, but every frame's lens."""

    name = "rotation"
    about = "homography of the rotation and the zoom alone: exact without translation"
    remembers = False
    streams = True

    def render(self, shot: Shot) -> Iterator[Pixels]:
        for place, source in enumerate(shot.source):
            yield _by_plane(shot, place, source, replace(shot.poses[place], translation=(0.0, 0.0, 0.0)), 1.0)


class Plane:
    """One plane at the subject's true distance, by the true lens, in every frame: more than engines know."""

    name = "plane"
    about = "homography of a plane at the subject's true distance"
    remembers = False
    streams = True

    def render(self, shot: Shot) -> Iterator[Pixels]:
        for place, source in enumerate(shot.source):
            yield _by_plane(shot, place, source, shot.poses[place], shot.distances_m[place])


class BestPlane:
    """The best that any one plane can do: chosen for each frame by looking at the truth."""

    name = "best plane"
    about = f"oracle: for each frame, whichever of {len(PLANES_M)} distances fits the truth best"

    def render(self, case: Case) -> Iterator[Pixels]:
        for place, source in enumerate(case.shot.source):
            shot = case.shot
            yield _by_plane(shot, place, source, shot.poses[place], self._distance_m(case, place))

    def _distance_m(self, case: Case, place: int) -> float:
        """Large pictures are looked at small: the plane is the same."""
        lens, pose = case.shot.lenses[place], case.shot.poses[place]
        size = _at_most(lens, SEARCHED_WIDTH)
        small, truth = resized(case.shot.source[place], size), resized(case.truth[place], size)
        lens = lens.scaled(*size)

        def agrees(plane_m: float) -> float:
            return psnr(warped(small, plane_homography(lens, lens, pose, plane_m)), truth)

        return float(max(PLANES_M, key=agrees))


class TrueGeometry:
    """What perfect depth gives: the source where it saw the surface, and a plane where it did not."""

    name = "true geometry"
    about = "oracle: the source warped by the true depth; the best plane where the source saw nothing"

    def render(self, case: Case) -> Iterator[Pixels]:
        shot = case.shot
        for place, beyond in enumerate(BestPlane().render(case)):
            x, y, _ = source_place(case.target_inverse_depth[place], shot.lenses[place], shot.poses[place])
            seen = cv2.remap(
                shot.source[place],
                x.astype(np.float32),
                y.astype(np.float32),
                cv2.INTER_CUBIC,
                borderMode=cv2.BORDER_REPLICATE,
            )
            yield np.where(case.seen[place][..., None], seen, beyond).astype(np.uint8)


class Truth:
    """The truth as if it were a method: what it does not reach is the yardstick's own error."""

    name = "truth"
    about = "the true target views: what the yardstick itself can measure"

    def render(self, case: Case) -> Iterator[Pixels]:
        yield from case.truth


def depth_engine() -> EngineMethod:
    """The live engine without a diffusion model: parallax from a small depth network."""
    return EngineMethod(
        "depth",
        "the live engine `depth`: forward warp by a small depth network, background from memory",
        DepthEngine,
        lambda shot: engine_settings("depth", shot),
    )


BASELINES = (Copy(), Rotation(), Plane())
ORACLES = (BestPlane(), TrueGeometry(), Truth())


def _at_most(lens: Intrinsics, width: int) -> tuple[int, int]:
    width = min(width, lens.width)
    return width, round(width * lens.height / lens.width)


def _by_plane(shot: Shot, place: int, source: Pixels, pose: Pose, distance_m: float) -> Pixels:
    lens = shot.lenses[place]
    return warped(source, plane_homography(lens, lens, pose, distance_m))
