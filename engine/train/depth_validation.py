"""How good a depth network is on scenes that it never saw. Knows nothing of training.

Depth is judged as it is used: scaled by one number per picture, so that the median depth is right.
Shapes: N pictures, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.geometry.depth_network import CANONICAL_FOCAL
from engine.train.depth_augment import canonical
from engine.train.depth_data import FARTHEST, Views

Infer = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]  # as depth_network.Inference
SURE = 0.5  # confidence above which depth counts as sure


@dataclass(frozen=True, slots=True)
class DepthScores:
    """Relative errors are |d̂ − d| / d after aligning the median depth; shares of 1."""

    pictures: int
    median_relative_error: float  # the pictures' medians, averaged
    mean_relative_error: float
    flat_relative_error: (
        float  # the median error of a flat wall at the median depth: what knowing nothing gets
    )
    matte_iou: float  # at ½, all pictures' pixels together
    flicker: float  # mean change of log depth from frame to frame, beyond the truth's change
    sure_share: float
    sure_relative_error: float  # the median error where the network says that it is sure

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def score(infer: Infer, pairs: Iterable[Views]) -> DepthScores:
    """Each of ``pairs`` is two neighbouring frames at the network's size."""
    collected = _Collected()
    with torch.inference_mode():
        for pair in pairs:
            example = replace(canonical(pair, CANONICAL_FOCAL), known=pair.inverse_depth() > FARTHEST)
            images = torch.from_numpy(example.images).permute(0, 3, 1, 2).float() / 255
            inverse_depth, matte, sureness = infer(images)
            collected.add(
                inverse_depth.log().numpy(),
                np.log(example.inverse_depth),
                example.known,
                matte.numpy() > 0.5,
                example.matte > 0.5,
                sureness.numpy(),
            )
    return collected.scores()


class _Collected:
    """Sums over pictures."""

    def __init__(self) -> None:
        self._medians: list[float] = []
        self._means: list[float] = []
        self._flats: list[float] = []
        self._flickers: list[float] = []
        self._sure_errors: list[NDArray[np.float32]] = []
        self._pixels = self._both = self._either = 0

    def add(
        self,
        log_inverse: NDArray[np.float32],
        true_log_inverse: NDArray[np.float32],
        known: NDArray[np.bool_],
        person: NDArray[np.bool_],
        true_person: NDArray[np.bool_],
        sureness: NDArray[np.float32],
    ) -> None:
        for index, where in enumerate(known):
            depth, truth = np.exp(-log_inverse[index][where]), np.exp(-true_log_inverse[index][where])
            middle = np.median(truth)
            errors = np.abs(depth * (middle / np.median(depth)) - truth) / truth
            self._medians.append(float(np.median(errors)))
            self._means.append(float(errors.mean()))
            self._flats.append(float(np.median(np.abs(middle - truth) / truth)))
            sure = sureness[index][where] > SURE
            self._sure_errors.append(errors[sure][::16])
            self._pixels += len(errors[::16])
        change = np.diff(log_inverse - true_log_inverse, axis=0)
        self._flickers.append(float(np.abs(change).mean()))
        self._both += int((person & true_person).sum())
        self._either += int((person | true_person).sum())

    def scores(self) -> DepthScores:
        sure = np.concatenate(self._sure_errors)
        return DepthScores(
            pictures=len(self._medians),
            median_relative_error=float(np.mean(self._medians)),
            mean_relative_error=float(np.mean(self._means)),
            flat_relative_error=float(np.mean(self._flats)),
            matte_iou=self._both / max(self._either, 1),
            flicker=float(np.mean(self._flickers)),
            sure_share=len(sure) / max(self._pixels, 1),
            sure_relative_error=float(np.median(sure)) if len(sure) else 1.0,
        )
