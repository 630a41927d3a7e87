"""The bidirectional teacher: a whole clip at once, and what it is told of it.

Two arrangements of the same weights: the synchronised pairs, whose attention is a window along time, so
that a clip of any length costs in proportion; and the baseline with the source as a prefix. Knows nothing
of pictures, data or losses.

Shapes: B batch, F latent frames, C channels, h w latent rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from engine.diffusion.sampler import sample_euler
from engine.diffusion.schedule import TIMESTEPS, Schedule
from engine.errors import WeightsError
from engine.model.config import ModelConfig
from engine.model.dit import Memory, PairTransformer
from engine.model.prefix import PrefixTransformer
from engine.model.weights import load_transformer, read_weights

Variant = Literal["pair", "prefix"]
Velocity = Callable[[Tensor, Tensor], Tensor]  # x_σ B F C h w, timesteps B F in 0…1000 → velocity

TRANSFORMERS: dict[Variant, type[PairTransformer]] = {"pair": PairTransformer, "prefix": PrefixTransformer}
VARIANT_KEY = "variant"  # in the metadata of a file of a teacher's weights
SHIFT_KEY = "shift"  # there too: of the noise levels that it was trained at, and is sampled at
FRAMES_KEY = "frames"  # there too: latent frames of the clips that it was trained on


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """What a clip is re-rendered from. None: not known."""

    source: Tensor  # B F C h w
    rays: Tensor | None = None  # B F 6 h w
    extrinsics: Tensor | None = None  # B F 12
    hints: Tensor | None = None  # B F hint_channels h w
    prompt: Tensor | None = None  # B L text_width

    def without_camera(self) -> Conditions:
        """All zeros for the camera, as training withholds it; hints show the source through it."""
        rays, extrinsics, hints = (
            None if told is None else torch.zeros_like(told)
            for told in (self.rays, self.extrinsics, self.hints)
        )
        return replace(self, rays=rays, extrinsics=extrinsics, hints=hints)

    def between(self, first: int, end: int) -> Conditions:
        """Of these latent frames alone."""
        rays, extrinsics, hints = (
            None if told is None else told[:, first:end] for told in (self.rays, self.extrinsics, self.hints)
        )
        return replace(self, source=self.source[:, first:end], rays=rays, extrinsics=extrinsics, hints=hints)


def velocity_of(model: PairTransformer, conditions: Conditions, reach: int) -> Velocity:
    """The teacher of these conditions; with pairs, the source's keys and values are made here, once."""
    text = model.encode_text(conditions.prompt)
    told: dict[str, Any] = {
        "rays": conditions.rays,
        "extrinsics": conditions.extrinsics,
        "hints": conditions.hints,
    }
    if isinstance(model, PrefixTransformer):
        prefix = model

        def behind(x: Tensor, timesteps: Tensor) -> Tensor:
            return prefix.denoise_behind(conditions.source, x, timesteps, text, **told)

        return behind
    times = torch.arange(conditions.source.shape[1], device=conditions.source.device)
    seen = Memory(model.encode_source(conditions.source, times, text, reach=reach).rotated)

    def beside(x: Tensor, timesteps: Tensor) -> Tensor:
        return model.denoise(x, timesteps, times, text, seen, reach=reach, **told)[0]

    return beside


def sample(
    model: PairTransformer, conditions: Conditions, reach: int, noise: Tensor, schedule: Schedule
) -> Tensor:
    """x0 of the whole clip, B F C h w, in Euler steps."""
    velocity = velocity_of(model, conditions, reach)

    def denoise(x: Tensor, sigma: float) -> Tensor:
        return velocity(x, torch.full(x.shape[:2], sigma * TIMESTEPS, device=x.device))

    return sample_euler(denoise, noise, schedule)


def load_teacher(
    path_or_name: Path | str, device: torch.device | str, dtype: torch.dtype
) -> tuple[PairTransformer, ModelConfig]:
    """Whichever of the two it is: the file says so."""
    variant = read_weights(path_or_name).file.metadata.get(VARIANT_KEY, "pair")
    kind = next((kind for name, kind in TRANSFORMERS.items() if name == variant), None)
    if kind is None:
        raise WeightsError(f"{path_or_name} is of a variant {variant!r}; expected {', '.join(TRANSFORMERS)}")
    model, config = load_transformer(path_or_name, device, dtype)
    if kind is not PairTransformer:
        with torch.device("meta"):
            other = kind(config)
        other.load_state_dict(model.state_dict(), assign=True)
        model = other
    return model.eval(), config
