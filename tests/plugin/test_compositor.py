from fractions import Fraction

import cv2
import numpy as np
import pytest

from engine.camera.geometry import IDENTITY, Intrinsics, Pose, plane_homography
from engine.frames import RGB, Frame, Pixels
from plugin.colour import nv12_to_rgb, to_nv12
from plugin.compositor import FADE_S, Compositor, Layer
from plugin.config import CameraConfig, PictureConfig
from plugin.control.switcher import Mode, View
from plugin.ladder import HOLD_S, SLATE_AFTER_S, STALE_AFTER_S, Rung
from plugin.shared_frames import SharedPicture
from plugin.sinks.base import OutputFormat

OUTPUT = OutputFormat(640, 360, Fraction(30))
LIVE = View(IDENTITY, Mode.LIVE)
DISTANCE_M = 2.5


def scene(seed: int = 0, width: int = 640, height: int = 360) -> Pixels:
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.random((height, width, 3), np.float32), (0, 0), 8)
    return cv2.normalize(noise, None, 40, 220, cv2.NORM_MINMAX).astype(np.uint8)


class Show:
    """A compositor with its inputs, on a clock that the test winds."""

    def __init__(self, **picture: object) -> None:
        self.compositor = Compositor(OUTPUT, CameraConfig(), PictureConfig(**picture))  # type: ignore[arg-type]
        self.now = 100.0
        self.number = 0

    def source(self, pixels: Pixels) -> None:
        self.number += 1
        self.compositor.set_source(Frame(pixels, self.number, Fraction(1, 30), RGB, self.now))

    def engine(self, pixels: Pixels, pose: Pose = IDENTITY) -> None:
        self.compositor.set_engine_picture(SharedPicture(self.number, pixels, pose, self.now))

    def compose(self, view: View = LIVE) -> Pixels:
        return nv12_to_rgb(self.compositor.compose(view, 1 / 30, self.now))

    def run(
        self, seconds: float, view: View = LIVE, *, source: Pixels | None, engine: Pixels | None
    ) -> Pixels:
        picture = self.compose(view)
        for _ in range(round(seconds * 30)):
            self.now += 1 / 30
            if source is not None:
                self.source(source)
            if engine is not None:
                self.engine(engine)
            picture = self.compose(view)
        return picture


def close(a: Pixels, b: Pixels, tolerance: float = 2.0) -> bool:
    return float(np.abs(a.astype(int) - b.astype(int)).mean()) < tolerance


@pytest.fixture
def show() -> Show:
    show = Show()
    show.run(2.0, source=scene(1), engine=scene(1))
    assert show.compositor.rung is Rung.ENGINE
    return show


def test_before_the_first_picture_the_slate_is_on_air() -> None:
    show = Show(slate_colour="#204060")
    assert close(show.compose()[:20, :20], np.full((20, 20, 3), (0x20, 0x40, 0x60), np.uint8))


def test_the_engines_picture_is_reprojected_from_the_pose_it_shows_to_the_one_wanted(show: Show) -> None:
    """A frame rendered for a pan is shown unmoved at that pan, and moved back at the identity."""
    pose = Pose.from_angles(pan=np.radians(4), zoom=1.3)
    rendered = scene(5)
    show.source(scene(5))
    show.engine(rendered, pose)
    assert close(show.compose(View(pose, Mode.LIVE)), nv12_to_rgb(to_nv12(rendered)), 1.0)
    lens = Intrinsics.from_horizontal_fov(640, 360, np.radians(60))
    back = np.linalg.inv(plane_homography(lens, lens, pose, DISTANCE_M))
    expected = cv2.warpPerspective(rendered, back, (640, 360))
    inside = cv2.warpPerspective(np.ones((360, 640), np.uint8), back, (640, 360)) == 1
    inside = cv2.erode(inside.astype(np.uint8), np.ones((61, 61))) == 1
    assert close(show.compose(LIVE)[inside], expected[inside])


def test_a_dead_engine_is_held_then_replaced_by_the_clean_feed_with_the_move_going_on(show: Show) -> None:
    moved = View(Pose.from_angles(pan=np.radians(5)), Mode.LIVE)
    show.run(STALE_AFTER_S + HOLD_S / 2, moved, source=scene(2), engine=None)
    assert show.compositor.rung is Rung.HOLD
    held = show.compose(moved)
    show.run(HOLD_S + FADE_S, moved, source=scene(2), engine=None)
    assert show.compositor.rung is Rung.CLEAN
    clean = show.compose(moved)
    reference = Show()
    reference.run(2.0, moved, source=scene(1), engine=scene(1))
    assert close(held, reference.compose(moved))
    reference.run(2.0, moved, source=scene(2), engine=scene(2))
    assert close(clean, reference.compose(moved))


