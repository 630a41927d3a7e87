"""The whole protocol on two tiny scenes, with methods whose figures are known beforehand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from engine.camera.geometry import Pose
from engine.errors import DataError
from engine.eval.cases import Pair, choose_pairs, load_case
from engine.eval.evaluate import loop_pairs
from engine.eval.loops import closure_figures, find_closures, static_mask
from engine.eval.measure import flicker
from engine.eval.metrics import PSNR_CAP_DB
from engine.eval.records import Record, advantage
from engine.eval.results import LEAST_TRAVEL, TRAVELS, TURNS

SIZE = (112, 64)


@pytest.fixture(scope="module")
def results(evaluated):
    return evaluated.results


def test_progress_rises_to_the_end(evaluated):
    assert evaluated.shares == sorted(evaluated.shares)
    assert evaluated.shares[-1] == pytest.approx(1, abs=0.02)


def test_the_truth_is_perfect_and_its_camera_is_where_it_should_be(results):
    figures = results.table("fidelity")["truth"]
    assert figures["psnr_db"].mean == PSNR_CAP_DB
    assert figures["ssim"].mean == pytest.approx(1)
    assert figures["flip"].mean == figures["flicker"].mean == 0
    camera = results.table("camera")["truth"]
    assert camera["rotation_deg"].failed == 0
    assert camera["rotation_deg"].mean < 0.1


def test_copy_is_right_when_still_and_wrong_when_the_camera_moves(results):
    assert results.table("identity")["copy"]["psnr_db"].mean == PSNR_CAP_DB
    assert results.table("fidelity")["copy"]["psnr_db"].mean < 30
    assert results.table("camera")["copy"]["rotation_deg"].mean > 1


def test_what_shows_no_camera_has_failed_and_is_no_figure(results):
    camera = results.table("camera")["noise"]["rotation_deg"]
    assert camera.mean is None
    assert camera.failed == len(results.cases)
    assert camera.failed_share == 1


def test_a_drift_is_seen_and_length_is_told_from_content(results):
    drift = {r.at: r.figures for r in results.records if r.section == "drift"}
    assert {r.method for r in results.records if r.section == "drift"} == {"fading"}
    assert drift[10]["colour_shift"] + 8 * 1.7 < drift[100]["colour_shift"]
    assert drift[100]["memory_mb"] > 10
    lengths = {r.at: r.figures for r in results.records if r.section == "length"}
    assert set(lengths) == {8, 16, 40}
    assert len({figures["common_db"] for figures in lengths.values()}) == 1  # their first frames are the same
    assert len({figures["psnr_db"] for figures in lengths.values()}) == 3


def test_what_slows_down_in_a_long_run_is_seen(results):
    assert results.table("speed")["fading"]["late_cost"].mean > 2
    assert "late_cost" not in results.table("speed")["copy"]


def test_everything_is_written_and_can_be_read_again(results, tmp_path):
    results.write(tmp_path / "eval.json")
    assert [path.name for path in tmp_path.iterdir()] == ["eval.json"]
    found = json.loads((tmp_path / "eval.json").read_text())
    assert found["protocol"]["seed"] == 0
    assert found["protocol"]["split"] == "heldout"
    assert len(found["cases"]) == 2
    assert found["tables"]["fidelity"]["copy"]["psnr_db"]["n"] == 2
    assert len(found["records"]) == len(results.records)
    assert found["tables"]["camera"]["noise"]["rotation_deg"]["failed_share"] == 1
    assert {record["at"] for record in found["records"] if record["section"] == "steps"} == {1, 2}
    over_copy = found["psnr_db_over"]["copy"]["rotation"]
    assert over_copy["n"] == 2
    travelling = sum(case["travel"] >= LEAST_TRAVEL for case in found["cases"])
    groups = found["psnr_db_over_by_travel"]
    assert travelling >= 1
    assert groups[TRAVELS]["copy"]["rotation"]["n"] == travelling
    assert (TURNS in groups) == (travelling < 2)
    assert found["moves"][TRAVELS]["copy"]["psnr_db"]["n"] == travelling


def test_the_same_seed_asks_the_same_and_more_scenes_keep_those_that_were_there(data):
    def names(**changes) -> list[str]:
        asked = {"scenes": 2, "pairs": 2, "seed": 3, "frames": 16} | changes
        return [pair.name for pair in choose_pairs(data, **asked)]

    assert names() == names()
    assert names(scenes=1) == names()[:2]
    assert names(pairs=1) == names()[::2]
    assert len({tuple(names(seed=seed, pairs=1)) for seed in range(8)}) > 1


def test_a_folder_without_held_out_scenes_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match="data render --split heldout"):
        choose_pairs(tmp_path, scenes=1, pairs=1, seed=0, frames=8)


@pytest.fixture(scope="module")
def there_and_back(data):
    return load_case(Pair(scene=data / "heldout" / "f24_aperture5" / "scene1", source=0, target=1), SIZE, 16)


def test_a_case_holds_what_the_scene_holds(there_and_back, room):
    case = there_and_back
    assert (case.family, case.move) == ("room", "there-and-back")
    middle = case.shot.poses[8]
    assert middle.translation[0] == pytest.approx(0.4973, abs=1e-3)
    truth = room.view(case.shot.lenses[8], Pose(middle.rotation, middle.translation), finer=1)[0]
    assert np.abs(case.truth[8].astype(int) - truth).mean() < 1


def test_a_loop_closes_where_the_camera_is_back_and_away_from_the_source(data, evaluated, there_and_back):
    ends = [(one.before, one.after) for one in find_closures(there_and_back)]
    assert ends == [(3, 12), (2, 13)]  # not (0, 15), where the source looks from
    assert {(pair.source, pair.target) for pair in loop_pairs(data, evaluated.protocol)} == {(2, 1)}


def test_a_loop_is_closed_by_the_truth_and_by_copy_but_not_by_noise(there_and_back, noise):
    case = there_and_back
    closures = find_closures(case)
    truth = closure_figures(case, case.truth, closures)
    assert truth["closure_db"] == truth["truth_db"] > 45
    copied = closure_figures(case, case.shot.source, closures)
    assert copied["closure_db"] > 50 > 30 > copied["back_db"]
    assert closure_figures(case, list(noise.render(case.shot)), closures)["closure_db"] < 10


def test_what_moved_in_the_world_is_no_part_of_loop_closure():
    before = np.full((20, 30, 3), 90, np.uint8)
    after = before.copy()
    after[5:12, 5:12] = 160
    static = static_mask(before, after)
    assert not static[5:12, 5:12].any()
    assert static[:, 20:].all()


def test_flicker_is_change_that_is_not_in_the_world():
    truth = [np.full((8, 8, 3), 50 + 10 * i, np.uint8) for i in range(4)]
    brighter = [picture + np.uint8(20) for picture in truth]
    blinking = [picture + np.uint8(6 * (i % 2)) for i, picture in enumerate(truth)]
    assert flicker(truth, brighter) == 0
    assert flicker(truth, blinking) == pytest.approx(6)


def test_an_advantage_is_taken_over_common_cases_only():
    def record(method: str, case: str, psnr_db: float) -> Record:
        figures = {"psnr_db": psnr_db}
        return Record(
            section="fidelity", method=method, case=case, scene=case, family="f", move="m", figures=figures
        )

    records = [record("a", "1", 21.0), record("a", "2", 40.0), record("b", "1", 20.0), record("b", "3", 10.0)]
    found = advantage(records, "fidelity", "psnr_db", "b")
    assert (found["a"].mean, found["a"].n) == (1.0, 1)
