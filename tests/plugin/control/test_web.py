from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from engine.errors import CommandError, ConfigError
from plugin.clock import MonotonicClock
from plugin.colour import to_nv12
from plugin.config import OscConfig, PreviewSinkConfig, WebConfig
from plugin.control.commands import Command
from plugin.control.guard import refusal
from plugin.control.web import MAX_BODY, MAX_VIEWERS, WebServer
from plugin.sinks.base import OutputFormat, OutputFrame
from plugin.sinks.preview import PreviewSink


class Desk:
    """Records what the page asks for."""

    def __init__(self) -> None:
        self.applied: list[Command] = []
        self.refusals: list[str] = []

    def apply(self, command: Command, now: float) -> None:
        if command.name == "reverse":
            raise CommandError("no preset to reverse; start one first")
        self.applied.append(command)

    def refused(self, why: str, now: float) -> None:
        self.refusals.append(why)

    def presets(self) -> list[dict[str, object]]:
        return [
            {"name": "wide", "label": "Wide", "slot": 1},
            {"name": "push-in", "label": "Push in", "slot": 2},
        ]


class Site:
    """A running server and a client without a browser's manners."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.tell: dict[str, Any] = {
            "mode": "live",
            "speed": 1.0,
            "fps": 29.97,
            "latency_ms": 80.0,
            "drops": 3,
            "sinks": [{"name": "preview", "state": "live", "written": 9, "dropped": 1}],
        }
        self.preview = PreviewSink(PreviewSinkConfig(kind="preview"))
        self.preview.open(OutputFormat(64, 64, Fraction(30)))
        self.port = free_port()
        self.server = WebServer(
            WebConfig(port=self.port),
            self.desk,
            lambda now: self.tell,
            MonotonicClock(),
            self.preview,
            OscConfig(),
        )
        self.server.start()

    def show(self, index: int) -> None:
        self.preview.write(OutputFrame(to_nv12(np.full((64, 64, 3), index, np.uint8)), index, float(index)))

    def ask(
        self, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = {"Content-Type": "application/json"} if body is not None else {}
        connection.request("GET" if body is None else "POST", path, data, {**sent, **(headers or {})})
        answer = connection.getresponse()
        result = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        connection.close()
        return result

    def ask_json(self, path: str, body: object = None) -> Any:
        return json.loads(self.ask(path, body)[2])

    def wait_for(self, count: int) -> list[Command]:
        deadline = time.monotonic() + 5
        while len(self.desk.applied) < count:
            assert time.monotonic() < deadline, self.desk.applied
            time.sleep(0.01)
        return self.desk.applied


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.server.stop()
    assert not site.server._thread.is_alive()


def test_the_page_comes_whole_and_loads_nothing_from_elsewhere(site: Site):
    status, headers, body = site.ask("/")
    page = body.decode()
    assert status == 200
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    links = [word for word in page.split('"') if word.startswith(("http:", "https:", "//"))]
    assert links == []


def test_a_posted_command_is_applied(site: Site):
    assert site.ask_json("/command", {"address": "/realcam/preset/push-in/go", "args": [1]}) == {"ok": True}
    assert site.desk.applied == [Command("go", {"preset": "push-in"})]
    site.ask_json("/command", {"address": "/realcam/preset/push-in/go", "args": [0]})
    assert len(site.desk.applied) == 1


def test_a_posted_query_is_answered(site: Site):
    assert site.ask_json("/command", {"address": "/realcam/speed"}) == {"ok": True, "values": [1.0]}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"address": "/realcam/speed", "args": [99]}, "factor lies in"),
        ({"address": "/realcam/reverse"}, "start one first"),
        ({"address": "/realcam/subscribe", "args": [1]}, "only over UDP"),
        ({"address": 7}, "expected"),
        (b"{", "no JSON"),
        (b"[" * 5000, "no JSON"),
        ([], "expected"),
    ],
)
def test_a_bad_command_is_answered_with_a_sentence(site: Site, body: object, expected: str):
    status, _, answer = site.ask("/command", body)
    assert status == 400
    assert expected in json.loads(answer)["error"]
    assert site.desk.refusals != []


def test_a_command_that_is_no_json_or_too_long_is_refused(site: Site):
    assert site.ask("/command", b"{}", {"Content-Type": "text/plain"})[0] == 415
    assert site.ask("/command", b" " * (MAX_BODY + 1))[0] == 413
    assert site.desk.applied == []


HOME = "127.0.0.1:9001"


@pytest.mark.parametrize(
    "headers",
    [
        {"host": HOME},
        {"host": "localhost:9001"},
        {"host": "[::1]:9001"},
        {"host": "192.168.1.20:9001"},
        {"host": HOME, "origin": f"http://{HOME}", "sec-fetch-site": "same-origin"},
        {"host": HOME, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
    ],
)
def test_programs_the_page_itself_and_links_to_it_are_let_in(headers: dict[str, str]):
    assert refusal(headers) is None


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "evil.example:9001"},
        {"host": "127.0.0.1.evil.example"},
        {"host": "[::1"},
        {"host": HOME, "origin": "http://evil.example"},
        {"host": HOME, "origin": "http://127.0.0.1:3000"},
        {"host": HOME, "origin": "null"},
        {"host": HOME, "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
        {"host": HOME, "sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
    ],
)
def test_other_pages_and_rebound_names_are_kept_out(headers: dict[str, str]):
    assert refusal(headers) is not None


def test_a_command_from_another_page_is_refused_by_the_server(site: Site):
    command = {"address": "/realcam/panic", "args": [1]}
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        status, _, answer = site.ask("/command", command, headers)
        assert status == 403
        assert answer
    with pytest.raises(InvalidStatus):
        connect(f"ws://127.0.0.1:{site.port}/ws", origin="http://evil.example")  # type: ignore[arg-type]
    assert site.desk.applied == []


def test_the_state_comes_with_the_presets(site: Site):
    state = site.ask_json("/state")
    assert state["mode"] == "live"
    assert [preset["name"] for preset in state["presets"]] == ["wide", "push-in"]


def test_the_socket_tells_everything_once_and_then_what_changes(site: Site):
    with connect(f"ws://127.0.0.1:{site.port}/ws") as socket:
        first = json.loads(socket.recv(5))["state"]
        assert first.keys() == {*site.tell, "presets"}
        site.tell = {**site.tell, "mode": "slate"}
        assert json.loads(socket.recv(5)) == {"state": {"mode": "slate"}}


def test_the_socket_takes_commands_in_order_and_answers_what_it_refuses(site: Site):
    with connect(f"ws://127.0.0.1:{site.port}/ws") as socket:
        for pan in range(50):
            socket.send(json.dumps({"address": "/realcam/cam/pan", "args": [pan / 50]}))
        pans = [command.params["velocity"] for command in site.wait_for(50)]
        assert pans == sorted(pans)
        socket.send('{"address": "/realcam/hom"}')
        while "error" not in (message := json.loads(socket.recv(5))):
            pass
        assert "the nearest is /realcam/home" in message["error"]


def test_a_page_that_goes_away_lets_go_of_the_joystick(site: Site):
    with connect(f"ws://127.0.0.1:{site.port}/ws") as socket:
        socket.send('{"address": "/realcam/cam/velocity", "args": [0.5, 0, 0, 0, 0, 0, 0]}')
        site.wait_for(1)
    assert site.wait_for(2)[1] == Command("axis", {"axis": "pan", "velocity": 0.0})


def test_a_page_that_held_nothing_sends_nothing_when_it_goes(site: Site):
    with connect(f"ws://127.0.0.1:{site.port}/ws") as socket:
        for velocity in (0.5, 0.0):
            socket.send(json.dumps({"address": "/realcam/cam/pan", "args": [velocity]}))
        site.wait_for(2)
    time.sleep(0.1)
    assert len(site.desk.applied) == 2


def test_a_binary_message_on_the_socket_harms_nobody(site: Site):
    with connect(f"ws://127.0.0.1:{site.port}/ws") as socket:
        socket.send(b"\x00\x01")
    assert site.ask("/state")[0] == 200


def test_the_newest_picture_is_there_as_a_jpeg(site: Site):
    assert site.ask("/preview.jpg")[0] == 503
    site.show(1)
    status, headers, body = site.ask("/preview.jpg")
    assert (status, headers["content-type"]) == (200, "image/jpeg")
    assert body.startswith(b"\xff\xd8") and body.endswith(b"\xff\xd9")


def read_part(answer: http.client.HTTPResponse) -> bytes:
    length = 0
    while line := answer.readline().strip():
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    picture = answer.read(length)
    assert (answer.readline(), answer.readline()) == (b"\r\n", b"--picture\r\n")
    return picture


def test_pictures_come_as_they_are_made_until_the_server_stops(site: Site):
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=5)
    connection.request("GET", "/preview.mjpeg")
    answer = connection.getresponse()
    assert answer.readline() == b"--picture\r\n"
    pictures = set()
    for index in range(3):
        site.show(index * 80)
        pictures.add(read_part(answer))
    assert len(pictures) == 3
    started = time.monotonic()
    site.server.stop()
    assert time.monotonic() - started < 3
    connection.close()


def test_no_more_watch_than_the_server_can_serve(site: Site):
    watchers = [http.client.HTTPConnection("127.0.0.1", site.port, timeout=5) for _ in range(MAX_VIEWERS)]
    for watcher in watchers:
        watcher.request("GET", "/preview.mjpeg")
        assert watcher.getresponse().readline() == b"--picture\r\n"
    assert site.ask("/preview.mjpeg")[0] == 503
    for watcher in watchers:
        watcher.close()
    deadline = time.monotonic() + 5
    while site.server._viewers:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_oscquery_publishes_the_addresses_with_types_ranges_and_values(site: Site):
    assert site.ask_json("/?HOST_INFO")["OSC_PORT"] == 9000
    root = site.ask_json("/oscquery")
    speed = root["CONTENTS"]["realcam"]["CONTENTS"]["speed"]
    assert (speed["FULL_PATH"], speed["TYPE"], speed["ACCESS"]) == ("/realcam/speed", "f", 3)
    assert (speed["RANGE"], speed["VALUE"]) == ([{"MIN": 0.1, "MAX": 10.0}], [1.0])
    assert site.ask_json("/oscquery/realcam/preset/push-in/go")["TYPE"] == "if"
    assert site.ask_json("/realcam/state/mode?VALUE") == {"VALUE": ["live"]}
    assert site.ask("/oscquery/realcam/none")[0] == 404


def test_the_addresses_are_documented_on_a_page(site: Site):
    assert b"/realcam/preset/{preset}/go" in site.ask("/osc")[2]


def test_metrics_are_there_for_prometheus(site: Site):
    text = site.ask("/metrics")[2].decode()
    assert "realcam_output_frames_per_second 29.97" in text
    assert "realcam_latency_p50_seconds 0.08" in text
    assert "realcam_dropped_frames_total 3.0" in text
    assert 'realcam_mode{mode="live"} 1.0' in text
    assert 'realcam_sink_dropped_frames_total{sink="preview"} 1.0' in text


def test_a_taken_port_is_explained(site: Site):
    second = WebServer(WebConfig(port=site.port), site.desk, lambda now: {}, MonotonicClock())
    with pytest.raises(ConfigError, match=f"port {site.port}.*set another port under web:"):
        second.start()
    second.stop()
