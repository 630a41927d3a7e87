"""The tiny VAE against a plain computation from the published layout: frame by frame, layer by layer,
straight from the named weights.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from engine.model.tiny_vae import TINY_VAES, TinyVAE

TOLERANCE = 1e-5

Weights = dict[str, Tensor]


def conv(weights: Weights, name: str, x: Tensor, stride: int = 1) -> Tensor:
    kernel = weights[f"{name}.weight"]
    bias = weights.get(f"{name}.bias")
    return functional.conv2d(x, kernel, bias, stride, padding=kernel.shape[-1] // 2)


def memory_block(weights: Weights, name: str, frames: list[Tensor]) -> list[Tensor]:
    out = []
    for number, frame in enumerate(frames):
        before = frames[number - 1] if number else torch.zeros_like(frame)
        x = conv(weights, f"{name}.conv.0", torch.cat([frame, before], dim=1)).relu()
        x = conv(weights, f"{name}.conv.2", x).relu()
        out.append((conv(weights, f"{name}.conv.4", x) + frame).relu())
    return out


def encoded(weights: Weights, video: Tensor, patch: int) -> Tensor:
    """Video B T 3 H W in [0, 1]."""
    frames = [functional.pixel_unshuffle(frame, patch) for frame in video.unbind(1)]
    frames = [conv(weights, "encoder.0", frame).relu() for frame in frames]
    for at, fold in ((2, 2), (7, 2), (12, 1)):
        groups = [frames[first : first + fold] for first in range(0, len(frames), fold)]
        frames = [conv(weights, f"encoder.{at}.conv", torch.cat(group, dim=1)) for group in groups]
        frames = [conv(weights, f"encoder.{at + 1}", frame, stride=2) for frame in frames]
        for block in (at + 2, at + 3, at + 4):
            frames = memory_block(weights, f"encoder.{block}", frames)
    return torch.stack([conv(weights, "encoder.17", frame) for frame in frames], dim=1)


def decoded(weights: Weights, latents: Tensor, patch: int) -> Tensor:
    """Video B T 3 H W in [0, 1]."""
    frames = [conv(weights, "decoder.1", 3 * torch.tanh(frame / 3)).relu() for frame in latents.unbind(1)]
    for at, fold in ((3, 1), (9, 2), (15, 2)):
        for block in (at, at + 1, at + 2):
            frames = memory_block(weights, f"decoder.{block}", frames)
        grown = []
        for frame in frames:
            larger = frame.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
            grown += conv(weights, f"decoder.{at + 4}.conv", larger).chunk(fold, dim=1)
        frames = [conv(weights, f"decoder.{at + 5}", frame) for frame in grown]
    frames = [conv(weights, "decoder.22", frame.relu()) for frame in frames]
    video = torch.stack([functional.pixel_shuffle(frame, patch) for frame in frames], dim=1)
    return video[:, 3:].clamp(0, 1)


def relative_error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.fixture(scope="module", params=["tiny", "taew2_1", "taew2_2"])
def vae(request: pytest.FixtureRequest) -> TinyVAE:
    torch.manual_seed(0)
    made = TinyVAE(TINY_VAES[request.param])
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(1.5)
        # Contrast low and grey in the middle, since clamping would hide errors.
        made.decoder[-1].weight.mul_(0.1)
        made.decoder[-1].bias.fill_(0.5)
    return made.requires_grad_(False)


def test_encoding_agrees_with_the_published_layout(vae: TinyVAE) -> None:
    torch.manual_seed(1)
    video = torch.rand(2, 12, 3, 16, 32)
    found = vae.encoder_stream().encode(video * 2 - 1)
    assert found.shape[1] == 3
    error = relative_error(found, encoded(vae.state_dict(), video, vae.patch))
    print(f"relative error {error:.1e}")
    assert error <= TOLERANCE


def test_decoding_agrees_with_the_published_layout(vae: TinyVAE) -> None:
    torch.manual_seed(2)
    latents = torch.randn(2, 3, vae.latent_channels, 1, 2)
    expected = decoded(vae.state_dict(), latents, vae.patch)
    assert expected.std() > 1e-3
    assert ((expected > 0) & (expected < 1)).float().mean() > 0.9, "clamping hides errors"
    error = relative_error((vae.decode(latents) + 1) / 2, expected)
    print(f"relative error {error:.1e}")
    assert error <= TOLERANCE


def published_shapes(channels: int, patch: int) -> dict[str, tuple[int, ...]]:
    """Of taew2_1.pth and taew2_2.pth, by their layout."""
    shapes: dict[str, tuple[int, ...]] = {}

    def add(name: str, outside: int, inside: int, kernel: int = 3, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = (outside, inside, kernel, kernel)
        if bias:
            shapes[f"{name}.bias"] = (outside,)

    def add_block(name: str, width: int) -> None:
        add(f"{name}.conv.0", width, 2 * width)
        add(f"{name}.conv.2", width, width)
        add(f"{name}.conv.4", width, width)

    add("encoder.0", 64, 3 * patch**2)
    for at, fold in ((2, 2), (7, 2), (12, 1)):
        add(f"encoder.{at}.conv", 64, 64 * fold, kernel=1, bias=False)
        add(f"encoder.{at + 1}", 64, 64, bias=False)
        for block in (at + 2, at + 3, at + 4):
            add_block(f"encoder.{block}", 64)
    add("encoder.17", channels, 64)
    add("decoder.1", 256, channels)
    for at, width, following, fold in ((3, 256, 128, 1), (9, 128, 64, 2), (15, 64, 64, 2)):
        for block in (at, at + 1, at + 2):
            add_block(f"decoder.{block}", width)
        add(f"decoder.{at + 4}.conv", width * fold, width, kernel=1, bias=False)
        add(f"decoder.{at + 5}", following, width, bias=False)
    add("decoder.22", 3 * patch**2, 64)
    return shapes


@pytest.mark.parametrize("name", ["taew2_1", "taew2_2"])
def test_names_and_shapes_are_the_published_ones(name: str) -> None:
    config = TINY_VAES[name]
    with torch.device("meta"):
        ours = TinyVAE(config).state_dict()
    found = {key: tuple(tensor.shape) for key, tensor in ours.items()}
    assert found == published_shapes(config.latent_channels, config.patch)
