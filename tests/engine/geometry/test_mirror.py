from __future__ import annotations

import numpy as np

from engine.geometry.mirror import REACH, Mirror

GRID, SIZE = (160, 90), (640, 360)
WHOLE = (slice(0, SIZE[1]), slice(0, SIZE[0]))


def hidden(left: int, right: int) -> np.ndarray:
    """Cells that lend: all but those of these columns, in the middle of the height."""
    lends = np.ones(GRID[::-1], np.bool_)
    lends[20:70, left:right] = False
    return lends


def picture() -> np.ndarray:
    """Each row another red, each column another green."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    return np.dstack([y * 255 / SIZE[1], x * 255 / SIZE[0], 0 * x, 0 * x + 255]).astype(np.uint8)


def test_what_is_beside_goes_on_in_its_row_mirrored_at_the_edge() -> None:
    lends = hidden(60, 110)
    texture, share = Mirror.of(lends, None).within(picture(), SIZE, WHOLE)
    for pixel in (4 * 60 + 10, 4 * 60 + 30):
        green, mirrored = texture[180, pixel, 1], 2 * (4 * 59 + 2) - pixel
        assert abs(int(green) - mirrored * 255 / SIZE[0]) < 3
    assert np.abs(texture[100:260, 4 * 60 + 10, 0] - picture()[100:260, 0, 0].astype(int)).max() <= 1
    assert share[180, 4 * 60 + 10] > share[180, 4 * 60 + 30] > 0


def test_it_ends_deep_inside_and_is_nothing_where_all_is_seen() -> None:
    lends = hidden(40, 120)
    mirror = Mirror.of(lends, None)
    deep = slice(40 + round(REACH * GRID[0]) + 2, 120 - round(REACH * GRID[0]) - 2)
    assert (mirror.share[25:65, deep] == 0).all()
    assert (mirror.share[:, :38] == 0).all() and (mirror.shift[lends] == 0).all()


def test_what_is_narrow_is_made_up_from_both_sides_and_fades_between() -> None:
    mirror = Mirror.of(hidden(80, 90), None)
    row = mirror.share[45]
    assert row[81] > row[83] > row[85] - 0.1 and row[88] > row[86]
    assert mirror.shift[45, 81] < 0 < mirror.shift[45, 88]


def test_nothing_seen_gives_nothing() -> None:
    mirror = Mirror.of(np.zeros(GRID[::-1], np.bool_), None)
    assert (mirror.share == 0).all() and np.isfinite(mirror.shift).all()


def test_it_changes_slowly_where_it_was_made_up_before() -> None:
    first = Mirror.of(hidden(60, 110), None)
    second = Mirror.of(hidden(64, 114), first)
    alone = Mirror.of(hidden(64, 114), None)
    both = (slice(30, 60), slice(66, 70))
    jump, whole = (np.abs(one.shift[both] - first.shift[both]).mean() for one in (second, alone))
    assert 0 < jump < 0.5 * whole
