"""``eval``: trained weights against the baselines on held-out scenes, from the command line.

The engine's side needs torch, so it is imported inside the command.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from engine.errors import ConfigError
from plugin.cli_train import told

if TYPE_CHECKING:
    from engine.eval.results import Results

out = Console()

SHOWN = (  # section, figure, title, digits
    ("fidelity", "psnr_db", "PSNR dB", 2),
    ("fidelity", "ssim", "SSIM", 3),
    ("fidelity", "flip", "FLIP", 3),
    ("camera", "rotation_deg", "rotation °", 2),
    ("identity", "psnr_db", "identity dB", 1),
    ("loop", "closure_db", "loop dB", 1),
    ("speed", "frame_ms", "ms a frame", 1),
)
MEDIANS = ("rotation_deg", "frame_ms")


def evaluate(
    data: Annotated[Path, typer.Option(help="Rendered scenes, with the folder heldout.")],
    weights: Annotated[
        list[str] | None,
        typer.Option(help="A model's file, or label=file; may be repeated. Without: the baselines alone."),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(help="Weights of the VAE, for models on latents; default: as each was trained."),
    ] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all figures here.")] = None,
    report: Annotated[Path | None, typer.Option(help="A folder for the HTML report.")] = None,
    footage: Annotated[
        list[Path] | None, typer.Option(help="A recording to look at besides; may be repeated.")
    ] = None,
    size: Annotated[str, typer.Option(help="Width and height that are compared.")] = "112x64",
    scenes: Annotated[int, typer.Option(help="Held-out scenes.", min=1)] = 24,
    pairs: Annotated[int, typer.Option(help="Pairs of views of each scene.", min=1)] = 2,
    frames: Annotated[int, typer.Option(help="Frames of each clip.", min=2)] = 81,
    without: Annotated[
        list[str] | None,
        typer.Option(help="Leave out loop, identity, length, drift or steps; may be repeated."),
    ] = None,
    steps: Annotated[int, typer.Option(help="Denoising steps of a teacher.", min=1)] = 6,
    seed: Annotated[int, typer.Option(help="Of the choice of scenes and views.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="A small part of it, in a few minutes.")] = False,
) -> None:
    """Measure models against the baselines: fidelity, camera, loops, identity, drift, lengths, time."""
    from engine.eval.session import Request, run

    width, cross, height = size.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise ConfigError(f"a size is written as 112x64, found {size!r}")
    request = Request(
        data=data,
        weights=tuple(weights or ()),
        codec=codec,
        footage=tuple(footage or ()),
        size=(int(width), int(height)),
        scenes=scenes,
        pairs=pairs,
        frames=frames,
        without=tuple(without or ()),
        teacher_steps=steps,
        seed=seed,
        quick=quick,
        json_path=json_path,
        report=report,
    )
    try:
        with told() as progress:
            results = run(request, progress)
    except KeyboardInterrupt:
        out.print("Stopped. The same command goes on where it was.")
        raise typer.Exit(130) from None
    out.print(_table(results))
    for note in results.notes:
        out.print(f"[dim]{escape(note)}[/]")
    for path in (json_path, report and report / "index.html"):
        if path:
            out.print(f"Written to [bold]{escape(str(path))}[/].", soft_wrap=True)


def _table(results: Results) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("method")
    for _, _, title, _ in SHOWN:
        table.add_column(title, justify="right")
    tables = {section: results.table(section) for section, *_ in SHOWN}  # type: ignore[arg-type]
    for name in results.methods:
        cells = []
        for section, figure, _, digits in SHOWN:
            found = tables[section].get(name, {}).get(figure)
            value = None if found is None else found.median if figure in MEDIANS else found.mean
            failed = f" ({found.failed_share:.0%} failed)" if found is not None and found.failed else ""
            cells.append(("–" if value is None else f"{value:.{digits}f}") + failed)
        oracle = name in results.oracles
        table.add_row(f"{escape(name)} [dim](oracle)[/]" if oracle else escape(name), *cells)
    return table
