"""The codec that a model size names."""

from __future__ import annotations

from engine.model.codec import Codec, PixelCodec
from engine.model.config import ModelConfig


def make_codec(config: ModelConfig) -> Codec:
    """With random weights, if it has any."""
    if config.codec == "pixel":
        return PixelCodec(config.stride[1])
    if config.codec == "tiny-vae":
        from engine.model.tiny_vae import TINY_VAES, TinyVAE

        fitting = {vae.latent_channels: vae for vae in TINY_VAES.values()}
        return TinyVAE(fitting[config.latent_channels])
    from engine.model.wan_vae import WAN_VAES, WanVAE

    return WanVAE(WAN_VAES["wan2.1"])
