"""The held-out scene of another renderer, as it lies in the repository."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import engine.eval
from engine.data import layout
from engine.data.multicam import MultiCamScene
from engine.eval.cases import Pair, choose_pairs, load_case, source_place

ROOT = Path(engine.eval.__file__).parent / "other_renderer"
SCENE = ROOT / "heldout" / "f24_aperture5" / "scene0"


def test_it_is_held_out_and_nothing_else_is_there() -> None:
    assert [path.name for path in ROOT.iterdir()] == ["heldout"]
    assert layout.scene_folders(ROOT, "heldout") == [SCENE]
    assert choose_pairs(ROOT, scenes=1, pairs=6, seed=0, frames=81)


@pytest.mark.parametrize(("source", "target"), [(0, 1), (1, 2), (2, 0), (0, 3), (1, 0)])
def test_one_view_is_another_by_the_true_depth_and_poses(source: int, target: int) -> None:
    """To the pixel. The lower half is left out: the desk is polished, and shows each camera another light."""
    case = load_case(Pair(scene=SCENE, source=source, target=target), layout.SIZE, 1)
    x, y, _ = source_place(case.target_inverse_depth[0], case.shot.lenses[0], case.shot.poses[0])
    seen = cv2.erode(case.seen[0].astype(np.uint8), np.ones((3, 3))) > 0
    seen[layout.SIZE[1] // 2 :] = False
    assert seen.mean() > 0.1

    def psnr_db(across: float, down: float) -> float:
        maps = ((x + across).astype(np.float32), (y + down).astype(np.float32))
        made = cv2.remap(case.shot.source[0], *maps, cv2.INTER_CUBIC)
        return float(10 * np.log10(255**2 / np.mean((made.astype(float) - case.truth[0])[seen] ** 2)))

    here = psnr_db(0, 0)
    assert here > 24
    assert all(psnr_db(*aside) < here - 1 for aside in ((1, 0), (-1, 0), (0, 1), (0, -1)))


def test_the_subject_is_where_the_description_says() -> None:
    scene = MultiCamScene(SCENE)
    for camera in range(4):
        view = (camera, [40], layout.SIZE, (0, 0, *layout.SIZE))
        person = scene.matte(*view)[0] > 127
        assert 0.05 < person.mean() < 0.5
        distance_m = 1 / np.median(scene.inverse_depth(*view)[0][person])
        assert distance_m == pytest.approx(scene.rig.subject_distance_m[camera, 40], rel=0.12)
