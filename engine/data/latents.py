"""Latents of whole recordings, encoded once and kept beside the videos.

A big codec takes longer to encode a clip than the transformer takes to learn from it. Written file by file
and whole, so that a stopped run resumes. Needs torch only to encode; knows nothing of pairs.

Shapes: T frames, H W rows and columns; F latent frames, C latent channels, h w latent rows and columns.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from engine.data import layout
from engine.data.decode import Bytes, Size, centred_window
from engine.data.multicam import MultiCamScene
from engine.errors import DataError

if TYPE_CHECKING:
    import torch

    from engine.model.codec import Codec

Encode = Callable[[Bytes], NDArray[np.float16]]  # T H W 3 → F C h w


def encoder(codec: Codec, device: torch.device, dtype: torch.dtype) -> Encode:
    """A codec, already on that device and of that type, as a function of bytes."""
    import torch  # of the extra "model"; whoever reads latents does without

    @torch.inference_mode()
    def encode(video: Bytes) -> NDArray[np.float16]:
        pictures = torch.from_numpy(video).to(device, dtype).permute(0, 3, 1, 2) / 127.5 - 1
        return codec.encode(pictures[None])[0].to("cpu", torch.float16).numpy()

    return encode


def encode_scenes(
    scenes: Sequence[Path], codec: str, encode: Encode, size: Size, time_stride: int
) -> Iterator[Path]:
    """Encodes each video that has no latents yet, and yields its file. ``codec``: the name to keep it under.

    A recording is cut to 1 + n · ``time_stride`` frames, which make whole latent frames.
    """
    for path in scenes:
        scene = MultiCamScene(path)
        frames = range(1 + (scene.rig.frames - 1) // time_stride * time_stride)
        window = centred_window(scene.size, size)
        for camera in range(scene.rig.cameras):
            kept = layout.latents_path(path, camera, codec, size)
            if not kept.is_file():
                _save(kept, encode(scene.colour(camera, frames, size, window)))
            yield kept


def read_latents(scene: Path, camera: int, codec: str, size: Size) -> NDArray[np.float16]:
    """F C h w."""
    path = layout.latents_path(scene, camera, codec, size)
    try:
        return load_file(path)["latents"]
    except (OSError, SafetensorError, KeyError) as error:
        raise DataError(f"{path} holds no latents ({error}): encode the scenes for {codec} first") from error


def _save(path: Path, latents: NDArray[np.float16]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        save_file({"latents": np.ascontiguousarray(latents)}, unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
