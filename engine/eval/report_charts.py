"""The report's charts: intervals and curves of the results. Knows nothing of tables or pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from engine.eval import charts
from engine.eval.charts import Interval, Line, Point
from engine.eval.records import Section, Table, advantage, series
from engine.eval.results import Results
from engine.eval.statistics import Summary

HOMOGRAPHIES = ("rotation", "plane")
NO_MODELS = {"copy", "depth", *HOMOGRAPHIES}
UNSHOWN = "truth"  # its figures lie far above all others
LEAST_SPAN = {"psnr_db": 4.0, "common_db": 4.0, "sharpness": 0.3, "rotation_deg": 2.0}  # of a chart's axis
RECALL_DEG = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0)
METHOD_COLOURS, ORACLE_COLOUR, TRUTH_COLOUR = 8, 8, 9


def colour_of(name: str, results: Results) -> int:
    """Methods in their order; oracles quiet ones."""
    if name in results.oracles:
        return TRUTH_COLOUR if name == UNSHOWN else ORACLE_COLOUR
    own = [method for method in results.methods if method not in results.oracles]
    return min(METHOD_COLOURS - 1, own.index(name))


def best_homography(results: Results) -> str | None:
    fidelity = results.table("fidelity")
    values = {name: fidelity[name]["psnr_db"].mean or 0.0 for name in HOMOGRAPHIES if name in fidelity}
    return max(values, key=values.__getitem__) if values else None


def subject_of(results: Results) -> str:
    """Whom a report is about: the first of the models that were given, or else the last method."""
    own = [name for name in results.methods if name not in results.oracles]
    return next((name for name in own if name not in NO_MODELS), own[-1])


class ReportCharts:
    def __init__(self, results: Results) -> None:
        self._results = results
        self._names = [name for name in results.methods if name != UNSHOWN]

    def page(self) -> str:
        flat = best_homography(self._results)
        over = advantage(self._results.records, "fidelity", "psnr_db", flat) if flat else {}
        fidelity = self._intervals(self._results.table("fidelity"), "psnr_db")
        advantages = self._advantages(over)
        by_length = self._lines("length", "common_db", "frames in the clip", "PSNR, dB", exact=True)
        by_steps = self._lines("steps", "psnr_db", "denoising steps", "PSNR, dB", exact=True, log=True)
        turn_by_steps = self._lines(
            "steps", "rotation_deg", "denoising steps", "error, °", exact=True, log=True
        )
        figures = [
            (charts.intervals(fidelity, title="PSNR", x="PSNR, dB"), "Fidelity: mean and 95 % interval."),
            (
                charts.intervals(advantages, title="Advantage", x=f"dB over {flat}", zero=True),
                f"Paired, clip by clip, against the better homography, {flat}: an interval that holds the "
                "zero may be chance.",
            ),
            (
                self._lines("time", "psnr_db", "frame", "PSNR, dB"),
                "Over the time of a clip, as the camera moves on.",
            ),
            (
                self._recall(),
                "Camera accuracy: the share of pictures whose camera was found within an angle of the one "
                "asked for. A camera that was not found at all is never within.",
            ),
            (
                by_length,
                "The same first frames out of clips of different lengths: a level line prefers no length.",
            ),
            (
                self._lines("drift", "psnr_db", "frames since the start", "PSNR, dB"),
                "Drift: one clip to and fro for thousands of frames; each point is one whole turn of it.",
            ),
            (
                self._lines("drift", "sharpness", "frames since the start", "sharpness"),
                "Drift of the sharpness, as a share of the truth's.",
            ),
            (by_steps, "Fidelity by the number of denoising steps."),
            (turn_by_steps, "Camera error by the number of denoising steps."),
        ]
        return f'<div class="charts">{"".join(_figure(*figure) for figure in figures)}</div>'

    def _intervals(self, table: Table, figure: str) -> list[Interval]:
        return [
            self._interval(name, table[name][figure], f"{table[name][figure].mean:.2f}")
            for name in self._names
            if name in table and table[name][figure].mean is not None
        ]

    def _advantages(self, over: Mapping[str, Summary]) -> list[Interval]:
        return [
            self._interval(name, over[name], f"{over[name].mean:+.2f}".replace("-", "−"))
            for name in self._names
            if name in over and over[name].mean is not None
        ]

    def _interval(self, name: str, found: Summary, text: str) -> Interval:
        assert found.mean is not None
        return Interval(
            name=name,
            colour=colour_of(name, self._results),
            middle=found.mean,
            low=found.low,
            high=found.high,
            text=text,
        )

    def _lines(
        self, section: Section, figure: str, x: str, y: str, *, exact: bool = False, log: bool = False
    ) -> str:
        found = series(self._results.records, section, figure)
        subject = subject_of(self._results)
        shown = [
            self._line(
                name,
                [
                    Point(x=at, y=one.mean, low=one.low, high=one.high)
                    if name == subject
                    else Point(x=at, y=one.mean)
                    for at, one in found[name].items()
                    if one.mean is not None and (section != "time" or at > 0)  # all begin at the source
                ],
            )
            for name in self._names
            if name in found
        ]
        ticks = sorted({point.x for line in shown for point in line.points}) if exact else None
        span = LEAST_SPAN.get(figure, 0.0)
        return charts.lines(shown, title=f"{y} by {x}", x=x, y=y, log_x=log, x_ticks=ticks, least_span=span)

    def _recall(self) -> str:
        """Share of pictures within an angle, failures counted as beyond."""
        errors: dict[str, list[float]] = {}
        for record in self._results.records:
            if record.section == "camera":
                errors.setdefault(record.method, []).append(record.figures["rotation_deg"])
        shown = [
            self._line(
                name,
                [
                    Point(x=limit, y=100 * sum(e <= limit for e in errors[name]) / len(errors[name]))
                    for limit in RECALL_DEG
                ],
            )
            for name in self._results.methods
            if name in errors
        ]
        return charts.lines(
            shown,
            title="Camera accuracy",
            x="rotation error, °",
            y="pictures within, %",
            log_x=True,
            x_ticks=(0.1, 0.3, 1.0, 3.0, 10.0),
        )

    def _line(self, name: str, points: Sequence[Point]) -> Line:
        dashed = name in self._results.oracles
        return Line(name=name, colour=colour_of(name, self._results), points=points, dashed=dashed)


def _figure(chart: str, caption: str) -> str:
    return (
        f'<figure class="panel">{chart}<figcaption>{escape(caption)}</figcaption></figure>' if chart else ""
    )
