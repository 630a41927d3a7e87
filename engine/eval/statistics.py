"""From many values to the few that are reported, with what they are worth. Knows nothing of pictures.

The frames of a clip and the clips of a scene are not independent, so the bootstrap draws whole scenes: an
interval over frames would look ten times narrower than it is.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

RESAMPLES = 2000
CONFIDENCE = 0.95
SEED = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Value:
    """One measurement: nan where there was nothing to measure, inf where the attempt failed."""

    scene: str
    value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """``n`` values of ``scenes`` scenes went into the mean; ``failed`` did not, and are counted here.

    ``low`` and ``high`` bound the mean with 95 % confidence (percentile bootstrap over scenes); None with
    fewer than two scenes. Without any value, mean and median are None.
    """

    mean: float | None
    median: float | None
    low: float | None
    high: float | None
    n: int
    scenes: int
    failed: int = 0

    @property
    def failed_share(self) -> float:
        tried = self.n + self.failed
        return self.failed / tried if tried else 0.0

    def as_json(self) -> dict[str, object]:
        rounded = {k: _rounded(v) if isinstance(v, float) else v for k, v in asdict(self).items()}
        return {**rounded, "failed_share": _rounded(self.failed_share)}


def summarise(values: Iterable[Value]) -> Summary:
    """Mean and median over all values, with the mean's interval."""
    by_scene: dict[str, list[float]] = defaultdict(list)
    failed = 0
    for one in values:
        if math.isinf(one.value):
            failed += 1
        elif not math.isnan(one.value):
            by_scene[one.scene].append(one.value)
    flat = [value for group in by_scene.values() for value in group]
    if not flat:
        return Summary(mean=None, median=None, low=None, high=None, n=0, scenes=0, failed=failed)
    low, high = _interval(list(by_scene.values()))
    return Summary(
        mean=float(np.mean(flat)),
        median=float(np.median(flat)),
        low=low,
        high=high,
        n=len(flat),
        scenes=len(by_scene),
        failed=failed,
    )


def paired(ours: Mapping[str, Value], theirs: Mapping[str, Value]) -> Summary:
    """Of ours minus theirs, case by case: far sharper than the difference of two means."""
    return summarise(
        Value(scene=value.scene, value=value.value - theirs[case].value)
        for case, value in ours.items()
        if case in theirs and math.isfinite(value.value) and math.isfinite(theirs[case].value)
    )


def _interval(groups: Sequence[Sequence[float]]) -> tuple[float | None, float | None]:
    if len(groups) < 2:
        return None, None
    sums = np.array([sum(group) for group in groups])
    counts = np.array([len(group) for group in groups])
    drawn = np.random.default_rng(SEED).integers(len(groups), size=(RESAMPLES, len(groups)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


def _rounded(value: float) -> float:
    """Six significant digits, so that the JSON can be read."""
    return float(f"{value:.6g}")
