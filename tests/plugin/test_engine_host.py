import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import psutil
import pytest

from engine.camera.geometry import IDENTITY, Pose
from engine.engines.base import EngineSettings
from engine.errors import EngineError
from engine.frames import RGB, Frame
from plugin.clock import MonotonicClock
from plugin.engine_host import EngineHost
from plugin.engine_process import ENGINES, build_engine
from plugin.shared_frames import SharedPicture

CLOCK = MonotonicClock()


def settings(**changes: object) -> EngineSettings:
    values = {"name": "planar", "size": (320, 180), "horizontal_fov": 1.0, "subject_distance_m": 2.5}
    return EngineSettings(**{**values, **changes})  # type: ignore[arg-type]


def frame(value: int, width: int = 320, height: int = 180) -> Frame:
    return Frame(np.full((height, width, 3), value, np.uint8), value, Fraction(1, 30), RGB, CLOCK.now())


def wait_for(what: Callable[[], bool], timeout_s: float = 20.0) -> None:
    end = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def live(host: EngineHost) -> bool:
    return host.status().state == "live"


def picture_of(host: EngineHost, sent: Frame) -> SharedPicture:
    """What the engine makes of a frame, sent until it comes back."""
    for _ in range(200):
        host.submit(sent, IDENTITY)
        picture = host.take(0.05)
        if picture is not None and picture.arrived_s == sent.arrived_s:
            return picture
    raise AssertionError("the engine never answered")


@pytest.fixture
def host() -> Iterator[EngineHost]:
    host = EngineHost(settings(), CLOCK)
    host.start()
    wait_for(lambda: live(host))
    yield host
    host.stop()


def test_the_planar_engine_passes_frames_on_with_the_identity_pose(host: EngineHost) -> None:
    host.submit(frame(42), Pose.from_angles(pan=0.3))
    picture = host.take(5.0)
    assert picture is not None
    assert (picture.pixels == 42).all()
    assert picture.pose == IDENTITY


def test_a_frame_larger_than_the_memory_is_scaled_and_one_of_another_size_followed(host: EngineHost) -> None:
    assert picture_of(host, frame(9, 1920, 1080)).pixels.shape == (180, 320, 3)
    assert picture_of(host, frame(9, 100, 60)).pixels.shape == (60, 100, 3)


def test_a_killed_engine_comes_back(host: EngineHost) -> None:
    for _ in range(3):
        restarts = host.status().restarts
        os.kill(host.status().pid, signal.SIGKILL)
        wait_for(lambda before=restarts: host.status().restarts > before and live(host))
        assert (picture_of(host, frame(77)).pixels == 77).all()


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="only Linux groups by session")
def test_the_engine_goes_behind_the_output_where_the_scheduler_groups_by_session(host: EngineHost) -> None:
    def niceness(pid: int | str) -> int:
        told = Path(f"/proc/{pid}/autogroup").read_text().split()  # nothing: of the first session's group
        return int(told[-1]) if told else 0

    assert niceness(host.status().pid) > niceness("self")


def test_submitting_never_waits_for_a_stopped_engine(host: EngineHost) -> None:
    os.kill(host.status().pid, signal.SIGSTOP)
    try:
        longest = 0.0
        for i in range(3000):
            sent = frame(i % 256)
            started = time.perf_counter()
            host.submit(sent, IDENTITY)
            longest = max(longest, time.perf_counter() - started)
        assert longest < 0.25
    finally:
        os.kill(host.status().pid, signal.SIGCONT)


def test_a_hung_engine_is_replaced(host: EngineHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugin.engine_host.HUNG_AFTER_S", 0.5)
    pid = host.status().pid
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: host.status().pid != pid and live(host))
    assert not psutil.pid_exists(pid)


