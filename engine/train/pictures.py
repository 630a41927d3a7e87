"""What a run shows of itself: videos from latents, their likeness to the truth, and strips of them.

Shapes: T frames, H W rows and columns; B batch, F latent frames, C channels, h w latent rows and columns.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from engine.frames import Pixels
from engine.model.codec import Codec
from engine.train.clips import Example


def decoded(codec: Codec, latents: Tensor) -> Pixels:
    """1 F C h w → T H W 3."""
    video = codec.decode(latents.float())[0]
    return np.asarray(((video.clamp(-1, 1) + 1) * 127.5).round().byte().movedim(1, -1).cpu().numpy())


def psnr(made: Pixels, truth: Pixels) -> float:
    """The mean over the frames, decibels."""
    error = np.square(made.astype(np.float32) - truth).mean((1, 2, 3))
    return float(np.mean(10 * np.log10(255**2 / np.maximum(error, 1e-3))))


def strip(one: Example, made: Pixels) -> Pixels:
    """The clip's last frame: source, hints, sample, truth."""
    hints = [] if one.hints is None else list(one.hints[-1])
    return np.concatenate([one.source[-1], *hints, made[-1], one.target[-1]], axis=1)
