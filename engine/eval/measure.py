"""From a clip and its truth to figures. Knows nothing of how the clip was made or of statistics.

Shapes: T frames, H W rows and columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from engine.eval.camera_error import estimate, pose_error
from engine.eval.cases import Case
from engine.eval.metrics import Mask, colour_shift, flip, psnr, sharpness, ssim, vgg_distance
from engine.frames import Pixels

LEAST_SEEN = 0.5  # of the target, for its camera to be asked for
LEAST_PIXELS = 50  # of a mask: a handful of pixels is no figure


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """Which frames are looked at: every so many. PSNR is cheap, the others are not."""

    psnr: int
    look: int  # SSIM, FLIP, sharpness, colour
    vgg: int
    camera: int


def fidelity(case: Case, frames: Sequence[Pixels], pace: Pace) -> dict[str, float]:
    """Means over the frames of a clip."""
    looked = range(pace.look // 2, len(frames), pace.look)
    figures = {
        "psnr_db": _mean(psnr_curve(case.truth, frames, pace.psnr).values()),
        "psnr_seen_db": _mean(psnr_curve(case.truth, frames, pace.psnr, case.seen).values()),
        "psnr_unseen_db": _mean(
            psnr_curve(case.truth, frames, pace.psnr, [~seen for seen in case.seen]).values()
        ),
        "ssim": _mean(ssim(frames[i], case.truth[i]) for i in looked),
        "flip": _mean(flip(frames[i], case.truth[i]) for i in looked),
        "sharpness": _mean(relative_sharpness(frames[i], case.truth[i]) for i in looked),
        "flicker": flicker(case.truth, frames),
    }
    looked = range(pace.vgg // 2, len(frames), pace.vgg)
    if looked and (vgg := vgg_distance()) is not None:
        figures["vgg"] = _mean(vgg(frames[i], case.truth[i]) for i in looked)
    return figures


def psnr_curve(
    truth: Sequence[Pixels],
    frames: Sequence[Pixels],
    every: int,
    masks: Sequence[Mask] | None = None,
) -> dict[int, float]:
    """Frame → dB; nan where the mask holds next to nothing."""
    found = {}
    for i in range(0, len(frames), every):
        mask = None if masks is None else masks[i]
        if mask is not None and mask.sum() < LEAST_PIXELS:
            found[i] = math.nan
        else:
            found[i] = psnr(frames[i], truth[i], mask)
    return found


def flicker(truth: Sequence[Pixels], frames: Sequence[Pixels]) -> float:
    """Mean |Δoutput − Δtruth| from frame to frame, in code values: change that is not in the world."""

    def change(pictures: Sequence[Pixels], i: int) -> np.ndarray:
        return pictures[i].astype(np.float32) - pictures[i - 1]

    return _mean(float(np.abs(change(frames, i) - change(truth, i)).mean()) for i in range(1, len(frames)))


def camera(case: Case, frames: Sequence[Pixels], pace: Pace) -> dict[int, dict[str, float]]:
    """Frame → the camera's errors as found in the picture, all of them inf where no camera was found.

    Asked only where the source, by the true depth, shows at least half of the target: elsewhere the estimator
    is unsure even of the truth.
    """
    found = {}
    for i in range(pace.camera - 1, len(frames), pace.camera):
        if case.seen[i].mean() < LEAST_SEEN:
            continue
        wanted, distance_m = case.shot.poses[i], case.shot.distances_m[i]
        pose = estimate(case.view(i), frames[i], wanted)
        if pose is None:
            found[i] = dict.fromkeys(("rotation_deg", "translation", "direction_deg", "zoom"), math.inf)
            continue
        error = pose_error(pose, wanted, distance_m)
        found[i] = {
            "rotation_deg": error.rotation_deg,
            "translation": error.translation,
            "direction_deg": error.direction_deg,
            "zoom": error.zoom,
        }
    return found


def relative_sharpness(picture: Pixels, truth: Pixels) -> float:
    """1 for as sharp as the truth; nan where the truth is blank."""
    reference = sharpness(truth)
    return sharpness(picture) / reference if reference > 0 else math.nan


def drift(truth: Sequence[Pixels], frames: Sequence[Pixels]) -> dict[str, float]:
    """Of a stretch of a long run: fidelity, sharpness as a share of the truth's, and the colour's shift."""
    pairs = list(zip(frames, truth, strict=True))
    return {
        "psnr_db": _mean(psnr(ours, theirs) for ours, theirs in pairs),
        "sharpness": _mean(relative_sharpness(ours, theirs) for ours, theirs in pairs),
        "colour_shift": _mean(colour_shift(ours, theirs) for ours, theirs in pairs),
    }


def _mean(values: Iterable[float]) -> float:
    """Of those that are there; nan if none is."""
    there = [value for value in values if not math.isnan(value)]
    return float(np.mean(there)) if there else math.nan
