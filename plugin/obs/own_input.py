"""The input that shows RealCam's picture in OBS: its name and its settings, for the script and the client."""

from __future__ import annotations

NAME = "RealCam"
MEDIA_PORT = 9462


def media_settings(host: str, port: int) -> dict[str, bool | int | str]:
    """A media source that reads raw pictures as they come, and comes back when RealCam does."""
    return {
        "is_local_file": False,
        "input": f"tcp://{host}:{port}",
        "input_format": "nut",
        "buffering_mb": 0,
        "reconnect_delay_sec": 1,
        "ffmpeg_options": "fflags=nobuffer probesize=32768",
        "restart_on_activate": False,
        "clear_on_media_end": False,
        "close_when_inactive": False,
        "hw_decode": False,
    }
