"""The codec that a model size works through, with weights or without."""

from __future__ import annotations

import torch

from engine.errors import WeightsError
from engine.model.codec import Codec, PixelCodec
from engine.model.config import ModelConfig

CODEC_KEY = "codec"  # in the metadata of a trained file: the weights of the codec it was trained through


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


def trained_codec(
    config: ModelConfig, weights: str | None, device: torch.device | str, dtype: torch.dtype
) -> Codec:
    """Of these imported weights, which a size on latents cannot do without; pixels take none."""
    if config.codec == "pixel":
        if weights is not None:
            raise WeightsError(
                f"{config.name} works on pixels and takes no codec, found {weights!r}: leave it out"
            )
        return make_codec(config)
    if weights is None:
        raise WeightsError(
            f"{config.name} works on latents, and without its VAE's weights they are noise: import some by "
            "`weights import` (TAEHV, or Wan2.1's VAE) and name them with --codec, or in a session file "
            "with engine: {codec: …}"
        )
    from engine.model.weights import load_codec

    codec = load_codec(weights, device, dtype).eval().requires_grad_(False)
    expected, found = (config.latent_channels, config.stride), (codec.latent_channels, codec.stride)
    if found != expected:
        raise WeightsError(
            f"the codec {weights} makes {_told(*found)}, and {config.name} works on {_told(*expected)}: "
            "give the VAE that belongs to it"
        )
    return codec


def codec_metadata(weights: str | None) -> dict[str, str]:
    """How a trained file says which codec its latents are of; nothing for pixels."""
    return {} if weights is None else {CODEC_KEY: weights}


def _told(channels: int, stride: tuple[int, int, int]) -> str:
    return f"{channels} channels for {'×'.join(map(str, stride))} pixels"
