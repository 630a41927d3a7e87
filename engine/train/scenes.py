"""Which scenes a run trains on, from which sample on: the list grows while more are rendered, and a run
that resumes sees it grow at the very same samples.

A JSON file in the run's folder, ``{"growths": [[from sample, number of scenes], …], "scenes": [path, …]}``;
scenes are only ever added behind those that are there. Knows nothing of what a scene is.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

NAME = "scenes.json"


class SceneList:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._growths: list[tuple[int, int]] = []
        self._scenes: list[str] = []
        if self._path.exists():
            found = json.loads(self._path.read_text(encoding="utf-8"))
            self._growths = [(sample, count) for sample, count in found["growths"]]
            self._scenes = found["scenes"]

    def __len__(self) -> int:
        return len(self._scenes)

    def count_at(self, sample: int) -> int:
        """How many scenes that sample is drawn from."""
        growth = bisect_right([first for first, _ in self._growths], sample) - 1
        return self._growths[growth][1] if growth >= 0 else 0

    def first(self, count: int) -> list[Path]:
        return [Path(scene) for scene in self._scenes[:count]]

    def grow(self, from_sample: int, there: Sequence[Path]) -> None:
        """From that sample on, the new ones among ``there`` take part."""
        known = set(self._scenes)
        new = [str(scene) for scene in there if str(scene) not in known]
        if new:
            latest = self._growths[-1][0] if self._growths else 0
            self._scenes += new
            self._growths.append((max(from_sample, latest), len(self._scenes)))

    def write(self) -> None:
        partial = self._path.with_suffix(".partial")
        content = {"growths": self._growths, "scenes": self._scenes}
        partial.write_text(json.dumps(content), encoding="utf-8")
        partial.replace(self._path)
