from __future__ import annotations

import itertools
import logging
import subprocess
import sys
import threading
from dataclasses import dataclass, replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from engine.camera.geometry import IDENTITY, Intrinsics, Pose
from engine.engines.base import EngineSettings
from engine.engines.depth import DepthEngine
from engine.engines.mini import MiniEngine, open_student
from engine.errors import EngineError, WeightsError
from engine.geometry.depth_estimator import Depth, surface_m

SIZE = (224, 128)
MODEL = (112, 64)
DISTANCE_M = 2.5
LENS = Intrinsics.from_horizontal_fov(*SIZE, np.radians(60))
SETTINGS = EngineSettings(
    name="student", size=SIZE, horizontal_fov=float(np.radians(60)), subject_distance_m=DISTANCE_M
)
TRUCK = Pose(translation=(0.3, 0.0, 0.0))
PAN = Pose.from_angles(pan=0.2)
TURN_IN = Pose.from_angles(pan=0.05, zoom=1.6)
FRAME_S = 0.1
REST_S = 0.03  # of a step, that is not the student's


class Truth:
    """Stands for the depth network, and for all the time that is not the student's."""

    def __init__(self, traced, clock):
        self._traced, self._clock = traced, clock
        self.threads: list[str] = []  # that estimated

    def __call__(self, width, height):
        return self

    def estimate(self, frame):
        self.threads.append(threading.current_thread().name)
        self._clock.now += REST_S
        inverse = cv2.resize(1 / self._traced.depth_m, (224, 128), interpolation=cv2.INTER_AREA)
        matte = cv2.resize(self._traced.matte / np.float32(255), (224, 128), interpolation=cv2.INTER_AREA)
        return Depth(
            inverse.astype(np.float32), matte, np.ones_like(inverse), subject=1 / surface_m(DISTANCE_M)
        )

    def reset(self):
        pass


@dataclass
class Picture:
    pixels: np.ndarray


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class InTurn:
    """A worker that does its work when it is waited for, so that the clock is read in a fixed order."""

    def __init__(self):
        self._waiting = []

    def submit(self, what):
        done = []
        self._waiting.append(lambda: done.append(what()))

        def result():
            while not done:
                self._waiting.pop(0)()
            return done[0]

        return SimpleNamespace(result=result)

    def finish(self):
        while self._waiting:
            self._waiting.pop(0)()


class Fake:
    """Stands for the student: paints the warped hint, with what it is told to do to it."""

    def __init__(self, clock, step_s=0.0, available_steps=(1, 2)):
        self.size, self.steps, self.available_steps = MODEL, 2, available_steps
        self.clock, self.step_s = clock, step_s
        self.change = lambda pixels: pixels
        self.worker = InTurn()
        self.told: list[str] = []
        self.painted: list[tuple[Pose, int]] = []

    def __call__(self, weights):
        return self

    def see(self, source):
        self.seen = source

    def paint(self, hints, pose, source_lens):
        assert self.seen.shape == hints.warped.shape == (*MODEL[::-1], 3)
        assert (source_lens.width, source_lens.height) == MODEL
        self.clock.now += self.step_s * self.steps
        self.painted.append((pose, self.steps))
        return Picture(self.change(hints.warped.astype(np.float32)))

    def reset(self):
        self.told.append("reset")

    def re_anchor(self):
        self.told.append("re_anchor")


@pytest.fixture(autouse=True)
def quick_warmup(monkeypatch):
    monkeypatch.setattr("engine.engines.mini.MEASURED_FRAMES", 2)


@pytest.fixture(scope="module")
def source(room):
    return room().trace(LENS)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def fake(clock):
    return Fake(clock)


@pytest.fixture
def engine(source, fake, clock):
    return warm(source, fake, clock)


def warm(source, fake, clock, settings=SETTINGS):
    engine = MiniEngine(settings, fake, Truth(source, clock), clock, fake.worker)
    engine.warmup(lambda share, what: None)
    fake.worker.finish()
    fake.painted.clear()
    fake.told.clear()
    return engine


def run(engine, clock, frame, poses, frame_s=FRAME_S):
    made = []
    for pose in poses:
        clock.now += frame_s
        made += engine.step([frame], [pose])
    return made


def psnr(a, b):
    return 10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9))


def by_depth(source, pose):
    return DepthEngine(replace(SETTINGS, name="depth"), Truth(source, Clock())).step([source.colour], [pose])[
        0
    ]