def test_a_process_that_cannot_be_started_is_said_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    start = subprocess.Popen

    def too_many(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("plugin.engine_host.subprocess.Popen", too_many)
    host = EngineHost(settings(), CLOCK)
    host.start()
    try:
        wait_for(lambda: host.status().restarts > 1)
        assert "Too many open files" in host.status().detail
        monkeypatch.setattr("plugin.engine_host.subprocess.Popen", start)
        wait_for(lambda: live(host))
    finally:
        host.stop()


def test_a_write_that_is_stuck_holds_up_neither_the_status_nor_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = EngineHost(settings(), CLOCK)
    host.start()
    wait_for(lambda: live(host))
    pid, stuck = host.status().pid, threading.Event()

    def full(descriptor: int, data: bytes) -> int:
        stuck.set()
        wait_for(lambda: not psutil.pid_exists(pid))
        raise BrokenPipeError

    monkeypatch.setattr("plugin.engine_host.os.write", full)
    writer = threading.Thread(target=host.reset)
    writer.start()
    assert stuck.wait(5)
    assert live(host)
    host.stop()
    writer.join(5)
    assert not writer.is_alive() and not psutil.pid_exists(pid)


def test_an_engine_that_does_not_exist_is_said_to() -> None:
    host = EngineHost(settings(name="warp-drive"), CLOCK)
    host.start()
    try:
        wait_for(lambda: host.status().state == "restarting")
        assert "no engine 'warp-drive'" in host.status().detail
        assert "planar" in host.status().detail
    finally:
        host.stop()


def test_a_slow_engine_is_given_the_newest_frame_and_what_it_skipped_is_counted() -> None:
    host = EngineHost(settings(delay_s=0.1), CLOCK)
    host.start()
    try:
        wait_for(lambda: live(host))
        for value in range(30):
            host.submit(frame(value), IDENTITY)
            time.sleep(0.01)
        wait_for(lambda: (picture := host.take(1.0)) is not None and picture.pixels[0, 0, 0] == 29)
        assert host.status().skipped > 15
    finally:
        host.stop()


def test_stopping_leaves_no_process_behind() -> None:
    host = EngineHost(settings(), CLOCK)
    host.start()
    wait_for(lambda: live(host))
    pid = host.status().pid
    host.stop()
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_engine_ends_with_its_parent_and_leaves_no_shared_memory(how: signal.Signals) -> None:
    before = shared_memory()
    script = (
        "import time\n"
        "from plugin.clock import MonotonicClock\n"
        "from plugin.engine_host import EngineHost\n"
        "from engine.engines.base import EngineSettings\n"
        "host = EngineHost(EngineSettings(name='planar', size=(320, 180), horizontal_fov=1.0,"
        " subject_distance_m=2.5), MonotonicClock())\n"
        "host.start()\n"
        "while host.status().state != 'live': time.sleep(0.01)\n"
        "print(host.status().pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout as lines:
        engine_pid = int(lines.readline())
    assert psutil.pid_exists(engine_pid)
    parent.send_signal(how)
    parent.wait(5)
    wait_for(lambda: not psutil.pid_exists(engine_pid), 3.0)
    assert shared_memory() == before


def shared_memory() -> set[str]:
    folder = Path("/dev/shm")
    return {path.name for path in folder.glob("*realcam*")} if folder.is_dir() else set()


def test_an_engine_whose_package_is_missing_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "student", ("no_such_package", "Engine"))
    with pytest.raises(EngineError, match=r"no_such_package.*setup --with model"):
        build_engine(settings(name="student", model="wan-1.3b"))


def test_an_engine_says_how_well_it_renders_and_the_operator_sees_it() -> None:
    without_weights = settings(name="student", weights="nowhere.onnx")
    host = EngineHost(without_weights, CLOCK)
    host.start()
    try:
        wait_for(lambda: live(host) and host.status().detail != "", 60.0)
        assert host.status().detail.startswith("depth only: the student's weights are not there")
    finally:
        host.stop()


def test_a_level_is_told_when_it_changes_and_health_with_every_picture(
    caplog: pytest.LogCaptureFixture,
) -> None:
    host = EngineHost(settings(), CLOCK)
    with caplog.at_level("INFO"):
        for level in ("student at 2 steps", "student at 1 step: the machine is busy"):
            host._hear({"event": "level", "level": level})
    host._hear({"event": "picture", "step_ms": 40.0, "skipped": 0, "health": {"error": 7.5}})
    host.stop()
    assert host.status().detail == "student at 1 step: the machine is busy"
    assert host.status().health == {"error": 7.5}
    assert "student at 1 step: the machine is busy" in caplog.text
