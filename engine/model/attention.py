"""Attention and rotary positions. The one door to whichever attention kernel a machine has.

Shapes: B batch, N query tokens, M key tokens, H heads, E width of a head (even).
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

THETA = 10_000.0


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q·kᵀ/√E)·v: B N H E, B M H E, B M H E → B N H E. ``mask`` N M is true where seen.

    PyTorch picks the kernel: FlashAttention on a GPU that has it, the plain one elsewhere.
    """
    out = F.scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), attn_mask=mask
    )
    return out.transpose(1, 2)


def axis_widths(head_width: int) -> tuple[int, int, int]:
    """How a head's width is shared by time, height and width: Wan gives two sixths to each of space,
    rounded to pairs, and the rest to time.
    """
    space = 2 * (head_width // 6)
    return head_width - 2 * space, space, space


@lru_cache(maxsize=64)
def _frequencies(head_width: int, device: torch.device) -> tuple[Tensor, ...]:
    return tuple(
        THETA ** (-torch.arange(0, width, 2, dtype=torch.float64, device=device) / width)
        for width in axis_widths(head_width)
    )


def rotations(positions: Tensor, head_width: int) -> Tensor:
    """Positions N 3 (time, row, column) → N E/2 complex numbers of length one, RoFormer's eq. 34 in 3D."""
    angles = [
        positions[:, axis, None].double() * frequencies
        for axis, frequencies in enumerate(_frequencies(head_width, positions.device))
    ]
    angle = torch.cat(angles, dim=1)
    return torch.polar(torch.ones_like(angle), angle).to(torch.complex64)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turns neighbouring pairs of x, B N H E, by ``rotation``, N E/2."""
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * rotation[:, None]).flatten(-2).type_as(x)


def grid_positions(frames: Tensor, rows: int, columns: int) -> Tensor:
    """Positions of all tokens of the frames at times F: F·rows·columns 3, frame by frame, row by row."""
    row = torch.arange(rows, device=frames.device)
    column = torch.arange(columns, device=frames.device)
    return torch.cartesian_prod(frames, row, column)
