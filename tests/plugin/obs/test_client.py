"""The client where there is no OBS, or one that misbehaves; the real one is in test_obs_end_to_end."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from websockets.sync.server import Server, ServerConnection, serve

from engine.errors import ObsError
from plugin.obs.client import CONNECTED, DISCONNECTED, ObsClient, RequestRefused
from plugin.worker import Backoff

QUICK = Backoff(first_s=0.05, limit_s=0.05)


class StandIn:
    """Greets as obs-websocket does and leaves every answer to the test."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, Callable[[], dict[str, object]]] = {}
        self.connections: list[ServerConnection] = []
        self._server: Server = serve(self._talk, "127.0.0.1", 0)
        self.port: int = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def _talk(self, connection: ServerConnection) -> None:
        connection.send(json.dumps({"op": 0, "d": {"obsWebSocketVersion": "5.1.0"}}))
        connection.recv()
        connection.send(json.dumps({"op": 2, "d": {"negotiatedRpcVersion": 1}}))
        self.connections.append(connection)
        for text in connection:
            request = json.loads(text)["d"]
            self.asked.append(request["requestType"])
            status = self.answers.get(request["requestType"], lambda: {"result": True, "code": 100})()
            answer = {"requestId": request["requestId"], "requestStatus": status, "responseData": {"n": 1}}
            connection.send(json.dumps({"op": 7, "d": answer}))

    def event(self, name: str) -> None:
        self.connections[-1].send(json.dumps({"op": 5, "d": {"eventType": name, "eventData": {}}}))

    def close(self) -> None:
        for connection in self.connections:
            connection.close()
        self._server.shutdown()
        self._thread.join()


@pytest.fixture
def obs() -> Iterator[StandIn]:
    obs = StandIn()
    yield obs
    obs.close()


@pytest.fixture
def client(obs) -> Iterator[ObsClient]:
    with ObsClient(port=obs.port, backoff=QUICK) as client:
        client.wait_connected(5)
        yield client


def test_without_obs_the_error_says_where_it_looked_and_what_to_switch_on():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        port = taken.getsockname()[1]
        with ObsClient(port=port, backoff=QUICK) as client, pytest.raises(ObsError) as caught:
            client.wait_connected(0.5)
    assert f"127.0.0.1:{port}" in str(caught.value) and "WebSocket Server Settings" in str(caught.value)


def test_a_refusal_carries_obs_s_code_and_comment(obs, client):
    obs.answers["Nonsense"] = lambda: {"result": False, "code": 204, "comment": "Unknown request type."}
    with pytest.raises(RequestRefused, match=r"Unknown request type. \(code 204\)") as caught:
        client.call("Nonsense")
    assert caught.value.code == 204


def test_an_answer_that_does_not_come_is_an_error_in_time(obs, client):
    obs.answers["GetStats"] = lambda: time.sleep(1) or {"result": True, "code": 100}
    began_s = time.monotonic()
    with pytest.raises(ObsError):
        client.call("GetStats", timeout_s=0.2)
    assert time.monotonic() - began_s < 0.9


def test_requests_wait_while_the_scene_collection_changes(obs, client):
    obs.event("CurrentSceneCollectionChanging")
    time.sleep(0.1)
    asking = threading.Thread(target=client.call, args=("GetStats",))
    asking.start()
    time.sleep(0.4)
    assert obs.asked == []
    obs.event("CurrentSceneCollectionChanged")
    asking.join(5)
    assert obs.asked == ["GetStats"]


def test_a_request_is_asked_again_while_obs_is_not_ready(obs, client):
    ready = iter([False, False, True])
    obs.answers["GetStats"] = lambda: {"result": next(ready), "code": 207, "comment": "not ready"}
    assert client.call("GetStats") == {"n": 1}
    assert obs.asked == ["GetStats"] * 3


def test_a_listener_is_answered_as_soon_as_obs_is_ready(obs):
    ready = iter([False, False, True])
    obs.answers["GetStats"] = lambda: {"result": next(ready), "code": 207, "comment": "not ready"}
    told: list[object] = []
    client = ObsClient(port=obs.port, backoff=QUICK)
    client.listen(lambda name, data: told.append(client.call("GetStats")) if name == CONNECTED else None)
    with client:
        _until(lambda: told == [{"n": 1}])


@pytest.mark.parametrize("greeting", ["[]", "{}", '{"op": 0}', '{"op": 0, "d": []}', "SSH-2.0-OpenSSH"])
def test_what_is_not_obs_is_said_and_tried_again(greeting):
    connections: list[ServerConnection] = []

    def greet(connection: ServerConnection) -> None:
        connections.append(connection)
        connection.send(greeting)
        connection.recv()

    with serve(greet, "127.0.0.1", 0) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        with ObsClient(port=server.socket.getsockname()[1], backoff=QUICK) as client:
            _until(lambda: len(connections) > 1)
            _until(lambda: client.state[0] == "lost")
            assert "OBS" in client.state[1] or "obs-websocket" in client.state[1]
        server.shutdown()
        serving.join()


def test_a_listener_may_ask_obs_and_a_lost_connection_comes_back(obs):
    told: list[str] = []
    client = ObsClient(port=obs.port, backoff=QUICK)

    def listener(name: str, data: dict[str, object]) -> None:
        told.append(name)
        if name == "CurrentProgramSceneChanged":
            told.append(str(client.call("GetStats")))

    client.listen(listener)
    with client:
        client.wait_connected(5)
        obs.event("CurrentProgramSceneChanged")
        _until(lambda: "{'n': 1}" in told)
        obs.connections[0].close()
        _until(lambda: len(obs.connections) == 2)
        client.wait_connected(5)
        assert DISCONNECTED in told
        assert client.call("GetVersion") == {"n": 1}


def _until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
