"""What the script does when OBS calls it, with a stand-in for OBS; the real one is in test_obs_end_to_end."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

import pytest

OF_OBS = ("script", "scene", "tap", "data")  # these import obspython


@pytest.fixture
def obs(monkeypatch) -> MagicMock:
    obs = MagicMock()
    obs.obs_data_get_string = obs.obs_data_get_int = lambda settings, key: settings[key]
    obs.obs_video_info.return_value = SimpleNamespace(
        base_width=1920, base_height=1080, fps_num=30, fps_den=1
    )
    monkeypatch.setitem(sys.modules, "obspython", obs)
    return obs


@pytest.fixture
def module(obs, monkeypatch) -> Iterator[ModuleType]:
    names = [f"plugin.obs.{name}" for name in OF_OBS]
    module = importlib.import_module("plugin.obs.script")
    monkeypatch.setattr(module, "StateWatcher", MagicMock())
    monkeypatch.setattr(module, "script", module.Script(tap=MagicMock(), sidecar=MagicMock(running=False)))
    module.StateWatcher.return_value.state = None
    yield module
    for name in names:
        sys.modules.pop(name, None)


def test_realcam_is_started_with_the_size_and_rate_that_obs_has_then(obs, module):
    ports = {"tap_port": 1, "media_port": 2, "osc_port": 3, "web_port": 4}
    choices = {"source": "Camera", "height": 720, "sink": "obs-media", "options": "--fov 70"}
    module.script_update({**ports, **choices})
    info = obs.obs_video_info.return_value
    info.base_width, info.base_height, info.fps_num = 1080, 1920, 60
    module._start()
    (arguments,) = module.script.sidecar.start.call_args.args
    started = " ".join(arguments)
    assert started == (
        "run --source obs:1 --sink obs-media:2 --sink preview --size 404x720 --rate 60/1 "
        "--osc-port 3 --web-port 4 --fov 70"
    )
