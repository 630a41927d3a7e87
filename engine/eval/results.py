"""What was asked, of whom, on what, and what came out, as JSON. Knows nothing of pictures.

Everything that was drawn by chance follows from the protocol's seed; raw measurements are written too.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from engine.data.decode import Size
from engine.eval.cases import SPLIT
from engine.eval.measure import Pace
from engine.eval.records import Record, Section, Table, advantage, series, table

PACKAGES = ("numpy", "opencv-python-headless", "scikit-image", "flip-evaluator", "torch", "onnxruntime")
TABLES: tuple[Section, ...] = ("fidelity", "camera", "loop", "identity", "speed", "footage")
CURVES: tuple[Section, ...] = ("time", "length", "drift", "steps")
TRAVELS, TURNS = "travelling", "turning or zooming only"
LEAST_TRAVEL = 0.02  # of the subject's distance, on average: less is hardly seen as parallax


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """``pairs`` of views of each of ``scenes``, for fidelity, the camera and the time; the other tests take
    the first few of these pairs. Lengths beyond the recording go to and fro through it.

    Drift compares a whole turn to and fro that begins at frame ``drift_from`` with one that begins at the
    last multiple of it before ``drift_to``. ``steps``: of denoising, that models are tried at.
    """

    name: str
    size: Size
    seed: int = 0
    split: str = SPLIT
    scenes: int = 24
    pairs: int = 2
    frames: int = 81
    pace: Pace = field(default_factory=lambda: Pace(psnr=1, look=8, vgg=27, camera=16))
    loop_cases: int = 12
    identity_cases: int = 8
    length_cases: int = 6
    lengths: tuple[int, ...] = (49, 81, 177)
    drift_cases: int = 1
    drift_from: int = 100
    drift_to: int = 10_000
    step_cases: int = 6
    steps: tuple[int, ...] = (1, 2, 4, 8)

    def quick(self) -> Protocol:
        """A small part of it, for a look; the intervals say what it is worth."""
        return replace(
            self,
            name=f"{self.name}, quick",
            scenes=min(self.scenes, 4),
            pairs=1,
            frames=min(self.frames, 33),
            loop_cases=2,
            identity_cases=1,
            length_cases=1,
            lengths=(17, 33, 65),
            drift_to=500,
            step_cases=1,
        )


@dataclass(kw_only=True)
class Results:
    """``methods``: name → what it is, oracles among them."""

    protocol: Protocol
    data: str
    methods: Mapping[str, str]
    oracles: tuple[str, ...]
    cases: list[dict[str, object]] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def table(self, section: Section) -> Table:
        return table(self.records, section)

    def moves(self) -> dict[str, Table]:
        """Fidelity by whether the target's camera is elsewhere than the source's, and by its kind of path."""
        groups: dict[str, list[Record]] = {}
        for record in self.records:
            if record.section == "fidelity":
                groups.setdefault(record.move, []).append(record)
        groups = self._by_travel() | dict(sorted(groups.items()))
        return {name: table(found, "fidelity") for name, found in groups.items()}

    def _by_travel(self) -> dict[str, list[Record]]:
        """The records of cases that depth is needed for, and of those for which a homography is exact."""
        far = {case["name"] for case in self.cases if float(str(case["travel"])) >= LEAST_TRAVEL}
        groups: dict[str, list[Record]] = {}
        for name in (TRAVELS, TURNS):
            if found := [one for one in self.records if (one.case in far) == (name == TRAVELS)]:
                groups[name] = found
        return groups

    def as_json(self) -> dict[str, object]:
        """Without the records."""
        return {
            "protocol": {**asdict(self.protocol), "data": self.data, **asdict(surroundings())},
            "methods": dict(self.methods),
            "oracles": self.oracles,
            "notes": self.notes,
            "tables": {section: _plain(self.table(section)) for section in TABLES},
            "moves": {move: _plain(found) for move, found in self.moves().items()},
            "psnr_db_over": self._advantages(self.records),
            "psnr_db_over_by_travel": {
                name: self._advantages(found) for name, found in self._by_travel().items()
            },
            "curves": {section: self._curves(section) for section in CURVES},
            "cases": self.cases,
        }

    def write(self, path: Path) -> None:
        """Whole or not at all."""
        head = json.dumps(self.as_json(), indent=1).removesuffix("\n}")
        records = ",\n  ".join(json.dumps(record.as_json()) for record in self.records)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            unfinished.write_text(f'{head},\n "records": [\n  {records}\n ]\n}}\n', encoding="utf-8")
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    def _advantages(self, records: list[Record]) -> dict[str, object]:
        return {
            over: {
                method: one.as_json()
                for method, one in advantage(records, "fidelity", "psnr_db", over).items()
            }
            for over in self.methods
        }

    def _curves(self, section: Section) -> dict[str, object]:
        figures = dict.fromkeys(
            name for record in self.records if record.section == section for name in record.figures
        )
        return {
            figure: {
                method: {at: one.as_json() for at, one in points.items()}
                for method, points in series(self.records, section, figure).items()
            }
            for figure in figures
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What a figure of speed, or a third decimal, depends on."""

    made: str
    python: str
    machine: str
    cores: int | None
    threads: str
    packages: Mapping[str, str]


def surroundings() -> Surroundings:
    return Surroundings(
        made=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        python=platform.python_version(),
        machine=platform.machine(),
        cores=os.cpu_count(),
        threads=os.environ.get("OMP_NUM_THREADS", "not set"),
        packages={name: found for name in PACKAGES if (found := _version(name))},
    )


def _plain(found: Table) -> dict[str, dict[str, object]]:
    return {row: {figure: one.as_json() for figure, one in cells.items()} for row, cells in found.items()}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
