"""Where the camera of a rendered picture really was, and how far that is from where it should have been.

The picture is compared with the source of the same instant, of which the renderer knows the true depth, so
that moving people do no harm. Small pictures are aligned directly, large ones by matching features. Both may
fail, and say so; a failure is a result. Knows nothing of videos or methods.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engine.camera.geometry import Pose, conjugate, logarithm, multiply
from engine.eval.camera_align import align
from engine.eval.camera_match import match
from engine.eval.camera_view import View
from engine.frames import Pixels

LARGE_WIDTH = 480  # from here on features are found
LEAST_DIRECTION = 0.05  # of the subject's distance: a shorter move has no direction worth judging


@dataclass(frozen=True, kw_only=True, slots=True)
class PoseError:
    """``translation`` is a share of the subject's distance; ``direction_deg`` is nan for short moves."""

    rotation_deg: float
    translation: float
    direction_deg: float
    zoom: float


def estimate(view: View, picture: Pixels, wanted: Pose) -> Pose | None:
    """The pose that ``picture`` shows, relative to the source; None when nothing can be said.

    ``wanted`` is one of several places to start from, never more: a picture that shows another pose is found
    there, and one that shows nothing fails.
    """
    if view.intrinsics.width >= LARGE_WIDTH:
        return match(view, picture, wanted)
    return align(view, picture, wanted)


def pose_error(found: Pose, wanted: Pose, distance_m: float) -> PoseError:
    turn = logarithm(multiply(conjugate(wanted.rotation), found.rotation))
    got, asked = np.array(found.translation), np.array(wanted.translation)
    lengths = np.linalg.norm(got), np.linalg.norm(asked)
    direction = math.nan
    if min(lengths) > LEAST_DIRECTION * distance_m:
        cosine = float(got @ asked / (lengths[0] * lengths[1]))
        direction = math.degrees(math.acos(max(-1.0, min(1.0, cosine))))
    return PoseError(
        rotation_deg=math.degrees(math.hypot(*turn)),
        translation=float(np.linalg.norm(got - asked)) / distance_m,
        direction_deg=direction,
        zoom=abs(found.zoom / wanted.zoom - 1),
    )
