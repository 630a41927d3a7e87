"""Latents of clips that come again, kept on disk: a large codec takes longer to encode a clip than the
transformer takes to learn from it.

A clip is known by its pixels and a codec by its weights, so what is found is never another's. Knows nothing
of pairs or scenes.

Shapes: N clips, T frames, H W rows and columns; F latent frames, C latent channels, h w latent rows and
columns.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.frames import Pixels
from engine.model.codec import Codec

NAME = "latents"
DIGEST_BYTES = 16


class LatentCache:
    """Several processes may share a ``folder``; one that is stopped leaves nothing half written."""

    def __init__(self, codec: Codec, folder: Path) -> None:
        self._codec = codec
        digest = _digest()
        for name, weight in sorted(codec.state_dict().items()):
            digest.update(name.encode())
            digest.update(weight.detach().float().cpu().contiguous().numpy())
        self._folder = folder / digest.hexdigest()

    def encode(self, clips: Pixels, device: torch.device) -> Tensor:
        """N T H W 3 → N F C h w. They are kept in half precision, and given so the first time as well."""
        return torch.stack([self._one(clip, device) for clip in clips]).to(device).float()

    def _one(self, clip: Pixels, device: torch.device) -> Tensor:
        path = self._path(clip)
        try:
            return load_file(path)[NAME]
        except (FileNotFoundError, SafetensorError, KeyError):  # not there, or damaged: made anew
            latents = encoded(self._codec, clip[None], device)[0].half().cpu().contiguous()
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{os.getpid()}-{path.name}")
        try:
            save_file({NAME: latents}, unfinished)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        return latents

    def _path(self, clip: Pixels) -> Path:
        digest = _digest()
        digest.update(repr(clip.shape).encode())
        digest.update(np.ascontiguousarray(clip).data)
        name = digest.hexdigest()
        return self._folder / name[:2] / f"{name}.safetensors"


def encoded(codec: Codec, clips: Pixels, device: torch.device) -> Tensor:
    """N T H W 3 → N F C h w."""
    video = torch.from_numpy(np.ascontiguousarray(clips)).to(device, non_blocking=True)
    return codec.encode((video.float() / 127.5 - 1).movedim(-1, 2)).float()


def _digest() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=DIGEST_BYTES)
