"""What OBS has written down about its WebSocket server."""

from __future__ import annotations

import json

import pytest

from plugin.obs import local


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "config_folders", lambda: [tmp_path / "absent", tmp_path])
    monkeypatch.delenv(local.PASSWORD_VARIABLE, raising=False)
    return tmp_path


def write_json(folder, **changes):
    path = folder / "plugin_config" / "obs-websocket" / "config.json"
    path.parent.mkdir(parents=True)
    found = {"server_enabled": True, "server_port": 4460, "auth_required": True, "server_password": "new"}
    path.write_text(json.dumps({**found, **changes}))


def write_ini(folder):
    text = "\ufeff[General]\nX=%1\n[OBSWebSocket]\nServerEnabled=true\nServerPort=4461\nServerPassword=o%ld\n"
    (folder / "global.ini").write_text(text, encoding="utf-8")


def test_the_settings_of_new_and_old_versions_are_read_the_new_first(folder):
    assert local.server_settings() is None
    write_ini(folder)
    old = local.server_settings()
    assert old is not None and (old.enabled, old.port, old.password) == (True, 4461, "o%ld")
    write_json(folder)
    new = local.server_settings()
    assert new is not None and (new.enabled, new.port, new.password) == (True, 4460, "new")


def test_where_no_password_is_asked_for_none_is_given(folder):
    write_json(folder, auth_required=False)
    found = local.server_settings()
    assert found is not None and found.password == ""


@pytest.mark.parametrize("text", ["", "{", "[]", '{"server_enabled": true}'])
def test_a_damaged_file_counts_as_none(folder, text):
    write_json(folder)
    (folder / "plugin_config" / "obs-websocket" / "config.json").write_text(text)
    assert local.server_settings() is None


def test_what_the_user_says_goes_before_the_environment_and_that_before_obs(folder, monkeypatch):
    write_json(folder)
    assert local.address("127.0.0.1", None, None) == ("127.0.0.1", 4460, "new")
    assert local.address("127.0.0.1", 4455, None) == ("127.0.0.1", 4455, ""), "the password is another OBS's"
    monkeypatch.setenv(local.PASSWORD_VARIABLE, "environment")
    assert local.address("127.0.0.1", None, None)[2] == "environment"
    assert local.address("127.0.0.1", None, "said")[2] == "said"


def test_another_machine_has_nothing_to_do_with_the_obs_here(folder):
    write_json(folder)
    assert local.address("192.168.1.20", None, None) == ("192.168.1.20", local.DEFAULT_PORT, "")
