"""Baking: what is taken, what carries over, and that interrupted work leaves nothing half done."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.data.bake import patterns
from engine.data.bake.furniture import creased, is_cc0, read_model
from engine.data.bake.light import baked_environment
from engine.data.bake.pack import _once, licences
from engine.data.bake.shapes import levels
from engine.data.bake.textures import TABLES, seamless
from engine.data.bake.thinning import decimated, islands, nearest_points

ZERO = "This blend has been released under\nCreative Commons Zero (Public Domain)\n"
CUBE = """
mtllib cube.mtl
v 0 0 0\nv 2 0 0\nv 2 2 0\nv 0 2 0\nv 0 0 2\nv 2 0 2\nv 2 2 2\nv 0 2 2
vt 0 0\nvt 1 0\nvt 1 1\nvt 0 1
usemtl wood
f 1/1 4/2 3/3 2/4\nf 5/1 6/2 7/3 8/4\nf 1/1 2/2 6/3 5/4\nf 3/1 4/2 8/3 7/4\nf 1/1 5/2 8/3 4/4
usemtl glass
f 2/1 3/2 7/3 6/4
"""


@pytest.mark.parametrize(
    ("name", "text", "taken"),
    [
        ("blend_LICENSE.txt", ZERO, True),
        ("1 - LICENSE.html", '<a href="https://creativecommons.org/publicdomain/zero/1.0/">', True),
        ("1 - LICENSE.html", '<a href="https://creativecommons.org/licenses/by/3.0/">', False),
        ("LICENSE.txt", ZERO + "textures: CC-BY", False),
        ("readme.txt", "a chair", False),
    ],
)
def test_a_model_is_taken_only_if_its_own_paper_says_cc0(
    tmp_path: Path, name: str, text: str, taken: bool
) -> None:
    (tmp_path / name).write_text(text)
    assert is_cc0(tmp_path) is taken


def test_a_model_without_paper_is_not_taken(tmp_path: Path) -> None:
    assert not is_cc0(tmp_path)


def test_a_model_gets_the_catalogues_size_stands_on_the_floor_and_loses_its_glass(tmp_path: Path) -> None:
    (tmp_path / "cube.obj").write_text(CUBE)
    (tmp_path / "cube.mtl").write_text("newmtl wood\nKd 1 0 0\nnewmtl glass\nKd 0 0 1\nd 0.1\n")
    model = read_model(tmp_path / "cube.obj", {"width": "50", "height": "80", "depth": "30"})
    low, high = model.positions.min(0), model.positions.max(0)
    np.testing.assert_allclose(high - low, [0.5, 0.8, 0.3], atol=1e-3)
    assert high[1] == pytest.approx(0.0, abs=1e-3) and len(model.faces) == 10
    red, green, _ = model.materials[0]["colour"]
    assert red == 1.0 and green < 0.001


def test_creases_get_their_own_vertices_and_flat_edges_do_not(tmp_path: Path) -> None:
    (tmp_path / "cube.obj").write_text(CUBE.replace("usemtl glass", ""))
    model = read_model(tmp_path / "cube.obj", {"width": "50", "height": "50", "depth": "50"})
    positions, _, faces = creased(model)
    assert len(faces) == 12 and len(positions) == 24  # four for each side


def test_what_is_interrupted_is_removed_and_what_is_finished_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "stage"

    def fails(out: Path) -> None:
        (out / "half").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _once(folder, fails)
    assert list(tmp_path.iterdir()) == []
    _once(folder, lambda out: (out / "whole").touch())
    _once(folder, fails)
    assert [f.name for f in folder.iterdir()] == ["whole"]


def test_shares_of_targets_sum_to_one_and_meet_in_the_middle() -> None:
    for value in (0.0, 0.2, 0.5, 0.9, 1.0):
        assert sum(levels(value, ("low", "mid", "high")).values()) == pytest.approx(1.0)
    assert levels(0.5, ("low", "mid", "high")) == {"low": 0.0, "mid": 1.0, "high": 0.0}


def grid(count: int) -> tuple[np.ndarray, np.ndarray]:
    """A square of count × count quads in the plane z = 0, and its triangles."""
    y, x = np.mgrid[: count + 1, : count + 1]
    points = np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], 1) / count
    a = (np.arange(count)[:, None] * (count + 1) + np.arange(count)).ravel()
    b, c, d = a + 1, a + count + 1, a + count + 2
    return points, np.concatenate([np.stack([a, b, d], 1), np.stack([a, d, c], 1)])


def test_the_nearest_point_of_a_surface_is_its_foot() -> None:
    points, faces = grid(8)
    asked = np.array([[0.31, 0.62, 0.5], [0.9, 0.05, -0.2]])
    face, weights = nearest_points(asked, points, faces)
    np.testing.assert_allclose(np.einsum("nk,nkd->nd", weights, points[faces[face]])[:, :2], asked[:, :2])


def test_a_part_carries_deformations_of_the_original() -> None:
    points, faces = grid(6)
    part = decimated(
        points, faces, faces, points[:, :2], (points[faces].mean(1)[:, 0] > 0.5).astype(int), 999
    )
    bent = points + np.stack([0 * points[:, 0], 0 * points[:, 0], points[:, 0] ** 2], 1)
    moved = part.carry(bent)
    np.testing.assert_allclose(moved[:, 2], moved[:, 0] ** 2, atol=1e-9)
    np.testing.assert_allclose(part.uv, moved[part.corner_points][:, :2], atol=1 / 2048)
    assert set(part.regions) == {0, 1}


def test_islands_are_counted_by_their_first_vertex() -> None:
    faces = np.array([[4, 5, 6], [0, 1, 2], [2, 3, 0]])
    assert islands(faces, 7).tolist() == [1, 0, 0]


def test_a_seamless_picture_ends_where_it_begins() -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 48)[None, :, None], (48, 48, 3)).astype(np.uint8)
    joined = seamless(ramp, 32).astype(float)
    assert np.abs(joined[:, 0] - joined[:, -1]).max() < 20


def test_every_pattern_is_a_picture_in_range() -> None:
    for rows in TABLES.values():
        for name, _, make in rows[:2]:
            values = make(np.random.default_rng(0))
            assert values.shape == (patterns.S, patterns.S, 3), name
            assert np.isfinite(values).all() and values.min() > -0.5 and values.max() < 1.8, name


def test_light_keeps_its_colour_and_tames_the_sun() -> None:
    panorama = np.ones((64, 128, 3), np.float32) * (1.2, 1.0, 0.8)
    panorama[20, 30] = 60000
    light, background = baked_environment(panorama.astype(np.float32))
    assert light.max() < 200 and background.dtype == np.uint8  # of 60000 times its neighbours
    assert light[25, 5, 0] / light[25, 5, 2] == pytest.approx(1.5, rel=0.01)


def test_the_list_of_licences_names_every_item() -> None:
    entry = {"name": "chair", "author": "Ada", "licence": "CC0-1.0", "source": "somewhere"}
    assert "| chair | Ada | CC0-1.0 | somewhere |" in licences({"furniture": [entry]})
