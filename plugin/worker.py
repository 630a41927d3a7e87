"""What source and sink threads share: waiting longer after each failure, and saying how they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["idle", "connecting", "live", "waiting", "lost", "stopped"]


def is_news(state: State, detail: str, before: State, detail_before: str) -> bool:
    """Whether the log should have it: what stays away is told once, and not at each try, for days."""
    if state == "waiting":
        return state != before
    if state in ("connecting", "lost") and before != "idle":
        return detail != detail_before
    return (state, detail) != (before, detail_before)


@dataclass(slots=True)
class Backoff:
    """Seconds to wait before the next try: doubles up to a limit, starts over after a success."""

    first_s: float = 0.25
    limit_s: float = 5.0
    failures: int = 0

    def next_s(self) -> float:
        wait = min(self.limit_s, self.first_s * 2.0 ** min(self.failures, 16))
        self.failures += 1
        return wait

    def succeeded(self) -> None:
        self.failures = 0
