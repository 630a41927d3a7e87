"""Scenes: the same from the same seed, nothing shared between the splits, and a person where the camera
looks.
"""

from __future__ import annotations

import numpy as np
import pytest

from engine.data.scenes.build import build
from engine.data.scenes.furnish import SetBuilder
from engine.data.scenes.pack import Pack
from engine.data.scenes.scene import Scene, looking
from engine.data.scenes.sets import CYCLE, make_scene
from engine.data.splits import SPLITS, scene_generator, split_named
from engine.errors import DataError

SEVERAL = 16


@pytest.fixture(scope="module")
def pack() -> Pack:
    return Pack.load()


@pytest.fixture(scope="module")
def scenes(pack: Pack) -> dict[str, list[Scene]]:
    return {name: [make_scene(split, n, pack) for n in range(SEVERAL)] for name, split in SPLITS.items()}


def things_of(scene: Scene) -> set[str]:
    """Names of textures and models that a scene itself chooses."""
    surfaces = (*scene.sides.values(), scene.floor, scene.ceiling)
    materials = [surface.material for surface in surfaces]
    materials += [item.material for item in (*scene.built, *scene.pictures)]
    return {m.texture for m in materials if m.texture} | {item.name for item in scene.furnished}


def test_the_same_number_is_the_same_scene(pack: Pack, scenes: dict[str, list[Scene]]) -> None:
    for name, split in SPLITS.items():
        for number in (0, 3, 9):
            assert make_scene(split, number, pack) == scenes[name][number]
    assert scenes["train"][0] != scenes["train"][len(CYCLE) - 1]


def test_any_sixteen_scenes_are_a_mixture_of_all_kinds(scenes: dict[str, list[Scene]]) -> None:
    assert {scene.family for scene in scenes["train"]} == set(CYCLE)


def test_the_splits_share_no_texture_no_furniture_no_surroundings_and_no_seed(
    scenes: dict[str, list[Scene]],
) -> None:
    train, heldout = (set.union(*map(things_of, scenes[name])) for name in ("train", "heldout"))
    assert len(train) > 20 and len(heldout) > 5
    assert not train & heldout
    outside = [{scene.environment for scene in scenes[name]} - {None} for name in ("train", "heldout")]
    assert not outside[0] & outside[1]
    seeds = [{p.seed for scene in scenes[name] for p in scene.people} for name in ("train", "heldout")]
    assert not seeds[0] & seeds[1]
    assert scene_generator(SPLITS["train"], 3).random() != scene_generator(SPLITS["heldout"], 3).random()


def test_the_splits_share_no_picture_on_people(pack: Pack, scenes: dict[str, list[Scene]]) -> None:
    worn = []
    for name in ("train", "heldout"):
        people = [p for scene in scenes[name] for p in scene.people]
        meshes = [pack.person(p.seed, heldout=name == "heldout").mesh for p in people]
        named = {m.texture for mesh in meshes for m in mesh.materials if m.texture}
        worn.append({n for n in named if pack.texture(n).kind not in ("hair", "eye")})
    assert not worn[0] & worn[1]


@pytest.mark.parametrize("split", SPLITS)
def test_the_main_persons_face_is_in_the_first_view_and_the_camera_in_the_clear(
    split: str, pack: Pack, scenes: dict[str, list[Scene]]
) -> None:
    for scene in scenes[split]:
        person = scene.people[0]
        who = pack.person(person.seed, heldout=scene.heldout)
        chest = who.chest(person.motion, 0.0).astype(float)
        c, s = np.cos(person.turn), np.sin(person.turn)
        turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        face = turn @ (chest - [0, 0.25, 0]) + [person.x_m, person.y_m, person.z_m]
        seen = np.linalg.inv(scene.base) @ np.append(face, 1.0)
        assert 0.4 < seen[2] < 9
        assert abs(seen[0] / seen[2]) * scene.focal < 0.5
        assert abs(seen[1] / seen[2]) * scene.focal < 0.29
        assert scene.clear(scene.base[None, :3, 3], margin_m=0.05)


def test_a_camera_is_not_clear_outside_the_room_or_in_a_thing(scenes: dict[str, list[Scene]]) -> None:
    scene = scenes["train"][0]
    assert not scene.clear(np.array([[0.0, -1.0, scene.high[2] + 0.1]]))
    box = scene.obstacles[0]
    assert not scene.clear((np.array(box.low) + np.array(box.high))[None] / 2)


def test_light_comes_in_where_the_window_is_and_the_exposure_suits_the_face(pack: Pack) -> None:
    for number in range(4):
        made = build(make_scene(SPLITS["train"], number, pack), pack).stage
        assert np.isfinite(made.ambient).all() and made.ambient.min() >= 0
        assert all(0.005 < gain < 20 for gain in made.exposure)
        assert len(made.lights) <= 2 and len(made.washes) <= 4


def test_models_along_a_wall_keep_out_of_each_other_and_of_the_free_way(pack: Pack) -> None:
    b = SetBuilder(np.random.default_rng(2), pack, heldout=False)
    b.room(3.0, 3.0, 3.0, 3.0, 2.6)
    b.keep_free((-1.0, -2.6, -3.0), (1.0, 0.0, 3.0))
    for side in ("back", "left", "right"):
        b.along(side, pack.categories(), 1.0)  # type: ignore[arg-type]
    assert len(b.furnished) > 3
    boxes = [*b.obstacles, *b.kept_free]
    for i, one in enumerate(boxes):
        for other in boxes[:i]:
            assert not all(one.low[k] < other.high[k] and one.high[k] > other.low[k] for k in range(3))


def test_looking_puts_the_point_on_the_axis_and_stays_upright() -> None:
    pose = looking((1.0, -1.5, -2.0), (0.2, -1.2, 0.5))
    seen = np.linalg.inv(pose) @ [0.2, -1.2, 0.5, 1.0]
    np.testing.assert_allclose(seen[:2], 0, atol=1e-12)
    assert seen[2] > 0 and abs(pose[1, 0]) < 1e-12 and pose[1, 1] > 0.9


def test_an_unknown_split_is_named() -> None:
    with pytest.raises(DataError, match=r"validation.*train or heldout"):
        split_named("validation")
