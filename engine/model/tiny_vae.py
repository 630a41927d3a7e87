"""The tiny video autoencoder of github.com/madebyollin/taehv, whose weights stand in for Wan's VAE.

Convolutions over single frames; time enters in three places only: a ``MemBlock`` also sees the frame
before, a ``TPool`` folds frames that follow one another into one, a ``TGrow`` unfolds them. So all
that a stream remembers is one frame for each ``MemBlock``. Layer numbers and parameter names are the
published ones (taew2_1, taew2_2), so that those files load as they are.

Each latent frame is made of the s frames from its own number on, 3 further than the ones it stands
for (with s = 4); decoded, the first latent frame's s − 1 frames of run-up are thrown away.

Knows nothing of files. Shapes: B batch, T frames, C channels, H W; here video is in [0, 1] between
the outermost layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.model.codec import COLOURS, Codec, DecoderStream, EncoderStream


@dataclass(frozen=True, kw_only=True, slots=True)
class TinyVAEConfig:
    """``patch`` × ``patch`` pixels are folded into channels before the network and unfolded behind it."""

    latent_channels: int
    patch: int
    encoder_width: int
    decoder_widths: tuple[int, int, int, int]


TINY_VAES = {
    "taew2_1": TinyVAEConfig(
        latent_channels=16, patch=1, encoder_width=64, decoder_widths=(256, 128, 64, 64)
    ),
    "taew2_2": TinyVAEConfig(
        latent_channels=48, patch=2, encoder_width=64, decoder_widths=(256, 128, 64, 64)
    ),
    "tiny": TinyVAEConfig(latent_channels=4, patch=1, encoder_width=8, decoder_widths=(16, 12, 8, 8)),
}

ENCODER_FOLDS = (2, 2, 1)  # frames that each stage of the encoder folds into one
DECODER_FOLDS = (1, 2, 2)


def convolution(inside: int, outside: int, *, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=bias)


class MemBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            convolution(2 * width, width),
            nn.ReLU(),
            convolution(width, width),
            nn.ReLU(),
            convolution(width, width),
        )

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        """Frames and the frame before each, both (B·T) C H W."""
        return torch.relu(self.conv(torch.cat([x, before], dim=1)) + x)


class TPool(nn.Module):
    """(B·T) C H W → (B·T/fold) C H W."""

    def __init__(self, width: int, fold: int) -> None:
        super().__init__()
        self.fold = fold
        self.conv = nn.Conv2d(width * fold, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        folded: Tensor = self.conv(x.reshape(-1, self.fold * x.shape[1], *x.shape[2:]))
        return folded


class TGrow(nn.Module):
    """(B·T) C H W → (B·T·fold) C H W."""

    def __init__(self, width: int, fold: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width * fold, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        unfolded: Tensor = self.conv(x)
        return unfolded.reshape(-1, *x.shape[1:])


class SoftClamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


def encoder_layers(config: TinyVAEConfig) -> nn.Sequential:
    width = config.encoder_width
    layers: list[nn.Module] = [convolution(COLOURS * config.patch**2, width), nn.ReLU()]
    for fold in ENCODER_FOLDS:
        layers += [TPool(width, fold), convolution(width, width, stride=2, bias=False)]
        layers += [MemBlock(width) for _ in range(3)]
    return nn.Sequential(*layers, convolution(width, config.latent_channels))


def decoder_layers(config: TinyVAEConfig) -> nn.Sequential:
    widths = config.decoder_widths
    layers: list[nn.Module] = [SoftClamp(), convolution(config.latent_channels, widths[0]), nn.ReLU()]
    for width, following, fold in zip(widths, widths[1:], DECODER_FOLDS, strict=False):
        layers += [MemBlock(width) for _ in range(3)]
        layers += [nn.Upsample(scale_factor=2), TGrow(width, fold), convolution(width, following, bias=False)]
    return nn.Sequential(*layers, nn.ReLU(), convolution(widths[-1], COLOURS * config.patch**2))


class Lookback:
    """The last frame that one ``MemBlock`` was given, B 1 C H W; none at the start of a stream."""

    def __init__(self) -> None:
        self._last: Tensor | None = None

    def before(self, x: Tensor) -> Tensor:
        """The frame before each of B T C H W (before a stream's first: zeros), and remembers the last."""
        last = torch.zeros_like(x[:, :1]) if self._last is None else self._last
        self._last = x[:, -1:].clone()
        return torch.cat([last, x[:, :-1]], dim=1)

    @property
    def nbytes(self) -> int:
        return 0 if self._last is None else self._last.nbytes


def lookbacks(layers: nn.Sequential) -> list[Lookback | None]:
    """What a stream through these layers remembers, at its start."""
    return [Lookback() if isinstance(layer, MemBlock) else None for layer in layers]


def run(layers: nn.Sequential, lookbacks: Sequence[Lookback | None], x: Tensor) -> Tensor:
    """All frames of B T C H W at once, layer by layer → B T' C' H' W'."""
    clip = (len(x), -1)
    frames = x.flatten(0, 1)
    for layer, lookback in zip(layers, lookbacks, strict=True):
        if lookback is None:
            frames = layer(frames)
        else:
            before = lookback.before(torch.unflatten(frames, 0, clip))
            frames = layer(frames, before.flatten(0, 1))
    return torch.unflatten(frames, 0, clip)


class TinyVAE(Codec):
    def __init__(self, config: TinyVAEConfig) -> None:
        super().__init__()
        self.patch = config.patch
        self.latent_channels = config.latent_channels
        self.stride = (4, 8 * config.patch, 8 * config.patch)
        self.lookahead = self.stride[0] - 1
        self.encoder = encoder_layers(config)
        self.decoder = decoder_layers(config)

    def encoder_stream(self) -> EncoderStream:
        return _TinyEncoderStream(self)

    def decoder_stream(self) -> DecoderStream:
        return _TinyDecoderStream(self)


class _TinyEncoderStream(EncoderStream):
    def __init__(self, vae: TinyVAE) -> None:
        self._vae = vae
        super().__init__(vae)

    def reset(self) -> None:
        super().reset()
        self._lookbacks = lookbacks(self._vae.encoder)

    def _state_bytes(self) -> int:
        return sum(lookback.nbytes for lookback in self._lookbacks if lookback is not None)

    def _encode(self, video: Tensor) -> Tensor:
        folded = nn.functional.pixel_unshuffle((video + 1) / 2, self._vae.patch)
        return run(self._vae.encoder, self._lookbacks, folded)


class _TinyDecoderStream(DecoderStream):
    def __init__(self, vae: TinyVAE) -> None:
        self._vae = vae
        super().__init__(vae)

    def reset(self) -> None:
        super().reset()
        self._lookbacks = lookbacks(self._vae.decoder)

    def _state_bytes(self) -> int:
        return sum(lookback.nbytes for lookback in self._lookbacks if lookback is not None)

    def _decode(self, latents: Tensor) -> Tensor:
        folded = run(self._vae.decoder, self._lookbacks, latents)
        if self._at_start:
            folded = folded[:, self._vae.stride[0] - 1 :]
        return nn.functional.pixel_shuffle(folded, self._vae.patch).clamp(0, 1) * 2 - 1
