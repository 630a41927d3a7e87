"""What OBS calls: the script's settings, its dialogue, its hotkeys, and the timer that drives the tap.

Standard library and ``obspython`` only. Knows nothing of pictures: the tap is :mod:`plugin.obs.tap`,
RealCam's process :mod:`plugin.obs.sidecar`. Everything here runs on OBS's UI thread and returns at once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import obspython as obs

from plugin.obs.own_input import MEDIA_PORT, NAME
from plugin.obs.scene import add_media_source, revive_media_source
from plugin.obs.sidecar import LOOPBACK, Sidecar, StateWatcher, send_osc, words
from plugin.obs.tap import Size, Tap, TapSettings, delivered_size

TICK_MS = 200
REVIVE_AFTER_S = 4.0  # OBS's media source comes back within two, if it does
SLOTS = range(1, 11)
HEIGHTS = {"As the source": 0, "1080 lines": 1080, "720 lines": 720, "540 lines": 540, "360 lines": 360}
SINKS = {
    "Media source in OBS (needs no driver)": "obs-media",
    "Virtual camera": "virtual-camera",
    "NDI": "ndi",
}
PORTS = {
    "tap_port": "the tap",
    "media_port": "the media source",
    "osc_port": "OSC (UDP)",
    "web_port": "the control page",
}
ACTIONS = {
    "take": ("Take the armed preset", "/realcam/take"),
    "stop": ("Stop the move", "/realcam/stop"),
    "home": ("Home", "/realcam/home"),
    "bypass": ("Bypass on or off", "/realcam/bypass/toggle"),
    "panic": ("Panic", "/realcam/panic"),
    **{f"preset_{slot}": (f"Preset {slot}", f"/realcam/preset/{slot}/go") for slot in SLOTS},
}
LEAVING = (
    obs.OBS_FRONTEND_EVENT_SCENE_COLLECTION_CHANGING,
    obs.OBS_FRONTEND_EVENT_SCENE_COLLECTION_CLEANUP,
    obs.OBS_FRONTEND_EVENT_SCRIPTING_SHUTDOWN,
    obs.OBS_FRONTEND_EVENT_EXIT,
)


@dataclass
class Script:
    """All that the script holds while it is loaded."""

    tap: Tap = field(default_factory=Tap)
    sidecar: Sidecar = field(default_factory=Sidecar)
    watcher: StateWatcher | None = None
    hotkeys: dict[str, int] = field(default_factory=dict)
    paused: bool = False  # between two scene collections, and at OBS's end
    tap_settings: TapSettings | None = None
    sink: str = "obs-media"
    options: str = ""
    osc_port: int = 9000
    web_port: int = 9001
    media_port: int = MEDIA_PORT
    unread_since_s: float | None = None  # RealCam sends, and OBS's media source does not come for it
    start_due: bool = False  # with OBS, as soon as it is known whether RealCam runs already


script = Script()


def script_description() -> str:
    return (
        "<h2>RealCam</h2>A moving virtual camera for one of your sources.<br><br>"
        "1. Choose the source. 2. Start RealCam. 3. <i>Add RealCam to the current scene</i>. "
        "Moves are fired by hotkey (Settings → Hotkeys), by OSC or from the control page."
    )


def script_defaults(settings: Any) -> None:
    obs.obs_data_set_default_string(settings, "source", "")
    obs.obs_data_set_default_int(settings, "height", 720)
    obs.obs_data_set_default_string(settings, "sink", "obs-media")
    obs.obs_data_set_default_bool(settings, "autostart", False)
    obs.obs_data_set_default_string(settings, "options", "")
    obs.obs_data_set_default_int(settings, "tap_port", 9461)
    obs.obs_data_set_default_int(settings, "osc_port", 9000)
    obs.obs_data_set_default_int(settings, "web_port", 9001)
    obs.obs_data_set_default_int(settings, "media_port", MEDIA_PORT)


def script_update(settings: Any) -> None:
    script.tap_settings = TapSettings(
        source=obs.obs_data_get_string(settings, "source"),
        height=obs.obs_data_get_int(settings, "height"),
        port=obs.obs_data_get_int(settings, "tap_port"),
    )
    script.osc_port = obs.obs_data_get_int(settings, "osc_port")
    script.media_port = obs.obs_data_get_int(settings, "media_port")
    web_port = obs.obs_data_get_int(settings, "web_port")
    if script.watcher is None or web_port != script.web_port:
        _watch(web_port)
    script.sink = obs.obs_data_get_string(settings, "sink")
    script.options = obs.obs_data_get_string(settings, "options")
    if not script.paused:
        script.tap.configure(script.tap_settings)


def script_load(settings: Any) -> None:
    for name, (description, address) in ACTIONS.items():
        _register_hotkey(settings, name, description, address)
    script.start_due = obs.obs_data_get_bool(settings, "autostart")
    obs.obs_frontend_add_event_callback(_on_event)
    obs.timer_add(_tick, TICK_MS)


def script_unload() -> None:
    obs.timer_remove(_tick)
    obs.obs_frontend_remove_event_callback(_on_event)
    _release()


def script_save(settings: Any) -> None:
    for name, hotkey in script.hotkeys.items():
        keys = obs.obs_hotkey_save(hotkey)
        obs.obs_data_set_array(settings, f"hotkey_{name}", keys)
        obs.obs_data_array_release(keys)


def script_properties() -> Any:
    properties = obs.obs_properties_create()
    sources = _add_list(properties, "source", "Source", obs.OBS_COMBO_FORMAT_STRING)
    _fill_sources(sources)
    heights = _add_list(properties, "height", "Size of the picture", obs.OBS_COMBO_FORMAT_INT)
    for label, height in HEIGHTS.items():
        obs.obs_property_list_add_int(heights, label, height)
    sinks = _add_list(properties, "sink", "Back into OBS by", obs.OBS_COMBO_FORMAT_STRING)
    for label, sink in SINKS.items():
        obs.obs_property_list_add_string(sinks, label, sink)
    obs.obs_property_set_modified_callback(sinks, _on_sink_chosen)
    obs.obs_properties_add_bool(properties, "autostart", "Start RealCam with OBS")
    obs.obs_properties_add_text(properties, "state", _state_text(), obs.OBS_TEXT_INFO)
    obs.obs_properties_add_button(properties, "start_stop", _start_label(), _on_start_stop)
    obs.obs_properties_add_button(properties, "add", "Add RealCam to the current scene", _on_add)
    obs.obs_properties_add_button(properties, "refresh", "Refresh", _on_refresh)
    options = obs.obs_properties_add_text(properties, "options", "Further options", obs.OBS_TEXT_DEFAULT)
    obs.obs_property_set_long_description(options, "Added to “realcam_obs.py run”, as in a terminal")
    for name, label in PORTS.items():
        obs.obs_properties_add_int(properties, name, f"Port of {label}", 1, 65535, 1)
    return properties


def _add_list(properties: Any, name: str, label: str, kind: int) -> Any:
    return obs.obs_properties_add_list(properties, name, label, obs.OBS_COMBO_TYPE_LIST, kind)


def _fill_sources(target: Any) -> None:
    obs.obs_property_list_add_string(target, "— choose a source —", "")
    for name in _video_sources():
        obs.obs_property_list_add_string(target, name, name)


def _video_sources() -> list[str]:
    """The names of the inputs that give a picture, in alphabetical order."""
    sources = obs.obs_enum_sources()
    try:
        return sorted(
            (
                obs.obs_source_get_name(source)
                for source in sources or []
                if obs.obs_source_get_output_flags(source) & obs.OBS_SOURCE_VIDEO
                and obs.obs_source_get_name(source) != NAME  # it would be fed back to itself
            ),
            key=str.casefold,
        )
    finally:
        obs.source_list_release(sources)


def _sidecar_arguments() -> tuple[str, ...]:
    """The command line of RealCam: it delivers OBS's shape at OBS's rate, which may have changed since."""
    assert script.tap_settings is not None, "started before OBS told the settings"
    info = obs.obs_video_info()
    obs.obs_get_video_info(info)
    size = delivered_size(Size(info.base_width, info.base_height), script.tap_settings.height)
    return (
        "run",
        *("--source", f"obs:{script.tap_settings.port}"),
        *("--sink", f"obs-media:{script.media_port}" if script.sink == "obs-media" else script.sink),
        *("--sink", "preview"),
        *("--size", f"{size.width}x{size.height}"),
        *("--rate", f"{info.fps_num}/{info.fps_den}"),
        *("--osc-port", str(script.osc_port)),
        *("--web-port", str(script.web_port)),
        *words(script.options),
    )


def _register_hotkey(settings: Any, name: str, description: str, address: str) -> None:
    def pressed(down: bool) -> None:
        if down:
            send_osc(script.osc_port, address, 1.0)

    hotkey = obs.obs_hotkey_register_frontend(f"realcam.{name}", f"RealCam: {description}", pressed)
    keys = obs.obs_data_get_array(settings, f"hotkey_{name}")
    obs.obs_hotkey_load(hotkey, keys)
    obs.obs_data_array_release(keys)
    script.hotkeys[name] = hotkey


def _watch(port: int) -> None:
    if script.watcher is not None:
        script.watcher.close()
    script.watcher, script.web_port = StateWatcher(port), port


def _tick() -> None:
    if script.paused:
        return
    script.tap.tick()
    _see_to_the_media_source(time.monotonic())
    if script.start_due and script.watcher is not None and script.watcher.asked:
        script.start_due = False
        _start()


def _see_to_the_media_source(now: float) -> None:
    state = script.watcher.state if script.watcher else None
    sinks = state.get("sinks", []) if state else []
    ours = f"OBS media source on port {script.media_port}"
    if not any(sink["name"] == ours and sink["state"] == "waiting" for sink in sinks):
        script.unread_since_s = None
    elif script.unread_since_s is None:
        script.unread_since_s = now
    elif now - script.unread_since_s > REVIVE_AFTER_S:
        script.unread_since_s = now
        revive_media_source()


def _on_event(event: int) -> None:
    if event in LEAVING:
        script.paused = True
        script.tap.release()
    elif event == obs.OBS_FRONTEND_EVENT_SCENE_COLLECTION_CHANGED:
        script.paused = False
        script.tap.configure(script.tap_settings)


def _release() -> None:
    """Leaves nothing behind: no output, view, thread or process."""
    script.paused = True
    script.tap.release()
    if script.watcher is not None:
        script.watcher.close()
        script.watcher = None
    script.sidecar.close()


def _runs_elsewhere() -> bool:
    """RealCam was started in a terminal, or by an OBS that crashed: a second would find its ports taken."""
    return script.watcher is not None and script.watcher.state is not None and not script.sidecar.running


def _start() -> None:
    """Not a second one: RealCam outlives a crash of OBS, and goes on with the next."""
    if not _runs_elsewhere():
        script.sidecar.start(_sidecar_arguments())


def _start_label() -> str:
    if _runs_elsewhere():
        return "Running, started elsewhere"
    return "Stop RealCam" if script.sidecar.running else "Start RealCam"


def _state_text() -> str:
    return f"Tap: {script.tap.describe()}.\nRealCam: {_sidecar_text()}."


def _sidecar_text() -> str:
    state = script.watcher.state if script.watcher else None
    if state is None:
        return script.sidecar.describe()
    where = "running, started outside of OBS" if _runs_elsewhere() else "running"
    preset = state.get("preset") or "no move yet"
    fps = f"{state.get('fps', 0):.1f} frames a second"
    return f"{where}; mode {state.get('mode')}, picture from {state.get('rung')}, {preset}, {fps}"


def _on_start_stop(properties: Any, _: Any) -> bool:
    if script.sidecar.running:
        script.sidecar.stop()
    else:
        _start()
    return _on_refresh(properties, None)


def _on_refresh(properties: Any, _: Any) -> bool:
    """True: OBS shows the properties anew."""
    obs.obs_property_set_description(obs.obs_properties_get(properties, "state"), _state_text())
    obs.obs_property_set_description(obs.obs_properties_get(properties, "start_stop"), _start_label())
    sources = obs.obs_properties_get(properties, "source")
    obs.obs_property_list_clear(sources)
    _fill_sources(sources)
    return True


def _on_sink_chosen(properties: Any, _: Any, settings: Any) -> bool:
    """Only the media source is the script's to add: the others are cameras, for OBS's own dialogue."""
    add = obs.obs_properties_get(properties, "add")
    obs.obs_property_set_visible(add, obs.obs_data_get_string(settings, "sink") == "obs-media")
    return True


def _on_add(properties: Any, _: Any) -> bool:
    """What `realcam_obs.py obs add` does from outside, for the media source."""
    add_media_source(LOOPBACK, script.media_port)
    return _on_refresh(properties, None)
