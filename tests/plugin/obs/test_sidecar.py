"""RealCam's process as the script in OBS sees it, with a stand-in for the launcher."""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from pythonosc.osc_message import OscMessage

from plugin.obs import sidecar as sidecar_module
from plugin.obs.sidecar import Sidecar, StateWatcher, find_python, last_line, osc_message, send_osc, words


@pytest.fixture
def launcher(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "realcam_obs.py"
    monkeypatch.setattr(sidecar_module, "LAUNCHER", path)
    monkeypatch.setattr(sidecar_module, "log_path", lambda: tmp_path / "logs" / "sidecar.log")
    return path


def until(condition) -> None:
    deadline_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_it_is_started_with_its_arguments_and_ended_when_asked(launcher):
    launcher.write_text(
        "import sys, time\nprint(sys.argv[1:], flush=True)\ntime.sleep(60)\n", encoding="utf-8"
    )
    sidecar = Sidecar()
    assert sidecar.describe() == "not started"
    sidecar.start(["run", "--source", "obs"])
    until(lambda: "'--source', 'obs'" in sidecar.describe())
    assert sidecar.running
    sidecar.stop()
    until(lambda: not sidecar.running)
    assert sidecar.describe() == "stopped"


def test_one_that_does_not_listen_is_ended_with_its_children(launcher, monkeypatch):
    monkeypatch.setattr(sidecar_module, "STOP_S", 0.3)
    launcher.write_text(
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True)\ntime.sleep(60)\n",
        encoding="utf-8",
    )
    sidecar = Sidecar()
    sidecar.start([])
    until(lambda: last_line(sidecar_module.log_path()).isdigit())
    child = int(last_line(sidecar_module.log_path()))
    sidecar.close()
    assert not sidecar.running
    until(lambda: not is_alive(child))


def test_one_that_cannot_be_asked_to_end_is_ended_at_once(launcher, monkeypatch):
    def no_console(process: subprocess.Popen[bytes], number: int) -> None:
        raise OSError("[WinError 6] The handle is invalid")

    launcher.write_text("import time\nprint('here', flush=True)\ntime.sleep(60)\n", encoding="utf-8")
    sidecar = Sidecar()
    sidecar.start([])
    until(lambda: last_line(sidecar_module.log_path()) == "here")
    monkeypatch.setattr(subprocess.Popen, "send_signal", no_console)
    began_s = time.monotonic()
    sidecar.close()
    assert not sidecar.running and sidecar.describe() == "stopped"
    assert time.monotonic() - began_s < sidecar_module.STOP_S


def is_alive(pid: int) -> bool:
    """A killed orphan may wait for its parent to notice: that counts as dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_one_that_fails_says_its_exit_code_and_its_last_words(launcher):
    launcher.write_text("import sys\nsys.exit('RealCam: port 9000 is taken')\n", encoding="utf-8")
    sidecar = Sidecar()
    sidecar.start([])
    until(lambda: not sidecar.running)
    assert sidecar.describe().startswith("ended with exit code 1: RealCam: port 9000 is taken")


def test_the_variables_of_the_python_inside_obs_do_not_reach_it(launcher, monkeypatch):
    monkeypatch.setenv("PYTHONHOME", "/of/obs")
    launcher.write_text("import os\nprint(sorted(k for k in os.environ if k.startswith('PYTHON')))\n")
    sidecar = Sidecar()
    sidecar.start([])
    until(lambda: not sidecar.running)
    assert last_line(sidecar_module.log_path()) == "[]"


@pytest.mark.parametrize(
    ("options", "windows", "split"),
    [
        (r'--config "C:\My Files\s.yaml" --verbose', True, ["--config", r"C:\My Files\s.yaml", "--verbose"]),
        (r"--config C:\s.yaml", True, ["--config", r"C:\s.yaml"]),
        (r"--config /my\ files/s.yaml", False, ["--config", "/my files/s.yaml"]),
        ("--presets '/my files' --weights a#1", False, ["--presets", "/my files", "--weights", "a#1"]),
        ("--source rtsp://a//b --presets ~/p", False, ["--source", "rtsp://a//b", "--presets", "/home/me/p"]),
        ('--config "half', False, ["--config", '"half']),
        ("", False, []),
    ],
)
def test_further_options_are_split_as_in_a_terminal(options, windows, split, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert words(options, windows) == split


def test_the_python_that_is_found_is_one(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/usr/bin/obs")
    python = find_python()
    assert python is not None and os.access(python, os.X_OK) and "python" in Path(python).name


@pytest.mark.parametrize("address", ["/a", "/abc", "/abcd", "/realcam/preset/10/go"])
@pytest.mark.parametrize("values", [(), (1.0,), (1.0, -0.5)])
def test_an_osc_message_is_read_as_it_was_meant(address, values):
    message = OscMessage(osc_message(address, *values))
    assert (message.address, tuple(message.params)) == (address, values)


def test_osc_goes_out_by_udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.settimeout(5)
        send_osc(udp.getsockname()[1], "/realcam/take", 1.0)
        assert OscMessage(udp.recv(100)).address == "/realcam/take"


def test_the_state_is_what_the_sidecar_told_last_and_nothing_once_it_is_gone():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"path": self.path}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    watcher = StateWatcher(server.server_address[1], interval_s=0.05)
    try:
        until(lambda: watcher.state == {"path": "/state"})
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
    until(lambda: watcher.state is None)
    watcher.close()


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"]
)
def test_what_is_no_whole_answer_is_nothing_and_is_asked_again(answer: bytes):
    """Another program holds the port, or the sidecar was killed while it answered."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        watcher = StateWatcher(server.getsockname()[1], interval_s=0.05)
        for _ in range(3):
            connection, _ = server.accept()
            connection.recv(1000)
            connection.sendall(answer)
            connection.close()
        until(lambda: watcher.asked)
        assert watcher.state is None
        watcher.close()
