"""What the depth network is told about its mistakes. Knows nothing of data, augmentation or optimisers.

Shapes: N = 2·B pictures, of which 2i and 2i + 1 are neighbours in time; H W rows and columns. Errors are of
log inverse depth, so 0.1 is ten per cent, near and far alike.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.geometry.depth_network import DepthMaps

WEIGHTS = {"depth": 1.0, "scale": 0.1, "gradient": 0.5, "steady": 0.5, "confidence": 0.1, "matte": 0.5}
GRADIENT_SCALES = 4
STANDS_STILL = 0.05  # change of true log depth from one frame to the next, above which something else is seen


class Truth(NamedTuple):
    """N H W each: log inverse depth, matte in [0, 1], and where the depth is known (bool)."""

    log_inverse_depth: Tensor
    matte: Tensor
    known: Tensor


def depth_losses(maps: DepthMaps, truth: Truth) -> dict[str, Tensor]:
    """Each term, unweighted; the keys are those of ``WEIGHTS``."""
    error = torch.where(truth.known, maps.log_inverse_depth - truth.log_inverse_depth, 0.0)
    scale = median_scale(error, truth.known)
    residual = torch.where(truth.known, error - scale[:, None, None], 0.0)
    return {
        "depth": mean_over(residual.abs(), truth.known),
        "scale": scale_loss(error, truth.known),
        "gradient": gradient_loss(residual, truth.known),
        "steady": steady_loss(error, truth),
        "confidence": confidence_loss(residual.abs().detach(), maps.log_scale, truth.known),
        "matte": F.binary_cross_entropy_with_logits(maps.matte_logits, truth.matte),
    }


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack([WEIGHTS[name] * value for name, value in losses.items()]).sum()


def median_scale(error: Tensor, known: Tensor) -> Tensor:
    """N: each picture's median error where the depth is known, 0 where it never is. Without gradient, so
    that it aligns a picture and is not itself trained."""
    flat = torch.where(known, error.detach(), torch.nan).flatten(1)
    return flat.nanmedian(dim=1).values.nan_to_num(0.0)


def mean_over(values: Tensor, where: Tensor) -> Tensor:
    return (values * where).sum() / where.sum().clamp(min=1)


def scale_loss(error: Tensor, known: Tensor) -> Tensor:
    """How far each picture's depth is off as a whole: a scale that does not wander between pictures."""
    counts = known.flatten(1).sum(1)
    means = (error * known).flatten(1).sum(1) / counts.clamp(min=1)
    return mean_over(means.abs(), counts > 0)


def gradient_loss(residual: Tensor, known: Tensor) -> Tensor:
    """Edges where the truth has them and nowhere else: MegaDepth (Li and Snavely 2018), eq. 4, over
    ``GRADIENT_SCALES`` scales."""
    sums = []
    for scale in range(GRADIENT_SCALES):
        step = 2**scale
        r, k = residual[:, ::step, ::step], known[:, ::step, ::step]
        across = mean_over((r[:, :, 1:] - r[:, :, :-1]).abs(), k[:, :, 1:] & k[:, :, :-1])
        down = mean_over((r[:, 1:] - r[:, :-1]).abs(), k[:, 1:] & k[:, :-1])
        sums.append(across + down)
    return torch.stack(sums).sum()


def steady_loss(error: Tensor, truth: Truth) -> Tensor:
    """What changes between neighbouring frames as the truth does: temporal gradient matching, Video Depth
    Anything (Chen et al. 2025), section 3.2. The error is not aligned here, so a jump of scale counts."""
    change = (truth.log_inverse_depth[1::2] - truth.log_inverse_depth[::2]).abs()
    where = truth.known[1::2] & truth.known[::2] & (change < STANDS_STILL)
    return mean_over((error[1::2] - error[::2]).abs(), where)


def confidence_loss(distance: Tensor, log_scale: Tensor, known: Tensor) -> Tensor:
    """−log of a Laplace distribution, |r| / b + log b (Kendall and Gal 2017, section 3)."""
    return mean_over(distance * torch.exp(-log_scale) + log_scale, known)
