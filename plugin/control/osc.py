"""The OSC server: UDP messages to commands, and feedback to those who subscribe.

One thread owns the socket and the subscribers. A message acts in the thread that received it, so
within a millisecond; whatever a sender sends, the worst that happens is a sentence sent back.
Knows nothing of what commands do.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from engine.errors import CommandError, ConfigError
from plugin.clock import Clock
from plugin.config import OscConfig
from plugin.control.commands import Command, Query, answer, feedback, parse
from plugin.control.osc_packet import BadPacket, Message, decode, encode
from plugin.control.table import Value

log = logging.getLogger(__name__)

Address = tuple[str, int]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_SUBSCRIBERS = 32
MAX_STRANGERS = 64  # senders that are remembered as warned about
TTL_S = 10.0
FULL_EVERY_S = 1.0
LOOK_EVERY_S = 0.05  # for changes that did not come over OSC
SETTLE_S = 0.005  # a burst of commands is told once
IDLE_S = 0.1  # how long a stop may wait when nobody subscribes
AFTER_DEFECT_S = 0.01


@dataclass(frozen=True, slots=True)
class OscStatus:
    port: int
    received: int
    refused: int
    strangers: int
    subscribers: int


@dataclass(slots=True)
class _Subscriber:
    until_s: float
    full_s: float
    told: dict[str, list[Value]] = field(default_factory=dict)


class OscServer:
    """``apply`` raises :class:`CommandError` for what it refuses; ``state`` is what is told.

    ``refused`` hears of every message that was not understood, to show it to the operator.
    """

    def __init__(
        self,
        config: OscConfig,
        apply: Callable[[Command, float], None],
        state: Callable[[float], Mapping[str, object]],
        clock: Clock,
        refused: Callable[[str, float], None] | None = None,
    ) -> None:
        self._config = config
        self._apply = apply
        self._state = state
        self._clock = clock
        self._refused = refused
        self._networks = _networks(config)
        self._socket: socket.socket | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="osc", daemon=True)
        self._subscribers: dict[Address, _Subscriber] = {}
        self._warned: set[str] = set()
        self._look_s = 0.0
        self._counts = {"received": 0, "refused": 0, "strangers": 0}

    def start(self) -> None:
        """Listens from now on; :class:`ConfigError` when it cannot."""
        self._socket = _bind(self._config)
        self._thread.start()
        log.info("OSC: listening on %s port %d", self._config.host, self._config.port)

    def stop(self, timeout_s: float = 2.0) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        if self._socket is not None:
            self._socket.close()

    def status(self) -> OscStatus:
        return OscStatus(self._config.port, **self._counts, subscribers=len(self._subscribers))

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._receive()
                self._tell(self._clock.now())
            except Exception:
                log.exception("OSC: a message was handled in a way it should not")
                self._stop.wait(AFTER_DEFECT_S)

    def _receive(self) -> None:
        """Waits for one datagram, no longer than until the next feedback, and acts on it."""
        assert self._socket is not None
        wait_s = self._look_s - self._clock.now() if self._subscribers else IDLE_S
        self._socket.settimeout(min(max(wait_s, 0.001), IDLE_S))
        try:
            datagram, sender = self._socket.recvfrom(65536)
        except TimeoutError:
            return
        except ConnectionResetError:  # how Windows tells, on the next receive, that a subscriber has gone
            return
        if self._is_allowed(sender[0]):
            self._handle(datagram, (sender[0], sender[1]))

    def _is_allowed(self, host: str) -> bool:
        ip = ipaddress.ip_address(host.partition("%")[0])
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
            ip = ip.ipv4_mapped
        if ip.is_loopback or any(ip in network for network in self._networks):
            return True
        self._counts["strangers"] += 1
        if host not in self._warned and len(self._warned) < MAX_STRANGERS:
            self._warned.add(host)
            log.warning("OSC: %s may not send; add it to allow: in the osc: part of the session file", host)
        return False

    def _handle(self, datagram: bytes, sender: Address) -> None:
        self._counts["received"] += 1
        try:
            messages = decode(datagram)
        except BadPacket as error:
            self._refuse(str(error), sender)
            return
        for message in messages:
            try:
                self._act(message, sender)
            except CommandError as error:
                self._refuse(str(error), sender)
        self._look_s = min(self._look_s, self._clock.now() + SETTLE_S)

    def _act(self, message: Message, sender: Address) -> None:
        now = self._clock.now()
        meant = parse(message.address, message.args)
        if isinstance(meant, Query):
            self._answer(meant, sender, now)
        elif meant is None:
            return
        elif meant.name == "subscribe":
            self._subscribe(meant, sender, now)
        elif meant.name == "unsubscribe":
            self._subscribers.pop((sender[0], int(meant.params.get("port", sender[1]))), None)
        elif meant.name == "ping":
            self._send("/realcam/pong", [], sender)
        else:
            self._apply(meant, now)

    def _answer(self, query: Query, sender: Address, now: float) -> None:
        state = self._state(now)
        told = feedback(state) if query.key == "*" else {query.address: answer(query, state)}
        for address, values in told.items():
            self._send(address, values, sender)

    def _subscribe(self, command: Command, sender: Address, now: float) -> None:
        where = (sender[0], int(command.params.get("port", sender[1])))
        until_s = now + float(command.params.get("ttl_s", TTL_S))
        if where in self._subscribers:
            self._subscribers[where].until_s = until_s
        elif len(self._subscribers) >= MAX_SUBSCRIBERS:
            raise CommandError(f"/realcam/subscribe: there are {MAX_SUBSCRIBERS} subscribers already")
        else:
            self._subscribers[where] = _Subscriber(until_s, full_s=now)

    def _refuse(self, why: str, sender: Address) -> None:
        self._counts["refused"] += 1
        if self._refused:
            self._refused(why, self._clock.now())
        self._send("/realcam/error", [why], sender)

    def _tell(self, now: float) -> None:
        if now < self._look_s or not self._subscribers:
            return
        self._look_s = now + LOOK_EVERY_S
        self._subscribers = {who: s for who, s in self._subscribers.items() if s.until_s > now}
        told = feedback(self._state(now)) if self._subscribers else {}
        for who, subscriber in self._subscribers.items():
            if now >= subscriber.full_s:
                subscriber.full_s = now + FULL_EVERY_S
                subscriber.told = {}
            for address, values in told.items():
                if subscriber.told.get(address) != values:
                    self._send(address, values, who)
            subscriber.told = told

    def _send(self, address: str, values: Iterable[object], to: Address) -> None:
        assert self._socket is not None
        try:
            self._socket.sendto(encode(address, values), to)
        except OSError as error:  # one who cannot be reached must not cost the others their feedback
            log.debug("OSC: cannot send to %s:%d: %s", *to, error)


def _networks(config: OscConfig) -> list[Network]:
    try:
        networks = [ipaddress.ip_network(entry, strict=False) for entry in config.allow]
    except ValueError as error:
        raise ConfigError(
            f"osc: allow: expected addresses like 192.168.1.20 or 192.168.1.0/24: {error}"
        ) from error
    if networks and config.host in ("127.0.0.1", "::1", "localhost"):
        raise ConfigError(
            f"osc: allow names other machines, but host {config.host} hears only this one; "
            "set host: 0.0.0.0 (or this machine's own address), or leave allow out"
        )
    return networks


def _bind(config: OscConfig) -> socket.socket:
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"osc: host {config.host!r} is not an address of this machine: {error}") from error
    try:
        listener.bind(where)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"osc: cannot listen on {config.host} UDP port {config.port}: {error.strerror or error}. Another "
            "RealCam, TouchOSC, Companion or QLab on this machine may hold the port: close it, or set "
            "another port under osc: in the session file, with --osc-port or in the script's panel in OBS, "
            "and in your controller."
        ) from error
    return listener
