"""Clips and free ports for the sources' tests."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from engine.frames import Pixels

WriteClip = Callable[..., Path]


def level_picture(index: int, width: int, height: int) -> Pixels:
    """A grey picture whose level tells its index, up to 20 of them."""
    return np.full((height, width, 3), 20 + index * 10, np.uint8)


def write(
    path: Path,
    pictures: Iterable[Pixels],
    *,
    rate: Fraction = Fraction(30),
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    pts: list[int] | None = None,
    time_base: Fraction | None = None,
    prepare: Callable[[Any], None] = lambda stream: None,
) -> Path:
    """Encodes the pictures; ``pts`` count in ``time_base`` (default: one each at ``rate``)."""
    base = time_base or 1 / rate
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.pix_fmt = "yuv420p"
        stream.options = options or {"preset": "ultrafast", "crf": "10"}
        stream.codec_context.time_base = base
        prepare(stream)
        for index, picture in enumerate(pictures):
            if index == 0:
                stream.height, stream.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = (pts[index] if pts else index), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def write_clip(tmp_path: Path) -> WriteClip:
    """``write_clip("name.mp4", pictures, …)``; a number of pictures stands for so many grey levels."""

    def clip(name: str, pictures: int | Iterable[Pixels], **how: Any) -> Path:
        if isinstance(pictures, int):
            pictures = [level_picture(index, 64, 48) for index in range(pictures)]
        return write(tmp_path / name, pictures, **how)

    return clip


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