def test_a_camera_at_rest_passes_frames_on_and_the_student_rests(engine, clock, fake, source):
    for rendered in run(engine, clock, source.colour, [IDENTITY] * 3):
        assert rendered.pixels is source.colour and rendered.pose == IDENTITY
    assert not fake.painted


class AtOnce:
    """A worker that has always done its work."""

    def submit(self, what):
        done = what()
        return SimpleNamespace(result=lambda: done)


@pytest.mark.parametrize(
    ("pose", "order"),
    [
        (TRUCK, ["seen", "depth", "painted"]),
        (Pose.from_angles(pan=0.6), ["depth", "seen", "painted"]),  # only the base tells that it looks past
    ],
)
def test_the_student_sees_a_frame_while_its_depth_is_estimated(source, fake, clock, pose, order):
    truth, done = Truth(source, clock), []
    for actor, name, what in (
        (truth, "estimate", "depth"),
        (fake, "see", "seen"),
        (fake, "paint", "painted"),
    ):
        setattr(actor, name, noting(getattr(actor, name), done, what))
    engine = MiniEngine(SETTINGS, fake, truth, clock, AtOnce())
    engine.warmup(lambda share, what: None)
    done.clear()
    run(engine, clock, source.colour, [pose])
    assert done == order


def noting(act, done, what):
    def noted(*given):
        done.append(what)
        return act(*given)

    return noted


def test_a_picture_is_painted_beside_the_one_that_goes_out_and_corrects_the_next(engine, clock, fake, source):
    fake.change = lambda pixels: pixels + 10
    plain = by_depth(source, TRUCK).pixels
    first = run(engine, clock, source.colour, [TRUCK])[0]
    assert not fake.painted
    np.testing.assert_array_equal(first.pixels, plain)
    run(engine, clock, source.colour, [TRUCK])
    assert [pose for pose, _ in fake.painted] == [TRUCK]
    later = run(engine, clock, source.colour, [TRUCK] * 8)[-1]
    assert later.pixels.mean() - plain.mean() == pytest.approx(10, abs=1.5)


def test_a_painting_of_before_a_rest_corrects_nothing_after_it(engine, clock, fake, source):
    fake.change = lambda pixels: pixels + 10
    run(engine, clock, source.colour, [TRUCK, IDENTITY])
    again = run(engine, clock, source.colour, [TRUCK])[0].pixels.mean()
    assert again == pytest.approx(by_depth(source, TRUCK).pixels.mean(), abs=0.1)


def test_a_turn_that_stays_inside_the_picture_is_left_to_the_compositor(engine, clock, fake, source):
    rendered = run(engine, clock, source.colour, [TURN_IN])[0]
    assert rendered.pixels is source.colour and rendered.pose == IDENTITY
    assert not fake.painted


def test_what_lies_beyond_a_turn_is_painted_and_the_rest_is_exact(engine, clock, fake, source):
    fake.change = lambda pixels: np.full_like(pixels, 200)
    rendered = run(engine, clock, source.colour, [PAN] * 9)[-1]
    assert rendered.pose == PAN
    beyond = (slice(None), slice(SIZE[0] - 20, None))
    assert np.abs(rendered.pixels[beyond].astype(int) - 200).mean() < 5
    homography = LENS.matrix() @ PAN.matrix().T @ LENS.inverse()
    turned = cv2.warpPerspective(source.colour, homography, SIZE)
    inside = (slice(8, -8), slice(8, SIZE[0] - 60))
    assert psnr(rendered.pixels[inside], turned[inside]) > 40


def test_a_travelling_camera_shows_what_was_seen_as_it_is_and_the_rest_in_the_students_colours(
    engine, clock, fake, source
):
    fake.change = lambda pixels: pixels + np.float32([4, 0, -4])
    rendered = run(engine, clock, source.colour, [TRUCK] * 14)[-1]
    plain = by_depth(source, TRUCK)
    assert rendered.pose == plain.pose == fake.painted[-1][0]
    difference = rendered.pixels.astype(float) - plain.pixels
    changed = difference[..., 0] - difference[..., 2] > 5
    assert 0.02 < changed.mean() < 0.5
    np.testing.assert_allclose(difference[changed].mean(axis=0), [4, 0, -4], atol=1.2)


def test_at_the_models_size_the_students_picture_goes_out(room, fake, clock):
    small = room().trace(LENS.scaled(*MODEL))
    engine = warm(small, fake, clock, replace(SETTINGS, size=MODEL))
    fake.change = lambda pixels: np.full_like(pixels, 77)
    # what is painted corrects the next base, which is hardly another one
    off = run(engine, clock, small.colour, [TRUCK] * 8)[-1].pixels.astype(int) - 77
    assert (off == 0).mean() > 0.9
    assert np.abs(off).mean() < 0.5


