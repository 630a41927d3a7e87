from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message_builder import build_msg

from engine.errors import CommandError, ConfigError
from plugin.clock import MonotonicClock
from plugin.config import OscConfig
from plugin.control.commands import Command
from plugin.control.osc import MAX_SUBSCRIBERS, OscServer
from plugin.control.osc_packet import LONGEST, BadPacket, decode, encode


class Desk:
    """A server on a free port, what it applied and the state that it tells."""

    def __init__(self) -> None:
        self.clock = MonotonicClock()
        self.applied: list[tuple[Command, float]] = []
        self.refusals: list[str] = []
        self.tell: dict[str, Any] = {
            "mode": "live",
            "speed": 1.0,
            "buttons": {"wide": 0},
            "slots": {"3": "wide"},
        }
        self.come = threading.Condition()
        self.config = OscConfig(port=free_port())
        self.server = OscServer(self.config, self.apply, lambda now: self.tell, self.clock, self.refused)
        self.server.start()

    def apply(self, command: Command, now: float) -> None:
        if command.name == "reverse":
            raise CommandError("no preset to reverse; start one first")
        if command.name == "random":
            raise RuntimeError("a defect")
        with self.come:
            self.applied.append((command, now))
            self.come.notify_all()

    def refused(self, why: str, now: float) -> None:
        self.refusals.append(why)

    def wait_for(self, count: int) -> list[Command]:
        with self.come:
            assert self.come.wait_for(lambda: len(self.applied) >= count, 5), self.applied
        return [command for command, _ in self.applied]


