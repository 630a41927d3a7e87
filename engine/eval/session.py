"""One evaluation as the command line asks for it: the methods, the protocol, and what is written.

What is written is whole. A run that was stopped goes on with the clips of the models that it had made.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.data.decode import Size
from engine.errors import ConfigError, EngineError
from engine.eval.baselines import BASELINES, ORACLES, depth_engine
from engine.eval.evaluate import Report, evaluate
from engine.eval.footage import measure_footage
from engine.eval.gallery import Gallery
from engine.eval.kept import KeptClips
from engine.eval.measure import Pace
from engine.eval.methods import Method, render_timed
from engine.eval.models import PaintedMethod, TeacherMethod, Weights, model_methods
from engine.eval.report import write_report
from engine.eval.results import Protocol, Results
from engine.geometry.depth_estimator import DepthEstimator

LARGE_WIDTH = 480  # from here on, pictures are costly to look at
LARGE_PACE = Pace(psnr=4, look=27, vgg=81, camera=16)
CLIPS = ".clips"  # beside the report, until it is there
FOOTAGE_SHARE = 0.1  # of the progress
CASES = {  # of what can be left out, in the protocol
    "loop": "loop_cases",
    "identity": "identity_cases",
    "length": "length_cases",
    "drift": "drift_cases",
    "steps": "step_cases",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """``weights``: files, or label=file. ``codec``: for those on latents. ``footage``: recordings.
    ``frames``: of each clip. ``without``: the tests, as in ``CASES``, that are left out.
    """

    data: Path
    weights: tuple[str, ...] = ()
    codec: str | None = None
    footage: tuple[Path, ...] = ()
    size: Size
    scenes: int
    pairs: int
    frames: int = 81
    without: tuple[str, ...] = ()
    teacher_steps: int
    seed: int = 0
    quick: bool = False
    json_path: Path | None = None
    report: Path | None = None

    def __post_init__(self) -> None:
        if strangers := sorted(set(self.without) - set(CASES)):
            known = ", ".join(CASES)
            raise ConfigError(f"no test is called {strangers[0]!r}: what can be left out is {known}")


def run(request: Request, report: Report) -> Results:
    files = map(Weights.parse, request.weights)
    models = model_methods(files, request.teacher_steps, request.size, request.codec)
    depth, no_depth = _depth_engine(request.size)
    methods: list[Method] = [*BASELINES, *depth, *models]
    gallery, footage_gallery = Gallery(), Gallery()
    held_out = 1 - FOOTAGE_SHARE * bool(request.footage)
    place = request.report or (request.json_path and request.json_path.parent)
    kept = KeptClips(place / CLIPS) if place and request.size[0] < LARGE_WIDTH else None
    results = evaluate(
        request.data,
        protocol_of(request),
        methods,
        ORACLES,
        keeper=gallery if request.report else None,
        at_steps=lambda steps: [
            one for m in models if isinstance(m, TeacherMethod | PaintedMethod) for one in m.at_steps(steps)
        ],
        render=render_timed if kept is None else kept.render_timed,
        report=lambda share, what: report(held_out * share, what),
    )
    results.notes += no_depth
    for number, path in enumerate(request.footage):
        report(held_out + FOOTAGE_SHARE * number / len(request.footage), f"real footage: {path.name}")
        results.records += measure_footage(path, request.size, methods, footage_gallery)
    if request.json_path is not None:
        results.write(request.json_path)
    if request.report is not None:
        write_report(request.report, results, gallery.strips, footage_gallery.strips)
    if kept is not None:
        kept.forget()
    return results


def _depth_engine(size: Size) -> tuple[list[Method], list[str]]:
    """The engine, or why it is not there: without its network it would pass for a plane."""
    try:
        DepthEstimator(*size)
    except EngineError as error:
        return [], [f"The depth engine is absent: {error}."]
    return [depth_engine()], []


def protocol_of(request: Request) -> Protocol:
    protocol = Protocol(
        name="held-out",
        size=request.size,
        seed=request.seed,
        scenes=request.scenes,
        pairs=request.pairs,
        frames=request.frames,
    )
    if request.size[0] >= LARGE_WIDTH:
        protocol = replace(protocol, pace=LARGE_PACE, drift_to=2000)
    protocol = protocol.quick() if request.quick else protocol
    left_out: dict[str, Any] = {CASES[test]: 0 for test in request.without}
    return replace(protocol, **left_out)
