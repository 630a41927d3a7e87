"""``train``: the networks' training from the command line, alone or under torchrun.

The engine's side needs torch, so it is imported inside the commands.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

app = typer.Typer(no_args_is_help=True, help="Train the networks. A run is a folder; it goes on where it is.")
out = Console()

LINE_EVERY_S = 20.0  # where there is no terminal

Data = Annotated[Path, typer.Option(help="Rendered or published scenes, with the folders train and heldout.")]
Out = Annotated[Path, typer.Option("--out", help="The run's folder; goes on if it holds one.")]
Latents = Annotated[
    Path | None,
    typer.Option(help="A folder to keep encoded clips in, for a large codec; clips are not augmented then."),
]
Size = Annotated[str, typer.Option(help="mini, wan-1.3b, wan2.2-5b.")]
Codec = Annotated[str | None, typer.Option(help="Imported weights of the VAE.")]
Frames = Annotated[int | None, typer.Option(help="Latent frames of a clip.", min=3)]
Stride = Annotated[int, typer.Option(help="Recorded frames from one picture to the next.", min=1)]
Batch = Annotated[int, typer.Option(help="Clips of a step, over all processes.", min=1)]
Accumulate = Annotated[int, typer.Option(help="Passes that a step's clips are split into.", min=1)]
Minutes = Annotated[float | None, typer.Option(help="End after so much training in all.")]
LearningRate = Annotated[float | None, typer.Option(help="Default: the size's own.")]
LoopShare = Annotated[float | None, typer.Option(help="Share of LoopAug clips.", min=0, max=1)]
TypicalMove = Annotated[
    float | None,
    typer.Option(
        help="Prefer targets about so far from their source, in radians plus shares of the distance; "
        "default: the size's own.",
        min=0.01,
    ),
]
Checkpointing = Annotated[
    bool | None, typer.Option(help="Spare memory by computing the blocks twice; default: the size's own.")
]
TrueDepth = Annotated[
    bool, typer.Option(help="Hints from the true depth with errors, without the depth network.")
]
Workers = Annotated[int, typer.Option(help="Processes that make examples.", min=0)]
Products = Annotated[
    Literal["fp32", "bf16"] | None,
    typer.Option("--precision", help="Of products; default: bf16 on a GPU and on processors with AMX."),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile", help="Compile all blocks but a rollout's: a minute or two, then a quarter faster."
    ),
]
CheckpointMinutes = Annotated[float, typer.Option(help="Between checkpoints.")]
Steps = Annotated[int | None, typer.Option(help="End after so many steps in all.", min=1)]
Seed = Annotated[int, typer.Option(help="Of the weights, the samples and the noise.")]


@app.command()
def teacher(
    data: Data,
    out_folder: Out,
    size: Size = "mini",
    variant: Annotated[
        Literal["pair", "prefix"],
        typer.Option(help="pair: synchronised pairs; prefix: the baseline with the source in front."),
    ] = "pair",
    frames: Frames = None,
    stride: Stride = 1,
    batch: Batch = 4,
    accumulate: Accumulate = 1,
    steps: Steps = None,
    minutes: Minutes = None,
    learning_rate: LearningRate = None,
    shift: Annotated[float | None, typer.Option(help="Of the noise levels; default: the size's own.")] = None,
    weighting: Annotated[
        Literal["velocity", "clean"] | None,
        typer.Option(help="What all noise levels ask alike for; default: the size's own."),
    ] = None,
    motion: Annotated[float | None, typer.Option(help="Share of the loss that motion has.")] = None,
    loop_share: LoopShare = None,
    typical_move: TypicalMove = None,
    weights: Annotated[str | None, typer.Option(help="Imported weights to begin with.")] = None,
    codec: Codec = None,
    latents: Latents = None,
    trainable: Annotated[
        Literal["all", "attention", "camera"], typer.Option(help="Which weights may change.")
    ] = "all",
    checkpointing: Checkpointing = None,
    true_depth: TrueDepth = False,
    precision: Products = None,
    compile_blocks: Compile = False,
    workers: Workers = 1,
    log_every: Annotated[int, typer.Option(help="Steps that a line of the log sums up.", min=1)] = 10,
    look_every: Annotated[int, typer.Option(help="Steps between looks at held-out clips.", min=1)] = 500,
    checkpoint_minutes: CheckpointMinutes = 4.0,
    seed: Seed = 0,
) -> None:
    """Train the bidirectional teacher, or the prefix baseline."""
    from engine.train.loop import LoopSettings
    from engine.train.teacher import recipe, train_teacher

    loop = LoopSettings(
        out=out_folder,
        batch=batch,
        accumulate=accumulate,
        steps=steps,
        minutes=minutes,
        compile=compile_blocks,
        log_every=log_every,
        look_every=look_every,
        checkpoint_every_s=60 * checkpoint_minutes,
        **_given(precision=precision),
    )
    settings = replace(
        recipe(size, data, loop),
        variant=variant,
        trainable=trainable,
        stride=stride,
        weights=weights,
        codec=codec,
        latents=latents,
        estimated_depth=not true_depth,
        workers=workers,
        seed=seed,
        **_given(
            frames=frames,
            learning_rate=learning_rate,
            shift=shift,
            weighting=weighting,
            motion=motion,
            loop_share=loop_share,
            typical_move=typical_move,
            checkpointing=checkpointing,
        ),
    )
    with told() as progress:
        train_teacher(settings, progress)


@app.command()
def student(
    data: Data,
    out_folder: Out,
    teacher: Annotated[str, typer.Option(help="The teacher's weights.")],
    stage: Annotated[
        Literal["init", "distill"],
        typer.Option(help="init: causal initialisation; distill: Self-Forcing with distribution matching."),
    ] = "distill",
    weights: Annotated[str | None, typer.Option(help="The student to begin with; init: the teacher.")] = None,
    size: Size = "mini",
    codec: Codec = None,
    latents: Latents = None,
    chunk: Annotated[int | None, typer.Option(help="Latent frames at a time.", min=1)] = None,
    denoising: Annotated[
        int | None, typer.Option("--steps", help="Denoising steps of the student.", min=1)
    ] = None,
    window: Annotated[int | None, typer.Option(help="Latent frames that a chunk sees.", min=2)] = None,
    sink: Annotated[int | None, typer.Option(help="First latent frames that stay seen.", min=0)] = None,
    frames: Frames = None,
    stride: Stride = 1,
    batch: Batch = 4,
    accumulate: Accumulate = 1,
    updates: Annotated[int | None, typer.Option(help="End after so many updates in all.", min=1)] = None,
    minutes: Minutes = None,
    learning_rate: LearningRate = None,
    average: Annotated[
        float | None, typer.Option(help="How much of its average the student keeps in an update.")
    ] = None,
    loop_share: LoopShare = None,
    typical_move: TypicalMove = None,
    own_share: Annotated[
        float | None, typer.Option(help="init: share of chunks at the student's own levels.", min=0, max=1)
    ] = None,
    consistency: Annotated[
        float | None, typer.Option(help="init: share that causal consistency has there.", min=0, max=1)
    ] = None,
    critic_steps: Annotated[
        int | None, typer.Option(help="distill: to one of the student's; 0: none.", min=0)
    ] = None,
    regression: Annotated[float | None, typer.Option(help="distill: weight of the true view.", min=0)] = None,
    guidance: Annotated[float | None, typer.Option(help="distill: of the real score.", min=0)] = None,
    long_share: Annotated[
        float | None,
        typer.Option(help="distill: share of rollouts behind a longer past; the mini's.", min=0, max=1),
    ] = None,
    lead_windows: Annotated[
        int | None, typer.Option(help="distill: of the longest such past.", min=1)
    ] = None,
    checkpointing: Checkpointing = None,
    true_depth: TrueDepth = False,
    precision: Products = None,
    compile_blocks: Compile = False,
    workers: Workers = 1,
    log_every: Annotated[int, typer.Option(help="Updates that a line of the log sums up.", min=1)] = 10,
    look_every: Annotated[int, typer.Option(help="Updates between looks at held-out clips.", min=1)] = 500,
    checkpoint_minutes: CheckpointMinutes = 4.0,
    dry_run: Annotated[
        bool, typer.Option(help="Count the memory and end; needs no GPU and no data.")
    ] = False,
    gpus: Annotated[int | None, typer.Option(help="Of the dry run; default: torchrun's.", min=1)] = None,
    seed: Seed = 0,
) -> None:
    """Train the causal student: first --stage init, from the teacher, then its distillation."""
    from engine.train.loop import LoopSettings
    from engine.train.stages import train_student
    from engine.train.student import Streaming, recipe

    loop = LoopSettings(
        out=out_folder,
        batch=batch,
        accumulate=accumulate,
        steps=updates,
        minutes=minutes,
        compile=compile_blocks,
        log_every=log_every,
        look_every=look_every,
        checkpoint_every_s=60 * checkpoint_minutes,
        **_given(precision=precision),
    )
    known = recipe(stage, size, data, loop, teacher)
    of_stage = {
        "own_share": own_share,
        "consistency": consistency,
        "critic_steps": critic_steps,
        "regression": regression,
        "guidance": guidance,
        "long_share": long_share,
        "lead_windows": lead_windows,
    }
    settings = replace(
        known,
        weights=weights,
        codec=codec,
        latents=latents,
        how=_replaced(known.how, of_stage, stage),
        streaming=Streaming(chunk=chunk, steps=denoising, window=window, attention_sink=sink),
        stride=stride,
        estimated_depth=not true_depth,
        workers=workers,
        seed=seed,
        **_given(
            frames=frames,
            learning_rate=learning_rate,
            average=average,
            loop_share=loop_share,
            typical_move=typical_move,
            checkpointing=checkpointing,
        ),
    )
    if dry_run:
        from engine.train.memory import memory_per_gpu

        processes = gpus or int(os.environ.get("WORLD_SIZE", "1"))
        for line in memory_per_gpu(settings, processes).lines():
            out.print(line, highlight=False)
        return
    with told() as progress:
        train_student(settings, progress)


@app.command()
def depth(
    data: Data,
    out_folder: Out,
    size: Annotated[str, typer.Option(help="The network's size.")] = "small",
    steps: Annotated[int, typer.Option(help="End after so many steps in all.", min=1)] = 20_000,
    minutes: Minutes = None,
    batch: Annotated[int, typer.Option(help="Pairs of neighbouring frames in a step.", min=1)] = 8,
    learning_rate: Annotated[float, typer.Option(help="At its highest.")] = 1e-3,
    photos: Annotated[
        Path | None, typer.Option(help="Pictures without people, to set people before.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="depth.safetensors of another run, to begin with.")
    ] = None,
    threads: Annotated[int, typer.Option(help="Of this process.", min=1)] = 1,
    workers: Workers = 1,
    precision: Products = None,
    checkpoint_minutes: CheckpointMinutes = 4.0,
    seed: Seed = 0,
) -> None:
    """Train the network that gives the live path its depth and matte; it begins with EfficientNet-Lite0."""
    from engine.train.depth import DepthSettings, train_depth
    from engine.train.loop import LoopSettings

    loop = LoopSettings(
        out=out_folder,
        batch=batch,
        steps=steps,
        minutes=minutes,
        warmup=300,
        decay=0.3,
        log_every=50,
        look_every=1000,
        checkpoint_every_s=60 * checkpoint_minutes,
        **_given(precision=precision),
    )
    settings = DepthSettings(
        data=data,
        loop=loop,
        size=size,
        learning_rate=learning_rate,
        photos=photos,
        weights=weights,
        threads=threads,
        workers=workers,
        seed=seed,
    )
    with told() as progress:
        scores = train_depth(settings, progress)
    if scores is not None:
        out.print(scores)


def _given(**options: Any) -> dict[str, Any]:
    """Those that were."""
    return {name: value for name, value in options.items() if value is not None}


def _replaced(how: Any, options: dict[str, Any], stage: str) -> Any:
    """A stage's settings with the options that were given; another stage's are refused."""
    given = _given(**options)
    strangers = sorted(given.keys() - {field.name for field in fields(how)})
    if strangers:
        names = ", ".join("--" + name.replace("_", "-") for name in strangers)
        raise typer.BadParameter(f"{names}: not for --stage {stage}")
    return replace(how, **given)


@contextmanager
def told() -> Iterator[Callable[[float, str], None]]:
    """A bar with the time left on a terminal, else a line now and then; nothing from further processes."""
    if os.environ.get("RANK", "0") != "0":
        yield lambda share, what: None
    elif out.is_terminal:
        columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        with Progress(*columns, console=out) as bar:
            task, left = bar.add_task("starting", total=1.0), TimeLeft()
            yield lambda share, what: bar.update(
                task, completed=share, description=f"{left.told(share, time.monotonic())}  {what}"
            )
    else:
        yield _Lines().tell


class TimeLeft:
    """Of work of which a share is done, at the speed since the first share that was told."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None

    def told(self, share: float, now: float) -> str:
        first_share, began = self._first = self._first or (share, now)
        if share <= first_share:
            return ""
        left_s = (1 - share) * (now - began) / (share - first_share)
        minutes, seconds = divmod(round(left_s), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02d}:{seconds:02d} left"


class _Lines:
    def __init__(self) -> None:
        self._left = TimeLeft()
        self._last_s = float("-inf")

    def tell(self, share: float, what: str) -> None:
        now = time.monotonic()
        left = self._left.told(share, now)
        if now - self._last_s >= LINE_EVERY_S or share >= 1:
            self._last_s = now
            print(f"{100 * share:5.1f} %  {left}  {what}", flush=True)
