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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from engine.model.attention import attention, grid_positions, rotate, rotations, window_attention
from engine.model.camera_encoder import ExtrinsicEncoder, PluckerEncoder
from engine.model.config import ModelConfig

EPSILON = 1e-6
NOISIEST = 1000.0  # the timestep of pure noise
LEAST_SIGMA = 1e-3  # a mixture says x0; the velocity it stands for has no value without any noise
FIRST_SHARE = 0.8  # of a mixture, for the last hint
SOURCE, TARGET = 0, 1


@dataclass(frozen=True, slots=True)
class KeysValues:
    """What one layer's queries attend to: keys (rotated) and values, B M H E."""

    keys: Tensor
    values: Tensor


Attend = Callable[[Tensor, KeysValues], Tensor]  # queries and own keys and values → B N H E


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
        wide = x.float()
        length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)  # in one pass, without a copy of x²
        scale = torch.rsqrt(length.square() / x.shape[-1] + EPSILON)
        return (wide * scale).type_as(x) * self.weight


def layer_norm(x: Tensor) -> Tensor:
    """Without weights, in float32, as Wan's modulated norms are."""
    return nn.functional.layer_norm(x.float(), x.shape[-1:], eps=EPSILON).type_as(x)


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Normalised, scaled and shifted, in float32."""
    return torch.addcmul(shift, layer_norm(x).float(), 1 + scale).type_as(x)


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

    def forward(self, queries: Tensor, to: KeysValues) -> Tensor:
        return self.joined(attention(queries, to.keys, to.values))

    def joined(self, attended: Tensor) -> Tensor:
        """B N H E → B N D."""
        out: Tensor = self.o(attended.flatten(2))
        return out


class Block(nn.Module):
    """Self-attention, text cross-attention, feed-forward, modulated by the timestep of each frame."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.width
        self.self_attn = Attention(width, config.heads)
        self.cross_attn = Attention(width, config.heads)
        self.norm3 = nn.LayerNorm(width, EPSILON)  # its numbers are used in float32, see _told()
        self.ffn = nn.Sequential(
            nn.Linear(width, config.ffn_width), nn.GELU("tanh"), nn.Linear(config.ffn_width, width)
        )
        self.modulation = nn.Parameter(torch.randn(1, 6, width) / width**0.5)
        self.camera = ExtrinsicEncoder(width) if config.camera == "recammaster" else None

    def text_keys_values(self, text: Tensor) -> KeysValues:
        return self.cross_attn.keys_values(text)

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        camera: Tensor | None,
        rotation: Tensor,
        text: KeysValues,
        attend: Attend,
    ) -> tuple[Tensor, KeysValues, KeysValues]:
        """B F T D, time B F 6 D, camera B F 12 → B F T D, and its keys and values: rotated for now, and
        plain for a cache. Who sees whom is ``attend``'s business.
        """
        parts = (self.modulation[:, None] + time.float()).unsqueeze(3).unbind(2)  # 6 × B F 1 D
        shift, scale, gate, last_shift, last_scale, last_gate = parts
        tokens = modulated(x, shift, scale)
        if self.camera is not None and camera is not None:
            tokens = tokens + self.camera.cam_encoder(camera)[:, :, None]
        tokens = tokens.flatten(1, 2)
        plain = self.self_attn.keys_values(tokens)
        rotated = KeysValues(rotate(plain.keys, rotation), plain.values)
        attended = attend(rotate(self.self_attn.queries(tokens), rotation), rotated)
        out = self.self_attn.joined(attended)
        if self.camera is not None:
            out = self.camera.projector(out)
        x = torch.addcmul(x.float(), out.view_as(x).float(), gate).type_as(x)
        x = x + self._told(x, text)
        fed = self.ffn(modulated(x, last_shift, last_scale))
        return torch.addcmul(x.float(), fed.float(), last_gate).type_as(x), plain, rotated

    def _told(self, x: Tensor, text: KeysValues) -> Tensor:
        """What the text adds: B F T D, or B 1 1 D when it is one token, which says the same to all."""
        if text.keys.shape[1] == 1:
            return self.cross_attn.joined(text.values)[:, None]
        normed = nn.functional.layer_norm(
            x.float(), x.shape[-1:], self.norm3.weight.float(), self.norm3.bias.float(), EPSILON
        )
        queries = self.cross_attn.queries(normed.type_as(x).flatten(1, 2))
        crossed: Tensor = self.cross_attn(queries, text)
        return crossed.view_as(x)


