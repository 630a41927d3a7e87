"""The whole live path in one process group: real engine process, real UDP, real pixels."""

import io
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from engine.errors import ConfigError
from plugin.bench import free_port, send_osc, wait_until_live
from plugin.config import ObsConfig, SessionConfig
from plugin.engine_host import HEALTHY_AFTER_S
from plugin.obs.local import PASSWORD_VARIABLE
from plugin.session import Session, _obs_client
from plugin.sinks.base import OutputFrame
from plugin.sinks.memory import MemorySink
from plugin.stamps import read_stamp
from plugin.status import status_panel


def config(**changes: object) -> SessionConfig:
    values: dict[str, object] = {
        "source": {"kind": "pattern", "width": 640, "height": 360},
        "sinks": [{"kind": "memory"}],
        "output": {"width": 640, "height": 360},
        "engine": {"name": "planar"},
        "osc": {"port": free_port()},
        "web": {"enabled": False},
    }
    return SessionConfig.model_validate({**values, **changes})


class Watch:
    """Notes of every picture that went out: when, where the stamp is, and the darkest it gets."""

    def __init__(self) -> None:
        self.arrived_s: list[float] = []
        self.x: list[float] = []
        self.ages_s: list[float] = []
        self.brightness: list[float] = []

    def see(self, frame: OutputFrame, now: float) -> None:
        self.arrived_s.append(now)
        self.brightness.append(float(frame.nv12[: frame.nv12.shape[0] * 2 // 3].mean()))
        stamp = read_stamp(frame.nv12)
        self.x.append(stamp.centre[0] if stamp else np.nan)
        self.ages_s.append(stamp.age_s(now) if stamp else np.nan)


@contextmanager
def on_air(session_config: SessionConfig) -> Iterator[tuple[Session, Watch]]:
    watch = Watch()
    with Session(session_config, extra_sinks=[MemorySink(1, on_frame=watch.see)]) as session:
        wait_until_live(session)
        time.sleep(0.5)
        watch.__init__()  # type: ignore[misc]
        yield session, watch


def wait_for(what: Callable[[], bool], timeout_s: float = 10.0) -> None:
    end = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_a_preset_fired_over_udp_moves_the_picture_that_goes_out() -> None:
    with on_air(config()) as (session, watch):
        send_osc(session.config.osc.port, "/realcam/cam/pose", 4.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.5)
        time.sleep(1.5)
    lens_px = 320 / np.tan(np.radians(30))
    assert watch.x[0] - watch.x[-1] == pytest.approx(lens_px * np.tan(np.radians(4)), abs=2)


@pytest.mark.slow
def test_twenty_kills_of_the_engine_cost_no_frame_and_the_move_goes_on() -> None:
    with on_air(config()) as (session, watch):
        send_osc(session.config.osc.port, "/realcam/cam/pan", 0.01)
        for _ in range(20):
            restarts = session.engine.status().restarts
            os.kill(session.engine.status().pid, signal.SIGKILL)
            wait_for(
                lambda before=restarts: (
                    session.engine.status().restarts > before and session.engine.status().state == "live"
                )
            )
            time.sleep(HEALTHY_AFTER_S + 0.1)
        missed = session.pacer.status().missed
        assert session.engine.status().restarts == 20
    assert missed == 0
    intervals_ms = 1000 * np.diff(watch.arrived_s)
    # every picture in its own interval: none left out, none of two at once
    assert len(watch.arrived_s) == pytest.approx((watch.arrived_s[-1] - watch.arrived_s[0]) * 30 + 1, abs=1.5)
    assert np.quantile(intervals_ms, 0.95) < 45
    assert min(watch.brightness) > 30
    readable = np.array([x for x in watch.x if not np.isnan(x)])
    assert len(readable) > 0.9 * len(watch.x)
    assert readable[0] - readable[-1] > 20  # the pan went on
    assert np.diff(readable).max() < 3  # and never back


def test_the_picture_moves_at_the_outputs_rate_while_the_engine_does_four_frames_a_second() -> None:
    with on_air(config(engine={"name": "planar", "delay_ms": 250})) as (session, watch):
        send_osc(session.config.osc.port, "/realcam/cam/pan", 0.2)
        time.sleep(3.0)
        assert session.engine.status().fps < 5
        assert session.compositor.rung.name == "ENGINE"
    x = np.array(watch.x[30:])
    x = x[~np.isnan(x)]
    assert (np.diff(x) < -0.05).mean() > 0.9


def test_a_source_that_is_not_there_gives_the_slate_at_the_full_rate(tmp_path: Path) -> None:
    watch = Watch()
    missing = config(source={"kind": "file", "path": str(tmp_path / "nothing.mp4")})
    with Session(missing, extra_sinks=[MemorySink(1, on_frame=watch.see)]) as session:
        wait_for(lambda: len(watch.arrived_s) > 30)
        state = session.state(session.clock.now())
    assert state["rung"] == "slate"
    assert "nothing.mp4" in state["source"]["detail"]  # type: ignore[index]
    assert min(watch.brightness) > 20


def test_a_port_in_use_is_said_before_anything_is_on_air() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        with pytest.raises(ConfigError, match=str(port)):
            Session(config(osc={"port": port})).start()


def test_a_failure_on_the_way_to_the_engine_and_back_is_shown_and_passes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a picture of no size")

    with on_air(config()) as (session, _):
        for part, method in ((session.engine, "submit"), (session.compositor, "set_engine_picture")):
            with monkeypatch.context() as patch:
                patch.setattr(part, method, fail)
                wait_for(lambda: "a picture of no size" in str(session.state(0.0)["error"]))
            wait_for(lambda: not session.state(0.0)["error"])
    assert caplog.text.count("failed in a way it should not") == 2


def test_an_obs_that_cannot_be_asked_for_the_tally_is_shown_with_the_reason() -> None:
    port = free_port(socket.SOCK_STREAM)
    with Session(config(obs={"enabled": True, "port": port})) as session:
        wait_for(lambda: session.state(0.0)["obs"]["state"] == "lost")  # type: ignore[index]
        state = session.state(session.clock.now())
    shown = Console(width=300, file=io.StringIO())
    shown.print(status_panel(state))
    for said in (str(state["obs"]), shown.file.getvalue()):  # type: ignore[attr-defined]
        assert f"nothing answers at 127.0.0.1:{port}" in said and "WebSocket Server Settings" in said


@pytest.mark.parametrize(("configured", "used"), [("", "of OBS itself"), ("of the file", "of the file")])
def test_an_obs_on_this_machine_needs_no_password_in_the_session_file(
    configured: str, used: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "plugin_config" / "obs-websocket" / "config.json"
    settings.parent.mkdir(parents=True)
    found = {"server_enabled": True, "server_port": 4455, "auth_required": True}
    settings.write_text(json.dumps({**found, "server_password": "of OBS itself"}))
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    monkeypatch.setattr("plugin.obs.local.config_folders", lambda: [tmp_path])
    monkeypatch.setattr("plugin.session.ObsClient", lambda *address: address)
    obs = ObsConfig(enabled=True, password=configured)
    assert _obs_client(obs) == ("127.0.0.1", 4455, used)


def test_the_state_is_ready_for_json() -> None:
    with on_air(config()) as (session, _):
        state = json.loads(json.dumps(session.state(session.clock.now())))
    assert state["fps"] == pytest.approx(30, abs=1)
    assert state["engine"]["state"] == "live"
    assert 0 < state["latency_ms"] < 200
