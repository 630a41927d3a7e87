from __future__ import annotations

import cv2
import numpy as np
import pytest

from engine.geometry.patches import REACH, Patches

GRID, SIZE = (160, 90), (640, 360)
WHOLE = (slice(0, SIZE[1]), slice(0, SIZE[0]))
PERIOD = 13  # cells


def hidden(left: int, right: int, bulge: int = 0) -> np.ndarray:
    """Cells that lend: all but those of these columns, half way down, and a bulge to the left."""
    lends = np.ones(GRID[::-1], np.bool_)
    for row in range(20, 70):
        lends[row, left - round(bulge * np.sin(np.pi * (row - 20) / 50)) : right] = False
    return lends


def books(size: tuple[int, int] = GRID) -> np.ndarray:
    """Upright stripes of many colours, again and again."""
    colours = np.random.default_rng(0).integers(40, 216, (PERIOD, 3))
    x = np.arange(size[0]) * GRID[0] // size[0]
    return np.broadcast_to(colours[x % PERIOD].astype(np.uint8), (size[1], size[0], 3)).copy()


@pytest.mark.parametrize("bulge", [0, 10])
def test_books_go_on_upright_whatever_the_outline_of_who_stands_before_them(bulge: int) -> None:
    lends = hidden(60, 110, bulge)
    with_person = books(SIZE)
    with_person[cv2.resize(lends.view(np.uint8), SIZE, interpolation=cv2.INTER_NEAREST) == 0] = (255, 0, 0)
    texture, share = Patches.of(lends, books(), None).within(
        np.dstack([with_person, with_person[..., 0]]), SIZE, WHOLE
    )
    made_up = share > 60
    assert made_up.sum() > 4000
    off = np.abs(texture[..., :3].astype(int) - books(SIZE))[made_up]
    assert np.median(off) < 12
    assert np.median(np.abs(with_person.astype(int) - books(SIZE))[made_up]) > 60


def test_it_ends_deep_inside_and_is_nothing_where_all_is_seen() -> None:
    found = Patches.of(hidden(40, 120), books(), None)
    deep = slice(40 + round(REACH * GRID[0]) + 2, 120 - round(REACH * GRID[0]) - 2)
    assert (found.share[25:65, deep] == 0).all()
    assert (found.share[:, :38] == 0).all()
    assert found.share[45, 41] > found.share[45, 46] > 0


def test_a_plain_wall_does_not_take_on_the_lamp_that_stands_farther_along_it() -> None:
    lends = hidden(60, 110)
    wall = np.full((*GRID[::-1], 3), 120, np.uint8)
    wall[20:70, 114:138:3] = 250
    found = Patches.of(lends, wall, None)
    assert found.share[30:60, 104:109].max() < 0.2
    assert Patches.of(lends, books(), None).share[30:60, 104:109].max() > 0.5


def test_the_light_goes_on_as_it_is_at_the_seam() -> None:
    lends = hidden(60, 110)
    lit = books() * np.linspace(0.4, 1.0, GRID[0])[:, None]
    colours = lit.astype(np.uint8)
    found = Patches.of(lends, colours, None)
    picture = cv2.resize(np.dstack([colours, colours[..., 0]]), SIZE, interpolation=cv2.INTER_NEAREST)
    texture, _ = found.within(picture, SIZE, WHOLE)
    for columns in (slice(61, 70), slice(100, 109)):
        made = cv2.resize(texture, GRID, interpolation=cv2.INTER_AREA)[30:60, columns, :3]
        assert made.mean() == pytest.approx(lit[30:60, columns].mean(), rel=0.12)


def test_a_shift_is_kept_while_people_move() -> None:
    noisy = np.random.default_rng(1).normal(0, 3, (5, *GRID[::-1], 3))
    found, seen = None, set()
    for number, noise in enumerate(noisy):
        colours = np.clip(books() + noise, 0, 255).astype(np.uint8)
        found = Patches.of(hidden(60 + number, 110 + number), colours, found)
        seen.add(tuple(sorted(found.shifts)))
    assert len(seen) == 1
    assert {along for along, _ in found.shifts} == {PERIOD * n for n in range(-2, 3)}


@pytest.mark.parametrize("lends", [np.zeros(GRID[::-1], np.bool_), np.ones(GRID[::-1], np.bool_)])
def test_nothing_seen_and_nothing_hidden_give_nothing(lends: np.ndarray) -> None:
    found = Patches.of(lends, books(), None)
    assert (found.share == 0).all() and found.shifts == [(0, 0)]


def test_a_part_is_cut_from_the_whole() -> None:
    lends = hidden(60, 110, 6)
    found = Patches.of(lends, books(), None)
    picture = np.dstack([books(SIZE), books(SIZE)[..., 0]])
    whole, share = found.within(picture, SIZE, WHOLE)
    part = (slice(90, 271), slice(231, 455))
    texture, of_part = found.within(picture, SIZE, part)
    np.testing.assert_array_equal(texture, whole[part])
    assert np.abs(of_part.astype(int) - share[part]).max() <= 2
