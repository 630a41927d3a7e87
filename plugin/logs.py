"""Where the log goes: a rotating file in the user's log folder. Knows nothing of what is logged."""

from __future__ import annotations

import logging
import logging.handlers
import tempfile
from pathlib import Path

import platformdirs

LARGEST_BYTES = 2_000_000
KEPT = 5


def log_folder() -> Path:
    return Path(platformdirs.user_log_dir("realcam", appauthor=False))


def start_logging(*, verbose: bool = False) -> Path:
    """Everything from INFO (``verbose``: DEBUG) goes to the file that is returned, not to the terminal. Where
    the log folder cannot be written to, that is a temporary one.
    """
    try:
        handler = _rotating(log_folder())
    except OSError:  # no show is refused for its log
        handler = _rotating(Path(tempfile.mkdtemp(prefix="realcam-log-")))
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    return Path(handler.baseFilename)


def _rotating(folder: Path) -> logging.handlers.RotatingFileHandler:
    folder.mkdir(parents=True, exist_ok=True)
    return logging.handlers.RotatingFileHandler(
        folder / "realcam.log", maxBytes=LARGEST_BYTES, backupCount=KEPT, encoding="utf-8"
    )
