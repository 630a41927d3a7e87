"""The transformer of teacher and student: Wan's blocks, on source and target in synchronised pairs.

Source tokens carry timestep 0 and attend to source tokens only; target tokens attend to source and
target. Frame i of both streams has one rotary position; a stream embedding tells them apart. So the
source's keys and values are made once (:meth:`PairTransformer.encode_source`) and each denoising
step runs the target's tokens alone (:meth:`PairTransformer.denoise`).

Names and numbers are Wan2.1's (wan/modules/model.py), so that its weights fit. Knows nothing of
noise schedules, chunks or pictures.

Shapes: B batch, F latent frames, T tokens of a frame, N = F·T, M tokens attended to, D width,
H heads, E width of a head, C latent channels, h w latent rows and columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from engine.model.attention import attention, grid_positions, rotate, rotations
from engine.model.camera_encoder import ExtrinsicEncoder, PluckerEncoder
from engine.model.config import ModelConfig

EPSILON = 1e-6
NOISIEST = 1000.0  # the timestep of pure noise
LEAST_SIGMA = 1e-3  # a mixture says x0; the velocity it stands for has no value without any noise
SOURCE, TARGET = 0, 1


@dataclass(frozen=True, slots=True)
class KeysValues:
    """What one layer's queries attend to: keys (rotated) and values, B M H E."""

    keys: Tensor
    values: Tensor


def joined(*parts: KeysValues | None) -> KeysValues:
    there = [part for part in parts if part is not None]
    if len(there) == 1:
        return there[0]
    return KeysValues(
        torch.cat([part.keys for part in there], dim=1), torch.cat([part.values for part in there], dim=1)
    )


class RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + EPSILON)
        return (x.float() * scale).type_as(x) * self.weight


def layer_norm(x: Tensor) -> Tensor:
    """Without weights, in float32, as Wan's modulated norms are."""
    return nn.functional.layer_norm(x.float(), x.shape[-1:], eps=EPSILON).type_as(x)


class Attention(nn.Module):
    """The projections of one attention, with normalised queries and keys; who attends to what is the
    caller's business.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.o = nn.Linear(width, width)
        self.norm_q = RMSNorm(width)
        self.norm_k = RMSNorm(width)

    def queries(self, x: Tensor) -> Tensor:
        return self._split(self.norm_q(self.q(x)))

    def keys_values(self, x: Tensor) -> KeysValues:
        """Not rotated yet."""
        return KeysValues(self._split(self.norm_k(self.k(x))), self._split(self.v(x)))

    def _split(self, x: Tensor) -> Tensor:
        """B N D → B N H E."""
        return x.view(*x.shape[:-1], self.heads, -1)

    def forward(self, queries: Tensor, to: KeysValues, mask: Tensor | None = None) -> Tensor:
        attended: Tensor = self.o(attention(queries, to.keys, to.values, mask).flatten(2))
        return attended


class Block(nn.Module):
    """Self-attention, text cross-attention, feed-forward, modulated by the timestep of each frame."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.width
        self.self_attn = Attention(width, config.heads)
        self.cross_attn = Attention(width, config.heads)
        self.norm3 = nn.LayerNorm(width, EPSILON)  # its numbers are used in float32, see finish()
        self.ffn = nn.Sequential(
            nn.Linear(width, config.ffn_width), nn.GELU("tanh"), nn.Linear(config.ffn_width, width)
        )
        self.modulation = nn.Parameter(torch.randn(1, 6, width) / width**0.5)
        self.camera = ExtrinsicEncoder(width) if config.camera == "recammaster" else None

    def begin(self, x: Tensor, time: Tensor, camera: Tensor | None, rotation: Tensor) -> _Begun:
        """The part before the attention: B F T D, time B F 6 D, camera B F 12 → queries, keys, values.

        Keys come twice, rotated for now and as they are for a cache.
        """
        parts = (self.modulation[:, None] + time.float()).unsqueeze(3).unbind(2)  # 6 × B F 1 D
        shift, scale = parts[0], parts[1]
        modulated = (layer_norm(x).float() * (1 + scale) + shift).type_as(x)
        if self.camera is not None and camera is not None:
            modulated = modulated + self.camera.cam_encoder(camera)[:, :, None]
        tokens = modulated.flatten(1, 2)
        queries = rotate(self.self_attn.queries(tokens), rotation)
        plain = self.self_attn.keys_values(tokens)
        return _Begun(queries, plain, KeysValues(rotate(plain.keys, rotation), plain.values), parts)

    def finish(
        self, x: Tensor, begun: _Begun, to: KeysValues, text: KeysValues, mask: Tensor | None = None
    ) -> Tensor:
        """The attention and all behind it: B F T D."""
        gate, shift, scale, last_gate = (begun.modulation[i] for i in (2, 3, 4, 5))
        attended = self.self_attn(begun.queries, to, mask)
        if self.camera is not None:
            attended = self.camera.projector(attended)
        x = (x.float() + attended.view_as(x).float() * gate).type_as(x)
        normed = nn.functional.layer_norm(
            x.float(), x.shape[-1:], self.norm3.weight.float(), self.norm3.bias.float(), EPSILON
        )
        crossed = self.cross_attn(self.cross_attn.queries(normed.type_as(x).flatten(1, 2)), text)
        x = x + crossed.view_as(x)
        fed: Tensor = self.ffn((layer_norm(x).float() * (1 + scale) + shift).type_as(x))
        return (x.float() + fed.float() * last_gate).type_as(x)


