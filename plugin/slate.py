"""The picture for when there is no picture: the user's own, or a plain card with a line of text."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from engine.errors import ConfigError
from engine.frames import Pixels
from plugin.config import PictureConfig


def parse_colour(text: str) -> tuple[int, int, int]:
    """ "#rrggbb" → red, green, blue."""
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def make_slate(config: PictureConfig, width: int, height: int) -> Pixels:
    """The slate, H W 3 RGB. Raises :class:`ConfigError` for a picture that cannot be read."""
    if config.slate is not None:
        return _cover(_read_picture(config.slate), width, height)
    red, green, blue = parse_colour(config.slate_colour)
    slate = np.empty((height, width, 3), np.uint8)
    slate[:] = (red, green, blue)
    ink = (255, 255, 255) if 0.3 * red + 0.59 * green + 0.11 * blue < 140 else (20, 20, 20)
    scale = height / 500
    thickness = max(1, round(2 * scale))
    (text_width, text_height), _ = cv2.getTextSize(
        config.slate_text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness
    )
    origin = ((width - text_width) // 2, (height + text_height) // 2)
    cv2.putText(
        slate, config.slate_text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, ink, thickness, cv2.LINE_AA
    )
    return slate


def _read_picture(path: Path) -> Pixels:
    if not path.is_file():
        raise ConfigError(f"the slate picture {path} is not there; give the path of a PNG or JPEG file")
    data = np.frombuffer(path.read_bytes(), np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if picture is None:
        raise ConfigError(f"the slate picture {path} cannot be read; save it as PNG or JPEG")
    rgb: Pixels = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)  # type: ignore[assignment]
    return rgb


def _cover(picture: Pixels, width: int, height: int) -> Pixels:
    """Scaled to fill the size, the overhang cut off evenly."""
    scale = max(width / picture.shape[1], height / picture.shape[0])
    size = (max(width, round(picture.shape[1] * scale)), max(height, round(picture.shape[0] * scale)))
    scaled = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    x, y = (size[0] - width) // 2, (size[1] - height) // 2
    return np.ascontiguousarray(scaled[y : y + height, x : x + width], dtype=np.uint8)
