from __future__ import annotations

import cv2
import numpy as np
import pytest

from engine.geometry.background import Background, Parallax

WIDTH, HEIGHT = 160, 90
RIGHT = Parallax(9.0, 0.0, 0.0)


def textured(seed, width=WIDTH, height=HEIGHT):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2.5), None, 20, 235, cv2.NORM_MINMAX)


WALL = textured(1)
PERSON = np.array([250, 20, 20], np.uint8)


class Show:
    """Someone in red walks before a wall; ``shift`` moves the camera by whole pixels."""

    def __init__(self) -> None:
        self.background = Background((WIDTH, HEIGHT), (WIDTH, HEIGHT))

    def frame(self, x=None, wall=WALL, noise=0):
        picture = wall.copy()
        front = np.zeros((HEIGHT, WIDTH), bool)
        if x is not None:
            front[20:, x : x + 30] = True
        picture[front] = PERSON
        if noise:
            jitter = np.random.default_rng(noise).normal(0, 2, picture.shape)
            picture = np.clip(picture + jitter, 0, 255).astype(np.uint8)
        depth = np.where(front, 0.5, 0.2).astype(np.float32)
        opaque = cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA)
        self.background.update(opaque, picture, depth, front)
        return front

    def plate(self, *, parallax=RIGHT):
        return self.background.plate(parallax)


@pytest.fixture
def show():
    return Show()


def test_what_was_seen_earlier_is_behind_whoever_stands_before_it_now(show):
    for _ in range(9):
        show.frame(x=10)
    for _ in range(9):
        front = show.frame(x=110)
    plate = show.plate()
    assert np.abs(plate.colour[front][:, :3].astype(int) - WALL[front]).max() <= 1
    assert (plate.colour[front][:, 3] == 255).all()
    assert np.allclose(plate.inverse_depth[front], 0.2, atol=0.01)


def test_what_nobody_saw_is_filled_from_the_background_and_never_from_the_person(show):
    for _ in range(9):
        front = show.frame(x=60)
    plate = show.plate()
    filled = plate.colour[front]
    assert (filled[:, 3] == 0).all()
    assert np.abs(filled[:, :3].astype(int) - PERSON).max(axis=1).min() > 50  # red is nowhere
    assert np.allclose(plate.inverse_depth[front], 0.2, atol=0.01)


def beside(front, left=0, right=0, up=0):
    """A mask, and so many cells more on each side; below, the picture ends."""
    kernel = np.zeros((31, 31), np.uint8)
    kernel[15 : 16 + up, 15 - right : 16 + left] = 1
    return cv2.dilate(front.astype(np.uint8), kernel) > 0


