from __future__ import annotations

import numpy as np
import pytest

from engine.camera.geometry import Intrinsics
from engine.geometry.layer_renderer import TargetGrid


@pytest.mark.parametrize(
    ("size", "cell"), [((1280, 720), 8), ((112, 64), 1), ((333, 187), 6), ((40, 30), 50)]
)
def test_places_on_the_grid_are_enlarged_to_where_they_were(size, cell):
    grid = TargetGrid(size, cell)
    columns, rows = grid.size
    x, y = np.meshgrid(np.arange(columns, dtype=np.float32), np.arange(rows, dtype=np.float32))
    places = np.dstack([x, y])
    whole = grid.whole()
    large = grid.enlarged(places, whole, np.empty((*grid.room(whole), 2), np.float32))
    wanted_x = [grid.place(pixel) for pixel in range(size[0])]
    wanted_y = [grid.place(pixel) for pixel in range(size[1])]
    assert large.shape == (size[1], size[0], 2)
    assert np.abs(large[..., 0] - wanted_x).max() < 1e-3
    assert np.abs(large[..., 1].T - wanted_y).max() < 1e-3


def test_tiles_are_the_whole_cut_up_and_only_where_they_are_wanted():
    grid = TargetGrid((640, 360), 8)
    values = np.random.default_rng(1).random(grid.size[::-1], np.float32)
    whole = grid.whole()
    large = grid.enlarged(values, whole, np.empty(grid.room(whole), np.float32)).copy()
    count = np.zeros((360, 640), int)
    for tile in grid.tiles(np.ones(grid.size[::-1], bool)):
        count[tile.pixels] += 1
        part = grid.enlarged(values, tile, np.empty(grid.room(tile), np.float32))
        assert np.allclose(part, large[tile.pixels], atol=1e-5)
    assert (count == 1).all()
    one = np.zeros(grid.size[::-1], bool)
    one[20, 30] = True
    assert 1 <= len(list(grid.tiles(one))) <= 4 and not list(grid.tiles(~np.ones_like(one)))


def test_a_box_holds_all_that_its_cells_are_enlarged_to():
    grid = TargetGrid((640, 360), 8)
    cells = np.zeros(grid.size[::-1], np.float32)
    cells[20:24, 30:33] = 1
    whole = grid.whole()
    large = grid.enlarged(cells, whole, np.empty(grid.room(whole), np.float32)).copy()
    box = grid.around(cells > 0)
    assert box is not None
    outside = large.copy()
    outside[box.pixels] = 0
    assert outside.max() == 0 and large[box.pixels].size < 4000
    assert grid.around(cells > 2) is None


def test_the_grids_lens_sees_what_the_pictures_does():
    lens = Intrinsics.from_horizontal_fov(640, 360, np.radians(60))
    on_grid = TargetGrid((640, 360), 8).lens(lens)
    pixel = (100.0, 50.0)
    ray = ((pixel[0] - lens.cx) / lens.fx, (pixel[1] - lens.cy) / lens.fy)
    place = TargetGrid((640, 360), 8).place
    assert np.isclose(ray[0] * on_grid.fx + on_grid.cx, place(pixel[0]))
    assert np.isclose(ray[1] * on_grid.fy + on_grid.cy, place(pixel[1]))
