from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np
import pytest

from engine.geometry.delivery import MADE_UP, Correction, Delivery, Small, agreement
from engine.geometry.pictures import shrunk

MODEL = (112, 64)
SIZE = (1280, 720)
BOX = (slice(20, 40), slice(40, 70))  # cells


def psnr(a, b):
    return 10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9))


@lru_cache
def wall(size, seed):
    """Edges and fine grain."""
    random = np.random.default_rng(seed)
    rough = random.integers(30, 226, (18, 36, 3), np.uint8)
    grain = cv2.randn(np.empty((size[1] // 2, size[0] // 2, 3), np.int16), (0,) * 3, (30,) * 3)
    return cv2.add(
        cv2.resize(rough, size, interpolation=cv2.INTER_NEAREST), cv2.resize(grain, size), dtype=cv2.CV_8U
    )


def scene(size=SIZE, seed=0, sideways_px=0.0):
    """H W 3, seen by a camera that has gone sideways."""
    shift = np.array([[1, 0, -sideways_px], [0, 1, 0]], np.float32)
    return cv2.warpAffine(wall((size[0] + 200, size[1]), seed), shift, size)


def seen(picture, alpha=255):
    return np.dstack([picture, np.full(picture.shape[:2], alpha, np.uint8)])


def delivered(base, painted, size=SIZE):
    delivery = Delivery(size, MODEL)
    small = delivery.small(base)
    return delivery.draw(base, small, delivery.correction(painted, small))


def painted_of(picture):
    return shrunk(picture, MODEL).astype(np.float32)


def enlarged(painted):
    return cv2.resize(np.clip(painted, 0, 255).astype(np.uint8), SIZE, interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("size", [SIZE, (1920, 1080), (641, 359)])
def test_a_base_that_is_right_is_delivered_as_it_is(size):
    picture = scene(size)
    out = delivered(seen(picture), painted_of(picture), size)
    assert out.shape == picture.shape
    assert np.abs(out.astype(int) - picture).max() <= 1


def test_detail_comes_back_that_the_model_is_too_small_for():
    truth = scene()
    painted = painted_of(truth) + np.random.default_rng(1).normal(0, 3, (64, 112, 3)).astype(np.float32)
    assert psnr(delivered(seen(truth), painted), truth) > psnr(enlarged(painted), truth) + 10


def test_at_the_models_own_size_what_was_painted_goes_out():
    painted = scene(MODEL, seed=1).astype(np.float32)
    out = delivered(seen(scene(MODEL)), painted, MODEL)
    np.testing.assert_array_equal(out, painted)


def test_what_was_seen_keeps_its_colours_and_the_rest_has_the_models():
    truth = cv2.convertScaleAbs(scene(), alpha=0.8, beta=20)
    warmer = np.clip(truth.astype(np.int16) + np.array([4, 0, -4], np.int16), 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(delivered(seen(warmer), painted_of(truth)), warmer)
    out = delivered(seen(warmer, alpha=0), painted_of(truth))
    off = painted_of(out) - painted_of(truth)
    np.testing.assert_allclose(off.mean(axis=(0, 1)), 0, atol=0.3)
    assert np.abs(off).mean() < 1


def test_where_the_base_is_wrong_the_models_pixels_go_out():
    truth = scene()
    base = truth.copy()
    base[240:480, 480:760] = 255 - base[240:480, 480:760]
    out = delivered(seen(base), painted_of(truth))
    inside = (slice(280, 440), slice(520, 720))
    assert psnr(out[inside], enlarged(painted_of(truth))[inside]) > 30
    assert psnr(out[inside], truth[inside]) > psnr(base[inside], truth[inside]) + 10


def test_what_nobody_has_seen_is_the_models():
    truth = scene()
    base = seen(np.zeros_like(truth), alpha=0)
    assert psnr(delivered(base, painted_of(truth)), enlarged(painted_of(truth))) > 35


def test_what_nobody_has_seen_keeps_most_of_the_detail_that_was_made_up_for_it():
    """In the model's colours: its own pixels alone would be a soft patch in a sharp picture."""
    grain = cv2.randn(np.empty((*SIZE[::-1], 3), np.int16), (0,) * 3, (25,) * 3)
    base = cv2.add(scene(), grain, dtype=cv2.CV_8U)
    flat = np.full_like(painted_of(base), 128)
    out, bare = delivered(seen(base, alpha=0), flat), base.astype(float)
    fine, wanted = (picture - cv2.blur(picture, (5, 5)) for picture in (out.astype(float), bare))
    assert np.abs(cv2.resize(out, MODEL, interpolation=cv2.INTER_AREA).mean() - 128) < 3
    assert (fine * wanted).sum() / (wanted * wanted).sum() == pytest.approx(MADE_UP, abs=0.1)


def test_there_are_no_seams_between_the_models_cells():
    """Steps from pixel to pixel are no larger where cells meet than elsewhere."""
    random = np.random.default_rng(2)
    painted = cv2.GaussianBlur(random.uniform(0, 255, (64, 112, 3)).astype(np.float32), (0, 0), 2)
    for alpha in (0, 255):
        out = delivered(seen(np.full((*SIZE[::-1], 3), 128, np.uint8), alpha), painted).astype(float)
        bend = np.abs(out[:, 2:] - 2 * out[:, 1:-1] + out[:, :-2]).mean(axis=(0, 2))
        borders = np.rint(np.arange(1, 112) * SIZE[0] / 112).astype(int) - 1
        at_border = np.zeros(len(bend), bool)
        for near in (-1, 0, 1):
            at_border[borders + near] = True
        assert bend[at_border].mean() < 1.15 * bend[~at_border].mean()


def test_detail_flickers_no_more_than_the_bases_own():
    """A still scene, a camera that creeps sideways, and a model that is never quite sure."""
    random = np.random.default_rng(3)
    delivery = Delivery(SIZE, MODEL)
    before, outs, bases = None, [], []
    for number in range(9):
        base = scene(sideways_px=0.3 * number)
        painted = painted_of(base) + random.normal(0, 3, (64, 112, 3)).astype(np.float32)
        small = delivery.small(seen(base))
        found = delivery.correction(painted, small)
        before = found if before is None else found.steadied(before)
        outs.append(_detail(delivery.draw(seen(base), small, before)))
        bases.append(_detail(base))
    flicker = [
        np.mean([np.abs(b - a).mean() for a, b in pairwise(pictures[4:])]) for pictures in (outs, bases)
    ]
    assert flicker[0] < 1.02 * flicker[1]


def _detail(picture):
    return picture.astype(np.int16) - cv2.blur(picture, (11, 11))


def test_no_correction_leaves_the_base_alone_and_half_of_one_lies_between():
    truth = scene()
    base = seen(cv2.add(truth, (8, 8, 8, 0)))
    delivery = Delivery(SIZE, MODEL)
    small = delivery.small(base)
    none, whole = Correction.none(MODEL), delivery.correction(painted_of(truth), small)
    np.testing.assert_array_equal(delivery.draw(base, small, none), base[..., :3])
    half = delivery.draw(base, small, none.mixed(whole, 0.5)).astype(float)
    both = (base[..., :3].astype(float) + delivery.draw(base, small, whole)) / 2
    assert np.abs(half - both).mean() < 1


def test_a_correction_goes_where_the_picture_goes():
    colour = np.zeros((64, 112, 3), np.float32)
    colour[BOX] = 50
    there = Correction(colour, np.ones((64, 112), np.float32))
    gone = there.carried(np.array([[1.0, 0, 3], [0, 1, 0], [0, 0, 1]]))
    np.testing.assert_allclose(gone.colour[:, 3:], there.colour[:, :-3], atol=1e-4)


def test_trust_needs_agreement_in_colour_as_well_as_in_brightness():
    small = Small(np.full((64, 112, 3), 100, np.float32), np.ones((64, 112), np.float32))
    off = np.zeros((64, 112, 3), np.float32)
    off[BOX] = (20, -4, -20)  # hardly any luma
    trust = agreement(off, small)
    assert trust[30, 55] == 0
    assert trust[5, 5] == 1
