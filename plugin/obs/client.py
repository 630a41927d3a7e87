"""obs-websocket for the rest of RealCam: requests from any thread, events to listeners, for ever connected.

One worker thread owns the connection; obs-websocket-py's names and habits stop here. Knows nothing of
what is asked for. Requests wait while OBS changes its scene collection, when they would fail.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import websocket
from obswebsocket import exceptions, obsws
from obswebsocket.core import RecvThread

from engine.errors import ObsError
from plugin.obs.local import PASSWORD_VARIABLE
from plugin.worker import Backoff, State

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 3.0
REQUEST_TIMEOUT_S = 5.0
POLL_S = 0.25
NOT_READY = 207  # RequestStatus::NotReady: OBS is loading
NOT_FOUND = 600  # RequestStatus::ResourceNotFound
NOT_OBS = (ValueError, KeyError, TypeError, AttributeError)  # obs-websocket-py's, when greeted by another

Data = dict[str, Any]
Listener = Callable[[str, Data], None]
"""Called with an event's name and data. The name is CONNECTED or DISCONNECTED when that happens."""

CONNECTED, DISCONNECTED = "RealCamConnected", "RealCamDisconnected"


class RequestRefused(ObsError):
    """OBS answered no; ``code`` is obs-websocket's RequestStatus."""

    def __init__(self, request: str, code: int, comment: str) -> None:
        super().__init__(f"OBS refused {request}: {comment or 'without a reason'} (code {code})")
        self.code = code


@dataclass(eq=False)
class _Pending:
    """One request on its way through the worker."""

    name: str
    fields: Data
    deadline_s: float
    done: threading.Event = field(default_factory=threading.Event)
    answer: Data = field(default_factory=dict)
    error: ObsError | None = None

    def finish(self, answer: Data | None = None, error: ObsError | None = None) -> None:
        self.answer, self.error = answer or {}, error
        self.done.set()


class ObsClient:
    """``with ObsClient(...) as client: client.call("GetVersion")``. Listeners run on the worker thread
    and may call back into it."""

    def __init__(
        self, host: str = "127.0.0.1", port: int = 4455, password: str = "", *, backoff: Backoff | None = None
    ) -> None:
        self._host, self._port, self._password = host, port, password
        self._backoff = backoff or Backoff()
        self._inbox: queue.Queue[_Pending | tuple[str, Data]] = queue.Queue(1000)
        self._waiting: list[_Pending] = []
        self._listeners: list[Listener] = []
        self._connection: Connection | None = None
        self._changing_collection = False
        self._stop = threading.Event()
        self._connected = threading.Event()
        self._state: State = "idle"
        self._detail = ""
        self._logged: tuple[State, str] = ("idle", "")  # so that for ever the same failure is told once
        self._thread = threading.Thread(target=self._run, name="obs-websocket", daemon=True)

    def __enter__(self) -> ObsClient:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def state(self) -> tuple[State, str]:
        """Whether it is live, and if not, why."""
        return self._state, self._detail

    def listen(self, listener: Listener) -> None:
        """Before :meth:`start`."""
        self._listeners.append(listener)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                log.warning("obs-websocket did not close in %.0f s and was left behind", timeout_s)

    def wait_connected(self, timeout_s: float) -> None:
        """Raises :class:`ObsError` with the reason when there is no connection in time."""
        if not self._connected.wait(timeout_s):
            raise ObsError(self._detail or f"OBS at {self._where} did not answer in {timeout_s:.0f} s")

    def call(self, request: str, *, timeout_s: float = REQUEST_TIMEOUT_S, **fields: Any) -> Data:
        """Asks OBS and returns its answer; :class:`ObsError` when it refuses, is not there or is late."""
        pending = _Pending(request, fields, time.monotonic() + timeout_s)
        if threading.current_thread() is self._thread:
            self._ask(pending)
            while not pending.done.is_set() and time.monotonic() < pending.deadline_s:
                if self._stop.wait(POLL_S):
                    break
                self._ask(pending)
        else:
            try:
                self._inbox.put_nowait(pending)
            except queue.Full:
                raise ObsError(f"OBS at {self._where} is behind: 1000 requests wait") from None
            pending.done.wait(timeout_s)
        if not pending.done.is_set():
            raise ObsError(
                self._detail or f"OBS at {self._where} did not answer {request} in {timeout_s:g} s"
            )
        if pending.error is not None:
            raise pending.error
        return pending.answer

    @property
    def _where(self) -> str:
        return f"{self._host}:{self._port}"

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                if self._connect():
                    self._serve()
                    self._disconnect()
        except Exception as error:
            log.exception("the obs-websocket client failed in a way it should not")
            self._disconnect()
            self._set("lost", f"{type(error).__name__}: {error}")
        else:
            self._set("stopped")

    def _set(self, state: State, detail: str = "") -> None:
        if state != "connecting" and (state, detail) != self._logged:
            log.log(logging.WARNING if state == "lost" else logging.INFO, "OBS: %s %s", state, detail)
            self._logged = (state, detail)
        self._state, self._detail = state, detail

    def _connect(self) -> bool:
        """False after a failure and the pause that follows it."""
        self._set("connecting", self._detail)
        connection = Connection(self._host, self._port, self._password)
        try:
            connection.connect()
        except (OSError, websocket.WebSocketException, exceptions.ConnectionFailure, *NOT_OBS) as error:
            self._set("lost", _reason(self._where, error))
            self._stop.wait(self._backoff.next_s())
            return False
        connection.register(lambda event: self._inbox.put((event.name, event.datain)))
        self._connection = connection
        self._changing_collection = False
        self._backoff.succeeded()
        self._set("live")
        self._connected.set()
        self._tell(CONNECTED, {})
        return True

    def _disconnect(self) -> None:
        self._connected.clear()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            self._tell(DISCONNECTED, {})

    def _serve(self) -> None:
        """Until the connection is lost or OBS says that it closes."""
        while not self._stop.is_set():
            if self._connection is None or not self._connection.alive:
                self._set("lost", f"OBS at {self._where} closed the connection")
                return
            try:
                item = self._inbox.get(timeout=POLL_S)
            except queue.Empty:
                pass
            else:
                if isinstance(item, _Pending):
                    self._waiting.append(item)
                elif not self._take_event(*item):
                    self._set("lost", f"OBS at {self._where} is closing")
                    return
            self._ask_waiting()

    def _take_event(self, name: str, data: Data) -> bool:
        """False when OBS closes."""
        if name == "CurrentSceneCollectionChanging":
            self._changing_collection = True
        elif name == "CurrentSceneCollectionChanged":
            self._changing_collection = False
        elif name == "ExitStarted":
            return False
        self._tell(name, data)
        return True

    def _tell(self, name: str, data: Data) -> None:
        for listener in self._listeners:
            try:
                listener(name, data)
            except ObsError as error:
                log.warning("after OBS's event %s: %s", name, error)

    def _ask_waiting(self) -> None:
        now = time.monotonic()
        waiting, self._waiting = self._waiting, []
        for pending in waiting:
            if now > pending.deadline_s:
                continue  # its caller has given up
            if not self._changing_collection:
                self._ask(pending)
            if not pending.done.is_set():
                self._waiting.append(pending)

    def _ask(self, pending: _Pending) -> None:
        """Leaves it open when OBS is not ready: it may be asked again."""
        if self._connection is None or self._changing_collection:
            pending.finish(error=ObsError(f"OBS at {self._where} cannot be asked for {pending.name} now"))
            return
        try:
            pending.finish(self._connection.ask(pending.name, pending.fields, pending.deadline_s))
        except RequestRefused as error:
            if error.code != NOT_READY:
                pending.finish(error=error)
        except (OSError, websocket.WebSocketException) as error:
            pending.finish(error=ObsError(f"the connection to OBS at {self._where} broke: {error}"))


