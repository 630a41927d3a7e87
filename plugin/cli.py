"""The command line. Knows the flags and how to say things; the doing is elsewhere."""

from __future__ import annotations

import io
import json
import signal
import sys
import threading
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape

from engine.errors import ConfigError, RealCamError
from plugin import cli_data, cli_eval, cli_presets, cli_train, cli_weights, doctor, testing
from plugin.config import EngineConfig, EngineName, ModelName, SessionConfig
from plugin.logs import start_logging
from plugin.obs import cli as obs_cli

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    help="RealCam for OBS: a moving virtual camera for a live feed, with camera moves fired over OSC.",
    epilog="First steps:  demo  ·  doctor  ·  run --source obs  ·  presets list.  "
    "What else is needed comes with:  setup --with ndi, model, train or test",
)
bench_app = typer.Typer(no_args_is_help=True, help="Measure.")
app.add_typer(cli_presets.app, name="presets")
app.add_typer(obs_cli.app, name="obs")
app.add_typer(cli_weights.app, name="weights")
app.add_typer(cli_data.app, name="data")
app.add_typer(cli_train.app, name="train")
app.add_typer(bench_app, name="bench")
app.command("eval")(cli_eval.evaluate)
app.command()(doctor.doctor)
app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False
)(testing.test)

out = Console()
EXAMPLE = Path(__file__).parent / "session.example.yaml"
STATUS_EVERY_S = 0.25

_ANYTHING = {"source": {"kind": "pattern"}, "sinks": [{"kind": "memory"}]}
Size = Annotated[str, typer.Option(help="Width and height, as 1280x720.")]
Model = Annotated[
    ModelName | None, typer.Option(help="The student's size: mini runs on a CPU, the others want a GPU.")
]
Weights = Annotated[
    str | None, typer.Option(help="The student's weights: a file, or a name from `weights list`.")
]
Codec = Annotated[str | None, typer.Option(help="The VAE's weights, likewise; the large students need them.")]
Rate = Annotated[str, typer.Option(help="Frames a second: 30, 29.97, 60000/1001.")]


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="The clip that is written.")] = Path("demo.mp4"),
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    input_path: Annotated[
        Path | None, typer.Option("--input", help="A clip of your own instead of the bundled one.")
    ] = None,
    engine: Annotated[EngineName, typer.Option(help="What renders the moves.")] = "student",
    model: Model = None,
    weights: Weights = None,
    codec: Codec = None,
    browser: Annotated[bool, typer.Option(help="Open the live preview page.")] = True,
) -> None:
    """Play the bundled clip with camera moves fired over OSC, into a file and a live page."""
    from plugin.demo import CLIP, run_demo

    for path in (output, json_path):
        _check_writable(path)
    _check_weights(weights)
    start_logging()
    figures = run_demo(
        clip=input_path or CLIP,
        output=output,
        engine=EngineConfig(name=engine, model=model or "mini", weights=weights, codec=codec),
        opened=lambda page: browser and webbrowser.open(page),
        say=out.print,
    )
    out.print_json(data=figures)
    out.print(f"The clip is in [bold]{escape(str(output))}[/].", soft_wrap=True)
    _write_figures(figures, json_path)


