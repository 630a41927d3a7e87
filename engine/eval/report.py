"""The results as one HTML page that needs nothing else: tables, curves, strips and clips.

Knows nothing of how anything was measured; what each figure means stands in
:mod:`engine.eval.report_columns`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from engine.eval.gallery import Strip
from engine.eval.records import Section, Table, advantage
from engine.eval.report_charts import ReportCharts, best_homography, colour_of, subject_of
from engine.eval.report_columns import COLUMNS, FOOTAGE, Better, Column
from engine.eval.report_pictures import clips, strips_with_errors
from engine.eval.results import Results, surroundings
from engine.eval.statistics import Summary

PAGE = "index.html"
STYLE = Path(__file__).with_name("report.css")
SCRIPT = """<script>
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
const seen = new IntersectionObserver(entries => {
  for (const {target, isIntersecting} of entries) isIntersecting && !calm ? target.play() : target.pause();
});
for (const video of document.querySelectorAll("video")) {
  seen.observe(video);
  const toggle = () => video.paused ? video.play() : video.pause();
  video.addEventListener("click", toggle);
  video.addEventListener("keydown", event => event.key === " " && (event.preventDefault(), toggle()));
}
</script>"""


def write_report(
    folder: Path, results: Results, strips: Sequence[Strip], footage: Sequence[Strip] = ()
) -> Path:
    """``folder``/index.html, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / PAGE
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(page(results, strips, footage), encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def page(results: Results, strips: Sequence[Strip], footage: Sequence[Strip] = ()) -> str:
    build = _Page(results)
    sections = [
        ("summary", "Summary", build.summary()),
        ("curves", "Intervals and curves", ReportCharts(results).page()),
        ("moves", "By camera move", build.moves()),
        ("clips", "Side by side", clips(strips)),
        ("strips", "Strips and error maps", strips_with_errors(strips)),
        ("footage", "Real footage", build.footage(footage)),
        ("protocol", "Protocol", build.protocol()),
    ]
    there = [(name, title, body) for name, title, body in sections if body]
    links = "".join(f'<a href="#{name}">{title}</a>' for name, title, _ in there)
    bodies = "".join(f'<section><h2 id="{name}">{title}</h2>{body}</section>' for name, title, body in there)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>RealCam evaluation</title><style>{STYLE.read_text(encoding='utf-8')}</style></head>"
        f"<body><header><div>{build.head()}<nav>{links}</nav></div></header><main>{bodies}"
        f"<footer>{build.foot()}</footer></main>{SCRIPT}</body></html>\n"
    )


