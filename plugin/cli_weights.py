"""``weights import | list | show | export``: the model's weights from the command line.

The engine's side needs torch, so it is imported inside the commands: the rest of the command line has
to start without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from engine.errors import ConfigError

if TYPE_CHECKING:
    from engine.model.weights import Checkpoint

app = typer.Typer(no_args_is_help=True, help="The weights of the model.")
out = Console()

NAMES_SHOWN = 6


@app.command("import")
def import_file(
    file: Annotated[
        Path, typer.Argument(help="safetensors, .pt, .pth, .ckpt, an index of shards, or a folder with one.")
    ],
    as_name: Annotated[
        str | None, typer.Option("--as", help="What to call them; default: after their size and origin.")
    ] = None,
) -> None:
    """Take over published weights: Wan2.1, Self-Forcing, ReCamMaster, Wan's VAE, TAEHV, RealCam's own."""
    from engine.model.weights import import_weights

    with out.status(f"Importing {escape(file.name)} …"):
        report = import_weights(file, as_name)
    _print_facts(
        {
            "found": report.layout,
            "size": report.size,
            "matched": f"{report.matched} tensors",
            "new": _names(report.new, "zeros, which add nothing until they are trained"),
            "left over": _names(report.left, "not used"),
        }
    )
    out.print(f"They are called [bold]{report.name}[/], in {escape(str(report.path))}.", soft_wrap=True)


@app.command("list")
def list_all() -> None:
    """All weights that RealCam knows by name."""
    from engine.model.weights import list_weights, user_folder

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("Name", no_wrap=True)
    for name in ("Model", "Origin", "Camera", "Type"):
        table.add_column(name)
    table.add_column("Bytes", justify="right", no_wrap=True)
    entries = list_weights()
    for entry in entries:
        if entry.checkpoint is None:
            told = [f"[red]{escape(entry.problem or '')}[/]", "", "", ""]
        else:
            told = [escape(text) for text in _summary(entry.checkpoint)]
        table.add_row(escape(entry.name), *told, _bytes(entry.size_bytes))
    if entries:
        out.print(table)
    out.print(f"[dim]Imported weights are in[/] {escape(str(user_folder()))}", soft_wrap=True)


@app.command()
def show(file: Annotated[str, typer.Argument(help="A name, or a file, as for import.")]) -> None:
    """Everything about one file of weights, without importing it."""
    from engine.model.weights import read_weights

    checkpoint = read_weights(file)
    model, origin, camera, dtypes = _summary(checkpoint)
    _print_facts(
        {
            "file": str(checkpoint.file.path),
            "files": str(len(checkpoint.file.files)),
            "layout": checkpoint.layout.title,
            "origin": origin,
            "model": model,
            "camera": camera,
            "tensors": str(len(checkpoint.tensors)),
            "parameters": f"{checkpoint.parameters:,}",
            "type": dtypes,
            "bytes": _bytes(checkpoint.file.size_bytes),
            "new": _names(
                tuple(checkpoint.new), "not in the file: zeros, which add nothing until they are trained"
            ),
            "left over": _names(checkpoint.left, "not used"),
            **{f"metadata {key}": value for key, value in sorted(checkpoint.file.metadata.items())},
        }
    )


@app.command()
def export(
    weights: Annotated[str, typer.Argument(help="A trained mini student: a name, or a file.")],
    onnx_file: Annotated[Path, typer.Argument(help="The file that is written, ending in .onnx.")],
    int8: Annotated[
        bool, typer.Option(help="Multiply in 8 bits: smaller, faster, a little less exact.")
    ] = True,
    cache_from_last_step: Annotated[
        bool,
        typer.Option(help="Remember a frame as the last denoising step saw it, and spare a pass for it."),
    ] = False,
    window: Annotated[
        int | None, typer.Option(help="Frames that it sees at once; default: as it was trained.", min=2)
    ] = None,
    sink: Annotated[
        int | None, typer.Option(help="First frames that it never forgets; default: as trained.", min=0)
    ] = None,
) -> None:
    """Turn a student into what runs without PyTorch: `run --engine student --weights FILE.onnx`."""
    from engine.diffusion.export import export_student
    from engine.model.weights import find_weights

    if onnx_file.suffix != ".onnx":
        raise ConfigError(f"an exported student is called *.onnx, not {onnx_file.name!r}")
    with out.status(f"Exporting {escape(weights)} …"):
        export_student(
            find_weights(weights),
            onnx_file,
            is_int8=int8,
            cache_from_last_step=cache_from_last_step,
            window=window,
            attention_sink=sink,
        )
    out.print(
        f"Written to [bold]{escape(str(onnx_file))}[/], {_bytes(onnx_file.stat().st_size)}.", soft_wrap=True
    )


def _summary(checkpoint: Checkpoint) -> list[str]:
    """Model, origin, camera and types of the tensors, in the order of the list's columns."""
    return [
        checkpoint.size,
        checkpoint.file.metadata.get("layout", checkpoint.layout.name),
        checkpoint.camera or "",
        ", ".join(sorted(checkpoint.dtypes)),
    ]


def _print_facts(facts: dict[str, str]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value:
            table.add_row(escape(name), escape(value))
    out.print(table)


def _names(names: Sequence[str], remark: str) -> str:
    if not names:
        return "none"
    shown = ", ".join(names[:NAMES_SHOWN]) + (" …" if len(names) > NAMES_SHOWN else "")
    count = "1 tensor" if len(names) == 1 else f"{len(names)} tensors"
    return f"{count}, {remark}: {shown}"


def _bytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.2f} MB"
