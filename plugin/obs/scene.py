"""Puts RealCam's own input into OBS's current scene, from inside OBS. ``obspython`` only."""

from __future__ import annotations

from typing import Any

import obspython as obs

from plugin.obs.data import settings_of
from plugin.obs.own_input import NAME, media_settings


def add_media_source(host: str, port: int) -> None:
    """Fitted to the canvas; an input or an item that is there already is only set right."""
    current = obs.obs_frontend_get_current_scene()
    source = obs.obs_get_source_by_name(NAME)
    settings = settings_of(media_settings(host, port))
    try:
        if source is None:
            source = obs.obs_source_create("ffmpeg_source", NAME, settings, None)
        else:
            obs.obs_source_update(source, settings)
        scene = obs.obs_scene_from_source(current)
        _fit(obs.obs_scene_find_source(scene, NAME) or obs.obs_scene_add(scene, source))
    finally:
        obs.obs_data_release(settings)
        obs.obs_source_release(source)
        obs.obs_source_release(current)


def revive_media_source() -> None:
    """Makes the media source open its address anew.

    It connects again and again by itself, until a refusal comes back before OBS has noted that it
    asked (media_stopped in obs-ffmpeg-source.c, OBS 29): then never more.
    """
    source = obs.obs_get_source_by_name(NAME)
    if source is not None and obs.obs_source_get_unversioned_id(source) == "ffmpeg_source":
        nothing_new = obs.obs_data_create()
        obs.obs_source_update(source, nothing_new)
        obs.obs_data_release(nothing_new)
    obs.obs_source_release(source)


def _fit(item: Any) -> None:
    info = obs.obs_video_info()
    obs.obs_get_video_info(info)
    origin, canvas = obs.vec2(), obs.vec2()
    origin.x, origin.y = 0.0, 0.0
    canvas.x, canvas.y = float(info.base_width), float(info.base_height)
    obs.obs_sceneitem_set_pos(item, origin)
    obs.obs_sceneitem_set_bounds_type(item, obs.OBS_BOUNDS_SCALE_INNER)
    obs.obs_sceneitem_set_bounds(item, canvas)
