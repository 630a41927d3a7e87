"""Training losses as formulas on tensors. Know nothing of models, data or optimisers.

Shapes: B batch, F latent frames, C channels, h w latent rows and columns.
"""

from __future__ import annotations

from torch import Tensor

LEAST_SCALE = 1e-6  # of distribution matching, where student and teacher agree to the last bit


def flow_matching_loss(predicted: Tensor, velocity: Tensor, motion: float, weight: Tensor) -> Tensor:
    """(1 − α)·‖v_θ − v‖² + α·‖Δv_θ − Δv‖², as means: B F C h w twice → one number.

    Δ is the Laplacian along time, α is ``motion``. ``weight`` B is that of each sample's noise level: 1 asks
    for the velocity alike at all levels; σ² asks so for the clean picture, as x0 = x_σ − σ·v.
    """
    error = predicted.float() - velocity.float()
    squares = _mean_square(error)
    if motion and error.shape[1] > 2:
        squares = (1 - motion) * squares + motion * _mean_square(laplacian(error))
    return (weight * squares).mean()


def distribution_matching_loss(x0: Tensor, fake: Tensor, real: Tensor) -> Tensor:
    """½·‖x0 − sg(x0 − g)‖² as a mean, with g = (x0_fake − x0_real) / mean|x0 − x0_real| of each sample: B F C
    h w three times → one number (Yin et al., *One-step Diffusion with Distribution Matching Distillation*,
    eqs. 7 and 8).

    ``fake`` and ``real`` are the two scores' clean pictures of x0 noised to one level; the gradient is g over
    the number of elements, and flows into x0 alone.
    """
    x0 = x0.float()
    scale = (x0 - real).abs().flatten(1).mean(1).clamp(min=LEAST_SCALE)
    gradient = (fake - real) / scale.view(-1, *[1] * (x0.ndim - 1))
    return 0.5 * (x0 - (x0 - gradient).detach()).square().mean()


def laplacian(video: Tensor) -> Tensor:
    """x_{i−1} − 2·x_i + x_{i+1} along time: B F C h w → B F−2 C h w."""
    return video[:, :-2] - 2 * video[:, 1:-1] + video[:, 2:]


def _mean_square(x: Tensor) -> Tensor:
    """Of each sample: B."""
    return x.square().flatten(1).mean(1)
