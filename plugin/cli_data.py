"""``data render | bake``: synthetic multi-view training scenes from the command line.

The engine's side needs OpenGL (moderngl), so it is imported inside the commands: the rest of the command
line has to start without it. Each worker process owns a renderer; scenes are independent of each other.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from engine.data.scenes.write import Shape

app = typer.Typer(no_args_is_help=True, help="Synthetic multi-view video for training.")
out = Console()

REPORT_EVERY_S = 30.0  # without a terminal


@app.command()
def render(
    scenes: Annotated[int, typer.Option(min=1, help="How many scenes there are to be.")],
    folder: Annotated[Path, typer.Option("--out", help="Where the splits' folders are.")],
    split: Annotated[
        str, typer.Option(help="train or heldout: other people, furniture, textures, paths.")
    ] = "train",
    frames: Annotated[int, typer.Option(min=1, help="Frames of each video, 15 a second.")] = 81,
    size: Annotated[str, typer.Option(help="Width×height, as 224x128.")] = "224x128",
    cameras: Annotated[int, typer.Option(min=1, max=99, help="Synchronised cameras of each scene.")] = 10,
    first_scene: Annotated[int, typer.Option(min=0, help="The number of the first scene.")] = 0,
    jobs: Annotated[int, typer.Option(min=0, help="Processes; 0: as many as there are cores.")] = 0,
) -> None:
    """Render scenes that are not there yet; a stopped run goes on where it was."""
    from engine.data.scenes.write import Shape, finished_scene
    from engine.data.splits import split_named

    side = split_named(split)
    shape = Shape(**_size(size), frames=frames, cameras=cameras)
    numbers = [
        number
        for number in range(first_scene, first_scene + scenes)
        if finished_scene(folder, side, number, shape) is None
    ]
    if len(numbers) < scenes:
        out.print(f"{scenes - len(numbers)} of {scenes} scenes are there already.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends a run in the background as Ctrl-C does
    with _Workers(min(jobs or os.cpu_count() or 1, max(1, len(numbers))), folder, split, shape) as workers:
        _follow(workers.run(numbers), len(numbers))
    out.print(f"{scenes} scenes are in {escape(str(folder / split))}.", soft_wrap=True)


@app.command()
def bake() -> None:
    """Bake people, furniture, textures and light anew from their packages. Only for who changes the pack."""
    from engine.data.bake.pack import bake as bake_pack

    bake_pack()


def _size(text: str) -> dict[str, int]:
    found = re.fullmatch(r"(\d+)[x×](\d+)", text)
    if found is None or int(found[1]) % 2 or int(found[2]) % 2 or min(int(found[1]), int(found[2])) < 16:
        raise typer.BadParameter(f"a size is an even width and height, as 224x128, not {text}")
    return {"width": int(found[1]), "height": int(found[2])}


def _follow(shares: Iterator[float], total: int) -> None:
    """Shows how far all scenes are: a bar on a terminal, else a line now and then."""
    columns = (TextColumn("Rendering"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    start = last = time.monotonic()
    with Progress(*columns, console=out, disable=not out.is_terminal) as progress:
        task = progress.add_task("", total=total)
        for done in shares:
            progress.update(task, completed=done)
            now = time.monotonic()
            if not out.is_terminal and now - last >= REPORT_EVERY_S:
                last = now
                left_min = (now - start) / max(done, 1e-3) * (total - done) / 60
                out.print(f"{done:.1f} of {total} scenes, {left_min:.0f} min left", soft_wrap=True)


class _Workers:
    """Processes that render one scene each at a time. Leaving the block ends them and removes half scenes."""

    def __init__(self, count: int, folder: Path, split: str, shape: Shape) -> None:
        context = multiprocessing.get_context("spawn")
        self._processes = []
        self._pipes: list[Connection] = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, folder, split, shape), daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)
            self._pipes.append(ours)

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(timeout=20)
            if process.is_alive():
                process.kill()

    def run(self, numbers: list[int]) -> Iterator[float]:
        """Yields how many scenes are done, with fractions."""
        from engine.errors import DataError

        waiting, done = iter(numbers), 0
        shares: dict[Connection, float] = {}

        def give(pipe: Connection) -> None:
            number = next(waiting, None)
            if number is not None:
                shares[pipe] = 0.0
                pipe.send(number)

        for pipe in self._pipes:
            give(pipe)
        while shares:
            for ready in wait(list(shares)):
                assert isinstance(ready, Connection)
                try:
                    told = ready.recv()
                except EOFError:
                    raise DataError(
                        "a rendering process has ended unexpectedly; what is finished is kept"
                    ) from None
                if isinstance(told, str):
                    raise DataError(told)
                if told is None:
                    done += 1
                    del shares[ready]
                    give(ready)
                else:
                    shares[ready] = told
                yield done + sum(shares.values())


def _work(pipe: Connection, folder: Path, split: str, shape: Shape) -> None:
    """A worker's life: numbers come in; shares, None for a finished scene, or the text of an error go out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent closes the pipe
    os.environ.setdefault("LP_NUM_THREADS", "0")  # llvmpipe: one process, one core
    from engine.data.render.renderer import Renderer
    from engine.data.scenes.pack import Pack
    from engine.data.scenes.write import write_scene
    from engine.data.splits import split_named
    from engine.errors import RealCamError

    try:
        with Renderer(shape.width, shape.height) as renderer:
            pack = Pack.load()
            while True:
                for share in write_scene(folder, split_named(split), pipe.recv(), shape, pack, renderer):
                    pipe.send(share)
                pipe.send(None)
    except (EOFError, BrokenPipeError):
        return
    except RealCamError as error:
        pipe.send(str(error))
