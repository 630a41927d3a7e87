"""``presets list | check | show | plot``: looking at the library from the command line."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated

import av
import cv2
import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from engine.camera.moves import Keyframes, Metres, Reveal
from engine.camera.preset import Choice, Preset
from engine.errors import ConfigError
from engine.frames import Pixels
from plugin import preset_plot
from plugin.config import CameraConfig
from plugin.library import PresetLibrary, check_files, nothing_like

logging.getLogger(PresetLibrary.__module__).addHandler(logging.NullHandler())  # what it says, _tell says here
app = typer.Typer(no_args_is_help=True, help="The library of camera moves.")
out = Console()

CLIP = Path(__file__).parent / "docs" / "presenter.mp4"
MIDDLE_S = 1.0  # into a clip, for its picture
ANGLES = frozenset({"pan", "tilt", "roll", "angle", "rise", "sway"})
SHARES = frozenset({"right", "up", "forward", "closer", "shift"})

Folder = Annotated[Path | None, typer.Option("--folder", help="Presets of your own; default: your folder.")]


@app.command("list")
def list_presets(folder: Folder = None) -> None:
    """All presets, as they are on the buttons."""
    library = PresetLibrary(folder)
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("Slot", justify="right")
    for name in ("Name", "Label", "Move", "Time", "Easing", "End"):
        table.add_column(name, no_wrap=name == "Name")
    family = None
    for preset in library.presets:
        if preset.family != family:
            family = preset.family
            table.add_row("", f"[bold {preset.colour}]{escape(family)}[/]")
        table.add_row(
            "" if preset.slot is None else str(preset.slot),
            f"[{preset.colour}]{preset.name}[/]",
            escape(preset.label),
            preset.kind,
            "" if isinstance(preset.move, Choice) else f"{preset.duration_s / preset.speed:g} s",
            "" if isinstance(preset.move, Choice) else preset.easing,
            _ending(preset),
        )
    out.print(table)
    out.print(f"\n[dim]Your own presets go into[/] {library.folder}", soft_wrap=True)
    _tell(library.errors)


@app.command()
def check(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Preset files; default: the whole library.")
    ] = None,
    folder: Folder = None,
) -> None:
    """Read preset files and say what is wrong with them; exit code 1 if anything is."""
    if files:
        count, errors = check_files(files)
        good = f"{_counted(count, 'preset')} in {_counted(len(files), 'file')}, all good."
    else:
        library = PresetLibrary(folder)
        errors = list(library.errors)
        good = f"{_counted(len(library.presets), 'preset')}, all good."
    if errors:
        _tell(errors)
        raise typer.Exit(1)
    out.print(good)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Name or slot.")],
    folder: Folder = None,
) -> None:
    """Everything about one preset."""
    preset = _find(PresetLibrary(folder), name)
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column()
    out.print(f"[bold {preset.colour}]●[/] [bold]{escape(preset.label)}[/]  [dim]{escape(preset.family)}[/]")
    rows: dict[str, str] = {
        "name": preset.name,
        "slot": "none" if preset.slot is None else str(preset.slot),
        "move": preset.kind,
        **_amounts(preset.move),
    }
    if not isinstance(preset.move, Choice):
        rows |= {
            "duration": f"{preset.duration_s:g} s"
            + (f" at speed {preset.speed:g}" if preset.speed != 1 else ""),
            "delay": f"{preset.delay_s:g} s",
            "easing": preset.easing,
            "starts": "by a cut" if preset.start == "cut" else "from wherever the camera is",
            "relative": "yes" if preset.relative else "no",
            "reverse": "yes" if preset.reverse else "no",
        }
    rows["at the end"] = _ending(preset)
    for key, value in rows.items():
        table.add_row(key, escape(value))
    out.print(table)


@app.command()
def plot(
    name: Annotated[str, typer.Argument(help="Name or slot.")],
    picture: Annotated[Path | None, typer.Option(help="A picture or a clip to show the move on.")] = None,
    out_path: Annotated[Path | None, typer.Option("--out", help="The PNG file; default: NAME.png.")] = None,
    folder: Folder = None,
) -> None:
    """Draw a preset's way from above and from the side, and what the camera sees on it."""
    from plugin.session import limits_from

    preset = _find(PresetLibrary(folder), name)
    if isinstance(preset.move, Choice):
        raise ConfigError(f"{preset.name} chooses one of {', '.join(preset.move.of)}: plot one of those")
    camera = CameraConfig()
    path = out_path or Path(f"{preset.name}.png")
    drawn = preset_plot.plot(
        preset,
        _picture(picture),
        limits_from(camera.limits),
        camera.subject_distance_m,
        math.radians(camera.horizontal_fov_deg),
    )
    try:
        is_written = cv2.imwrite(str(path), cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
    except cv2.error:  # of an ending that it does not know
        is_written = False
    if not is_written:
        raise ConfigError(f"{path} cannot be written; is its folder there, and does it end in .png?")
    out.print(f"Drawn into [bold]{escape(str(path))}[/].", soft_wrap=True)


def _find(library: PresetLibrary, name: str) -> Preset:
    preset = library.find(name)
    if preset is None:
        raise ConfigError(nothing_like(name, library.presets))
    return preset


def _ending(preset: Preset) -> str:
    return f"then {preset.next}" if preset.next else preset.on_end


def _amounts(move: object) -> dict[str, str]:
    """A move's own values, in the units in which they are written."""
    if isinstance(move, Choice):
        return {"one of": ", ".join(move.of)}
    if isinstance(move, Reveal):
        return {"from": ", ".join(f"{key} {value}" for key, value in _amounts(move.start).items()) or "home"}
    if isinstance(move, Keyframes):
        return {
            f"at {at:g}": ", ".join(f"{key} {value}" for key, value in _amounts(place).items()) or "home"
            for at, place in move.frames
        }
    assert is_dataclass(move)
    values = {field.name: getattr(move, field.name) for field in fields(move)}
    defaults = {field.name: field.default for field in fields(move)}
    return {key: _amount(key, value) for key, value in values.items() if value != defaults[key]}


def _amount(key: str, value: float | Metres) -> str:
    if isinstance(value, Metres):
        return f"{value.value:g} m"
    if key in ANGLES:
        return f"{math.degrees(value):g}°"
    return f"{value:g}" + (" of the distance" if key in SHARES else "")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _tell(errors: Sequence[ConfigError]) -> None:
    console = Console(stderr=True)
    for error in errors:
        console.print(escape(str(error)), style="red", soft_wrap=True, highlight=False)


def _picture(path: Path | None) -> Pixels:
    """A frame of the given picture or clip, else of the bundled clip, else a drawn room."""
    if path is None and not CLIP.is_file():
        return preset_plot.drawn_room()
    path = path or CLIP
    try:
        with av.open(str(path)) as container:
            frames = container.decode(video=0)
            shown = next(frames)
            for frame in itertools.takewhile(lambda f: (f.time or 0) <= MIDDLE_S, frames):
                shown = frame
            return np.asarray(shown.to_ndarray(format="rgb24"), np.uint8)
    except (OSError, av.FFmpegError, StopIteration, IndexError) as error:
        raise ConfigError(f"no picture in {path}: {error}") from None
