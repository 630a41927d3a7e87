"""Python values to OBS's settings objects. ``obspython`` only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import obspython as obs


def settings_of(values: Mapping[str, bool | int | str]) -> Any:
    """The caller releases it with ``obs_data_release``."""
    data = obs.obs_data_create()
    for key, value in values.items():
        if isinstance(value, bool):
            obs.obs_data_set_bool(data, key, value)
        elif isinstance(value, int):
            obs.obs_data_set_int(data, key, value)
        else:
            obs.obs_data_set_string(data, key, value)
    return data
