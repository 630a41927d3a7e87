"""A small network from one picture to depth, a person's matte, and how sure it is of the depth.

A U-Net. Its encoder is EfficientNet-Lite0's (Tan and Le 2019; Google's variant without squeezing and with
ReLU6), so that it can begin with what a million photographs taught that one: rendered rooms alone teach a
network rendered rooms. Between encoder and decoder a few transformer layers see the whole picture at 1/32
of its size, so that a floor at the bottom can say how far the wall behind a head is. Batch normalisation
melts into the convolutions for inference.

Depth is the logarithm of inverse depth, for a lens of ``CANONICAL_FOCAL`` (Metric3D, Yin et al. 2023,
section 3.1: without a common focal length, near and zoomed-in look the same). Its absolute scale is a guess:
whoever uses it brings a distance that is known.

Knows nothing of files, training or time. Shapes: N pictures, H W rows and columns, C channels, L tokens.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

CANONICAL_FOCAL = 1.0  # focal length over the picture's width: a horizontal view of 53°
SURE_WITHIN = math.log(1.25)  # confidence is the chance that log depth is off by less than this
FIRST_GUESS = math.log(1 / 3.0)  # log 1/m: three metres, where presenters are
LOG_SCALE_RANGE = (-5.0, 1.0)
OUTPUTS = 3
MEAN, DEVIATION = 127 / 255, 128 / 255  # of the pictures that EfficientNet-Lite0 has learnt from
REDUCTION = 32  # the context's cells; width and height are multiples of it


@dataclass(frozen=True, slots=True)
class Stage:
    """So many inverted residual blocks, of which the first has the stride; each is ``expansion`` times as
    wide within."""

    expansion: int
    channels: int
    kernel: int
    stride: int
    blocks: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DepthConfig:
    """``stem`` is the channels of the first convolution, at 1/2; the strides of ``stages`` lead to 1/32.
    ``decoder`` is the decoder's channels at 1/2, 1/4, 1/8 and 1/16."""

    size: tuple[int, int]  # width, height
    stem: int
    stages: tuple[Stage, ...]
    decoder: tuple[int, int, int, int]
    context_width: int
    context_layers: int
    context_heads: int
    pretrained: bool = False  # training begins with EfficientNet-Lite0's encoder

    def __post_init__(self) -> None:
        if any(side <= 0 or side % REDUCTION for side in self.size):
            raise ValueError(f"width and height are positive multiples of {REDUCTION}, not {self.size}")
        if 2 * math.prod(stage.stride for stage in self.stages) != REDUCTION:
            raise ValueError(f"the strides of the stem and the stages lead to 1/{REDUCTION}")
        if self.context_width % self.context_heads:
            raise ValueError(f"{self.context_width} channels do not split into {self.context_heads} heads")


SIZES = {
    "tiny": DepthConfig(
        size=(64, 32),
        stem=8,
        stages=(Stage(1, 8, 3, 1, 1), *(Stage(2, 8, 3, 2, 1) for _ in range(4))),
        decoder=(8, 8, 16, 16),
        context_width=16,
        context_layers=1,
        context_heads=2,
    ),
    "small": DepthConfig(
        size=(224, 128),
        stem=32,
        stages=(
            Stage(1, 16, 3, 1, 1),
            Stage(6, 24, 3, 2, 2),
            Stage(6, 40, 5, 2, 2),
            Stage(6, 80, 3, 2, 3),
            Stage(6, 112, 5, 1, 3),
            Stage(6, 192, 5, 2, 2),  # of EfficientNet-Lite0's four blocks
        ),
        decoder=(24, 32, 64, 96),
        context_width=160,
        context_layers=3,
        context_heads=5,
        pretrained=True,
    ),
}


class DepthMaps(NamedTuple):
    """Three maps N H W: log of inverse depth (1/m), logits of the matte, log of the Laplace scale of the
    first one's error."""

    log_inverse_depth: Tensor
    matte_logits: Tensor
    log_scale: Tensor


