"""``realcam_obs.py obs``: what the command line asks of OBS. Knows the flags; the doing is elsewhere."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from plugin.logs import start_logging
from plugin.obs.client import NOT_FOUND, ObsClient, RequestRefused
from plugin.obs.local import PASSWORD_VARIABLE, address
from plugin.obs.own_input import MEDIA_PORT, NAME
from plugin.obs.setup import Kind, add_to_scene

app = typer.Typer(no_args_is_help=True, help="Put RealCam into OBS, and ask OBS how it is.")
out = Console()

CONNECT_S = 5.0

Host = Annotated[str, typer.Option(help="Where OBS runs.")]
Port = Annotated[
    int | None, typer.Option(help="Port of its WebSocket server; default: what OBS here uses, or 4455.")
]
Password = Annotated[
    str | None,
    typer.Option(
        envvar=PASSWORD_VARIABLE, help="Of its WebSocket server; an OBS on this machine is asked by itself."
    ),
]


@app.callback()
def log_to_file() -> None:
    start_logging()


@app.command()
def add(
    kind: Annotated[Kind, typer.Option(help="How the picture comes to OBS.")] = "obs-media",
    scene: Annotated[
        str | None, typer.Option(help="Scene to add it to; default: the one on program.")
    ] = None,
    host: Host = "127.0.0.1",
    port: Port = None,
    password: Password = None,
    realcam_host: Annotated[str, typer.Option(help="Where OBS finds RealCam (obs-media).")] = "127.0.0.1",
    media_port: Annotated[int, typer.Option(help="Port of the sink obs-media.")] = MEDIA_PORT,
    device: Annotated[
        str | None,
        typer.Option(help="Part of the camera's name, if it is not found by itself (virtual-camera)."),
    ] = None,
) -> None:
    """Add the input "RealCam" to OBS's current scene, or set it right if it is there."""
    with ObsClient(*address(host, port, password)) as client:
        client.wait_connected(CONNECT_S)
        found = add_to_scene(client, kind, scene=scene, host=realcam_host, port=media_port, device=device)
    out.print(f"The input [bold]{NAME}[/] is in the scene [bold]{found}[/].")


@app.command()
def status(host: Host = "127.0.0.1", port: Port = None, password: Password = None) -> None:
    """Show OBS's version, its picture, its scene and whether RealCam is on program."""
    with ObsClient(*address(host, port, password)) as client:
        client.wait_connected(CONNECT_S)
        version = client.call("GetVersion")
        video = client.call("GetVideoSettings")
        scene = client.call("GetCurrentProgramScene")["currentProgramSceneName"]
        tally = _tally(client)
    table = Table(show_header=False, box=None)
    table.add_row("OBS", f"{version['obsVersion']}, obs-websocket {version['obsWebSocketVersion']}")
    rate = video["fpsNumerator"] / video["fpsDenominator"]
    table.add_row("Canvas", f"{video['baseWidth']} × {video['baseHeight']}, {rate:g} frames a second")
    table.add_row("Scene on program", str(scene))
    table.add_row(NAME, tally)
    out.print(table)


def _tally(client: ObsClient) -> str:
    try:
        active = client.call("GetSourceActive", sourceName=NAME)
    except RequestRefused as error:
        if error.code != NOT_FOUND:
            raise
        return "is not in OBS: realcam_obs.py obs add"
    return "on program" if active["videoActive"] else "on preview" if active["videoShowing"] else "not on air"
