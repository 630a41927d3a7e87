"""The live depth: steady where nothing moves, quick where something does, and blank after a cut."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from engine.errors import WeightsError
from engine.geometry.depth_estimator import (
    Depth,
    DepthEstimator,
    Steadier,
    agreed,
    is_cut,
    motion,
    scaled,
    surface_m,
)
from engine.geometry.depth_network import SIZES, DepthNetwork
from engine.train.depth_export import export_onnx

PRESENTER = Path(__file__).parents[3] / "plugin" / "docs" / "presenter.mp4"
H, W = 128, 224
NOISE = 4.0  # of 255: a webcam in a dim room


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(3)
    network = DepthNetwork(SIZES["tiny"])
    torch.nn.init.normal_(network.head.weight, std=0.3)
    path = tmp_path_factory.mktemp("weights") / "depth.onnx"
    width, height = network.size
    export_onnx(network, path, torch.rand(8, 1, 3, height, width))
    return path


def picture(seed: int) -> np.ndarray:
    """Blobs of colour, 128 × 224."""
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(0, 256, (8, 14, 3), np.uint8), (W, H), interpolation=cv2.INTER_CUBIC)


def noisy(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.clip(image + rng.normal(0, NOISE, image.shape), 0, 255).astype(np.uint8)


def answers(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a network that flickers by ten per cent says of a wall three metres away."""
    inverse = np.exp(rng.normal(np.log(1 / 3), 0.1, (H, W))).astype(np.float32)
    return inverse, np.zeros((H, W), np.float32), np.full((H, W), 0.8, np.float32)


def flicker(depths: list[Depth]) -> float:
    """Mean change of log depth from frame to frame."""
    logs = np.log([depth.inverse_depth for depth in depths])
    return float(np.abs(np.diff(logs, axis=0)).mean())


def test_a_still_picture_with_noise_flickers_less_than_single_frames(weights):
    rng = np.random.default_rng(0)
    frames = [noisy(picture(1), rng) for _ in range(24)]
    steady = DepthEstimator(W, H, weights)
    single = DepthEstimator(W, H, weights)

    def alone(frame: np.ndarray) -> Depth:
        single.reset()
        return single.estimate(frame)

    steadied = [steady.estimate(frame) for frame in frames]
    assert flicker(steadied[8:]) < 0.3 * flicker([alone(frame) for frame in frames[8:]])


def test_a_scale_that_the_network_guesses_anew_each_frame_is_held():
    rng = np.random.default_rng(0)
    steadier = Steadier()
    image = picture(1)
    middles = []
    for frame in range(30):
        inverse, matte, confidence = answers(rng)
        guess = 1.3 if frame % 2 else 1 / 1.3
        middles.append(
            np.median(steadier.step(noisy(image, rng), inverse * guess, matte, confidence).inverse_depth)
        )
    assert np.ptp(middles[10:]) / np.mean(middles[10:]) < 0.02


def test_what_moves_is_followed_at_once_and_the_rest_stays():
    """A bright square jumps in; its depth halves."""
    steadier = Steadier()
    image = np.full((H, W, 3), 90, np.uint8)
    wall, nobody, sure = (np.full((H, W), value, np.float32) for value in (1 / 4, 0.0, 0.8))
    for _ in range(10):
        before = steadier.step(image, wall.copy(), nobody.copy(), sure.copy())
    image, inverse = image.copy(), wall.copy()
    image[40:90, 80:140], inverse[40:90, 80:140] = 220, 1 / 2
    after = steadier.step(image, inverse, nobody.copy(), sure.copy())
    assert after.inverse_depth[50:80, 90:130].min() > 0.44
    assert np.allclose(after.inverse_depth[:, :60], before.inverse_depth[:, :60], rtol=1e-3)


def test_a_cut_forgets_the_past(weights):
    estimator, fresh = (DepthEstimator(W, H, weights) for _ in range(2))
    for _ in range(6):
        estimator.estimate(picture(1))
    after, alone = estimator.estimate(picture(2)), fresh.estimate(picture(2))
    assert np.array_equal(after.inverse_depth, alone.inverse_depth)
    assert after.subject == alone.subject


def test_a_reset_forgets_the_past(weights):
    estimator, fresh = (DepthEstimator(W, H, weights) for _ in range(2))
    estimator.estimate(picture(1))
    estimator.reset()
    darker = (picture(1) * 0.7).astype(np.uint8)
    assert np.array_equal(estimator.estimate(darker).matte, fresh.estimate(darker).matte)


def test_light_that_changes_is_no_cut():
    before = np.random.default_rng(0).random((16, 28)).astype(np.float32)
    assert not is_cut(before, before * np.float32(0.6))
    assert is_cut(before, before[::-1, ::-1].copy())


def test_noise_is_not_motion():
    rng = np.random.default_rng(0)
    before = rng.random((64, 112)).astype(np.float32)
    now = before + rng.normal(0, 0.006, before.shape).astype(np.float32)
    assert motion(before, now).mean() < 0.1
    now[20:30, 20:30] += 0.3
    assert motion(before, now)[20:30, 20:30].min() == 1


def test_the_person_is_as_far_as_the_subject_is_told_to_be():
    inverse = np.full((H, W), 0.2, np.float32)
    matte = np.zeros((H, W), np.float32)
    inverse[30:90, 80:120], matte[30:90, 80:120] = 0.5, 1.0
    metric = scaled(Steadier().step(picture(1), inverse, matte, matte), 1.5)
    assert np.median(metric.inverse_depth[matte > 0.5]) == pytest.approx(1 / 1.5)
    assert metric.inverse_depth[0, 0] == pytest.approx(0.4 / 1.5)
    assert metric.subject == pytest.approx(1 / 1.5)


