"""Keeps other web pages out of the control page: any page in a browser may send to loopback.

Three checks, none of which a browser lets a page get around: the Host is an address of a machine and
not a name somebody else may point here (DNS rebinding), the Origin is the page itself, and a fetch
across sites is refused. Programs that are no browsers send no Origin and pass. Knows nothing of
what is served.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; connect-src 'self'; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guard:
    """ASGI middleware: answers 403 with the reason, and adds :data:`HEADERS` to what it lets through."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        why = refusal(Headers(scope=scope))
        if why is None:
            await self._app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": why[:120]})
        else:
            await PlainTextResponse(why + "\n", status_code=403)(scope, receive, send)


def refusal(headers: Mapping[str, str]) -> str | None:
    """Why a request with these headers (in lower case) is refused; None when it is not."""
    host = headers.get("host", "")
    if not _is_own_name(_host_name(host)):
        return f"open this page by address (http://127.0.0.1 or http://localhost), not as {host[:80]!r}"
    origin = headers.get("origin")
    if origin is not None and origin.lower() != f"http://{host}".lower():
        return f"only RealCam's own page may do this, not one from {origin[:80]!r}"
    across = headers.get("sec-fetch-site", "none") in ("cross-site", "same-site")
    if across and headers.get("sec-fetch-mode") != "navigate":
        return "only RealCam's own page may do this, not one of another site"
    return None


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_own_name(name: str) -> bool:
    """A literal address cannot be rebound; nor can this machine's own names on its network."""
    machine = socket.gethostname().lower()
    if name in ("localhost", machine, f"{machine}.local"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return send_with_headers