@pytest.mark.parametrize(
    ("parallax", "sides"),
    [
        (Parallax(0.0, 0.0, 0.0), {}),
        (Parallax(0.3, 0.0, 0.3), {}),
        (Parallax(1.5, 0.0, 0.0), {"right": 4}),
        (Parallax(-1.5, 0.0, 0.0), {"left": 4}),
        (Parallax(0.0, -1.5, 0.0), {"up": 4}),
        (Parallax(0.0, 0.0, 1.5), {"left": 4, "right": 4, "up": 4}),
        (Parallax(9.0, 0.0, 0.0), {"right": 9, "left": 3, "up": 3}),
        (Parallax(-9.0, 0.0, 0.0), {"left": 9, "right": 3, "up": 3}),
    ],
)
def test_today_is_shown_but_right_beside_what_hides_on_the_side_where_the_background_comes_out(
    show, parallax, sides
):
    for _ in range(9):
        show.frame(x=60)
    darker = (WALL * 0.9).astype(np.uint8)
    front = show.frame(x=60, wall=darker)
    differs = (show.plate(parallax=parallax).colour[..., :3] != darker).any(axis=2)
    assert not differs[~beside(front, **sides)].any()
    assert differs[front].mean() > 0.95
    for side, cells in sides.items():  # but there it is not: it may be an edge, or a shadow
        assert differs[beside(front, **{side: cells // 2}) & ~front].any()


def test_what_stands_before_somebody_keeps_its_edge(show):
    """A table: nearer than they are, so nothing that was made up for behind them is shown over it."""
    frame = WALL.copy()
    front = np.zeros((HEIGHT, WIDTH), bool)
    front[20:70, 60:90] = True
    frame[front], frame[70:] = PERSON, (90, 60, 30)
    depth = np.where(front, 0.5, 0.2).astype(np.float32)
    depth[70:] = 0.8
    for _ in range(9):
        show.background.update(cv2.cvtColor(frame, cv2.COLOR_RGB2RGBA), frame, depth, front)
    assert (show.plate().colour[73:, :, :3] == frame[73:]).all()
    assert (show.plate().colour[40, 90:92, 3] == 0).all()


def test_what_was_learnt_piece_by_piece_has_no_dark_cracks(show):
    for x in (10, 34, 58, 82, 110, 60):
        for _ in range(9):
            front = show.frame(x=x)
    plate = show.plate()
    darker = WALL.min(axis=(0, 1)).astype(int) - plate.colour[..., :3]
    assert darker.max() <= 1
    assert np.abs(plate.colour[front][:, :3].astype(int) - WALL[front]).max() <= 1


def test_who_enters_an_empty_picture_hides_nothing_black(show):
    for _ in range(2):  # too few to learn it
        show.frame()
    for _ in range(3):
        front = show.frame(x=60)
        assert show.plate().colour[front][:, :3].min() > 30


@pytest.mark.parametrize(("parallax", "side"), [(9.0, slice(75, WIDTH)), (-9.0, slice(0, 75))])
def test_what_is_made_up_meets_what_is_seen_without_a_seam_where_it_comes_out(show, parallax, side):
    """Beside a person that a shadow surrounds, on a wall that gets brighter from left to right."""
    across = np.linspace(60, 180, WIDTH)[None, :, None]
    distance = np.abs(np.arange(WIDTH) - 75.0)[None, :, None] - 15
    shadow = 1 - 0.25 * np.exp(-np.maximum(distance, 0) / 12)
    wall = np.broadcast_to(across * shadow, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    for _ in range(12):
        show.frame(x=60, wall=wall)
    row = show.plate(parallax=Parallax(parallax, 0.0, 0.0)).colour[60, side, 1].astype(int)
    steepest = np.abs(np.diff(wall[60, :, 1].astype(int))).max()
    assert np.abs(np.diff(row)).max() <= steepest + 6


def test_a_cut_lets_the_memory_go(show):
    for _ in range(9):
        show.frame(x=10)
    other = textured(2)
    for _ in range(3):
        front = show.frame(x=110, wall=other)
    plate = show.plate()
    assert (plate.colour[front][:, 3] == 0).all()


def test_a_camera_that_moves_lets_the_memory_go(show):
    wide = textured(3, width=WIDTH + 40)
    for _ in range(9):
        show.frame(x=10, wall=wide[:, :WIDTH])
    for step in range(1, 10):
        front = show.frame(x=110, wall=wide[:, step : step + WIDTH])
    assert (show.plate().colour[front][:, 3] == 0).all()


def test_while_the_camera_pans_nothing_of_where_people_were_is_behind_them(show):
    for shift in range(0, 48, 4):
        show.frame(x=30 + shift, wall=np.roll(WALL, shift, axis=1))
        reds = show.plate().colour[..., :3].astype(int) @ [1, -1, 0] > 120
        assert reds.mean() < 0.005


def test_noise_and_slow_daylight_do_not_let_it_go(show):
    for number in range(12):
        show.frame(x=10, noise=number + 1)
    for number in range(30):
        front = show.frame(x=110, wall=(WALL * (1 - 0.003 * number)).astype(np.uint8), noise=number + 20)
    assert (show.plate().colour[front][:, 3] == 255).all()


def test_a_wall_does_not_breathe_with_a_noisy_depth(show):
    random = np.random.default_rng(5)
    seen = []
    opaque = cv2.cvtColor(WALL, cv2.COLOR_RGB2RGBA)
    nobody = np.zeros((HEIGHT, WIDTH), bool)
    for _ in range(60):
        depth = np.full((HEIGHT, WIDTH), 0.2 * np.exp(random.normal(0, 0.1)), np.float32)
        show.background.update(opaque, WALL, depth, nobody)
        seen.append(show.plate().inverse_depth.mean())
    assert np.abs(np.diff(seen[20:])).max() < 0.1 * 0.2 * 0.25  # a quarter of the noise


def test_after_a_reset_nothing_is_known(show):
    for _ in range(9):
        show.frame(x=10)
    show.background.reset()
    front = show.frame(x=110)
    assert (show.plate().colour[front][:, 3] == 0).all()