class Head(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head = nn.Linear(config.width, math.prod(config.patch) * config.latent_channels)
        self.modulation = nn.Parameter(torch.randn(1, 2, config.width) / config.width**0.5)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """B F T D and B F D → B F T (patch · C)."""
        shift, scale = (self.modulation[:, None] + time.float()[:, :, None]).unsqueeze(3).unbind(2)
        out: Tensor = self.head(modulated(x, shift, scale))
        return out


class MixtureHead(nn.Module):
    """Weighs, for each pixel, a colour that the transformer generated against the hints. Begins with the
    last hint, and a little of all others.

    For the pixel codec, whose channels are 3 colours · P pixels of a patch. K hints, G guide channels.
    """

    COLOURS = 3

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pixels = config.latent_channels // self.COLOURS
        self.pictures = config.hint_channels - config.guide_channels
        self.candidates = 1 + self.pictures // config.latent_channels
        self.weights = nn.Linear(config.width, math.prod(config.patch) * self.candidates * self.pixels)
        nn.init.zeros_(self.weights.weight)
        with torch.no_grad():
            shares = self.weights.bias.zero_().view(-1, self.candidates, self.pixels)
            shares[:, -1] = math.log(FIRST_SHARE / (1 - FIRST_SHARE) * (self.candidates - 1))

    def forward(self, logits: Tensor, generated: Tensor, hints: Tensor) -> Tensor:
        """B F ((K+1)·P) h w, B F 3·P h w and B F (K·3·P + G) h w → x0, B F 3·P h w."""
        shape = (self.candidates, self.COLOURS, self.pixels)
        candidates = torch.cat([generated, hints[:, :, : self.pictures]], dim=2)
        share = logits.view(*_split(logits, (self.candidates, 1, self.pixels))).softmax(2)
        return (candidates.view(*_split(generated, shape)) * share).sum(2).flatten(2, 3)


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


def full_attention(seen: Memory | None, mask: Tensor | None) -> Callable[[int], Attend]:
    """To everything in ``seen`` and to one's own."""

    def layer(number: int) -> Attend:
        def attend(queries: Tensor, own: KeysValues) -> Tensor:
            to = joined(seen.layers[number] if seen else None, own)
            return attention(queries, to.keys, to.values, mask)

        return attend

    return layer


def _window(seen: Memory | None, frames: int, reach: int) -> Callable[[int], Attend]:
    """To the pairs up to ``reach`` frames away."""

    def layer(number: int) -> Attend:
        def attend(queries: Tensor, own: KeysValues) -> Tensor:
            to = _interleaved(seen.layers[number] if seen else None, own, frames)
            return window_attention(queries, to.keys, to.values, frames, reach)

        return attend

    return layer


def _interleaved(source: KeysValues | None, target: KeysValues, frames: int) -> KeysValues:
    """s1 t1 s2 t2 …, so that a window of pairs is one slice."""
    if source is None:
        return target

    def pairs(first: Tensor, second: Tensor) -> Tensor:
        apart = [part.reshape(len(part), frames, -1, *part.shape[2:]) for part in (first, second)]
        return torch.cat(apart, dim=2).flatten(1, 2)

    return KeysValues(pairs(source.keys, target.keys), pairs(source.values, target.values))


class PairTransformer(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.checkpointing = False  # compute the blocks again in the backward pass instead of keeping them
        self.patch = config.patch
        self.hint_channels = config.hint_channels
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
        return [block.text_keys_values(text) for block in self._blocks()]

    def encode_source(
        self,
        latent: Tensor,
        times: Tensor,
        text: Sequence[KeysValues],
        past: Memory | None = None,
        mask: Tensor | None = None,
        reach: int | None = None,
        attend: Callable[[int], Attend] | None = None,
    ) -> Pass:
        """The source's frames B F C h w at times F; they see ``past`` and one another (or ``mask``), or
        those up to ``reach`` frames away and no past, or what ``attend`` says for each layer.
        """
        zero = latent.new_zeros(latent.shape[:2], dtype=torch.float32)
        tokens = self._patches(latent) + self.stream_embedding[SOURCE]
        if attend is None:
            attend = full_attention(past, mask) if reach is None else _window(past, latent.shape[1], reach)
        _, _, left = self._run(tokens, zero, None, times, latent.shape[-2:], text, attend)
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
        reach: int | None = None,
        attend: Callable[[int], Attend] | None = None,
    ) -> tuple[Tensor, Pass]:
        """Velocity of the target's frames: B F C h w, timesteps B F in 0…1000, times F → B F C h w.

        ``seen`` is the source's memory, with the target's past behind it; ``rays`` are B F 6 h w,
        ``extrinsics`` B F 12, ``hints`` B F hint_channels h w (None: nothing is known, which is all
        zeros). With ``reach``, ``seen`` is the source of these very frames, and a frame sees the pairs
        so far away. With ``attend``, that says for each layer what is seen.
        """
        hints = self._hints(latent, hints)
        tokens = self._target_tokens(latent, rays, hints)
        if attend is None:
            attend = full_attention(seen, mask) if reach is None else _window(seen, latent.shape[1], reach)
        x, time, left = self._run(tokens, timesteps, extrinsics, times, latent.shape[-2:], text, attend)
        return self._velocity(x, time, latent, timesteps, hints), left

    def _hints(self, latent: Tensor, hints: Tensor | None) -> Tensor:
        if hints is not None:
            return hints
        return latent.new_zeros(*latent.shape[:2], self.hint_channels, *latent.shape[3:])

    def _target_tokens(self, latent: Tensor, rays: Tensor | None, hints: Tensor) -> Tensor:
        tokens = self._patches(latent) + self.stream_embedding[TARGET]
        if self.plucker is not None and rays is not None:
            tokens = tokens + self.plucker(rays)
        if self.hints is not None:
            tokens = tokens + self.hints(hints.transpose(1, 2)).flatten(3).permute(0, 2, 3, 1)
        return tokens

    def _velocity(self, x: Tensor, time: Tensor, latent: Tensor, timesteps: Tensor, hints: Tensor) -> Tensor:
        """What the blocks made of the target's tokens: B F T D and B F D → B F C h w."""
        grid = latent.shape[-2:]
        made = self._unpatched(self.head(x, time), grid)
        if self.mixture is not None:
            logits = self._unpatched(self.mixture.weights(layer_norm(x)), grid)
            sigma = (timesteps / NOISIEST).clamp(min=LEAST_SIGMA)[..., None, None, None].type_as(latent)
            made = (latent - self.mixture(logits, made, hints)) / sigma
        return made

    def rotation(self, times: Tensor, grid: tuple[int, int] | torch.Size) -> Tensor:
        """What turns the keys of all tokens of the frames at these times to their positions."""
        rows, columns = grid[0] // self.patch[1], grid[1] // self.patch[2]
        return rotations(grid_positions(times, rows, columns), self.head_width)

    def _run(
        self,
        x: Tensor,
        timesteps: Tensor,
        camera: Tensor | None,
        times: Tensor,
        grid: tuple[int, int] | torch.Size,
        text: Sequence[KeysValues],
        attend: Callable[[int], Attend],
    ) -> tuple[Tensor, Tensor, Pass]:
        time = self.time_embedding(self._frequencies(timesteps).type_as(x))
        modulation = self.time_projection(time).unflatten(-1, (6, -1))
        rotation = self.rotation(times, grid)
        left = Pass([], [])
        again = self.checkpointing and torch.is_grad_enabled()
        for number, block in enumerate(self._blocks()):
            given = (x, modulation, camera, rotation, text[number], attend(number))
            x, plain, rotated = checkpoint(block, *given, use_reentrant=False) if again else block(*given)
            left.plain.append(plain)
            left.rotated.append(rotated)
        return x, time, left

    def _blocks(self) -> list[Block]:
        return cast("list[Block]", list(self.blocks))

    def _frequencies(self, timesteps: Tensor) -> Tensor:
        """The sinusoidal embedding of B F timesteps: cosines first, as Wan has it."""
        half = self.frequency_width // 2
        rates = 10_000.0 ** (-torch.arange(half, device=timesteps.device, dtype=torch.float64) / half)
        angles = timesteps.double()[..., None] * rates
        return torch.cat([angles.cos(), angles.sin()], dim=-1).float()

    def _patches(self, latent: Tensor) -> Tensor:
        """B F C h w → B F T D."""
        tokens: Tensor = self.patch_embedding(latent.transpose(1, 2))
        return tokens.flatten(3).permute(0, 2, 3, 1).contiguous()  # or every norm of every block copies

    def _unpatched(self, tokens: Tensor, grid: tuple[int, int] | torch.Size) -> Tensor:
        """B F T (pt·py·px·C) → B F C h w, for any C."""
        _, py, px = self.patch
        rows, columns = grid[0] // py, grid[1] // px
        out = tokens.view(*tokens.shape[:2], rows, columns, py, px, -1)
        return out.permute(0, 1, 6, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4)
