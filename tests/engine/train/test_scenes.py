from pathlib import Path

from engine.train.scenes import SceneList


def test_scenes_join_from_a_sample_on_and_stay_so_for_whoever_reads_again(tmp_path: Path) -> None:
    a, b, c = Path("a"), Path("b"), Path("c")
    scenes = SceneList(tmp_path / "scenes.json")
    scenes.grow(0, [b])
    scenes.grow(8, [b])  # nothing new
    scenes.grow(12, [a, b, c])
    scenes.write()
    for one in (scenes, SceneList(tmp_path / "scenes.json")):
        assert [one.count_at(sample) for sample in (0, 11, 12, 99)] == [1, 1, 3, 3]
        assert one.first(3) == [b, a, c]  # in the order in which they came


def test_a_run_that_went_back_does_not_change_what_was_drawn(tmp_path: Path) -> None:
    scenes = SceneList(tmp_path / "scenes.json")
    scenes.grow(0, [Path("a")])
    scenes.grow(20, [Path("b")])
    scenes.grow(4, [Path("c")])  # resumed at an older checkpoint, before the second growth
    assert [scenes.count_at(sample) for sample in (4, 19, 20)] == [1, 1, 3]