@dataclass(frozen=True, slots=True)
class _Begun:
    queries: Tensor
    plain: KeysValues
    rotated: KeysValues
    modulation: tuple[Tensor, ...]


class Head(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head = nn.Linear(config.width, math.prod(config.patch) * config.latent_channels)
        self.modulation = nn.Parameter(torch.randn(1, 2, config.width) / config.width**0.5)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """B F T D and B F D → B F T (patch · C)."""
        shift, scale = (self.modulation[:, None] + time.float()[:, :, None]).unsqueeze(3).unbind(2)
        return self.head((layer_norm(x).float() * (1 + scale) + shift).type_as(x))  # type: ignore[no-any-return]


class MixtureHead(nn.Module):
    """Weighs, for each pixel, a colour that the transformer generated against the hints.

    For the pixel codec, whose channels are 3 colours · P pixels of a patch. K hints.
    """

    COLOURS = 3

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pixels = config.latent_channels // self.COLOURS
        self.candidates = 1 + config.hint_channels // config.latent_channels
        self.weights = nn.Linear(config.width, math.prod(config.patch) * self.candidates * self.pixels)

    def forward(self, logits: Tensor, generated: Tensor, hints: Tensor) -> Tensor:
        """B F ((K+1)·P) h w, B F 3·P h w and B F (K·3·P) h w → x0, B F 3·P h w."""
        shape = (self.candidates, self.COLOURS, self.pixels)
        candidates = torch.cat([generated, hints], dim=2).view(*_split(generated, shape))
        share = logits.view(*_split(logits, (self.candidates, 1, self.pixels))).softmax(2)
        return (candidates * share).sum(2).flatten(2, 3)


def _split(x: Tensor, channels: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of B F C h w with the channels apart."""
    return (*x.shape[:2], *channels, *x.shape[3:])


@dataclass(frozen=True, slots=True)
class Memory:
    """What a pass attends to besides its own tokens, one entry for each layer, rotated."""

    layers: Sequence[KeysValues | None]


@dataclass(frozen=True, slots=True)
class Pass:
    """What a pass leaves: each layer's own keys and values, rotated for now and plain for a cache."""

    rotated: list[KeysValues]
    plain: list[KeysValues]


class PairTransformer(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.patch = config.patch
        self.head_width = config.head_width
        self.frequency_width = config.frequency_width
        width = config.width
        self.patch_embedding = nn.Conv3d(config.latent_channels, width, config.patch, config.patch)
        self.text_embedding = nn.Sequential(
            nn.Linear(config.text_width, width), nn.GELU("tanh"), nn.Linear(width, width)
        )
        self.time_embedding = nn.Sequential(
            nn.Linear(config.frequency_width, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.head = Head(config)
        self.mixture = MixtureHead(config) if config.head == "mixture" else None
        self.stream_embedding = nn.Parameter(torch.zeros(2, width))
        self.empty_prompt = nn.Parameter(torch.zeros(config.text_length, config.text_width))
        self.plucker = PluckerEncoder(width, config.patch) if config.camera == "plucker" else None
        self.hints = (
            nn.Conv3d(config.hint_channels, width, config.patch, config.patch)
            if config.hint_channels
            else None
        )

    def encode_text(self, prompt: Tensor | None = None) -> list[KeysValues]:
        """The prompt's embedding B L text_width (None: the empty prompt) → keys and values of each
        layer; once for each prompt.
        """
        text = self.text_embedding(self.empty_prompt[None] if prompt is None else prompt)
        return [block.cross_attn.keys_values(text) for block in self._blocks()]

    def encode_source(
        self,
        latent: Tensor,
        times: Tensor,
        text: Sequence[KeysValues],
        past: Memory | None = None,
        mask: Tensor | None = None,
    ) -> Pass:
        """The source's frames B F C h w at times F; they see ``past`` and one another (or ``mask``)."""
        zero = latent.new_zeros(latent.shape[:2], dtype=torch.float32)
        tokens = self._patches(latent) + self.stream_embedding[SOURCE]
        _, _, left = self._run(tokens, zero, None, times, latent.shape[-2:], text, past, mask)
        return left

    def denoise(
        self,
        latent: Tensor,
        timesteps: Tensor,
        times: Tensor,
        text: Sequence[KeysValues],
        seen: Memory | None,
        *,
        rays: Tensor | None = None,
        extrinsics: Tensor | None = None,
        hints: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Pass]:
        """Velocity of the target's frames: B F C h w, timesteps B F in 0…1000, times F → B F C h w.

        ``seen`` is the source's memory, with the target's past behind it; ``rays`` are B F 6 h w,
        ``extrinsics`` B F 12, ``hints`` B F hint_channels h w.
        """
        tokens = self._patches(latent) + self.stream_embedding[TARGET]
        if self.plucker is not None and rays is not None:
            tokens = tokens + self.plucker(rays)
        if self.hints is not None and hints is not None:
            tokens = tokens + self.hints(hints.transpose(1, 2)).flatten(3).permute(0, 2, 3, 1)
        grid = latent.shape[-2:]
        x, time, left = self._run(tokens, timesteps, extrinsics, times, grid, text, seen, mask)
        made = self._unpatched(self.head(x, time), grid)
        if self.mixture is not None:
            assert hints is not None
            logits = self._unpatched(self.mixture.weights(layer_norm(x)), grid)
            sigma = (timesteps / NOISIEST).clamp(min=LEAST_SIGMA)[..., None, None, None].type_as(latent)
            made = (latent - self.mixture(logits, made, hints)) / sigma
        return made, left

    def rotated(self, keys: Tensor, times: Tensor, grid: tuple[int, int]) -> Tensor:
        """A cache's keys B M H E, M = len(times)·T, turned to their positions."""
        return rotate(keys, self._rotation(times, grid))

    def _run(
        self,
        x: Tensor,
        timesteps: Tensor,
        camera: Tensor | None,
        times: Tensor,
        grid: tuple[int, int] | torch.Size,
        text: Sequence[KeysValues],
        seen: Memory | None,
        mask: Tensor | None,
    ) -> tuple[Tensor, Tensor, Pass]:
        time = self.time_embedding(self._frequencies(timesteps).type_as(x))
        modulation = self.time_projection(time).unflatten(-1, (6, -1))
        rotation = self._rotation(times, grid)
        left = Pass([], [])
        for number, block in enumerate(self._blocks()):
            begun = block.begin(x, modulation, camera, rotation)
            left.plain.append(begun.plain)
            left.rotated.append(begun.rotated)
            to = joined(seen.layers[number] if seen else None, begun.rotated)
            x = block.finish(x, begun, to, text[number], mask)
        return x, time, left

    def _blocks(self) -> list[Block]:
        return cast("list[Block]", list(self.blocks))

    def _frequencies(self, timesteps: Tensor) -> Tensor:
        """The sinusoidal embedding of B F timesteps: cosines first, as Wan has it."""
        half = self.frequency_width // 2
        rates = 10_000.0 ** (-torch.arange(half, device=timesteps.device, dtype=torch.float64) / half)
        angles = timesteps.double()[..., None] * rates
        return torch.cat([angles.cos(), angles.sin()], dim=-1).float()

    def _rotation(self, times: Tensor, grid: tuple[int, int] | torch.Size) -> Tensor:
        rows, columns = grid[0] // self.patch[1], grid[1] // self.patch[2]
        return rotations(grid_positions(times, rows, columns), self.head_width)

    def _patches(self, latent: Tensor) -> Tensor:
        """B F C h w → B F T D."""
        tokens: Tensor = self.patch_embedding(latent.transpose(1, 2))
        return tokens.flatten(3).permute(0, 2, 3, 1)

    def _unpatched(self, tokens: Tensor, grid: tuple[int, int] | torch.Size) -> Tensor:
        """B F T (pt·py·px·C) → B F C h w, for any C."""
        _, py, px = self.patch
        rows, columns = grid[0] // py, grid[1] // px
        out = tokens.view(*tokens.shape[:2], rows, columns, py, px, -1)
        return out.permute(0, 1, 6, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4)
