"""The control page's server: state and commands over HTTP and a WebSocket, and the moving picture.

One thread with its own event loop; whatever happens there touches neither video nor OSC. Knows
nothing of what commands do.

What the page shows of ``state``, beside what the switcher tells: ``rung``, ``fps``, ``latency_ms``,
``drops``, ``output`` {width, height, error}, ``source`` and ``engine`` {name, state, detail, fps},
``sinks`` [{name, state, detail, dropped}] and ``preset_errors``. What is missing is left out.
"""

from __future__ import annotations

import html
import json
import logging
import socket
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import anyio
import uvicorn
from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from engine.errors import CommandError, ConfigError
from plugin.clock import Clock
from plugin.config import OscConfig, WebConfig
from plugin.control import oscquery
from plugin.control.commands import Command, Query, answer, feedback, parse, velocities
from plugin.control.guard import Guard
from plugin.control.metrics import make_scrape
from plugin.control.table import TABLE
from plugin.sinks.preview import Jpeg

log = logging.getLogger(__name__)

PUSH_EVERY_S = 0.1
MAX_VIEWERS = 8
MAX_CONNECTIONS = 64
MAX_BODY = 16_384
PICTURE_TIMEOUT_S = 0.5
OSC_ONLY = ("subscribe", "unsubscribe", "ping")
COMMAND_SHAPE = '{"address": "/realcam/…", "args": []}'
PAGE = Path(__file__).with_name("page.html")


class Preview(Protocol):
    def latest(self) -> Jpeg | None: ...
    def wait(self, seen: int, timeout_s: float) -> Jpeg | None: ...


class Desk(Protocol):
    """What the page works on: the switcher."""

    def apply(self, command: Command, now: float) -> None: ...
    def refused(self, why: str, now: float) -> None: ...
    def presets(self) -> Sequence[Mapping[str, object]]: ...


class WebServer:
    """Without ``preview`` there is no picture; ``osc`` is only told about, to OSCQuery."""

    def __init__(
        self,
        config: WebConfig,
        desk: Desk,
        state: Callable[[float], Mapping[str, object]],
        clock: Clock,
        preview: Preview | None = None,
        osc: OscConfig | None = None,
    ) -> None:
        self._config = config
        self._desk = desk
        self._state = state
        self._clock = clock
        self._preview = preview
        self._osc = osc or OscConfig()
        self._page = PAGE.read_text(encoding="utf-8")
        self._scrape = make_scrape(lambda: self._state(self._clock.now()))
        self._viewers = 0
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._make_app(),
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                ws_max_size=MAX_BODY,
                limit_concurrency=MAX_CONNECTIONS,
                timeout_graceful_shutdown=2,
            )
        )
        self._listener: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)

    def start(self) -> None:
        """Serves from now on; :class:`ConfigError` when it cannot listen."""
        self._listener = _listen(self._config)
        self._thread.start()
        log.info("control page: http://%s:%d", self._config.host, self._config.port)

    def stop(self, timeout_s: float = 5.0) -> None:
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        if self._listener is not None:
            self._listener.close()

    def _run(self) -> None:
        assert self._listener is not None
        try:
            self._server.run(sockets=[self._listener])
        except Exception:
            log.exception("the control page has ended in a way it should not")

    def _make_app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/", self._get_page),
                Route("/preview.jpg", self._get_picture),
                Route("/preview.mjpeg", self._get_pictures),
                Route("/state", self._get_state),
                Route("/command", self._post_command, methods=["POST"]),
                WebSocketRoute("/ws", self._talk),
                Route("/osc", self._get_documentation),
                Route("/oscquery", self._get_oscquery),
                Route("/oscquery{address:path}", self._get_oscquery),
                Route("/realcam{rest:path}", self._get_oscquery),
                Route("/metrics", self._get_metrics),
            ],
            middleware=[Middleware(Guard)],
        )

    async def _get_page(self, request: Request) -> Response:
        if "HOST_INFO" in request.query_params:
            return JSONResponse(oscquery.host_info(self._osc.host, self._osc.port))
        return HTMLResponse(self._page, headers={"Cache-Control": "no-store"})

    async def _get_picture(self, request: Request) -> Response:
        jpeg = await run_sync(self._preview.latest) if self._preview else None
        if jpeg is None:
            return PlainTextResponse("no picture yet\n", status_code=503)
        return Response(jpeg.data, media_type="image/jpeg", headers={"Cache-Control": "no-store"})

    async def _get_pictures(self, request: Request) -> Response:
        if self._preview is None or self._viewers >= MAX_VIEWERS:
            return PlainTextResponse("no preview, or too many who watch\n", status_code=503)
        return StreamingResponse(
            self._pictures(self._preview),
            media_type="multipart/x-mixed-replace; boundary=picture",
            headers={"Cache-Control": "no-store"},
        )

    async def _pictures(self, preview: Preview) -> AsyncIterator[bytes]:
        """Each part ends with the next boundary: browsers show a picture only when they see it."""
        self._viewers += 1
        try:
            yield b"--picture\r\n"
            seen = -1
            while not self._server.should_exit:
                jpeg = await run_sync(preview.wait, seen, PICTURE_TIMEOUT_S)
                if jpeg is not None:
                    seen = jpeg.number
                    head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg.data)}\r\n\r\n"
                    yield head.encode() + jpeg.data + b"\r\n--picture\r\n"
        finally:
            self._viewers -= 1

    async def _get_state(self, request: Request) -> Response:
        return JSONResponse(self._full_state())

    def _full_state(self) -> dict[str, object]:
        return {**self._state(self._clock.now()), "presets": list(self._desk.presets())}

    async def _post_command(self, request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return _error("send Content-Type: application/json", 415)
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MAX_BODY:
                return _error(f"a command has at most {MAX_BODY} bytes", 413)
        try:
            return JSONResponse(self._act(body)[1])
        except CommandError as error:
            return _error(str(error), 400)

    def _act(self, text: str | bytes) -> tuple[Command | None, dict[str, object]]:
        """Carries out ``{"address": …, "args": […]}``: what was done and what there is to answer."""
        now = self._clock.now()
        try:
            address, args = _read_message(text)
            meant = parse(address, args)
            if isinstance(meant, Query):
                return None, {"ok": True, "values": self._answer(meant, now)}
            if meant is not None and meant.name in OSC_ONLY:
                raise CommandError(f"{address}: only over UDP, as the answer goes to the sender's port")
            if meant is not None:
                self._desk.apply(meant, now)
            return meant, {"ok": True}
        except CommandError as error:
            self._desk.refused(str(error), now)
            raise

    def _answer(self, query: Query, now: float) -> object:
        state = self._state(now)
        return feedback(state) if query.key == "*" else answer(query, state)

    async def _talk(self, websocket: WebSocket) -> None:
        """Pushes what changes and takes commands in order; who goes away lets go of the joystick."""
        await websocket.accept()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._push, websocket)
            await self._listen_to(websocket)
            tasks.cancel_scope.cancel()

    async def _push(self, websocket: WebSocket) -> None:
        told: dict[str, object] = {}
        while not self._server.should_exit:
            state = self._full_state()
            changed = {key: value for key, value in state.items() if key not in told or told[key] != value}
            try:
                if changed:
                    await websocket.send_json({"state": changed})
            except (WebSocketDisconnect, RuntimeError):
                return
            told = state
            await anyio.sleep(PUSH_EVERY_S)
        await websocket.close(1001)

    async def _listen_to(self, websocket: WebSocket) -> None:
        pushed: dict[str, float] = {}
        try:
            while True:
                try:
                    done, _ = self._act(await websocket.receive_text())
                except CommandError as error:
                    await websocket.send_json({"error": str(error)})
                    continue
                if done is not None:
                    pushed.update(velocities(done))
        except (WebSocketDisconnect, RuntimeError, KeyError):
            pass
        finally:
            for axis, velocity in pushed.items():
                if velocity:
                    let_go = Command("axis", {"axis": axis, "velocity": 0.0})
                    self._desk.apply(let_go, self._clock.now())

    async def _get_documentation(self, request: Request) -> Response:
        return HTMLResponse(documentation_page())

    async def _get_oscquery(self, request: Request) -> Response:
        if "HOST_INFO" in request.query_params:
            return JSONResponse(oscquery.host_info(self._osc.host, self._osc.port))
        names = [str(preset["name"]) for preset in self._desk.presets()]
        root = oscquery.tree(self._state(self._clock.now()), names)
        address = request.url.path.removeprefix("/oscquery")
        node = oscquery.find(root, address)
        if node is None:
            return _error(f"there is no address {address}", 404)
        attribute = next(iter(request.query_params), None)
        if attribute is None:
            return JSONResponse(node)
        return JSONResponse({attribute: node[attribute]}) if attribute in node else Response(status_code=204)

    async def _get_metrics(self, request: Request) -> Response:
        return Response(self._scrape(), media_type="text/plain; version=0.0.4; charset=utf-8")


