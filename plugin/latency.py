"""Quantiles of what was measured lately. Knows nothing of what is measured."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np


def quantiles(values: Sequence[float], *shares: float) -> dict[str, float]:
    """{"p50": …, "p95": …} for shares 0.5, 0.95, rounded to a hundredth; zeros without values."""
    found = np.quantile(values, shares) if len(values) else np.zeros(len(shares))
    return {f"p{round(100 * share)}": round(float(q), 2) for share, q in zip(shares, found, strict=True)}


class Latencies:
    """The newest measurements in milliseconds. Safe to add to and to read from different threads."""

    def __init__(self, length: int = 300) -> None:
        self._values_ms: deque[float] = deque(maxlen=length)

    def add(self, seconds: float) -> None:
        self._values_ms.append(1000 * seconds)

    def quantiles_ms(self, *shares: float) -> dict[str, float]:
        return quantiles(list(self._values_ms), *shares)