def test_a_move_begins_and_ends_without_a_jump(engine, clock, fake, source):
    fake.change = lambda pixels: pixels + 12
    way = [0.003 * k for k in range(20)]
    poses = [Pose(translation=(x, 0.0, 0.0)) for x in (*way, *reversed(way))]
    means = [rendered.pixels.mean() for rendered in run(engine, clock, source.colour, poses)]
    assert max(means) > means[0] + 6
    assert np.abs(np.diff(means)).max() < 1.5


def test_after_a_rest_the_student_begins_anew(engine, clock, fake, source):
    run(engine, clock, source.colour, [TRUCK] * 3 + [IDENTITY] * 20)
    fake.told.clear()
    run(engine, clock, source.colour, [TRUCK] * 2)
    assert fake.told == ["reset"]


def test_a_clip_that_is_painted_slowly_is_no_rest_by_its_own_clock(source, clock, fake):
    frame_clock = itertools.count(0.0, FRAME_S).__next__
    engine = MiniEngine(SETTINGS, fake, Truth(source, clock), clock, fake.worker, frame_clock)
    engine.warmup(lambda share, what: None)
    run(engine, clock, source.colour, [TRUCK] * 2)
    fake.told.clear()
    run(engine, clock, source.colour, [TRUCK] * 2, frame_s=10.0)
    assert fake.told == []


def test_after_a_cut_the_student_begins_anew(engine, clock, fake, source):
    run(engine, clock, source.colour, [TRUCK] * 3)
    fake.told.clear()
    run(engine, clock, cv2.flip(255 - source.colour, 0), [TRUCK])
    fake.worker.finish()
    assert "reset" in fake.told


@pytest.mark.parametrize("error", [WeightsError("no such file: mini.onnx"), EngineError("broken")])
def test_without_weights_it_is_engine_depth_and_says_so_once(error, source, clock, caplog):
    def missing(path):
        raise error

    with caplog.at_level(logging.WARNING):
        engine = MiniEngine(SETTINGS, missing, Truth(source, clock), clock)
        engine.warmup(lambda share, what: None)
        made = run(engine, clock, source.colour, [TRUCK, IDENTITY, PAN])
    np.testing.assert_array_equal(made[0].pixels, by_depth(source, TRUCK).pixels)
    assert all(one.pixels is source.colour for one in made[1:])
    assert len(caplog.records) == 1
    assert engine.report().level == f"depth only: {error}"


def test_a_student_that_fails_on_air_fades_out_to_engine_depth(engine, clock, fake, source, caplog):
    fake.change = lambda pixels: pixels + 10
    before = run(engine, clock, source.colour, [TRUCK] * 12)[-1].pixels

    def fail(*_):
        raise EngineError("the network gave up")

    fake.paint = fail
    with caplog.at_level(logging.WARNING):
        after = [rendered.pixels for rendered in run(engine, clock, source.colour, [TRUCK] * 12)]
    steps = np.abs(np.diff([before.mean(), *(one.mean() for one in after)]))
    assert steps.max() < 0.45 * steps.sum()
    assert psnr(after[-1], by_depth(source, TRUCK).pixels) > 45
    assert [record.message for record in caplog.records].count(caplog.records[0].message) == 1
    assert "gave up" in engine.report().level


def test_without_depth_it_is_the_planar_engine(fake, clock, source, caplog):
    def missing(width, height):
        raise WeightsError("no depth network")

    engine = MiniEngine(SETTINGS, fake, missing, clock)
    engine.warmup(lambda share, what: None)
    rendered = run(engine, clock, source.colour, [TRUCK])[0]
    assert rendered.pixels is source.colour and rendered.pose == IDENTITY
    assert "no depth network" in engine.report().level


def test_it_begins_with_the_steps_that_the_machine_can_afford(source, clock):
    fake = Fake(clock, step_s=0.02, available_steps=(1, 2, 4))
    engine = warm(source, fake, clock)
    assert engine.report().level == "student at 2 steps: the machine is busy"
    run(engine, clock, source.colour, [TRUCK] * 3)
    assert {steps for _, steps in fake.painted} == {2}