def documentation_page() -> str:
    """The table as HTML, for the link on the control page."""
    rows = "".join(
        f"<tr><td><code>{html.escape(row.address)}</code><td>{html.escape(row.kind)}"
        f"<td>{html.escape(row.signature())}<td>{html.escape(row.help)}<td>{row.when_locked()}</tr>"
        for row in TABLE
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>RealCam: OSC addresses</title>"
        "<style>body{background:#12161c;color:#dde4ec;font:15px system-ui;margin:2em}"
        "table{border-collapse:collapse}td,th{padding:.4em .8em;border-bottom:1px solid #2a323d;"
        "vertical-align:top;text-align:left}code{color:#8fd3ff}</style><h1>OSC addresses</h1>"
        "<p>A trigger acts on 1 or without an argument, 0 is the release of the button; its own arguments "
        "come after the 1. A value is set with its arguments and asked for without.</p>"
        "<table><tr><th>Address<th>Kind<th>Arguments<th>What it does<th>While locked</tr>"
        f"{rows}</table></html>"
    )


def _read_message(text: str | bytes) -> tuple[str, list[Any]]:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"expected {COMMAND_SHAPE}, found no JSON: {error}") from error
    address = message.get("address") if isinstance(message, dict) else None
    args = message.get("args", []) if isinstance(message, dict) else None
    if not isinstance(address, str) or not isinstance(args, list):
        raise CommandError(f"expected {COMMAND_SHAPE}, found something else")
    return address, args


def _error(why: str, status: int) -> Response:
    return JSONResponse({"ok": False, "error": why}, status_code=status)


def _listen(config: WebConfig) -> socket.socket:
    try:
        family = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((config.host, config.port), family=family)
    except OSError as error:
        raise ConfigError(
            f"web: cannot listen on {config.host} port {config.port}: {error.strerror or error}. Another "
            "RealCam or another server on this machine may hold the port: close it, or set another port "
            "under web: in the session file, with --web-port or in the script's panel in OBS."
        ) from error