@app.command()
def run(
    config: Annotated[Path | None, typer.Option(help="A session file; the flags override it.")] = None,
    source: Annotated[
        str | None,
        typer.Option(help="obs, pattern, clip.mp4, device:/dev/video0, ndi:NAME, rtsp://… (see --example)."),
    ] = None,
    sink: Annotated[
        list[str] | None,
        typer.Option(help="virtual-camera, obs-media, ndi:NAME, file:out.mp4, preview; may be repeated."),
    ] = None,
    size: Annotated[str | None, typer.Option(help="Width and height, as 1280x720.")] = None,
    rate: Annotated[str | None, typer.Option(help="Frames a second: 30, 29.97, 60000/1001.")] = None,
    engine: Annotated[EngineName | None, typer.Option(help="What renders the moves.")] = None,
    model: Model = None,
    weights: Weights = None,
    codec: Codec = None,
    budget: Annotated[
        float | None, typer.Option(help="Milliseconds that a picture of the mini student may take.", min=10)
    ] = None,
    osc_port: Annotated[int | None, typer.Option(help="UDP port for OSC.")] = None,
    web_port: Annotated[int | None, typer.Option(help="Port of the control page.")] = None,
    subject_distance: Annotated[
        float | None, typer.Option(help="Metres from the camera to the person.")
    ] = None,
    fov: Annotated[
        float | None, typer.Option(help="Horizontal angle of the real camera's lens, degrees.")
    ] = None,
    overscan: Annotated[
        float | None, typer.Option(help="Share of the picture kept outside, for small moves.")
    ] = None,
    presets: Annotated[Path | None, typer.Option(help="A folder with presets of your own.")] = None,
    example: Annotated[bool, typer.Option("--example", help="Print a commented session file.")] = False,
    verbose: Annotated[bool, typer.Option(help="Log everything.")] = False,
) -> None:
    """Go on air: a source in, a moving camera out, until Ctrl-C."""
    if example:
        print(EXAMPLE.read_text(encoding="utf-8"), end="")
        return
    _check_weights(weights)
    overrides: dict[str, dict[str, object]] = {
        "output": {**_parsed_size(size), "rate": rate},
        "engine": {"name": engine, "model": model, "weights": weights, "codec": codec, "budget_ms": budget},
        "osc": {"port": osc_port},
        "web": {"port": web_port},
        "camera": {"subject_distance_m": subject_distance, "horizontal_fov_deg": fov},
        "picture": {"overscan": overscan},
        "presets": {"folder": presets},
    }
    _go_on_air(_session_config(config, source, sink or [], overrides), verbose)


@bench_app.command("live")
def bench_live(
    seconds: Annotated[float, typer.Option(help="How long to measure.", min=3)] = 30.0,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    engine: Annotated[EngineName, typer.Option(help="What renders the moves.")] = "planar",
    engine_delay_ms: Annotated[float, typer.Option(help="Slow each step of the engine down.", min=0)] = 0.0,
    size: Size = "1280x720",
    rate: Rate = "30",
) -> None:
    """Measure the live path on a test pattern, read back out of the output's pixels."""
    from plugin import bench

    _check_writable(json_path)
    start_logging()
    output = _validated({**_ANYTHING, "output": {**_parsed_size(size), "rate": rate}}).output
    out.print(f"Measuring for {seconds:.0f} s …")  # a line that moves would be measured, too
    figures = bench.bench_live(
        seconds,
        engine=EngineConfig(name=engine, delay_ms=engine_delay_ms),
        output=output,
    )
    out.print_json(data=figures)
    _write_figures(figures, json_path)


