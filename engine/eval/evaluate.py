"""The protocol, carried out: the same held-out questions to every method. What it fails is counted.

Knows nothing of how the results are shown.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol as Interface

import psutil

from engine.data import layout
from engine.data.rig import read_rig
from engine.eval import measure
from engine.eval.baselines import Truth
from engine.eval.cases import Case, Pair, Shot, choose_pairs, load_case, ping_pong
from engine.eval.loops import closing_pair, closure_figures, find_closures
from engine.eval.methods import Method, Oracle, Timing, render_timed
from engine.eval.metrics import VGG_MISSING, vgg_is_installed
from engine.eval.records import Record, Section
from engine.eval.results import Protocol, Results
from engine.frames import Pixels

Report = Callable[[float, str], object]  # share done, and what is being done
Render = Callable[[Method, Shot], tuple[Sequence[Pixels], Timing]]

POINTS_OF_DRIFT = 20  # stretches of a long run that are looked at after the first
POINTS_OF_TIME = 20
COST_ROUNDS, COST_FRAMES = 20, 12  # in turns, and frames of each: whole chunks of any model's
TIMED = COST_ROUNDS * COST_FRAMES


class Keeper(Interface):
    """Whoever wants to show some of the pictures. Sees each case with all that was made of it."""

    def keep(self, case: Case, made: Mapping[str, Sequence[Pixels]]) -> None: ...


def evaluate(
    root: Path,
    protocol: Protocol,
    methods: Sequence[Method],
    oracles: Sequence[Oracle],
    *,
    keeper: Keeper | None = None,
    at_steps: Callable[[int], Iterable[Method]] = lambda steps: (),
    render: Render = render_timed,
    report: Report = lambda share, what: None,
) -> Results:
    """Runs the whole protocol. ``at_steps`` makes those models that have denoising steps, with that many."""
    pairs = choose_pairs(
        root,
        scenes=protocol.scenes,
        pairs=protocol.pairs,
        seed=protocol.seed,
        frames=protocol.frames,
        split=protocol.split,
    )
    loops = loop_pairs(root, protocol)
    results = Results(
        protocol=protocol,
        data=str(root),
        methods={one.name: one.about for one in methods} | {one.name: one.about for one in oracles},
        oracles=tuple(one.name for one in oracles),
    )
    if not vgg_is_installed():
        results.notes.append(f"The VGG distance is absent: {VGG_MISSING}.")
    if not loops:
        results.notes.append("Loop closure is absent: no camera of these scenes comes back to where it was.")
    stepped = {steps: list(at_steps(steps)) for steps in protocol.steps}
    run = _Run(results, methods, oracles, keeper, render, report)
    run.expect(len(pairs), len(loops), sum(map(len, stepped.values())))
    for pair in pairs:
        run.fidelity(load_case(pair, protocol.size, protocol.frames))
    for pair in loops:
        run.loop(load_case(pair, protocol.size, protocol.frames))
    for pair in pairs[: protocol.identity_cases]:
        run.identity(load_case(pair, protocol.size, protocol.frames))
    for pair in pairs[: protocol.length_cases] if run.remembering else []:
        run.lengths(load_case(pair, protocol.size, max(protocol.lengths)))
    for pair in pairs[: protocol.drift_cases] if run.streaming else []:
        run.drift(load_case(pair, protocol.size, protocol.frames))
    for pair in pairs[: protocol.step_cases] if any(stepped.values()) else []:
        run.steps(load_case(pair, protocol.size, protocol.frames), stepped)
    return results


def loop_pairs(root: Path, protocol: Protocol) -> list[Pair]:
    """Pairs whose target comes back to where it was, in forward time: one of each scene that has such."""
    found: list[Pair] = []
    for folder in layout.scene_folders(root, protocol.split):
        if len(found) < protocol.loop_cases:
            rig = read_rig(folder)
            cameras = closing_pair(rig, min(protocol.frames, rig.frames))
            if cameras is not None:
                found.append(Pair(scene=folder, source=cameras[0], target=cameras[1]))
    return found


class _Run:
    """One method after another on one case after another, with everything written down."""

    def __init__(
        self,
        results: Results,
        methods: Sequence[Method],
        oracles: Sequence[Oracle],
        keeper: Keeper | None,
        render: Render,
        report: Report,
    ) -> None:
        self._results = results
        self._protocol = results.protocol
        self._methods = methods
        self._oracles = oracles
        self._keeper = keeper
        self._render = render
        self._report = report
        self._frames_done = 0
        self._frames_expected = 1
        self.remembering = [method for method in methods if method.remembers]
        self.streaming = [method for method in self.remembering if method.streams]

    def expect(self, pairs: int, loops: int, stepped: int) -> None:
        """Counts the frames to come, for the time that is left."""
        protocol, methods = self._protocol, len(self._methods)
        clips = pairs * (methods + len(self._oracles)) + loops * (methods + 1)
        clips += min(pairs, protocol.identity_cases) * methods + min(pairs, protocol.step_cases) * stepped
        lengths = min(pairs, protocol.length_cases) * len(self.remembering) * sum(protocol.lengths)
        long_run = protocol.drift_to + protocol.drift_from + 2 * TIMED
        drift = min(pairs, protocol.drift_cases) * len(self.streaming) * long_run
        self._frames_expected = max(1, clips * protocol.frames + lengths + drift)

    def fidelity(self, case: Case) -> None:
        """Against the truth, all methods and oracles, with the camera and the time."""
        seen = sum(float(mask.mean()) for mask in case.seen) / len(case.seen)
        about = {"name": case.name, "family": case.family, "move": case.move}
        self._results.cases.append(
            {
                **about,
                "frames": len(case.shot),
                "seen_share": round(seen, 4),
                "travel": round(case.shot.travel(), 4),
            }
        )
        made: dict[str, Sequence[Pixels]] = {}
        for method in self._methods:
            frames, timing = self._render(method, case.shot)
            speed = {"first_ms": 1000 * timing.first_s, "frame_ms": 1000 * timing.frame_s}
            self._record(case, "speed", method.name, speed)
            made[method.name] = frames
            self._measure(case, method.name, frames)
        for oracle in self._oracles:
            made[oracle.name] = list(oracle.render(case))
            self._measure(case, oracle.name, made[oracle.name])
        if self._keeper is not None:
            self._keeper.keep(case, made)

    def _measure(self, case: Case, name: str, frames: Sequence[Pixels]) -> None:
        pace = self._protocol.pace
        self._record(case, "fidelity", name, measure.fidelity(case, frames, pace))
        for frame, errors in measure.camera(case, frames, pace).items():
            self._record(case, "camera", name, errors, frame)
        every = max(1, len(frames) // POINTS_OF_TIME)
        for frame, db in measure.psnr_curve(case.truth, frames, every).items():
            self._record(case, "time", name, {"psnr_db": db}, frame)
        self._done(len(frames), f"{name} on {case.name}")

    def loop(self, case: Case) -> None:
        closures = find_closures(case)
        for method in self._methods:
            frames, _ = self._render(method, case.shot)
            self._record(case, "loop", method.name, closure_figures(case, frames, closures))
            self._done(len(frames), f"loop closure of {method.name}")
        self._record(case, "loop", Truth.name, closure_figures(case, case.truth, closures))
        self._done(len(case.truth), "loop closure of the truth")

    def identity(self, case: Case) -> None:
        """A virtual camera that does not move shows the source."""
        for method in self._methods:
            frames, _ = self._render(method, case.shot.still())
            curve = measure.psnr_curve(case.shot.source, frames, self._protocol.pace.psnr)
            flicker = measure.flicker(case.shot.source, frames)
            figures = {"psnr_db": _mean(curve.values()), "flicker": flicker}
            self._record(case, "identity", method.name, figures)
            self._done(len(frames), f"identity of {method.name}")

    def lengths(self, case: Case) -> None:
        """``common_db`` is over the frames that all lengths have."""
        shortest = min(self._protocol.lengths)
        for method in self.remembering:
            for length in self._protocol.lengths:
                frames, timing = self._render(method, case.shot.lasting(length))
                curve = list(measure.psnr_curve(_stretch(case, 0, length), frames, 1).values())
                figures = {
                    "psnr_db": _mean(curve),
                    "common_db": _mean(curve[:shortest]),
                    "frame_ms": 1000 * timing.frame_s,
                }
                self._record(case, "length", method.name, figures, length)
                self._done(length, f"{length} frames of {method.name}")

    def drift(self, case: Case) -> None:
        """The same turn to and fro through the clip, again and again; then, what a frame costs by now."""
        turn = max(1, 2 * len(case.truth) - 2)
        first, last = self._protocol.drift_from, self._protocol.drift_to
        turns = max(0, last - first) // turn
        starts = sorted(
            {first + turn * round(k * turns / POINTS_OF_DRIFT) for k in range(POINTS_OF_DRIFT + 1)}
        )
        for method in self.streaming:
            frames = method.render(case.shot.lasting(starts[-1] + turn + TIMED))
            for start, stretch in self._stretches(frames, starts, turn, method.name):
                figures = measure.drift(_stretch(case, start, turn), stretch)
                memory = {"memory_mb": psutil.Process().memory_info().rss / 1e6}
                self._record(case, "drift", method.name, figures | memory, start)
            early = method.render(case.shot.lasting(first + TIMED))
            for _ in range(first):
                next(early)
            self._done(first, f"{method.name}, what a late frame costs")
            self._record(case, "speed", method.name, {"late_cost": _cost_over(frames, early)})
            self._done(2 * TIMED, f"{method.name}, what a late frame costs")

    def _stretches(
        self, frames: Iterator[Pixels], starts: Sequence[int], length: int, name: str
    ) -> Iterator[tuple[int, list[Pixels]]]:
        """``length`` frames from each start on; the others are made and forgotten."""
        waiting = list(starts)
        kept: list[Pixels] = []
        for index, frame in enumerate(frames):
            if index >= waiting[0]:
                kept.append(frame)
            if len(kept) == length:
                yield waiting.pop(0), kept
                kept = []
                if not waiting:
                    return
            if index % 100 == 99:
                self._done(100, f"{name}, frame {index + 1} of a long run")

    def steps(self, case: Case, stepped: Mapping[int, Sequence[Method]]) -> None:
        for steps, methods in stepped.items():
            for method in methods:
                frames, timing = self._render(method, case.shot)
                found = measure.fidelity(case, frames, self._protocol.pace)
                errors = measure.camera(case, frames, self._protocol.pace).values()
                turns = [error["rotation_deg"] for error in errors if math.isfinite(error["rotation_deg"])]
                figures = {
                    "psnr_db": found["psnr_db"],
                    "ssim": found["ssim"],
                    "rotation_deg": _mean(turns),
                    "camera_failed": 1 - len(turns) / max(1, len(errors)),
                    "frame_ms": 1000 * timing.frame_s,
                }
                self._record(case, "steps", method.name, figures, steps)
                self._done(len(frames), f"{method.name} at {steps} steps")

    def _done(self, frames: int, what: str) -> None:
        self._frames_done += frames
        self._report(min(1.0, self._frames_done / self._frames_expected), what)

    def _record(
        self, case: Case, section: Section, method: str, figures: Mapping[str, float], at: int = 0
    ) -> None:
        self._results.records.append(
            Record(
                section=section,
                method=method,
                case=case.name,
                scene=case.scene,
                family=case.family,
                move=case.move,
                at=at,
                figures=dict(figures),
            )
        )


def _stretch(case: Case, start: int, length: int) -> list[Pixels]:
    """The truth of a part of a long run."""
    return [case.truth[ping_pong(start + i, len(case.truth))] for i in range(length)]


def _cost_over(late: Iterator[Pixels], early: Iterator[Pixels]) -> float:
    """The median time of some frames of the one over that of as many of the other: in turns, so that a
    machine whose speed drifts favours neither.
    """
    ratios: list[float] = []
    for _ in range(COST_ROUNDS):
        spent: list[float] = []
        for stream in (late, early):
            began = time.perf_counter()
            for _ in range(COST_FRAMES):
                next(stream)
            spent.append(time.perf_counter() - began)
        ratios.append(spent[0] / spent[1])
    return statistics.median(ratios)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else float("nan")
