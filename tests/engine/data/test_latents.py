"""Bytes through a codec. How latents are kept and read again: test_pairs."""

from __future__ import annotations

import numpy as np
import torch

from engine.data.latents import encoder
from engine.model.codec import PixelCodec
from engine.model.wan_vae import WAN_VAES, WanVAE

VIDEO = np.random.default_rng(0).integers(0, 256, (5, 16, 32, 3), np.uint8)


def test_latents_are_the_codecs_of_the_video_in_its_range():
    codec = PixelCodec(8)
    latents = encoder(codec, torch.device("cpu"), torch.float32)(VIDEO)
    assert latents.dtype == np.float16
    video = codec.decode(torch.from_numpy(latents).float()[None])[0].permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose((video + 1) * 127.5, VIDEO, atol=0.1)


def test_five_frames_make_two_latent_frames_of_wans_codec():
    encode = encoder(WanVAE(WAN_VAES["tiny"]), torch.device("cpu"), torch.float32)
    assert encode(VIDEO).shape[::2] == (2, 2)