def test_a_machine_that_gets_busy_costs_steps_then_frames_then_the_student(source, clock):
    fake = Fake(clock, step_s=0.02)
    engine = warm(source, fake, clock)
    levels = [engine.report().level]
    for step_s in (0.04, 0.07, 0.15):
        fake.step_s = step_s
        run(engine, clock, source.colour, [TRUCK] * 14, frame_s=0.2)
        levels.append(engine.report().level)
    fake.painted.clear()
    run(engine, clock, source.colour, [TRUCK] * 6)
    assert levels == [
        "student at 2 steps",
        "student at 1 step: the machine is busy",
        "student at 1 step every second frame: the machine is busy",
        "depth only: the machine is busy",
    ]
    assert not fake.painted


def test_on_every_second_frame_the_last_correction_is_held(source, clock):
    fake = Fake(clock, step_s=0.08)
    engine = warm(source, fake, clock)
    assert "every second frame" in engine.report().level
    fake.change = lambda pixels: pixels + 10
    made = run(engine, clock, source.colour, [TRUCK] * 13)
    fake.worker.finish()
    assert len(fake.painted) == 7
    plain = by_depth(source, TRUCK).pixels.mean()
    assert all(one.pixels.mean() - plain == pytest.approx(10, abs=1.5) for one in made[-4:])


def test_a_drift_is_remedied_without_a_jump_and_shows_in_the_report(engine, clock, fake, source, caplog):
    drift = 0.0

    def drifting(pixels):
        nonlocal drift
        drift = 0.0 if fake.told and fake.told[-1] == "re_anchor" else drift + 1.0
        return pixels + drift

    fake.change = drifting
    with caplog.at_level(logging.WARNING):
        made = run(engine, clock, source.colour, [TRUCK] * 36)
    assert fake.told.count("re_anchor") == 1
    assert "colours have wandered" in caplog.text
    means = np.array([one.pixels.mean() for one in made[8:]])
    drifted = means.max() - means[-1]
    assert drifted > 10  # and is back
    assert np.abs(np.diff(means)).max() < 0.45 * drifted
    health = engine.report().health
    assert health["re_anchors"] == 1
    assert health["colour"] < 2


def test_a_drift_that_nothing_helps_makes_the_student_rest(engine, clock, fake, source):
    fake.change = lambda pixels: pixels + 40
    run(engine, clock, source.colour, [TRUCK] * 32, frame_s=0.3)
    assert fake.told.count("re_anchor") == 1
    assert "its picture went wrong" in engine.report().level
    fake.change = lambda pixels: pixels
    clock.now += 30
    run(engine, clock, source.colour, [TRUCK] * 3)
    assert engine.report().level == "student at 2 steps"


def test_the_following_frames_depth_is_estimated_beside_the_drawing(source, clock, fake):
    truth = Truth(source, clock)
    engine = MiniEngine(SETTINGS, fake, truth, clock, fake.worker)
    engine.warmup(lambda share, what: None)
    truth.threads.clear()
    frames = [source.colour.copy() for _ in range(4)]
    for number, frame in enumerate(frames):
        engine.step([frame], [TRUCK], lambda number=number: frames[number + 1 : number + 2])
    assert [name.startswith("depth") for name in truth.threads] == [False, True, True, True]


def test_a_picture_that_is_not_made_of_numbers_never_goes_out(engine, clock, fake, source):
    run(engine, clock, source.colour, [TRUCK] * 4)
    fake.told.clear()
    fake.change = lambda pixels: np.full_like(pixels, np.nan)
    for rendered in run(engine, clock, source.colour, [TRUCK] * 8):
        assert psnr(rendered.pixels, by_depth(source, TRUCK).pixels) > 40
    assert fake.told[:2] == ["re_anchor", "reset"]
    assert "its picture went wrong" in engine.report().level


def test_weights_that_are_not_exported_need_torch_and_say_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "engine.diffusion.export", raising=False)
    with pytest.raises(EngineError, match=r"mini.safetensors is not .* package torch: .* setup"):
        open_student("mini.safetensors")


def test_the_mini_is_the_student_that_is_built_and_needs_no_torch():
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from engine.engines.base import EngineSettings\n"
        "from plugin.engine_process import build_engine\n"
        "engine = build_engine(EngineSettings(name='student', size=(224, 128), horizontal_fov=1.0,"
        " subject_distance_m=2.5, weights='nowhere.onnx'))\n"
        "engine.warmup(lambda share, what: None)\n"
        "print(type(engine).__name__, engine.report().level)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("MiniEngine depth only:"), done.stderr
    assert "nowhere.onnx" in done.stdout