def test_who_sits_behind_the_subject_does_not_move_it():
    """A third of the people's pixels."""
    inverse = np.full((H, W), 0.2, np.float32)
    matte = np.zeros((H, W), np.float32)
    inverse[30:90, 80:120], matte[30:90, 80:120] = 0.5, 1.0
    inverse[30:90, 10:30], matte[30:90, 10:30] = 0.3, 1.0
    assert Steadier().step(picture(1), inverse, matte, matte).subject == pytest.approx(0.5)


def test_who_is_in_the_middle_is_the_subject():
    """Beside them is somebody nearer, and larger."""
    inverse = np.full((H, W), 0.2, np.float32)
    matte = np.zeros((H, W), np.float32)
    inverse[30:90, 100:120], matte[30:90, 100:120] = 0.5, 1.0
    inverse[20:120, :30], matte[20:120, :30] = 0.9, 1.0
    assert Steadier().step(picture(1), inverse, matte, matte).subject == pytest.approx(0.5)


def test_what_is_seen_of_a_person_is_nearer_than_their_middle_and_never_behind_the_camera():
    assert surface_m(2.5) == pytest.approx(2.35)
    assert surface_m(0.2) == pytest.approx(0.1)


def test_without_a_person_the_pictures_median_is_the_subjects_distance():
    inverse, nobody, sure = answers(np.random.default_rng(0))
    metric = scaled(Steadier().step(picture(1), inverse, nobody, sure), 2.0)
    assert np.median(metric.inverse_depth) == pytest.approx(0.5, rel=0.01)


def test_scaling_twice_is_scaling_once():
    inverse, nobody, sure = answers(np.random.default_rng(0))
    depth = Steadier().step(picture(1), inverse, nobody, sure)
    assert np.allclose(scaled(scaled(depth, 3.0), 2.0).inverse_depth, scaled(depth, 2.0).inverse_depth)


def test_frames_of_any_size_give_maps_of_the_networks(weights):
    for width, height in ((W, H), (1280, 720), (40, 30)):
        estimator = DepthEstimator(width, height, weights)
        depth = estimator.estimate(np.zeros((height, width, 3), np.uint8))
        assert estimator.size == SIZES["tiny"].size
        assert (
            depth.inverse_depth.shape == depth.matte.shape == depth.confidence.shape == estimator.size[::-1]
        )
        assert depth.inverse_depth.dtype == np.float32 and (depth.inverse_depth > 0).all()


def test_a_frame_of_another_size_is_refused(weights):
    with pytest.raises(ValueError, match=r"\(30, 40, 3\), not \(32, 40, 3\)"):
        DepthEstimator(40, 30, weights).estimate(np.zeros((32, 40, 3), np.uint8))


def test_absent_or_damaged_weights_are_named(tmp_path, weights):
    with pytest.raises(WeightsError, match=r"none\.onnx"):
        DepthEstimator(W, H, tmp_path / "none.onnx")
    torn = tmp_path / "torn.onnx"
    for size in (0, 5000):
        torn.write_bytes(weights.read_bytes()[:size])
        with pytest.raises(WeightsError, match=r"torn\.onnx is damaged"):
            DepthEstimator(W, H, torn)


def test_the_shipped_network_sees_the_presenter_before_the_wall():
    """On the bundled clip, which it was not trained on: where he stands, and where only the wall is."""
    with av.open(str(PRESENTER)) as container:
        frames = [
            f.to_ndarray(format="rgb24") for f, _ in zip(container.decode(video=0), range(4), strict=False)
        ]
    estimator = DepthEstimator(1280, 720)
    depth = [estimator.estimate(frame) for frame in frames][-1]
    height, width = depth.matte.shape
    chest = (slice(int(0.50 * height), int(0.60 * height)), slice(int(0.46 * width), int(0.53 * width)))
    wall = (slice(int(0.10 * height), int(0.25 * height)), slice(int(0.58 * width), int(0.66 * width)))
    assert np.median(depth.matte[chest]) > 0.5 > np.median(depth.matte[wall])
    assert np.median(depth.inverse_depth[chest]) > 1.1 * np.median(depth.inverse_depth[wall])
    assert depth.subject > np.median(depth.inverse_depth[wall])


def test_the_second_opinion_only_adds_and_neither_alone_is_certain():
    ours = np.array([[0.5, 0.97, 0.97, 0.03, 0.5, 0.1]], np.float32)
    second = np.array([[0.01, 0.97, 0.1, 0.03, 0.99, 0.9]], np.float32)
    pooled = agreed(ours, second)[0]
    assert pooled[:4] == pytest.approx(ours[0, :4], abs=1e-3)  # no person, or one as small as on a stage
    assert pooled[4] > 0.7  # unsure, and the other says yes
    assert 0.5 < pooled[5] < 0.7  # as sure of the opposite: it has the last word, but is not sure
    assert np.isfinite(agreed(np.array([[0.0, 1.0]], np.float32), np.array([[1.0, 0.0]], np.float32))).all()


def test_the_presenter_is_somebody_and_the_bookcase_beside_him_is_not():
    with av.open(str(PRESENTER)) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
    matte = DepthEstimator(1280, 720).estimate(frame).matte
    rows, columns = (side / full for side, full in zip(matte.shape, frame.shape, strict=False))

    def share(left: int, top: int, right: int, bottom: int) -> float:
        part = matte[round(top * rows) : round(bottom * rows), round(left * columns) : round(right * columns)]
        return float((part > 0.5).mean())

    assert share(600, 300, 700, 500) > 0.98
    assert share(340, 180, 460, 460) < 0.02
