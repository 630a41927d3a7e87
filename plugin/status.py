"""The live status in the terminal, drawn from the session's state. Knows nothing of the session."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

STYLES = {
    "live": "green",
    "engine": "green",
    "hold": "yellow",
    "clean": "yellow",
    "connecting": "yellow",
    "starting": "yellow",
    "warming up": "yellow",
    "restarting": "red",
    "waiting": "yellow",
    "lost": "red",
    "slate": "red",
    "panic": "bold red",
    "bypass": "yellow",
    "freeze": "yellow",
}


def status_panel(state: Mapping[str, Any]) -> RenderableType:
    """A few lines for :class:`rich.live.Live`."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", min_width=8)
    table.add_column()
    source, engine, output = state["source"], state["engine"], state["output"]
    table.add_row(
        "source",
        _line(source, f"{source['name']}  {source['width']}×{source['height']}  {source['fps']:.1f} fps"),
    )
    engine_facts = f"{engine['name']}  {engine['fps']:.1f} fps  step {engine['step_ms']:.1f} ms"
    table.add_row("engine", _line(engine, f"{engine_facts}  restarts {engine['restarts']}"))
    table.add_row("on air", Text.assemble(_styled(str(state["mode"])), "  ", _styled(str(state["rung"]))))
    table.add_row(
        "output",
        f"{output['width']}×{output['height']}  {state['fps']:.2f} fps  "
        f"latency {state['latency_ms']:.0f} ms (p95 {state['latency_p95_ms']:.0f})  "
        f"drops {state['drops']}  repeated {output['repeated']}",
    )
    for sink in state["sinks"]:
        table.add_row(
            "sink", _line(sink, f"{sink['name']}  {sink['written']} frames  drops {sink['dropped']}")
        )
    if state["obs"]:
        table.add_row("obs", _line(state["obs"], f"tally {state['tally']}"))
    table.add_row("move", _move(state))
    errors = (state["last_error"], state["error"], output["error"], *state["preset_errors"])
    problem = next(filter(None, errors), None)
    return Group(table, Text(str(problem), style="red")) if problem else table


def _styled(word: str) -> Text:
    return Text(word, style=STYLES.get(word, ""))


def _line(part: Mapping[str, Any], facts: str) -> Text:
    detail = f"  {part['detail']}" if part["detail"] else ""
    return Text.assemble(_styled(part["state"]), f"  {facts}", (detail, "dim"))


def _move(state: Mapping[str, Any]) -> RenderableType:
    name = state["preset"] or "–"
    armed = f"   armed: {state['armed']}" if state["armed"] else ""
    left = "endless" if state["remaining_s"] is None else f"{state['remaining_s']:.1f} s"
    row = Table.grid(padding=(0, 1))
    row.add_row(
        Text(str(name)),
        ProgressBar(total=1.0, completed=float(state["progress"]), width=24),
        Text(left + armed),
    )
    return row
