"""Distances between pictures, against values worked out by hand or by the libraries that define them."""

from __future__ import annotations

import math
import sys
import types

import flip_evaluator
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from engine.eval import metrics


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def noisy(truth) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, 12, truth.shape)
    return np.clip(truth + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def left(truth) -> np.ndarray:
    mask = np.zeros(truth.shape[:2], bool)
    mask[:, :24] = True
    return mask


def test_psnr_of_an_error_of_one_code_value_everywhere_is_48_dB(truth):
    grey = np.full((8, 8, 3), 100, np.uint8)
    assert metrics.psnr(grey + np.uint8(1), grey) == pytest.approx(20 * math.log10(255))


def test_psnr_and_ssim_are_those_of_scikit_image(truth, noisy):
    assert metrics.psnr(noisy, truth) == pytest.approx(peak_signal_noise_ratio(truth, noisy), abs=1e-5)
    expected = structural_similarity(
        truth, noisy, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert metrics.ssim(noisy, truth) == pytest.approx(expected, abs=1e-6)


def test_flip_is_that_of_its_reference_program(truth, noisy):
    expected = flip_evaluator.evaluate(truth / np.float32(255), noisy / np.float32(255), "LDR")[1]
    assert metrics.flip(noisy, truth) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("measure", "best"), [(metrics.psnr, 60.0), (metrics.ssim, 1.0), (metrics.flip, 0.0)]
)
def test_a_mask_leaves_only_its_own_pixels_to_count(measure, best, truth, noisy, left):
    half = np.where(left[..., None], truth, noisy)
    far = left.copy()
    far[:, 16:] = False  # windows of SSIM and FLIP reach a few pixels across the border
    assert measure(half, truth, far) == pytest.approx(best, abs=0.02)
    whole = measure(noisy, truth)
    assert measure(noisy, truth, left) == pytest.approx(whole, rel=0.1)
    assert math.isnan(measure(noisy, truth, np.zeros_like(left)))


def test_equal_pictures_reach_the_cap_and_no_more(truth):
    assert metrics.psnr(truth, truth) == metrics.PSNR_CAP_DB


def test_sharpness_falls_with_blur_and_is_the_slope_of_a_ramp():
    ramp = np.repeat(np.arange(0, 120, 3, dtype=np.uint8)[None, :, None], 20, 0).repeat(3, 2)
    assert metrics.sharpness(ramp[:, 1:-1]) == pytest.approx(3, rel=0.06)


def test_colour_shift_is_the_distance_of_the_mean_colours(truth):
    grey = np.full((8, 8, 3), 100, np.uint8)
    assert metrics.colour_shift(grey + np.array([3, 0, 4], np.uint8), grey) == pytest.approx(5)


def test_the_vgg_distance_compares_directions_of_features_layer_by_layer(left):
    def features(picture):
        return [picture.transpose(2, 0, 1).astype(float), picture[::2, ::2].transpose(2, 0, 1).astype(float)]

    distance = metrics.VggDistance(features)
    red = np.zeros((40, 48, 3), np.uint8)
    red[..., 0] = 90
    green = np.roll(red, 1, axis=2)
    assert distance(red // 2, red) == pytest.approx(0, abs=1e-9)
    assert distance(green, red) == pytest.approx(2 + 2)
    half = np.where(left[..., None], red, green)
    assert distance(half, red, left) == pytest.approx(0, abs=1e-9)
    assert distance(half, red, ~left) == pytest.approx(4)


def test_the_vgg_features_are_the_convolutions_of_the_file_in_its_order(monkeypatch, tmp_path):
    """With two channels a layer; the file is read as h5py would."""
    rng = np.random.default_rng(5)
    file = {}
    for block, convolutions in metrics.VGG_LAYERS:
        for index in range(convolutions):
            inputs = 3 if block == 1 and index == 0 else 2
            name = f"block{block}/layers/conv2d{f'_{index}' if index else ''}/vars"
            kernel = rng.normal(size=(3, 3, inputs, 2)).astype(np.float32)
            file[name] = {"0": np.asarray(kernel), "1": rng.normal(size=2).astype(np.float32)}

    class File:
        def __init__(self, path):
            assert path == tmp_path / "weights.h5"

        def __enter__(self):
            return file

        def __exit__(self, *error):
            pass

    monkeypatch.setitem(sys.modules, "h5py", types.SimpleNamespace(File=File))
    features = metrics._VggFeatures(tmp_path / "weights.h5")
    picture = rng.integers(0, 256, (32, 48, 3), dtype=np.uint8)
    found = features(picture)
    assert [layer.shape for layer in found] == [(2, 32 >> k, 48 >> k) for k in range(5)]
    bgr = (picture - np.array(metrics.VGG_MEAN))[..., ::-1]
    first, second = (file[f"block1/layers/conv2d{end}/vars"] for end in ("", "_1"))
    around = bgr[4:9, 6:11]  # what one value of the second layer sees
    middle = np.array(
        [
            [
                np.maximum(np.einsum("yxc,yxco->o", around[y : y + 3, x : x + 3], first["0"]) + first["1"], 0)
                for x in range(3)
            ]
            for y in range(3)
        ]
    )
    expected = np.maximum(np.einsum("yxc,yxco->o", middle, second["0"]) + second["1"], 0)
    assert found[0][:, 6, 8] == pytest.approx(expected, rel=1e-4)


def test_without_its_package_there_is_no_vgg_distance(monkeypatch):
    monkeypatch.setattr(metrics.importlib.util, "find_spec", lambda name: None)
    metrics.vgg_distance.cache_clear()
    try:
        assert metrics.vgg_distance() is None
    finally:
        metrics.vgg_distance.cache_clear()