class _Receiver(RecvThread):  # type: ignore[misc]
    """obs-websocket-py's, which would die loudly when OBS does; the worker sees that it ended."""

    def run(self) -> None:
        try:
            super().run()
        except (OSError, websocket.WebSocketException) as error:
            log.debug("the obs-websocket receiver ended: %s", error)


class Connection(obsws):  # type: ignore[misc]
    """obs-websocket-py with a time-out for connecting, and with the reasons of refusals."""

    def __init__(self, host: str, port: int, password: str) -> None:
        super().__init__(host, port, password, legacy=False)
        self.thread_recv: _Receiver | None = None

    @property
    def alive(self) -> bool:
        return bool(self.thread_recv is not None and self.thread_recv.is_alive())

    def connect(self) -> None:
        # Loopback or the operator's own network: never by the environment's web proxy.
        self.ws = websocket.create_connection(
            f"ws://{self.host}:{self.port}", timeout=CONNECT_TIMEOUT_S, http_no_proxy=["*"]
        )
        try:
            self._auth()
        except BaseException:
            self.ws.close()
            raise
        self.ws.settimeout(None)
        self.thread_recv = _Receiver(self)
        self.thread_recv.daemon = True
        self.thread_recv.start()

    def ask(self, name: str, fields: Data, deadline_s: float) -> Data:
        request_id = str(self.id)
        self.id += 1
        arrived = self.events[request_id] = threading.Event()
        request = {"requestId": request_id, "requestType": name, "requestData": fields}
        try:
            self.ws.send(json.dumps({"op": 6, "d": request}))
            arrived.wait(max(0.0, deadline_s - time.monotonic()))
        finally:
            del self.events[request_id]
        answer = self.answers.pop(request_id, None)
        if answer is None:
            raise OSError(f"no answer to {name}")
        status = answer["requestStatus"]
        if not status["result"]:
            raise RequestRefused(name, int(status["code"]), str(status.get("comment", "")))
        return dict(answer.get("responseData") or {})

    def close(self) -> None:
        receiver, self.thread_recv = self.thread_recv, None
        if receiver is not None:
            receiver.running = False
        self.ws.close(timeout=1)
        if receiver is not None:
            receiver.join(2.0)


def _reason(where: str, error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return (
            f"nothing answers at {where}: is OBS running, and its WebSocket server enabled "
            "(Tools → WebSocket Server Settings)?"
        )
    if isinstance(error, exceptions.ConnectionFailure):
        return (
            f"OBS at {where} did not let us in: the password is wrong or missing (Tools → WebSocket Server "
            f"Settings → Show Connect Info; here the variable {PASSWORD_VARIABLE}, in a session file "
            "obs.password, of `obs add` and `obs status` --password)"
        )
    if isinstance(error, NOT_OBS):
        return (
            f"what answers at {where} does not speak obs-websocket 5: compare the port (Tools → WebSocket "
            f"Server Settings) ({type(error).__name__}: {error})"
        )
    return f"no connection to OBS at {where}: {error}"