class Controller:
    """What an operator's controller is: a UDP socket."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(5)
        self.to = ("127.0.0.1", port)

    def send(self, address: str, *args: object) -> None:
        self.socket.sendto(encode(address, args), self.to)

    def receive(self) -> tuple[str, list[object]]:
        [message] = decode(self.socket.recv(65536))
        return message.address, message.args

    def receive_until(self, address: str, args: list[object]) -> None:
        while self.receive() != (address, args):
            pass

    def ask(self, address: str, *args: object) -> tuple[str, list[object]]:
        self.send(address, *args)
        return self.receive()


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.server.stop()
    assert not desk.server._thread.is_alive()


@pytest.fixture
def controller(desk: Desk) -> Iterator[Controller]:
    controller = Controller(desk.config.port)
    yield controller
    controller.socket.close()


def test_a_command_acts_within_milliseconds_of_its_arrival(desk: Desk, controller: Controller):
    late = []
    for index in range(20):
        time.sleep(0.005)
        sent = desk.clock.now()
        controller.send("/realcam/preset/push-in/go", 1.0)
        desk.wait_for(index + 1)
        late.append(desk.applied[-1][1] - sent)
    assert sorted(late)[len(late) // 2] < 0.005


def test_values_are_answered_to_who_asks(controller: Controller):
    assert controller.ask("/realcam/speed") == ("/realcam/speed", [1.0])
    assert controller.ask("/realcam/state/mode") == ("/realcam/state/mode", ["live"])
    assert controller.ask("/realcam/ping") == ("/realcam/pong", [])


def test_the_state_is_answered_at_every_feedback_address(controller: Controller):
    assert controller.ask("/realcam/state") == ("/realcam/state/mode", ["live"])
    controller.receive_until("/realcam/preset/wide/state", [0])


def test_a_lamp_is_told_by_name_and_by_slot_and_only_of_presets_that_are_there(
    desk: Desk, controller: Controller
):
    desk.tell["buttons"] = {"wide": 2}
    assert controller.ask("/realcam/preset/wide/state") == ("/realcam/preset/wide/state", [2])
    assert controller.ask("/realcam/preset/3/state") == ("/realcam/preset/3/state", [2])
    for missing in ("4", "nope"):
        address, [sentence] = controller.ask(f"/realcam/preset/{missing}/state")
        assert address == "/realcam/error" and f"there is no preset '{missing}'" in sentence


def test_a_bad_value_is_answered_with_a_sentence_and_changes_nothing(desk: Desk, controller: Controller):
    address, [sentence] = controller.ask("/realcam/speed", float("nan"))
    assert (address, sentence) == ("/realcam/error", "/realcam/speed: factor is a number, found nan")
    assert desk.refusals == [sentence]
    assert desk.applied == []


def test_what_the_switcher_refuses_is_answered_too(controller: Controller):
    assert controller.ask("/realcam/reverse") == (
        "/realcam/error",
        ["no preset to reverse; start one first"],
    )


def test_a_subscriber_gets_everything_and_then_each_change_at_once(desk: Desk, controller: Controller):
    controller.send("/realcam/subscribe")
    controller.receive_until("/realcam/preset/wide/state", [0])
    desk.tell = {**desk.tell, "mode": "slate"}
    changed = time.perf_counter()
    assert controller.receive() == ("/realcam/state/mode", ["slate"])
    assert time.perf_counter() - changed < 0.5
    controller.receive_until("/realcam/preset/wide/state", [0])
    assert time.perf_counter() - changed < 1.5


def test_a_subscription_ends_after_its_time_to_live(desk: Desk, controller: Controller):
    controller.send("/realcam/subscribe", controller.socket.getsockname()[1], 1.0)
    controller.receive_until("/realcam/preset/wide/state", [0])
    deadline = time.perf_counter() + 5
    while desk.server.status().subscribers and time.perf_counter() < deadline:
        time.sleep(0.02)
    assert desk.server.status().subscribers == 0


def test_feedback_can_go_to_another_port_and_be_ended(desk: Desk, controller: Controller):
    screen = Controller(desk.config.port)
    controller.send("/realcam/subscribe", screen.socket.getsockname()[1])
    screen.receive_until("/realcam/state/mode", ["live"])
    controller.send("/realcam/unsubscribe", screen.socket.getsockname()[1])
    assert controller.ask("/realcam/ping") == ("/realcam/pong", [])
    assert desk.server.status().subscribers == 0
    screen.socket.close()


def test_there_is_a_bound_on_subscribers(desk: Desk, controller: Controller):
    for port in range(20000, 20000 + MAX_SUBSCRIBERS):
        controller.send("/realcam/subscribe", port, 1.0)
    assert controller.ask("/realcam/subscribe")[0] == "/realcam/error"


def test_a_bundle_dated_in_the_future_acts_at_once_and_in_order(desk: Desk, controller: Controller):
    inner = OscBundleBuilder(IMMEDIATELY)
    inner.add_content(build_msg("/realcam/cam/tilt", 0.5))
    outer = OscBundleBuilder(time.time() + 3600)
    outer.add_content(build_msg("/realcam/cam/pan", 1))
    outer.add_content(inner.build())
    outer.add_content(build_msg("/realcam/stop", True))
    controller.socket.sendto(outer.build().dgram, controller.to)
    assert [command.name for command in desk.wait_for(3)] == ["axis", "axis", "stop"]


def test_a_defect_in_a_command_is_logged_and_the_server_goes_on(
    controller: Controller, caplog: pytest.LogCaptureFixture
):
    controller.send("/realcam/random", 1)
    assert controller.ask("/realcam/ping") == ("/realcam/pong", [])
    assert "a defect" in caplog.text


def bundle(*elements: bytes, sizes: list[int] | None = None) -> bytes:
    sizes = sizes or [len(element) for element in elements]
    body = b"".join(struct.pack(">i", size) + e for size, e in zip(sizes, elements, strict=True))
    return b"#bundle\0" + bytes(8) + body


PING = encode("/realcam/ping", [])
HOSTILE = [
    b"",
    b"/",
    b"/realcam/ping",
    b"#bundle\0",
    bundle(PING, sizes=[-4]),
    bundle(PING, sizes=[0]),
    bundle(PING, sizes=[2**31 - 1]),
    bundle(PING) + b"\0\0",
    b"/realcam/ping\0\0\0," + b"z" * 4000,
    b"/realcam/speed\0\0,[[[[\0\0\0",
    b"/\xff\xfe\0",
    b"/" + b"a" * 60000,
    bytes(65507),
]
ODD = [b"/realcam/speed\0\0,b\0\0\xff\xff\xff\xf0", b"/realcam/speed\0\0,t\0\0" + b"\xff" * 8]


@pytest.mark.parametrize("packet", HOSTILE, ids=lambda packet: repr(packet[:24]))
def test_a_malformed_packet_is_refused_in_no_time(packet: bytes):
    started = time.perf_counter()
    with pytest.raises(BadPacket):
        decode(packet)
    assert time.perf_counter() - started < 0.1


def test_bundles_may_be_nested_as_deep_as_a_packet_is_long():
    packet = PING
    while len(packet) < LONGEST - 100:
        packet = bundle(packet)
    assert [message.address for message in decode(packet)] == ["/realcam/ping"]


@given(st.binary(max_size=200))
def test_bytes_are_messages_or_a_bad_packet(noise: bytes):
    for packet in (noise, b"/realcam/speed\0\0," + noise, bundle(noise), b"#bundle\0" + noise):
        with contextlib.suppress(BadPacket):
            decode(packet)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(noise=st.binary(max_size=120), where=st.sampled_from(["", "/realcam/home", "/realcam/subscribe"]))
def test_no_packet_stops_the_server(desk: Desk, controller: Controller, noise: bytes, where: str):
    padded = where.encode() + bytes(4 - len(where) % 4) + b"," if where else b""
    controller.socket.sendto(padded + noise, controller.to)
    controller.send("/realcam/ping")
    while controller.receive()[0] != "/realcam/pong":
        pass


def test_hostile_packets_and_a_flood_leave_the_server_answering(desk: Desk, controller: Controller):
    for packet in (HOSTILE + ODD) * 20:
        controller.socket.sendto(packet, controller.to)
    deadline = time.perf_counter() + 5
    controller.socket.settimeout(0.2)
    while True:
        assert time.perf_counter() < deadline
        controller.send("/realcam/ping")
        try:
            controller.receive_until("/realcam/pong", [])
            break
        except TimeoutError:
            continue


def test_a_stranger_is_neither_heard_nor_answered(desk: Desk):
    assert not desk.server._is_allowed("192.0.2.7")
    assert desk.server.status().strangers == 1
    lan = OscServer(OscConfig(host="0.0.0.0", allow=["192.0.2.0/24"]), desk.apply, lambda now: {}, desk.clock)
    assert lan._is_allowed("192.0.2.7")
    assert not lan._is_allowed("198.51.100.1")
    assert lan._is_allowed("127.0.0.1")


def test_a_taken_port_is_explained(desk: Desk):
    second = OscServer(desk.config, desk.apply, lambda now: {}, desk.clock)
    with pytest.raises(ConfigError, match=f"UDP port {desk.config.port}.*may hold the port.*session file"):
        second.start()
    second.stop()


def test_an_allowed_sender_that_cannot_be_heard_is_a_mistake(desk: Desk):
    for config, expected in [
        (OscConfig(allow=["10.0.0.5"]), "hears only this one"),
        (OscConfig(host="0.0.0.0", allow=["studio"]), "expected addresses like"),
    ]:
        with pytest.raises(ConfigError, match=expected):
            OscServer(config, desk.apply, lambda now: {}, desk.clock)
