"""The doctor finds something to say about everything, whatever the machine has."""

from __future__ import annotations

import socket

import pytest
from typer.testing import CliRunner

from engine.errors import ObsError
from plugin import doctor
from plugin.cli import app
from plugin.logs import log_folder
from plugin.obs import local


@pytest.fixture(autouse=True)
def no_obs_here(tmp_path, monkeypatch):
    """OBS's own files are not read, and its port is one where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setattr(local, "config_folders", lambda: [tmp_path])
    monkeypatch.setattr(doctor, "address", lambda *_: ("127.0.0.1", port, ""))
    monkeypatch.setattr(doctor, "OBS_TIMEOUT_S", 0.3)
    monkeypatch.setattr(doctor, "start_logging", lambda: None)


def test_the_doctor_has_a_line_for_everything_and_never_fails():
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0
    for name in ("Python", "OBS Studio", "obs-websocket", "virtual camera", "NDI", "GPU", "port", "Xvfb"):
        assert name in result.stdout


def test_what_is_not_there_comes_with_a_hint(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda program: None)
    found = {finding.name: finding for finding in doctor.findings()}
    assert found["OBS Studio"].verdict == "missing"
    assert "obsproject.com" in found["OBS Studio"].hint
    assert all(finding.hint for finding in found.values() if finding.verdict != "there")


def test_a_port_in_use_is_seen(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setattr(doctor, "PORTS", {port: "control page"})
        (finding,) = doctor._ports()
    assert finding.found == "in use (control page)" and finding.hint


def test_a_probe_that_fails_is_a_line_like_any_other(monkeypatch):
    def _weather():
        raise ObsError("it rains")

    monkeypatch.setattr(doctor, "PROBES", (_weather,))
    (finding,) = doctor.findings()
    assert finding == doctor.Finding("weather", "missing", "could not be asked: it rains")


def test_the_doctor_names_the_folder_of_the_log():
    assert doctor._log in doctor.PROBES
    (finding,) = doctor._log()
    assert str(log_folder()) in finding.found
