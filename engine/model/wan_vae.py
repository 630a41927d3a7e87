"""Wan2.1's causal 3D video autoencoder, as streams.

Convolutions in time look back only, so a stream's memory is the last frames that each of them was
given. The first frame of a stream is a picture by itself: it passes by the convolutions that halve
or double time. The published code (wan/modules/vae.py) goes 1, 4, 4, … frames at a time through a
list of caches; here any portions do, and each layer's memory is an object of its own.

Module names are the published ones (Wan2.1_VAE.pth), so that the file loads as it is. Knows nothing
of files. Shapes: B batch, C channels, T frames, H W.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import cast

import torch
from torch import Tensor, nn

from engine.model.codec import COLOURS, Codec, DecoderStream, EncoderStream

TIME_KERNEL = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class WanVAEConfig:
    """``widths`` of the stages, at the picture's end first; between two stages height and width
    halve, and time where ``halves_time`` says so. ``mean`` and ``deviation`` are the latent
    channels', which the transformer sees normalised.
    """

    widths: tuple[int, ...]
    halves_time: tuple[bool, ...]
    residual_blocks: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.halves_time) != len(self.widths) - 1:
            raise ValueError(f"{len(self.widths)} stages have {len(self.widths) - 1} places between them")
        if len(self.mean) != len(self.deviation):
            raise ValueError(f"{len(self.mean)} means and {len(self.deviation)} deviations")


WAN_VAES = {
    "wan2.1": WanVAEConfig(
        widths=(96, 192, 384, 384),
        halves_time=(False, True, True),
        residual_blocks=2,
        mean=(
            *(-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508),
            *(0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921),
        ),
        deviation=(
            *(2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743),
            *(3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160),
        ),
    ),
    "tiny": WanVAEConfig(
        widths=(4, 8, 16, 16),
        halves_time=(False, True, True),
        residual_blocks=2,
        mean=(0.1, -0.2, 0.3, -0.4),
        deviation=(1.5, 0.5, 2.0, 1.0),
    ),
}


class Past:
    """The last frames that one convolution in time was given, B C T H W. ``started`` once a frame came."""

    def __init__(self) -> None:
        self.started = False
        self._frames: Tensor | None = None

    def in_front_of(self, x: Tensor, length: int) -> Tensor:
        """``x`` behind the ``length`` frames before it, zeros at the start; remembers its last ones."""
        before = self._frames
        if before is None:
            before = x.new_zeros(*x.shape[:2], length, *x.shape[3:])
        x = torch.cat([before, x], dim=2)
        self.remember(x[:, :, -length:])
        return x

    def remember(self, frames: Tensor) -> None:
        # A copy, since a view would keep the whole chunk alive.
        self._frames = frames.clone()
        self.started = True

    @property
    def nbytes(self) -> int:
        return 0 if self._frames is None else self._frames.nbytes


class CausalConv3d(nn.Conv3d):
    """As long an output as its input: looks at each frame and the two before it."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__(inside, outside, TIME_KERNEL, padding=(0, 1, 1))

    def forward(self, x: Tensor, past: Past) -> Tensor:  # type: ignore[override]
        return super().forward(past.in_front_of(x, TIME_KERNEL - 1))


def over_frames(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A function of pictures (B·T) C H W, on every frame of B C T H W."""
    frames = function(x.transpose(1, 2).flatten(0, 1))
    return torch.unflatten(frames, 0, (len(x), -1)).transpose(1, 2)


class RMSNorm(nn.Module):
    """Over the channels; ``dimensions`` follow them in what it is given."""

    def __init__(self, width: int, dimensions: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width, *(1,) * dimensions))

    def forward(self, x: Tensor) -> Tensor:
        unit = nn.functional.normalize(x.float(), dim=1).type_as(x)
        return unit * (math.sqrt(x.shape[1]) * self.gamma)


class Layer(nn.Module):
    """A layer with as many pasts as it has convolutions in time."""

    pasts = 0

    def start(self) -> tuple[Past, ...]:
        return tuple(Past() for _ in range(self.pasts))


class ResidualBlock(Layer):
    pasts = 2

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            RMSNorm(inside, 3),
            nn.SiLU(),
            CausalConv3d(inside, outside),
            RMSNorm(outside, 3),
            nn.SiLU(),
            nn.Identity(),  # in training it is the published model's dropout
            CausalConv3d(outside, outside),
        )
        self.shortcut = nn.Conv3d(inside, outside, 1) if inside != outside else nn.Identity()

    def forward(self, x: Tensor, pasts: tuple[Past, ...]) -> Tensor:
        norm, silu, conv, last_norm, last_silu, _, last_conv = self.residual
        inner = conv(silu(norm(x)), pasts[0])
        added: Tensor = self.shortcut(x) + last_conv(last_silu(last_norm(inner)), pasts[1])
        return added


class SpatialAttention(Layer):
    """One head, within each frame."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = RMSNorm(width, 2)
        self.to_qkv = nn.Conv2d(width, 3 * width, 1)
        self.proj = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, pasts: tuple[Past, ...]) -> Tensor:
        return x + over_frames(self._attended, x)

    def _attended(self, frames: Tensor) -> Tensor:
        tokens = self.to_qkv(self.norm(frames)).flatten(2).transpose(1, 2)[:, None]
        queries, keys, values = tokens.chunk(3, dim=-1)
        attended = nn.functional.scaled_dot_product_attention(queries, keys, values)
        projected: Tensor = self.proj(attended[:, 0].transpose(1, 2).view_as(frames))
        return projected