class DepthNetwork(nn.Module):
    """Pictures N 3 H W in [0, 1], red first, of the configured size → :class:`DepthMaps` of that size."""

    def __init__(self, config: DepthConfig) -> None:
        super().__init__()
        width, height = config.size
        self.size = config.size
        self.encoder = Encoder(config)
        self.context = Context(
            config.stages[-1].channels,
            config.context_width,
            (height // REDUCTION, width // REDUCTION),
            config.context_layers,
            config.context_heads,
        )
        deeper = (*config.decoder[1:], config.context_width)
        self.decoder = nn.ModuleList(
            Fusion(below, skip, channels)
            for below, skip, channels in zip(deeper, self.encoder.widths, config.decoder, strict=True)
        )
        self.head = nn.Conv2d(config.decoder[0], OUTPUTS * 4, 3, padding=1)
        nn.init.normal_(self.head.weight, std=1e-2)

    def forward(self, images: Tensor) -> DepthMaps:
        *skips, x = self.encoder((images - MEAN) / DEVIATION)
        x = self.context(x)
        for fusion, skip in zip(reversed(self.decoder), reversed(skips), strict=True):
            x = fusion(x, skip)
        maps = F.pixel_shuffle(self.head(x), 2)
        return DepthMaps(maps[:, 0] + FIRST_GUESS, maps[:, 1], maps[:, 2].clamp(*LOG_SCALE_RANGE))


class Inference(nn.Module):
    """What runs live: inverse depth in 1/m, matte and confidence in [0, 1], each N H W."""

    def __init__(self, network: DepthNetwork) -> None:
        super().__init__()
        self.network = folded(network)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps = self.network(images)
        return maps.log_inverse_depth.exp(), maps.matte_logits.sigmoid(), confidence(maps.log_scale)


def confidence(log_scale: Tensor) -> Tensor:
    """P(|error| < SURE_WITHIN) = 1 − e^(−SURE_WITHIN / b) of a Laplace distribution of scale b."""
    return 1 - torch.exp(-SURE_WITHIN * torch.exp(-log_scale))


def folded(network: DepthNetwork) -> DepthNetwork:
    """A copy for inference, its normalisations melted into the convolutions before them."""
    network = copy.deepcopy(network).eval()
    for module in list(network.modules()):
        if isinstance(module, Convolution):
            module.fold()
    return network


class Convolution(nn.Module):
    """A convolution without bias, and its normalisation."""

    def __init__(self, before: int, after: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(after, eps=1e-3)
        self._is_folded = False

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x if self._is_folded else self.norm(x)

    def fold(self) -> None:
        """One convolution that does the work of both, from now on."""
        self.conv = fuse_conv_bn_eval(self.conv, self.norm)
        self._is_folded = True


class Depthwise(Convolution):
    """Each channel by itself: memory is what it waits for, so half precision wins nothing, and on the way
    back PyTorch has no fast one on processors."""

    def __init__(self, channels: int, kernel: int, stride: int) -> None:
        super().__init__(channels, channels, kernel, stride, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


class Encoder(nn.Module):
    """Pictures N 3 H W → features at 1/2, 1/4, 1/8, 1/16 and 1/32 of their size, ``widths`` channels each."""

    def __init__(self, config: DepthConfig) -> None:
        super().__init__()
        self.stem = Convolution(3, config.stem, stride=2)
        before = config.stem
        stages = []
        for stage in config.stages:
            blocks = []
            for index in range(stage.blocks):
                stride = stage.stride if index == 0 else 1
                blocks.append(InvertedResidual(before, stage.channels, stage.expansion, stage.kernel, stride))
                before = stage.channels
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        halves = [index - 1 for index, stage in enumerate(config.stages) if stage.stride == 2]
        self._kept = {*halves, len(config.stages) - 1}  # the last stage of each size
        self.widths = [config.stages[index].channels for index in halves]

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu6(self.stem(x))
        features = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in self._kept:
                features.append(x)
        return features


class InvertedResidual(nn.Module):
    """Wide, each channel by itself, narrow (MobileNetV2, Sandler et al. 2018, section 3.3)."""

    def __init__(self, before: int, after: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        inner = before * expansion
        self.expand = Convolution(before, inner, 1) if expansion > 1 else None
        self.depthwise = Depthwise(inner, kernel, stride)
        self.project = Convolution(inner, after, 1)
        self._is_residual = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        inner = x if self.expand is None else F.relu6(self.expand(x))
        y: Tensor = self.project(F.relu6(self.depthwise(inner)))
        return x + y if self._is_residual else y


class Context(nn.Module):
    """N C H W, mixed over the whole picture → N D H W."""

    def __init__(self, before: int, width: int, cells: tuple[int, int], layers: int, heads: int) -> None:
        super().__init__()
        self.enter = Convolution(before, width, 1)
        self.position = nn.Parameter(torch.randn(1, cells[0] * cells[1], width) * 0.02)
        self.layers = nn.ModuleList(TokenMixer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        n, channels, height, width = x.shape
        tokens = x.flatten(2).transpose(1, 2) + self.position
        for layer in self.layers:
            tokens = layer(tokens)
        mixed: Tensor = self.norm(tokens)
        return mixed.transpose(1, 2).reshape(n, channels, height, width)


class TokenMixer(nn.Module):
    """A transformer layer, normalised before each branch. Tokens N L C."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.norm_mlp = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 3 * channels), nn.ReLU(), nn.Linear(3 * channels, channels)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        n, length, channels = tokens.shape
        split = self.qkv(self.norm_attention(tokens)).reshape(
            n, length, 3, self.heads, channels // self.heads
        )
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(-1, -2) / math.sqrt(channels // self.heads)).softmax(-1)
        mixed = (weights @ v).transpose(1, 2).reshape(n, length, channels)
        tokens = tokens + self.out(mixed)
        change: Tensor = self.mlp(self.norm_mlp(tokens))
        return tokens + change


class Fusion(nn.Module):
    """One step of the decoder: the coarser map, doubled, and the encoder's of the same size."""

    def __init__(self, below: int, skip: int, channels: int) -> None:
        super().__init__()
        self.below = nn.Conv2d(below, channels, 1)
        self.skip = nn.Conv2d(skip, channels, 1)
        self.mix = Convolution(channels, channels)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        doubled = F.interpolate(self.below(below), scale_factor=2, mode="nearest")
        return F.relu(self.mix(F.relu(doubled + self.skip(skip))))
