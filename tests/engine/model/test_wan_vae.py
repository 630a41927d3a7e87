"""Wan's VAE against diffusers' own, on the same random weights.

diffusers' converter takes the published file's names to its own, so it also proves that ours are the
published ones.
"""

from __future__ import annotations

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from torch import Tensor

from engine.model.wan_vae import WAN_VAES, WanVAE

TINY = WAN_VAES["tiny"]
TOLERANCE = 1e-5


def per_channel(numbers: tuple[float, ...]) -> Tensor:
    return torch.tensor(numbers)[:, None, None]


def relative_error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.fixture(scope="module")
def vae() -> WanVAE:
    torch.manual_seed(0)
    made = WanVAE(TINY)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(1.5).add_(0.05 * torch.randn_like(parameter))
        made.decoder.head[-1].weight.mul_(0.1)  # low contrast, since clamping would hide errors
    return made.requires_grad_(False)


@pytest.fixture(scope="module")
def reference(vae: WanVAE) -> AutoencoderKLWan:
    made = AutoencoderKLWan(base_dim=TINY.widths[0], z_dim=len(TINY.mean))
    made.load_state_dict(convert_wan_vae_to_diffusers(vae.state_dict()), strict=True)
    return made.eval().requires_grad_(False)


@pytest.mark.parametrize("frames", [1, 13])
def test_encoding_agrees_with_diffusers(vae: WanVAE, reference: AutoencoderKLWan, frames: int) -> None:
    torch.manual_seed(1)
    video = torch.rand(2, frames, 3, 16, 24) * 2 - 1
    mean = reference.encode(video.transpose(1, 2)).latent_dist.mode().transpose(1, 2)
    expected = (mean - per_channel(TINY.mean)) / per_channel(TINY.deviation)
    error = relative_error(vae.encode(video), expected)
    print(f"encoding {frames} frames: relative error {error:.1e}")
    assert error <= TOLERANCE


@pytest.mark.parametrize("frames", [1, 4])
def test_decoding_agrees_with_diffusers(vae: WanVAE, reference: AutoencoderKLWan, frames: int) -> None:
    torch.manual_seed(2)
    latents = torch.randn(2, frames, len(TINY.mean), 2, 3)
    scaled = latents * per_channel(TINY.deviation) + per_channel(TINY.mean)
    expected = reference.decode(scaled.transpose(1, 2)).sample.transpose(1, 2)
    assert (expected.abs() < 1).float().mean() > 0.9, "clamping hides errors"
    error = relative_error(vae.decode(latents), expected)
    print(f"decoding {frames} latent frames: relative error {error:.1e}")
    assert error <= TOLERANCE


def test_the_full_size_has_the_published_names_and_shapes() -> None:
    with torch.device("meta"):
        ours = WanVAE(WAN_VAES["wan2.1"]).state_dict()
        theirs = AutoencoderKLWan().state_dict()
    shapes = {name: tensor.shape for name, tensor in convert_wan_vae_to_diffusers(ours).items()}
    assert shapes == {name: tensor.shape for name, tensor in theirs.items()}


def test_the_latents_statistics_are_diffusers_too() -> None:
    with torch.device("meta"):
        published = AutoencoderKLWan().config
    assert WAN_VAES["wan2.1"].mean == tuple(published.latents_mean)
    assert WAN_VAES["wan2.1"].deviation == tuple(published.latents_std)


def test_weights_loaded_onto_an_empty_model_leave_nothing_empty(vae: WanVAE) -> None:
    with torch.device("meta"):
        empty = WanVAE(TINY)
    empty.load_state_dict(vae.state_dict(), assign=True)
    video = torch.zeros(1, 1, 3, 16, 16)
    assert torch.equal(empty.encode(video), vae.encode(video))


def test_half_precision_streams_in_both_directions(vae: WanVAE) -> None:
    half = WanVAE(TINY).to(torch.bfloat16)
    half.load_state_dict(vae.state_dict())
    video = torch.rand(1, 5, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        found = half.decode(half.encode(video.bfloat16()))
    assert found.dtype == torch.bfloat16
    assert (found.float() - vae.decode(vae.encode(video))).abs().mean() < 0.05
