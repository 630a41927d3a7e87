"""Bakes environments: Poly Haven's panoramas, as @pmndrs/assets packs them, small enough for a repository.

Knows the package's files (EXR as base64 in JavaScript) and linear light. Knows nothing of rooms.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from engine.data.bake.textures import jpeg

LIGHT, BACKGROUND = (64, 32), (256, 128)  # width, height
HALF_MOST = 65504.0
BRIGHTEST = 60.0  # times the mean: a lamp's pixel in a small picture is a highlight, not a firefly
SOURCE = "npm @pmndrs/assets 1.7.0, hdri/{name}.exr (from polyhaven.com)"

ENVIRONMENTS = {  # name: (indoor, held out)
    "apartment": (True, False),
    "bridge": (False, False),
    "city": (False, False),
    "dawn": (False, False),
    "esplanade": (True, True),
    "forest": (False, False),
    "hall": (True, False),
    "lab": (True, False),
    "lobby": (True, True),
    "night": (False, False),
    "park": (False, True),
    "sky": (False, False),
    "studio": (True, False),
    "sunrise": (False, False),
    "sunset": (False, False),
    "venice": (False, False),
    "warehouse": (True, False),
    "workshop": (True, True),
}


def read_panorama(path: Path) -> np.ndarray:
    """H W 3, linear radiance."""
    found = re.search(r"base64,([A-Za-z0-9+/=]+)", path.read_text())
    if found is None:
        raise ValueError(f"{path}: expected an EXR file as base64")
    with av.open(io.BytesIO(base64.b64decode(found[1])), format="exr_pipe") as container:
        frame = next(container.decode(video=0))
        if frame.format.name != "gbrpf16le":
            raise ValueError(f"{path}: expected half floats in planes, found {frame.format.name}")
        green, blue, red = (
            np.frombuffer(bytes(plane), np.float16).reshape(frame.height, -1)[:, : frame.width]
            for plane in frame.planes
        )
    colours = np.stack([red, green, blue], -1).astype(np.float32)
    return np.nan_to_num(colours, nan=HALF_MOST, posinf=HALF_MOST)  # the sun is beyond half floats


def normalised(panorama: np.ndarray) -> np.ndarray:
    """With a mean over the sphere, and over the colours, of 1."""
    height = len(panorama)
    share = np.sin(np.pi * (np.arange(height) + 0.5) / height)  # of the sphere, by row
    return np.asarray(panorama / np.average(panorama.mean((1, 2)), weights=share), np.float32)


def baked_environment(panorama: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Light (32 64 3, its mean over the sphere 1) and background (128 256 3, sRGB bytes)."""
    linear = normalised(np.minimum(normalised(np.clip(panorama, 0, None)), BRIGHTEST))
    light = normalised(cv2.resize(linear, LIGHT, interpolation=cv2.INTER_AREA))
    small = cv2.resize(linear, BACKGROUND, interpolation=cv2.INTER_AREA)
    exposed = small * (0.35 / max(float(np.median(small)), 0.05))
    shown = exposed * (1 + exposed / 9) / (1 + exposed)  # Reinhard et al. 2002, equation 4, white at 3
    background = np.round(np.clip(shown, 0, 1) ** (1 / 2.2) * 255).astype(np.uint8)
    return light.astype(np.float16), background


def bake_light(
    folder: Path, progress: Callable[[str], None]
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Entries for the catalogue and the arrays of `environments.npz`; `folder` holds the package's `hdri`."""
    entries, arrays = [], {}
    for name, (indoor, heldout) in ENVIRONMENTS.items():
        light, background = baked_environment(read_panorama(folder / f"{name}.exr.js"))
        arrays[f"{name}/light"] = light
        arrays[f"{name}/background"] = jpeg(background)
        entries.append(
            {
                "name": name, "indoor": indoor, "heldout": heldout, "author": "Poly Haven",
                "licence": "CC0-1.0",
                "source": SOURCE.format(name=name),
            }
        )  # fmt: skip
    progress(f"{len(entries)} environments")
    return entries, arrays
