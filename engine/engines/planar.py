"""The engine without a model: passes frames on, as seen by the real camera.

The compositor reprojects every engine's frames to the pose of the output instant, so with the
identity pose its reprojection is the whole move: exact for pan, tilt, roll and zoom, and one plane
at the subject's distance for translation.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.camera.geometry import IDENTITY, Pose
from engine.engines.base import (
    NOTHING_TO_REPORT,
    EngineSettings,
    Following,
    Progress,
    Rendered,
    Report,
    nothing_follows,
)
from engine.frames import Pixels


class PlanarEngine:
    def __init__(self, settings: EngineSettings) -> None:
        self.chunk = 1
        self.size: tuple[int, int] | None = None

    def warmup(self, progress: Progress) -> None:
        progress(1.0, "nothing to load")

    def step(
        self, frames: Sequence[Pixels], poses: Sequence[Pose], following: Following = nothing_follows
    ) -> list[Rendered]:
        return [Rendered(frame, IDENTITY) for frame in frames]

    def reset(self) -> None:
        pass

    def report(self) -> Report:
        return NOTHING_TO_REPORT
