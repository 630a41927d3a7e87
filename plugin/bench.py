"""``bench live``: what the live path really does, read back out of the output's pixels.

The pattern source draws the time into its picture; here the stamps are read again from the pictures
that reach a sink, and camera jumps fired over real UDP are timed until the picture is seen to have
jumped. Nothing that the session believes of itself is asked, but for its counts of drops.
"""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass, field

import numpy as np
import psutil
from pythonosc.osc_message_builder import OscMessageBuilder

from engine.errors import RealCamError
from plugin.clock import MonotonicClock
from plugin.config import (
    EngineConfig,
    MemorySinkConfig,
    OscConfig,
    OutputConfig,
    PatternSourceConfig,
    SessionConfig,
    WebConfig,
)
from plugin.latency import quantiles
from plugin.session import Session
from plugin.sinks.base import OutputFrame
from plugin.sinks.memory import MemorySink
from plugin.stamps import read_stamp

WARM_UP_S = 2.0
JUMP_DEG = 1.5
JUMP_EVERY_S = 0.61  # no multiple of a frame, so that every phase is met


def free_port(kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    """A port of loopback that nobody holds now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def send_osc(port: int, address: str, *values: float | str) -> None:
    """One message to this machine, as a controller would send it."""
    builder = OscMessageBuilder(address)
    for value in values:
        builder.add_arg(value)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(builder.build().dgram, ("127.0.0.1", port))


@dataclass
class Observations:
    """What came out: when each picture came, its stamp's age, and where the stamp was."""

    arrived_s: list[float] = field(default_factory=list)
    ages_s: list[float] = field(default_factory=list)
    positions: list[tuple[float, float]] = field(default_factory=list)  # arrival, x of the stamp's middle
    unreadable: int = 0

    def see(self, frame: OutputFrame, now: float) -> None:
        self.arrived_s.append(now)
        stamp = read_stamp(frame.nv12)
        if stamp is None:
            self.unreadable += 1
            return
        self.ages_s.append(stamp.age_s(now))
        self.positions.append((now, stamp.centre[0]))


def bench_live(seconds: float, *, engine: EngineConfig, output: OutputConfig) -> dict[str, object]:
    """Runs a session on the pattern for that long and returns the figures (milliseconds)."""
    seen = Observations()
    config = SessionConfig(
        source=PatternSourceConfig(
            kind="pattern", width=output.width, height=output.height, rate=output.rate
        ),
        sinks=[MemorySinkConfig(kind="memory")],
        output=output,
        engine=engine,
        osc=OscConfig(port=free_port()),
        web=WebConfig(port=free_port(socket.SOCK_STREAM)),
    )
    with Session(config, extra_sinks=[MemorySink(1, on_frame=seen.see)]) as session:
        wait_until_live(session)
        time.sleep(WARM_UP_S)
        seen.__init__()  # type: ignore[misc]
        before, cpu_before = session.pacer.status(), cpu_seconds()
        started = time.perf_counter()
        jumps = _jump_about(config.osc.port, seconds)
        elapsed = time.perf_counter() - started
        cpu_cores = (cpu_seconds() - cpu_before) / elapsed
        rss_mb = sum(process.memory_info().rss for process in process_tree()) / 1e6
        after, state = session.pacer.status(), session.state(session.clock.now())
    intervals_ms = 1000 * np.diff(seen.arrived_s)
    photon_ms = _control_to_photon_ms(jumps, seen.positions)
    return {
        "seconds": round(elapsed, 1),
        "size": f"{output.width}x{output.height}",
        "rate": str(output.rate),
        "engine": engine.name,
        "engine_delay_ms": engine.delay_ms,
        "frames_out": len(seen.arrived_s),
        "output_fps": round((len(seen.arrived_s) - 1) / (seen.arrived_s[-1] - seen.arrived_s[0]), 3),
        "output_interval_ms": quantiles(intervals_ms.tolist(), 0.5, 0.99),
        "control_to_photon_ms": quantiles(photon_ms, 0.5, 0.95),
        "commands": len(jumps),
        "commands_seen": len(photon_ms),
        "glass_to_glass_ms": quantiles([1000 * age for age in seen.ages_s], 0.5, 0.95),
        "unreadable_stamps": seen.unreadable,
        "cpu_cores": round(cpu_cores, 2),
        "dropped": after.missed - before.missed + sum(sink["dropped"] for sink in state["sinks"]),  # type: ignore[attr-defined]
        "repeated": after.repeated - before.repeated,
        "rss_mb": round(rss_mb, 1),
    }


def wait_until_live(session: Session, timeout_s: float = 60.0) -> None:
    """Until the engine's pictures are on air; RealCamError with what is missing after the time-out."""
    clock = MonotonicClock()
    deadline = clock.now() + timeout_s
    while session.state(clock.now())["rung"] != "engine":
        if clock.now() > deadline:
            source, engine = session.source.status(), session.engine.status()
            raise RealCamError(
                f"no picture after {timeout_s:.0f} s: the source is {source.state} {source.detail}, "
                f"the engine is {engine.state} {engine.detail}"
            )
        time.sleep(0.05)


def process_tree() -> list[psutil.Process]:
    """This process and the engine's."""
    this = psutil.Process()
    return [this, *this.children(recursive=True)]


def cpu_seconds() -> float:
    times = [process.cpu_times() for process in process_tree()]
    return float(sum(each.user + each.system for each in times))


def _jump_about(port: int, seconds: float) -> list[tuple[float, float]]:
    """Cuts the camera left and right over UDP; returns when each was sent and to which pan."""
    done = threading.Event()
    end = time.perf_counter() + seconds
    jumps = []
    pan = JUMP_DEG
    while time.perf_counter() + JUMP_EVERY_S < end:
        jumps.append((time.perf_counter(), pan))
        send_osc(port, "/realcam/cam/pose", pan, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0)
        pan = -pan
        done.wait(JUMP_EVERY_S)
    return jumps


def _control_to_photon_ms(
    jumps: list[tuple[float, float]], positions: list[tuple[float, float]]
) -> list[float]:
    """From each jump's sending to the arrival of the first picture that shows it.

    A camera that pans to the right moves its picture to the left: past the middle between the two
    places where the stamp has been.
    """
    if not positions:
        return []
    middle = float(np.mean(np.quantile([x for _, x in positions], (0.1, 0.9))))
    found = []
    for (sent_s, pan), until_s in zip(jumps, [sent for sent, _ in jumps[1:]] + [float("inf")], strict=True):
        for arrived_s, x in positions:
            if sent_s < arrived_s < until_s and (x < middle) == (pan > 0):
                found.append(1000 * (arrived_s - sent_s))
                break
    return found
