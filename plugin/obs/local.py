"""What OBS on this machine has written down about its WebSocket server, so that it just works locally."""

from __future__ import annotations

import configparser
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

PASSWORD_VARIABLE = "OBS_WEBSOCKET_PASSWORD"
DEFAULT_PORT = 4455


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """``password`` is empty where none is needed. ``path`` is the file that says so."""

    enabled: bool
    port: int
    password: str
    path: Path


def config_folders() -> list[Path]:
    """Where OBS keeps its settings, by system and by package."""
    home = Path.home()
    if sys.platform == "win32":
        return [Path(os.environ.get("APPDATA", home / "AppData" / "Roaming")) / "obs-studio"]
    if sys.platform == "darwin":
        return [home / "Library" / "Application Support" / "obs-studio"]
    own = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "obs-studio"
    flatpak = home / ".var" / "app" / "com.obsproject.Studio" / "config" / "obs-studio"
    return [own, flatpak]


def server_settings() -> ServerSettings | None:
    """None if there is no OBS here, or its settings cannot be read."""
    for folder in config_folders():
        for read in (_from_json, _from_ini):
            try:
                found = read(folder)
            except (OSError, ValueError, KeyError, TypeError, configparser.Error):
                continue
            if found is not None:
                return found
    return None


def _from_json(folder: Path) -> ServerSettings:
    """OBS 30.2 and later."""
    path = folder / "plugin_config" / "obs-websocket" / "config.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    password = str(found["server_password"]) if found["auth_required"] else ""
    return ServerSettings(bool(found["server_enabled"]), int(found["server_port"]), password, path)


def _from_ini(folder: Path) -> ServerSettings | None:
    """Earlier ones."""
    path = folder / "global.ini"
    ini = configparser.ConfigParser(interpolation=None, strict=False)
    ini.read_string(path.read_text(encoding="utf-8-sig"))
    if not ini.has_section("OBSWebSocket"):
        return None
    section = ini["OBSWebSocket"]
    password = section.get("ServerPassword", "") if section.getboolean("AuthRequired", True) else ""
    return ServerSettings(
        section.getboolean("ServerEnabled", False), section.getint("ServerPort", DEFAULT_PORT), password, path
    )


def address(host: str, port: int | None, password: str | None) -> tuple[str, int, str]:
    """What the user did not say comes from the environment, then from OBS's own files, for a local OBS."""
    local = server_settings() if host in ("127.0.0.1", "localhost", "::1") else None
    if port is None:
        port = local.port if local else DEFAULT_PORT
    if password is None:
        password = os.environ.get(PASSWORD_VARIABLE)
    if password is None:
        password = local.password if local and local.port == port else ""
    return host, port, password