@pytest.mark.parametrize("gap_s", [0.8, 1.5, 2.5])
def test_a_source_that_pauses_takes_no_engine_off_the_air(show: Show, gap_s: float) -> None:
    """What the engine owes counts from the first frame after its picture, not from that picture on."""
    show.run(gap_s, source=None, engine=None)
    for _ in range(15):
        show.now += 1 / 30
        show.source(scene(1))
        assert show.compose() is not None
        assert show.compositor.rung is Rung.ENGINE
        show.engine(scene(1))


def test_a_slow_engine_that_looks_ahead_stays_on_the_air() -> None:
    """It takes a frame at the beginning of the step before its own: on air, it is up to three steps old."""
    show = Show()
    step_s, taken, rungs = 0.25, 0.0, set()
    show.run(1.0, source=scene(1), engine=scene(1))
    ahead = begun = show.now
    for _ in range(30 * 6):
        show.now += 1 / 30
        show.source(scene(1))
        if show.now - begun >= step_s:
            shown, ahead, begun = ahead, show.now, show.now
            show.compositor.set_engine_picture(SharedPicture(show.number, scene(1), IDENTITY, taken or shown))
            taken = shown
        show.compositor.compose(LIVE, step_s, show.now)
        rungs.add(show.compositor.rung)
    assert rungs == {Rung.ENGINE}


def test_the_change_of_a_layer_is_a_crossfade(show: Show) -> None:
    """No step between two output frames is larger than a fade's share of the whole change."""
    show.run(0.2, source=scene(2), engine=None)
    before, steps = show.compose().astype(int), []
    start = before
    for _ in range(60):
        show.now += 1 / 30
        show.source(scene(2))
        after = show.compose().astype(int)
        steps.append(np.abs(after - before).mean())
        before = after
    whole = np.abs(before - start).mean()
    assert whole > 10
    assert max(steps) < whole / (FADE_S * 30) * 1.5


def test_a_source_that_vanishes_ends_on_the_slate_and_never_in_black(show: Show) -> None:
    for _ in range(round((SLATE_AFTER_S + 1) * 30)):
        show.now += 1 / 30
        assert show.compose().max(axis=2).min() > 20
    assert show.compositor.shown is Layer.SLATE
    show.run(2.0, source=scene(3), engine=scene(3))
    assert show.compositor.shown is Layer.ENGINE


def test_bypass_shows_the_source_unmoved(show: Show) -> None:
    bypass = View(Pose.from_angles(pan=0.2), Mode.BYPASS)
    picture = show.run(1.0, bypass, source=scene(2), engine=scene(4))
    assert close(picture, nv12_to_rgb(to_nv12(scene(2))), 0.5)


def test_panic_is_a_cut(show: Show) -> None:
    show.source(scene(2))
    show.engine(scene(4))
    show.now += 1 / 30
    picture = show.compose(View(IDENTITY, Mode.PANIC))
    assert close(picture, nv12_to_rgb(to_nv12(scene(2))), 0.5)


def test_freeze_keeps_what_was_on_air(show: Show) -> None:
    before = show.compose()
    frozen = View(IDENTITY, Mode.FREEZE)
    np.testing.assert_array_equal(show.run(1.0, frozen, source=scene(2), engine=scene(2)), before)


def test_the_operators_slate_shows_while_the_feed_is_fine(show: Show) -> None:
    show.run(1.0, View(IDENTITY, Mode.SLATE), source=scene(2), engine=scene(2))
    assert show.compositor.shown is Layer.SLATE


@pytest.mark.parametrize("size", [(641, 361), (320, 240), (1920, 1080), (480, 854)])
def test_a_source_of_any_size_and_shape_fills_the_output(size: tuple[int, int]) -> None:
    show = Show(slate_colour="#000000")
    white = np.full((size[1], size[0], 3), 200, np.uint8)
    picture = show.run(2.0, source=white, engine=white)
    assert picture.min() > 190


def test_a_source_that_changes_its_shape_does_not_squeeze_the_engines_last_picture(show: Show) -> None:
    before = show.compose()
    show.now += 1 / 30
    show.source(scene(1, width=480))
    assert close(show.compose(), before, 0.5)


def test_overscan_keeps_small_moves_inside_the_picture() -> None:
    """With an overscan a small pan shows no border at all; without one it does."""
    pan = View(Pose.from_angles(pan=np.radians(1.5)), Mode.LIVE)
    white = np.full((360, 640, 3), 200, np.uint8)
    with_border = Show(border="colour", slate_colour="#000000").run(2.0, pan, source=white, engine=white)
    inside = Show(border="colour", slate_colour="#000000", overscan=0.1).run(
        2.0, pan, source=white, engine=white
    )
    assert with_border.min() < 50
    assert inside.min() > 190


def test_a_picture_handed_out_is_never_written_again(show: Show) -> None:
    first = show.compositor.compose(LIVE, 1 / 30, show.now)
    kept = first.copy()
    show.run(1.0, View(Pose.from_angles(pan=0.1), Mode.LIVE), source=scene(7), engine=scene(8))
    np.testing.assert_array_equal(first, kept)
