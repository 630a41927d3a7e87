"""Every error that RealCam raises on purpose.

    RealCamError            a sentence or two for the user: what, expected, found, what to do
    ├── ConfigError         a YAML file or a flag is wrong; knows file and line
    │   └── PresetError     a preset file or a preset in it
    ├── SourceError         a source cannot be opened or has gone; the runner reconnects
    ├── SinkError           a sink cannot be opened or has gone; the runner reconnects
    ├── EngineError         an engine cannot be built or refuses its input
    │   └── WeightsError    a file of weights is damaged, of an unknown kind, or does not fit
    ├── DataError           a scene or a data set on disk is incomplete, damaged or of another layout
    ├── CommandError        an OSC, web or hotkey command that was not understood; nothing changed
    └── ObsError            OBS or obs-websocket refused or is not there

Anything else that escapes is a defect in RealCam, not a mistake of the user's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class RealCamError(Exception):
    """Base of all errors whose text is written for the user."""


class ConfigError(RealCamError):
    """A setting is wrong. ``path`` and ``line`` (from 1) say where, if it came from a file; ``others`` is
    what else is wrong there.
    """

    def __init__(self, message: str, path: Path | None = None, line: int | None = None) -> None:
        where = "" if path is None else f"{path}:{line}: " if line else f"{path}: "
        super().__init__(where + message)
        self.path = path
        self.line = line
        self.others: Sequence[ConfigError] = ()


class PresetError(ConfigError):
    """A preset file, or one preset in it, is wrong."""


class SourceError(RealCamError):
    """A source cannot be opened, or has vanished."""


class SinkError(RealCamError):
    """A sink cannot be opened, or has vanished."""


class EngineError(RealCamError):
    """An engine cannot be built, or refuses its input."""


class WeightsError(EngineError):
    """A file of weights cannot be used: damaged, of an unknown kind, unsafe, or of another shape."""


class DataError(RealCamError):
    """A scene or a data set on disk cannot be used: incomplete, damaged or of another layout."""


class CommandError(RealCamError):
    """A command that was not understood or is not allowed now. Nothing was changed."""


class ObsError(RealCamError):
    """OBS is not there, or refused a request."""