@bench_app.command("model")
def bench_model(
    size: Annotated[str, typer.Option(help="mini, wan-1.3b, wan2.2-5b.")] = "mini",
    resolution: Annotated[
        str | None, typer.Option(help="Height and width, as 480x832; default: the size's own.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Denoising steps.", min=1)] = 4,
    window: Annotated[int, typer.Option(help="Pairs that a chunk sees, its own included.", min=1)] = 6,
    compare: Annotated[
        bool, typer.Option("--compare", help="Time the cache against recomputing, and us against diffusers.")
    ] = False,
    compile_model: Annotated[
        bool, typer.Option("--compile", help="Measure on this GPU with torch.compile, which takes minutes.")
    ] = False,
    fp8: Annotated[
        bool, typer.Option("--fp8", help="Measure on this GPU in 8 bit floating point (torchao).")
    ] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Count what a model will cost on which GPU. The mini is measured here, too, and on a GPU the others."""
    from engine.eval import bench
    from engine.model.config import model_config

    _check_writable(json_path)
    config = model_config(size)
    if (compile_model or fp8) and (size == "mini" or not bench.has_gpu()):
        found = "the mini runs on the processor" if size == "mini" else "PyTorch finds none here"
        raise typer.BadParameter(f"--compile and --fp8 are measured on an NVIDIA GPU, and {found}")
    height, width = (config.size[1], config.size[0]) if resolution is None else _parsed_pair(resolution)
    with out.status("Counting …"):
        figures = bench.estimate_model(size, width, height, steps, window)
    with out.status("Measuring …") as status:
        if size == "mini":
            figures |= bench.measure_model(size, steps, window)
        elif bench.has_gpu():
            figures |= bench.measure_engine(
                size, compile=compile_model, fp8=fp8, progress=lambda share, what: status.update(what)
            )
    if compare:
        with out.status("Comparing …"):
            figures |= {"compare": bench.compare()}
    out.print_json(data=figures)
    _write_figures(figures, json_path)


def _check_writable(path: Path | None) -> None:
    """Before the work, rather than after it. Raises :class:`engine.errors.ConfigError`."""
    if path is None:
        return
    is_new = not path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass
        if is_new:
            path.unlink()
    except OSError as error:
        why = error.strerror or error
        raise ConfigError(f"{path} cannot be written: {why}; choose another file") from None


def _write_figures(figures: dict[str, Any], path: Path | None) -> None:
    if path:
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _check_weights(weights: str | None) -> None:
    """Before the show: on air, a student without weights is only a warning."""
    if weights and Path(weights).suffix and not Path(weights).is_file():
        raise ConfigError(
            f"there is no file {weights}, and weights by name have no ending: `weights list` shows them"
        )


def _go_on_air(config: SessionConfig, verbose: bool) -> None:
    from plugin.session import Session
    from plugin.status import status_panel

    log_path = start_logging(verbose=verbose)
    stop = threading.Event()
    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):  # the last: Windows', from the script in OBS
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: stop.set())
    with Session(config) as session:
        where = f"http://{config.web.host}:{config.web.port}/" if config.web.enabled else "off"
        out.print(f"control page {where}   OSC {config.osc.host}:{config.osc.port}   log {log_path}")
        out.print("[dim]Ctrl-C ends the show.[/]")
        with Live(console=out, refresh_per_second=4, transient=True) as live:
            while not stop.wait(STATUS_EVERY_S):
                live.update(status_panel(session.state(session.clock.now())))
        out.print("Ending …")


def _session_config(
    path: Path | None, source: str | None, sinks: list[str], overrides: dict[str, dict[str, object]]
) -> SessionConfig:
    """The file (or the defaults) with the flags on top."""
    from plugin.sinks.factory import default_sinks, parse_sink
    from plugin.sources.factory import parse_source
    from plugin.strict_yaml import load

    if path is not None:
        base = load(path, SessionConfig).model_dump()
    elif source is None:
        raise ConfigError(
            "there is nothing to show: name a source, as with --source obs or --source pattern, "
            "or a session file with --config (run --example prints one)"
        )
    else:
        base = {"sinks": [sink.model_dump() for sink in default_sinks()]}
    if source is not None:
        base["source"] = parse_source(source).model_dump()
    if sinks:
        base["sinks"] = [parse_sink(sink).model_dump() for sink in sinks]
    for part, values in overrides.items():
        given = {key: value for key, value in values.items() if value is not None}
        if given:
            base[part] = {**base.get(part, {}), **given}
    return _validated(base)


def _validated(base: dict[str, Any]) -> SessionConfig:
    from pydantic import ValidationError

    from plugin.strict_yaml import describe

    try:
        return SessionConfig.model_validate(base)
    except ValidationError as error:
        raise ConfigError(describe(error.errors()[0], SessionConfig)) from None


def _parsed_size(text: str | None) -> dict[str, int]:
    if text is None:
        return {}
    width, height = _parsed_pair(text)
    return {"width": width, "height": height}


def _parsed_pair(text: str) -> tuple[int, int]:
    first, cross, second = text.lower().partition("x")
    if not (cross and first.isdecimal() and second.isdecimal()):
        raise ConfigError(f"a size is written as 1280x720, found {text!r}")
    return int(first), int(second)


def main() -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):  # redirected, Windows would not let it say "→"
        sys.stdout.reconfigure(encoding="utf-8")
    try:
        app(prog_name="python realcam_obs.py")
    except RealCamError as error:
        for each in (error, *(error.others if isinstance(error, ConfigError) else ())):
            said = f"[red bold]RealCam:[/] {escape(str(each))}"
            Console(stderr=True).print(said, highlight=False, soft_wrap=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