class Downsample(Layer):
    """Halves height and width, then time if it is asked to: from the second frame on, each two become
    one, which also sees the frame before them.
    """

    def __init__(self, width: int, halves_time: bool) -> None:
        super().__init__()
        self.pasts = int(halves_time)
        self.resample = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(width, width, 3, stride=2))
        self.time_conv = (
            nn.Conv3d(width, width, (TIME_KERNEL, 1, 1), stride=(2, 1, 1)) if halves_time else None
        )

    def forward(self, x: Tensor, pasts: tuple[Past, ...]) -> Tensor:
        x = over_frames(self.resample, x)
        if self.time_conv is None:
            return x
        past = pasts[0]
        if past.started:
            halved: Tensor = self.time_conv(past.in_front_of(x, 1))
            return halved
        past.remember(x[:, :, -1:])
        first = x[:, :, :1]
        return first if x.shape[2] == 1 else torch.cat([first, self.time_conv(x)], dim=2)


class Upsample(Layer):
    """Doubles time if it is asked to, each frame but a stream's first; then height and width. Halves
    the channels.
    """

    def __init__(self, width: int, doubles_time: bool) -> None:
        super().__init__()
        self.pasts = int(doubles_time)
        self.resample = nn.Sequential(
            nn.Upsample(scale_factor=2.0, mode="nearest-exact"), nn.Conv2d(width, width // 2, 3, padding=1)
        )
        self.time_conv = nn.Conv3d(width, 2 * width, (TIME_KERNEL, 1, 1)) if doubles_time else None

    def forward(self, x: Tensor, pasts: tuple[Past, ...]) -> Tensor:
        if self.time_conv is not None:
            x = self._doubled(x, pasts[0])
        return over_frames(self.resample, x)

    def _doubled(self, x: Tensor, past: Past) -> Tensor:
        """The first frame is not even part of the past: for the second one, that is zeros."""
        alone = 0 if past.started else 1
        past.started = True
        first, rest = x[:, :, :alone], x[:, :, alone:]
        if not rest.shape[2]:
            return first
        assert self.time_conv is not None
        pairs = torch.unflatten(self.time_conv(past.in_front_of(rest, TIME_KERNEL - 1)), 1, (2, -1))
        doubled = pairs.permute(0, 2, 3, 1, 4, 5).flatten(2, 3)
        return torch.cat([first, doubled], dim=2) if alone else doubled


@dataclass(frozen=True, slots=True)
class HalfState:
    """What a stream through the encoder or the decoder remembers."""

    first: Past
    layers: tuple[tuple[Past, ...], ...]
    last: Past

    @property
    def nbytes(self) -> int:
        pasts = (self.first, *(past for layer in self.layers for past in layer), self.last)
        return sum(past.nbytes for past in pasts)


class Half(nn.Module, ABC):
    """Encoder or decoder: a convolution, layers, a head."""

    def __init__(self, inside: int, first_width: int, last_width: int, outside: int) -> None:
        super().__init__()
        self.conv1 = CausalConv3d(inside, first_width)
        self.head = nn.Sequential(RMSNorm(last_width, 3), nn.SiLU(), CausalConv3d(last_width, outside))

    @abstractmethod
    def layers(self) -> Iterator[Layer]:
        """Between the convolution and the head, in order."""

    def start(self) -> HalfState:
        return HalfState(Past(), tuple(layer.start() for layer in self.layers()), Past())

    def forward(self, x: Tensor, state: HalfState) -> Tensor:
        x = self.conv1(x, state.first)
        for layer, pasts in zip(self.layers(), state.layers, strict=True):
            x = layer(x, pasts)
        norm, silu, conv = self.head
        out: Tensor = conv(silu(norm(x)), state.last)
        return out


def middle(width: int) -> nn.Sequential:
    return nn.Sequential(ResidualBlock(width, width), SpatialAttention(width), ResidualBlock(width, width))


class Encoder(Half):
    def __init__(self, config: WanVAEConfig) -> None:
        widths = config.widths
        super().__init__(COLOURS, widths[0], widths[-1], 2 * len(config.mean))
        layers: list[Layer] = []
        inside = widths[0]
        for stage, width in enumerate(widths):
            if stage:
                layers.append(Downsample(inside, config.halves_time[stage - 1]))
            for _ in range(config.residual_blocks):
                layers.append(ResidualBlock(inside, width))
                inside = width
        self.downsamples = nn.Sequential(*layers)
        self.middle = middle(inside)

    def layers(self) -> Iterator[Layer]:
        return cast(Iterator[Layer], chain(self.downsamples, self.middle))


class Decoder(Half):
    def __init__(self, config: WanVAEConfig) -> None:
        widths, doubles_time = config.widths[::-1], config.halves_time[::-1]
        super().__init__(len(config.mean), widths[0], widths[-1], COLOURS)
        self.middle = middle(widths[0])
        layers: list[Layer] = []
        inside = widths[0]
        for stage, width in enumerate(widths):
            if stage:
                layers.append(Upsample(inside, doubles_time[stage - 1]))
                inside //= 2
            for _ in range(config.residual_blocks + 1):
                layers.append(ResidualBlock(inside, width))
                inside = width
        self.upsamples = nn.Sequential(*layers)

    def layers(self) -> Iterator[Layer]:
        return cast(Iterator[Layer], chain(self.middle, self.upsamples))


class WanVAE(Codec):
    """``conv1`` and ``conv2`` stand between encoder, latents and decoder."""

    def __init__(self, config: WanVAEConfig) -> None:
        super().__init__()
        self.latent_channels = len(config.mean)
        space = 2 ** len(config.halves_time)
        self.stride = (2 ** sum(config.halves_time), space, space)
        self.lookahead = 0
        self.mean, self.deviation = config.mean, config.deviation
        self.encoder = Encoder(config)
        self.conv1 = nn.Conv3d(2 * self.latent_channels, 2 * self.latent_channels, 1)
        self.conv2 = nn.Conv3d(self.latent_channels, self.latent_channels, 1)
        self.decoder = Decoder(config)

    def encoder_stream(self) -> EncoderStream:
        return _WanEncoderStream(self)

    def decoder_stream(self) -> DecoderStream:
        return _WanDecoderStream(self)

    def per_channel(self, numbers: tuple[float, ...]) -> Tensor:
        """As C 1 1, beside the weights. No buffer: the published file has none, and weights that are
        loaded onto an empty model would leave it empty.
        """
        weight = self.conv2.weight
        return torch.tensor(numbers, device=weight.device, dtype=weight.dtype)[:, None, None]


class _WanEncoderStream(EncoderStream):
    def __init__(self, vae: WanVAE) -> None:
        self._vae = vae
        self._mean, self._deviation = vae.per_channel(vae.mean), vae.per_channel(vae.deviation)
        super().__init__(vae)

    def reset(self) -> None:
        super().reset()
        self._state = self._vae.encoder.start()

    def _state_bytes(self) -> int:
        return self._state.nbytes

    def _encode(self, video: Tensor) -> Tensor:
        """The mean of the distribution that the network gives; its other half is the variance."""
        moments = self._vae.conv1(self._vae.encoder(video.transpose(1, 2), self._state))
        mean = moments.transpose(1, 2)[:, :, : self._vae.latent_channels]
        return (mean - self._mean) / self._deviation  # type: ignore[no-any-return]


class _WanDecoderStream(DecoderStream):
    def __init__(self, vae: WanVAE) -> None:
        self._vae = vae
        self._mean, self._deviation = vae.per_channel(vae.mean), vae.per_channel(vae.deviation)
        super().__init__(vae)

    def reset(self) -> None:
        super().reset()
        self._state = self._vae.decoder.start()

    def _state_bytes(self) -> int:
        return self._state.nbytes

    def _decode(self, latents: Tensor) -> Tensor:
        scaled = latents * self._deviation + self._mean
        video: Tensor = self._vae.decoder(self._vae.conv2(scaled.transpose(1, 2)), self._state)
        return video.transpose(1, 2).clamp(-1, 1)
