from itertools import product

import cv2
import numpy as np
import pytest

from engine.camera.geometry import Intrinsics, Pose, plane_homography
from plugin import warp
from plugin.warp import Colour, Picture, Reprojector

LENS = Intrinsics.from_horizontal_fov(640, 360, np.radians(60))
MIRROR = None


def textured(width: int = 640, height: int = 360, seed: int = 0) -> Picture:
    """Smooth enough to be resampled, with no black anywhere."""
    rng = np.random.default_rng(seed)
    picture = Picture.blank(width, height)
    for plane in (picture.luma, picture.chroma):
        noise = cv2.GaussianBlur(rng.random(plane.shape, np.float32), (0, 0), 6)
        plane[:] = cv2.normalize(noise, None, 60, 200, cv2.NORM_MINMAX).astype(np.uint8)
    return picture


def seen(
    picture: Picture, pose: Pose, border: Colour | None = MIRROR, size: tuple[int, int] = (640, 360)
) -> Picture:
    out = Picture.blank(*size)
    out.nv12[:] = 0
    lens = LENS.scaled(*size)
    source_lens = LENS.scaled(picture.width, picture.height)
    Reprojector(*size, border).draw(picture, plane_homography(source_lens, lens, pose, 2.5), out)
    return out


def test_the_identity_is_exact() -> None:
    picture = textured()
    np.testing.assert_array_equal(seen(picture, Pose()).nv12, picture.nv12)


@pytest.mark.parametrize(
    "pose",
    [
        Pose.from_angles(pan=0.05, zoom=1.6),
        Pose.from_angles(tilt=-0.04, roll=0.1, zoom=1.8),
        Pose.from_angles(pan=0.1, translation=(0.2, 0.0, 0.9), zoom=1.3),
    ],
)
def test_inside_the_picture_every_sample_is_where_the_homography_says(pose: Pose) -> None:
    """Against plain sampling, pixel by pixel in floating point, with chroma sited in the middle."""
    picture = textured()
    out = seen(picture, pose)
    inverse = np.linalg.inv(plane_homography(LENS, LENS, pose, 2.5))
    planes = [(picture.luma, out.luma, 1)]
    planes += [(picture.chroma[..., i], out.chroma[..., i], 2) for i in range(2)]
    for plane, result, step in planes:
        y, x = np.mgrid[0 : result.shape[0], 0 : result.shape[1]].astype(float) * step + (step - 1) / 2
        u, v, w = np.tensordot(inverse, np.stack([x, y, np.ones_like(x)]), 1)
        u, v = (u / w - (step - 1) / 2) / step, (v / w - (step - 1) / 2) / step
        u0, v0 = np.floor(u).astype(int), np.floor(v).astype(int)
        fu, fv = u - u0, v - v0
        at = plane.astype(float)
        expected = (
            at[v0, u0] * (1 - fu) * (1 - fv)
            + at[v0, u0 + 1] * fu * (1 - fv)
            + at[v0 + 1, u0] * (1 - fu) * fv
            + at[v0 + 1, u0 + 1] * fu * fv
        )
        assert np.abs(result - expected).max() <= 2


@pytest.mark.parametrize("pan_deg", [3, 20, 45, 75])
@pytest.mark.parametrize("zoom", [0.5, 1.0, 1.7])
def test_nothing_is_black_however_far_the_move_looks_past_the_picture(pan_deg: float, zoom: float) -> None:
    pose = Pose.from_angles(pan=np.radians(pan_deg), tilt=0.3, roll=0.4, zoom=zoom)
    out = seen(textured(), pose)
    assert out.luma.min() >= 50
    assert out.chroma.min() >= 50


def test_the_border_can_be_a_colour() -> None:
    out = seen(textured(), Pose.from_angles(zoom=0.5), (77, 100, 150))
    assert (out.luma[:60] == 77).all()
    np.testing.assert_array_equal(out.chroma[2, 2], (100, 150))


def test_the_border_grows_out_of_nothing() -> None:
    """Small steps of a pan change the picture by small amounts, also when the edge comes in sight."""
    picture = textured()
    before = seen(picture, Pose()).luma.astype(float)
    for pan_deg in np.linspace(0.01, 0.4, 14):
        after = seen(picture, Pose.from_angles(pan=np.radians(pan_deg))).luma.astype(float)
        assert np.abs(after - before).mean() < 1.0
        before = after


def test_a_wide_view_of_fine_lines_does_not_shimmer() -> None:
    """Lines finer than the output's pixels average out instead of beating with them."""
    picture = Picture.blank(1280, 720)
    picture.nv12[:] = 128
    picture.luma[:, ::2] = 60
    out = seen(picture, Pose(), size=(640, 360))
    assert np.ptp(out.luma[20:-20, 20:-20]) <= 4


def test_the_middle_is_untouched_by_a_soft_border() -> None:
    picture = textured()
    pose = Pose.from_angles(pan=np.radians(6))
    with_mirror = seen(picture, pose).luma[100:260, 100:440]
    with_colour = seen(picture, pose, (16, 128, 128)).luma[100:260, 100:440]
    np.testing.assert_array_equal(with_mirror, with_colour)


@pytest.mark.parametrize("size", [(640, 360), (854, 480), (650, 366)])
@pytest.mark.parametrize(
    "pose",
    [
        Pose.from_angles(pan=0.03),
        Pose.from_angles(roll=0.2, zoom=0.9),
        Pose.from_angles(pan=-0.4, tilt=0.1),
        Pose.from_angles(zoom=0.6),
    ],
)
@pytest.mark.parametrize("border", [MIRROR, (77, 100, 150)])
def test_a_border_drawn_only_where_it_is_seen_is_the_border_drawn_everywhere(
    pose: Pose, size: tuple[int, int], border: Colour | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = textured()
    where_seen = seen(picture, pose, border, size).nv12
    monkeypatch.setattr(warp, "_largest_window", lambda full: (slice(0, 0), slice(0, 0)))
    np.testing.assert_array_equal(where_seen, seen(picture, pose, border, size).nv12)


@pytest.mark.parametrize("seed", range(20))
def test_the_window_without_border_is_the_largest_in_a_convex_shape(seed: int) -> None:
    """Against every window there is, in a shape cut out by four lines."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:10, 0:14]
    full = np.ones((10, 14), bool)
    for angle in rng.uniform(0, 2 * np.pi, 4):
        full &= (x - 7) * np.cos(angle) + (y - 5) * np.sin(angle) < rng.uniform(-1, 6)
    every = product(range(10), range(1, 11), range(14), range(1, 15))
    windows = [full[top:bottom, left:right] for top, bottom, left, right in every]
    found = full[warp._largest_window(full)]
    assert found.all()
    assert found.size == max(window.size for window in windows if window.all())