class _Page:
    """The parts that are made of figures."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._names = list(results.methods)
        self._own = [name for name in self._names if name not in results.oracles]
        self._tables: dict[Section, Table] = {
            section: results.table(section)
            for section in dict.fromkeys(column.section for column in (*COLUMNS, *FOOTAGE))
        }
        self._subject = subject_of(results)
        self._best_flat = best_homography(results)

    def head(self) -> str:
        protocol, cases = self._results.protocol, self._results.cases
        scenes = len({str(case["name"]).rsplit("/", 1)[0] for case in cases})
        width, height = protocol.size
        about = (
            f"{len(self._own)} methods and {len(self._results.oracles)} oracles on {len(cases)} held-out "
            f"clips of {scenes} scenes, {protocol.frames} frames of {width}×{height}, the same for all. "
            "Scenes, people, textures and camera paths of this split were never trained on."
        )
        return f'<h1>How true is the virtual camera?</h1><p class="lead">{about}</p>{self._tiles()}'

    def foot(self) -> str:
        where = surroundings()
        return (
            f"Made {where.made} with Python {where.python} on {where.machine}, {where.cores} cores, "
            f"OMP_NUM_THREADS {where.threads}; "
            f"{escape(', '.join(f'{name} {found}' for name, found in where.packages.items()))}."
        )

    def summary(self) -> str:
        intro = (
            "<p>Means, with their 95 % intervals below (bootstrap over scenes); medians for the camera and "
            "the time. The best method of each column is tinted. Oracles know the answer and bound what "
            "warping can reach; the truth's row is what the yardstick itself can measure.</p>"
        )
        columns = [column for column in COLUMNS if self._tables[column.section]]
        fidelity = [column for column in columns if column.section == "fidelity"]
        others = [column for column in columns if column.section != "fidelity"]
        notes = "".join(f'<p class="note">{escape(note)}</p>' for note in self._results.notes)
        tables = "".join(self._table(some, self._names) for some in (fidelity, others))
        return intro + tables + notes + _glossary(columns)

    def moves(self) -> str:
        """PSNR by what the camera does."""
        by_move = self._results.moves()
        names = [name for name in self._names if name != "truth"]
        head = "".join(f"<th>{self._dot(name)}{escape(name)}</th>" for name in names)
        rows = []
        for move, found in by_move.items():
            cells = {name: found[name]["psnr_db"] for name in names if name in found}
            best = _best({n: c.mean for n, c in cells.items() if n in self._own}, "higher")
            row = "".join(
                f'<td class="{"best" if name in best else ""}">{_number(cells[name].mean, 2)}</td>'
                if name in cells
                else "<td>–</td>"
                for name in names
            )
            count = max((cell.n for cell in cells.values()), default=0)
            rows.append(f"<tr><th>{escape(move)}<small>{count} clips</small></th>{row}</tr>")
        return (
            "<p>PSNR in dB where the virtual camera is elsewhere than the real one, where it only turns or "
            "zooms (a homography is exact), and by the family of its path. The families of the held-out "
            "split are others than those of training.</p>"
            f'<div class="panel scroll"><table><thead><tr><th>move</th>{head}</tr></thead>'
            f"<tbody>{''.join(rows)}</tbody></table></div>"
        )

    def footage(self, strips: Sequence[Strip]) -> str:
        if not self._tables["footage"]:
            return ""
        return (
            "<p>Recordings, of which nobody knows the truth. Lens (60° across) and distance (2 m) are "
            "assumed, the same for all.</p>"
            + self._table(list(FOOTAGE), self._own)
            + _glossary(FOOTAGE)
            + clips(strips)
        )

    def protocol(self) -> str:
        protocol = self._results.protocol
        facts = {
            "data": f"{self._results.data}, split {protocol.split}",
            "seed": str(protocol.seed),
            "size": f"{protocol.size[0]}×{protocol.size[1]}, {protocol.frames} frames at 15 a second",
            "pairs": f"{protocol.pairs} of each of {protocol.scenes} scenes, in the order of a hash of their "
            "names: any two cameras whose views differ, and overlap by 30 % or more all the time",
            "looks": f"PSNR every {_th(protocol.pace.psnr)}, SSIM, FLIP and sharpness every "
            f"{_th(protocol.pace.look)}, VGG every {_th(protocol.pace.vgg)}, the camera every "
            f"{_th(protocol.pace.camera)}",
            "lengths": f"{', '.join(map(str, protocol.lengths))} frames; beyond the recording, to and fro",
            "drift": f"one turn to and fro from frame {protocol.drift_from} on, and so on until frame "
            f"{protocol.drift_to}",
            "statistics": "means over clips; 95 % percentile bootstrap, 2000 draws of whole scenes; failures "
            "are counted apart and enter no mean",
            **self._results.methods,
        }
        listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
        cases = "".join(
            f"<tr><th>{escape(str(case['name']))}</th><td>{escape(str(case['family']))}</td>"
            f"<td>{escape(str(case['move']))}</td><td>{case['frames']}</td>"
            f"<td>{100 * float(str(case['seen_share'])):.0f} %</td></tr>"
            for case in self._results.cases
        )
        return (
            f"<dl>{listed}</dl><details><summary>The {len(self._results.cases)} clips</summary>"
            '<div class="scroll"><table><thead><tr><th>clip</th><th>scene</th><th>move</th><th>frames</th>'
            f"<th>seen by the source</th></tr></thead><tbody>{cases}</tbody></table></div></details>"
        )

    def _tiles(self) -> str:
        subject, flat = self._subject, self._best_flat
        tiles: list[tuple[str, str, str]] = []
        for rival in dict.fromkeys((flat, "depth")):
            if rival and rival != subject and rival in self._own:
                won = advantage(self._results.records, "fidelity", "psnr_db", rival)[subject]
                if won.mean is not None:
                    tiles.append((f"{won.mean:+.2f}", "dB", f"{subject} over {rival}{_within(won, 2)}"))
        for title, unit, text in (
            ("rotation, °", "°", "median rotation error{failed}"),
            ("identity, dB", "dB", "identity: still camera against the source"),
            ("loop, dB", "dB", "loop closure in static parts"),
            ("ms a frame", "ms", "a frame on this machine"),
        ):
            column = next(column for column in COLUMNS if column.title == title)
            found = self._tables[column.section].get(subject, {}).get(column.figure)
            value = None if found is None else column.shown(found)
            if found is not None and value is not None:
                failed = f", {100 * found.failed_share:.0f} % not found" if found.failed else ", all found"
                tiles.append((_number(value, column.digits), unit, text.format(failed=failed)))
        shown = "".join(
            f'<div class="tile"><b>{value.replace("-", "−")}<small>{unit}</small></b>'
            f"<span>{escape(text)}</span></div>"
            for value, unit, text in tiles
        )
        return f'<div class="tiles" aria-label="Figures of {escape(subject)}">{shown}</div>'

    def _table(self, columns: Sequence[Column], names: Sequence[str]) -> str:
        head = "".join(
            f'<th><abbr title="{escape(column.about)}">{escape(column.title)}'
            f"{_arrow(column.better)}</abbr></th>"
            for column in columns
        )
        best = {
            column.title: _best({name: self._value(column, name) for name in self._own}, column.better)
            for column in columns
        }
        rows = []
        for name in names:
            cells = "".join(self._cell(column, name, name in best[column.title]) for column in columns)
            oracle = name in self._results.oracles
            first = oracle and name == self._results.oracles[0]
            kind = " ".join(["oracle"] * oracle + ["first"] * first)
            about = escape(self._results.methods[name])
            rows.append(
                f'<tr class="{kind}"><th>{self._dot(name)}{escape(name)}<small>{about}</small></th>'
                f"{cells}</tr>"
            )
        return (
            f'<div class="panel scroll"><table><thead><tr><th>method</th>{head}</tr></thead>'
            f"<tbody>{''.join(rows)}</tbody></table></div>"
        )

    def _cell(self, column: Column, name: str, best: bool) -> str:
        found = self._tables[column.section].get(name, {}).get(column.figure)
        value = self._value(column, name)
        if found is None or (value is None and not found.failed):
            return "<td>–</td>"
        small = []
        if not column.median and found.low is not None and found.high is not None:
            small.append(f"{_number(found.low, column.digits)}–{_number(found.high, column.digits)}")
        if found.failed:
            small.append(f"{100 * found.failed_share:.0f} % failed")
        kind = "best" if best else "failed" if value is None else ""
        below = f"<small>{', '.join(small)}</small>" if small else ""
        return f'<td class="{kind}">{_number(value, column.digits)}{below}</td>'

    def _value(self, column: Column, name: str) -> float | None:
        found = self._tables[column.section].get(name, {}).get(column.figure)
        return None if found is None else column.shown(found)

    def _dot(self, name: str) -> str:
        return f'<span class="dot s{colour_of(name, self._results)}"></span>'


def _glossary(columns: Iterable[Column]) -> str:
    listed = "".join(f"<dt>{escape(column.title)}</dt><dd>{escape(column.about)}</dd>" for column in columns)
    return f"<details><summary>What the figures mean</summary><dl>{listed}</dl></details>"


def _best(values: Mapping[str, float | None], better: Better) -> set[str]:
    there = {name: value for name, value in values.items() if value is not None}
    rank: dict[Better, Callable[[float], float]] = {
        "higher": lambda value: value,
        "lower": lambda value: -value,
        "one": lambda value: -abs(value - 1),
        "none": lambda value: 0.0,
    }
    if not there or better == "none":
        return set()
    top = max(rank[better](value) for value in there.values())
    return {name for name, value in there.items() if rank[better](value) == top}


def _arrow(better: Better) -> str:
    return {"higher": " ↑", "lower": " ↓", "one": " →1", "none": ""}[better]


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def _within(found: Summary, digits: int) -> str:
    if found.low is None or found.high is None:
        return ""
    return f" (95 %: {_number(found.low, digits)} to {_number(found.high, digits)})"


def _th(count: int) -> str:
    return {1: "frame", 2: "2nd frame", 3: "3rd frame"}.get(count, f"{count}th frame")
