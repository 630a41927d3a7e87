"""``demo``: the main job on the bundled clip, end to end, and what it measured.

A real session with real presets fired over real UDP, into a file and the live preview page.
"""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from plugin.bench import free_port, send_osc, wait_until_live
from plugin.clock import MonotonicClock
from plugin.config import (
    EngineConfig,
    FileSinkConfig,
    FileSourceConfig,
    OscConfig,
    OutputConfig,
    PreviewSinkConfig,
    SessionConfig,
    SourceConfig,
    WebConfig,
)
from plugin.engine_host import EngineStatus
from plugin.latency import quantiles
from plugin.session import Session
from plugin.sources.factory import make_source

CLIP = Path(__file__).parent / "docs" / "presenter.mp4"
CUES = (  # seconds from the start, preset, seconds that it takes
    (1.0, "push-in", 3.0),
    (4.5, "arc-left", 3.5),
    (8.5, "arc-right", 3.5),
    (12.5, "wide", 1.5),
)
LENGTH_S = 15.0
LOOK_EVERY_S = 0.1  # at what the engine does

Say = Callable[[str], object]


def run_demo(
    *, clip: Path, output: Path, engine: EngineConfig, opened: Callable[[str], object], say: Say
) -> dict[str, object]:
    """Plays the cues and returns the figures. ``opened`` is told the address of the live page."""
    config = SessionConfig(
        source=FileSourceConfig(kind="file", path=clip),
        sinks=[FileSinkConfig(kind="file", path=output), PreviewSinkConfig(kind="preview")],
        output=OutputConfig(width=1280, height=720, rate=Fraction(30)),
        engine=engine,
        osc=OscConfig(port=preferred_port(9000, socket.SOCK_DGRAM)),
        web=WebConfig(port=preferred_port(9001, socket.SOCK_STREAM)),
    )
    _check(config.source)
    with Session(config) as session:
        page = f"http://127.0.0.1:{config.web.port}/"
        say(f"The clip {clip.name} is on its way through the {engine.name} engine; watch it at {page}")
        opened(page)
        wait_until_live(session)
        presets, photon_ms, looks = _play_cues(session, config.osc.port, say)
        state = session.state(session.clock.now())
        latency = session.latency.quantiles_ms(0.5, 0.95)
    sent = session.pacer.status()
    return {
        "output": str(output),
        "frames_out": sent.sent,
        "output_fps": round(sent.fps, 2),
        "engine": engine.name,
        "engine_fps": quantiles([look.fps for look in looks], 0.05, 0.5),
        "engine_levels": _shares([look.detail or look.state for look in looks]),
        "control_to_photon_ms": quantiles(photon_ms, 0.5, 0.95),
        "glass_to_glass_ms": latency,
        "dropped": state["drops"],
        "repeated": sent.repeated,
        "presets": presets,
    }


def _check(source: SourceConfig) -> None:
    """A clip that cannot be played is said at once, instead of showing the slate. Raises SourceError."""
    clip = make_source(source, MonotonicClock())
    try:
        clip.open()
    finally:
        clip.close()


def preferred_port(port: int, kind: socket.SocketKind) -> int:
    """The usual port, or any free one when somebody (another RealCam, say) holds it."""
    with socket.socket(socket.AF_INET, kind) as probe:
        try:
            probe.bind(("127.0.0.1", port))
            return port
        except OSError:
            return free_port(kind)


def _play_cues(session: Session, port: int, say: Say) -> tuple[list[str], list[float], list[EngineStatus]]:
    """Fires the cues at their times; returns the presets that ran, each one's delay in ms, and looks at the
    engine, ``LOOK_EVERY_S`` apart.
    """
    start = session.clock.now()
    fired = []
    sent_s = []
    looks: list[EngineStatus] = []
    for at_s, preset, duration_s in CUES:
        looks += _looks_until(start + at_s, session)
        say(f"{at_s:5.1f} s  /realcam/preset/{preset}/go {duration_s}")
        sent_s.append(session.clock.now())
        send_osc(port, f"/realcam/preset/{preset}/go", 1.0, duration_s)
        time.sleep(0.3)
        if session.state(session.clock.now())["preset"] == preset:
            fired.append(preset)
    looks += _looks_until(start + LENGTH_S, session)
    on_air = list(session.on_air)
    photon_ms = [
        1000 * (due_s - sent) for sent in sent_s for applied_s, due_s in on_air if 0 <= applied_s - sent < 0.2
    ]
    return fired, photon_ms, looks


def _looks_until(end_s: float, session: Session) -> list[EngineStatus]:
    looks = []
    while (now := session.clock.now()) < end_s:
        looks.append(session.engine.status())
        session.clock.sleep_until(min(now + LOOK_EVERY_S, end_s))
    return looks


def _shares(texts: list[str]) -> dict[str, float]:
    return {text: round(count / len(texts), 2) for text, count in Counter(texts).items()}
