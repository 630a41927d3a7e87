"""Attention and rotary positions. The one door to whichever attention kernel a machine has.

Shapes: B batch, N query tokens, M key tokens, H heads, E width of a head (even).
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

THETA = 10_000.0
POSITIONS = 4096  # along each axis; a stream's stay below its window, a clip's below its length


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q·kᵀ/√E)·v: B N H E, B M H E, B M H E → B N H E. ``mask`` N M is true where seen.

    PyTorch picks the kernel: FlashAttention on a GPU that has it, the plain one elsewhere. In bfloat16 on a
    processor its own takes 2.6 times as long, there and back, as two plain products.
    """
    query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    if mask is None and query.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        scores = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(-1, -2))
        out = torch.matmul(scores.softmax(-1), value)
    else:
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return out.transpose(1, 2)


def window_attention(query: Tensor, key: Tensor, value: Tensor, frames: int, reach: int) -> Tensor:
    """:func:`attention` in which a frame's queries see the keys of ``reach`` frames to either side.

    All three are in order of time and as long for each of the frames, the keys as long as they like.
    Frame by frame on slices, so that the cost grows with the length and not with its square, and
    what a frame sees depends on nothing outside its window.
    """
    if reach >= frames - 1:
        return attention(query, key, value)
    own, seen = query.shape[1] // frames, key.shape[1] // frames
    made = []
    for frame in range(frames):
        window = slice(max(0, frame - reach) * seen, (frame + reach + 1) * seen)
        made.append(attention(query[:, frame * own : (frame + 1) * own], key[:, window], value[:, window]))
    return torch.cat(made, dim=1)


def axis_widths(head_width: int) -> tuple[int, int, int]:
    """How a head's width is shared by time, height and width: Wan gives two sixths to each of space,
    rounded to pairs, and the rest to time.
    """
    space = 2 * (head_width // 6)
    return head_width - 2 * space, space, space


@lru_cache(maxsize=64)
def _turns(head_width: int, device: torch.device) -> tuple[Tensor, ...]:
    """For each axis, the turns of all positions: POSITIONS by half the axis's width, complex64."""
    position = torch.arange(POSITIONS, dtype=torch.float64, device=device)[:, None]
    turns = []
    for width in axis_widths(head_width):
        frequencies = THETA ** (-torch.arange(0, width, 2, dtype=torch.float64, device=device) / width)
        angle = position * frequencies
        turns.append(torch.polar(torch.ones_like(angle), angle).to(torch.complex64))
    return tuple(turns)


def rotations(positions: Tensor, head_width: int) -> Tensor:
    """Positions N 3 (time, row, column) → N E/2 complex numbers of length one, RoFormer's eq. 34 in 3D."""
    turns = _turns(head_width, positions.device)
    return torch.cat([turn[positions[:, axis]] for axis, turn in enumerate(turns)], dim=1)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turns neighbouring pairs of x, B N H E, by ``rotation``, N E/2."""
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * rotation[:, None]).flatten(-2).type_as(x)


def grid_positions(frames: Tensor, rows: int, columns: int) -> Tensor:
    """Positions of all tokens of the frames at times F: F·rows·columns 3, frame by frame, row by row."""
    row = torch.arange(rows, device=frames.device)
    column = torch.arange(columns, device=frames.device)
    return torch.cartesian_prod(frames, row, column)
