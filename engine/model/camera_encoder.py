"""How the transformer is told where the virtual camera is. Knows nothing of tokens' attention.

Shapes: B batch, F latent frames, T tokens of a frame, D width, h w latent rows and columns.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

PLUCKER_CHANNELS = 6
EXTRINSIC_NUMBERS = 12


def plucker_rays(poses: Tensor, focal: Tensor, rows: int, columns: int) -> Tensor:
    """Rays of the target's pixels in the source camera's frame: … 3 4 and … 4 → … 6 rows columns.

    ``poses`` are camera-to-world 3×4 of the target relative to the source at the same instant,
    ``focal`` is fx, fy, cx, cy in units of the picture's width and height, so the grid may be of any
    size. A ray is (o × d, d) with the unit direction d through the pixel's middle and the camera's
    place o (Sitzmann et al., *Light Field Networks*, eq. 4).
    """
    rotation, origin = poses[..., :3], poses[..., 3]
    y = (torch.arange(rows, device=poses.device, dtype=poses.dtype) + 0.5) / rows
    x = (torch.arange(columns, device=poses.device, dtype=poses.dtype) + 0.5) / columns
    fx, fy, cx, cy = (focal[..., i, None, None] for i in range(4))
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    directions = torch.stack(
        [(grid_x - cx) / fx, (grid_y - cy) / fy, torch.ones_like(grid_x).expand_as((grid_x - cx) / fx)],
        dim=-3,
    )
    directions = torch.einsum("...ij,...jyx->...iyx", rotation, directions)
    directions = directions / directions.norm(dim=-3, keepdim=True)
    moments = torch.linalg.cross(origin[..., None, None].expand_as(directions), directions, dim=-3)
    return torch.cat([moments, directions], dim=-3)


class PluckerEncoder(nn.Module):
    """One embedding for each token from the rays of its patch; adds nothing at the start of training."""

    def __init__(self, width: int, patch: tuple[int, int, int]) -> None:
        super().__init__()
        self.embedding = nn.Conv3d(PLUCKER_CHANNELS, width, patch, patch)
        nn.init.zeros_(self.embedding.weight)
        nn.init.zeros_(self.embedding.bias)  # type: ignore[arg-type]

    def forward(self, rays: Tensor) -> Tensor:
        """B F 6 h w → B F T D."""
        tokens: Tensor = self.embedding(rays.transpose(1, 2))
        return tokens.flatten(3).permute(0, 2, 3, 1)


class ExtrinsicEncoder(nn.Module):
    """ReCamMaster's form, in every block: the pose's twelve numbers, and a projection behind the
    attention that starts as the identity.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cam_encoder = nn.Linear(EXTRINSIC_NUMBERS, width)
        self.projector = nn.Linear(width, width)
        nn.init.zeros_(self.cam_encoder.weight)
        nn.init.zeros_(self.cam_encoder.bias)
        nn.init.eye_(self.projector.weight)
        nn.init.zeros_(self.projector.bias)
