"""The baseline: the whole source in front of the target along time, as ReCamMaster has it.

A :class:`PairTransformer` of the same tensors, so that one file fits both; what differs is who sees whom and
at which position. Source and target are one sequence of 2F frames at positions 0 … 2F − 1 in one joint
attention, so the positions that a clip takes, and the distance between a frame and its counterpart, depend
on its length (Bai et al., *ReCamMaster*, 3.2, frame-dimension conditioning).

Shapes as in ``dit``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from engine.model.dit import SOURCE, KeysValues, PairTransformer, full_attention


class PrefixTransformer(PairTransformer):
    def denoise_behind(
        self,
        source: Tensor,
        latent: Tensor,
        timesteps: Tensor,
        text: Sequence[KeysValues],
        *,
        rays: Tensor | None = None,
        extrinsics: Tensor | None = None,
        hints: Tensor | None = None,
    ) -> Tensor:
        """Velocity of the target's frames, all as in :meth:`PairTransformer.denoise`. The source's tokens
        are known to be clean: they carry timestep 0.
        """
        frames = latent.shape[1]
        hints = self._hints(latent, hints)
        tokens = torch.cat(
            [
                self._patches(source) + self.stream_embedding[SOURCE],
                self._target_tokens(latent, rays, hints),
            ],
            dim=1,
        )
        levels = torch.cat([torch.zeros_like(timesteps), timesteps], dim=1)
        camera = None if extrinsics is None else torch.cat([torch.zeros_like(extrinsics), extrinsics], dim=1)
        times = torch.arange(2 * frames, device=latent.device)
        x, time, _ = self._run(
            tokens, levels, camera, times, latent.shape[-2:], text, full_attention(None, None)
        )
        return self._velocity(x[:, frames:], time[:, frames:], latent, timesteps, hints)
