"""Baselines and oracles, on planes and rooms where the right answer is known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from engine.camera.geometry import IDENTITY, Pose
from engine.engines.base import EngineSettings, Rendered
from engine.eval.baselines import BestPlane, Copy, Plane, Rotation, TrueGeometry, Truth
from engine.eval.cases import Case, PingPong, Shot, ping_pong, seen_by_source
from engine.eval.methods import EngineMethod, between, engine_settings, render_timed, reprojected
from engine.eval.metrics import psnr

WALL_M = 5.0
SHARP_DB = 34.0  # what is left is the interpolation of textures as fine as the pixels
TURN = Pose.from_angles(pan=0.15, tilt=-0.05, roll=0.1, zoom=1.2)
MOVE = Pose.from_angles(pan=-0.1, translation=(0.5, -0.2, 0.6))


def case_of(room, lens, poses: Sequence[Pose], distance_m: float = 3.0) -> Case:
    views = [room.view(lens, pose, finer=4) for pose in poses]
    source, depth = room.view(lens, Pose(), finer=4)
    shot = Shot(
        source=[source] * len(poses),
        poses=poses,
        lenses=[lens] * len(poses),
        distances_m=[distance_m] * len(poses),
    )
    return Case(
        name="case",
        scene="scene",
        family="room",
        move="move",
        shot=shot,
        truth=[colour for colour, _ in views],
        inverse_depth=np.stack([depth] * len(poses)),
        target_inverse_depth=np.stack([inverse for _, inverse in views]),
        seen=[
            seen_by_source(depth, inverse, lens, pose)
            for (_, inverse), pose in zip(views, poses, strict=True)
        ],
        camera_to_world=np.stack([np.eye(4)] * len(poses)),
    )


def inner(case: Case, pixels: np.ndarray) -> float:
    """dB where the source saw it, away from edges."""
    mask = case.seen[0].copy()
    mask[:2], mask[-2:], mask[:, :2], mask[:, -2:] = False, False, False, False
    return psnr(pixels, case.truth[0], mask)


def test_the_plane_is_exact_on_a_plane_at_its_distance(wall, small_lens):
    case = case_of(wall, small_lens, [MOVE], distance_m=WALL_M)
    assert inner(case, next(Plane().render(case.shot))) > SHARP_DB
    assert inner(case, next(Rotation().render(case.shot))) < SHARP_DB - 10


@pytest.mark.parametrize("method", [Rotation(), Plane()], ids=lambda method: method.name)
def test_turns_and_zooms_are_exact_in_any_room(method, room, small_lens):
    case = case_of(room, small_lens, [TURN])
    assert inner(case, next(method.render(case.shot))) > SHARP_DB - 4  # the boards' edges are sharper yet


def test_the_best_plane_is_found_by_looking(wall, small_lens):
    case = case_of(wall, small_lens, [MOVE], distance_m=2.0)
    (best,) = BestPlane().render(case)
    assert inner(case, best) > inner(case, next(Plane().render(case.shot))) + 5


def test_true_geometry_beats_every_plane_and_leaves_the_unseen_to_it(room, small_lens):
    case = case_of(room, small_lens, [MOVE])
    (best,), (true,) = BestPlane().render(case), TrueGeometry().render(case)
    assert inner(case, true) > inner(case, best) + 5
    assert not case.seen[0].all()
    assert (true == best)[~case.seen[0]].all()


def test_what_is_seen_is_what_true_depth_says(room, wall, small_lens):
    """A step to the right uncovers what was behind the board's right edge, and a strip at the picture's."""
    case = case_of(room, small_lens, [Pose(translation=(0.4, 0.0, 0.0))])
    assert 0.6 < case.seen[0].mean() < 0.97
    still = case_of(room, small_lens, [Pose()])
    assert still.seen[0].mean() > 0.99
    pan = case_of(wall, small_lens, [Pose.from_angles(pan=math.radians(15))])
    assert pan.seen[0][32, :80].all()
    assert not pan.seen[0][32, -24:].any()


def test_copy_is_the_identity_and_truth_is_the_truth(room, small_lens):
    case = case_of(room, small_lens, [MOVE, TURN])
    assert all(a is b for a, b in zip(Copy().render(case.shot), case.shot.source, strict=True))
    assert all(a is b for a, b in zip(Truth().render(case), case.truth, strict=True))


class Engine:
    """Shows the source as it is, or pretends to have rendered half of the move."""

    chunk = 2
    size = None

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.given: list[int] = []

    def warmup(self, progress) -> None:
        progress(1.0, "")

    def step(self, frames, poses):
        self.given.append(len(frames))
        return [Rendered(frame, IDENTITY) for frame in frames]

    def reset(self) -> None:
        pass


def test_an_engine_is_fed_whole_chunks_and_its_pictures_are_reprojected_as_on_air(room, small_lens):
    case = case_of(room, small_lens, [TURN] * 5)
    made = []

    def make(settings):
        made.append(Engine(settings))
        return made[-1]

    method = EngineMethod("engine", "", make, lambda shot: engine_settings("planar", shot))
    frames, timing = render_timed(method, case.shot)
    assert made[0].given == [2, 2, 2]
    assert made[0].settings.horizontal_fov == pytest.approx(math.radians(60))
    assert len(frames) == 5
    assert inner(case, frames[4]) > SHARP_DB - 4
    assert timing.frame_s > 0 and timing.first_s > 0


def test_a_picture_of_another_pose_is_taken_the_rest_of_the_way(wall, small_lens):
    shown, wanted = Pose.from_angles(pan=0.04), Pose.from_angles(pan=-0.05, zoom=1.3)
    picture, truth = (wall.view(small_lens, pose, finer=4)[0] for pose in (shown, wanted))
    found = reprojected(picture, small_lens, shown, wanted, WALL_M)
    assert psnr(found[8:-8, 12:-12], truth[8:-8, 12:-12]) > SHARP_DB - 4
    assert reprojected(picture, small_lens, shown, shown, WALL_M) is picture


def test_one_pose_relative_to_another_leads_from_the_one_to_the_other():
    way = between(MOVE, TURN)
    place = np.array(MOVE.translation) + MOVE.matrix() @ way.translation
    assert place == pytest.approx(TURN.translation, abs=1e-12)
    assert MOVE.matrix() @ way.matrix() == pytest.approx(TURN.matrix())
    assert way.zoom == TURN.zoom


def test_a_clip_goes_to_and_fro_without_a_cut():
    assert [ping_pong(i, 4) for i in range(9)] == [0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert [ping_pong(i, 1) for i in range(3)] == [0, 0, 0]
    assert list(PingPong("abc", 6)) == list("abcbab")
    assert PingPong("abc", 6)[1:4] == list("bcb")
