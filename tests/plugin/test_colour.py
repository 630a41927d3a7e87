"""The conversions against exact arithmetic, and against swscale with every setting spelt out."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import av
import numpy as np
import pytest
from av.filter import Graph
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from numpy.typing import NDArray

from engine.frames import BT709_LIMITED, RGB, Colour, Pixels
from plugin.colour import colour_of, nv12_to_rgb, packed_to_rgb, split_nv12, to_nv12, to_rgb

Floats = NDArray[np.float64]

KR_KB = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
TAG = {"bt601": 6, "bt709": 1, "bt2020": 9}
BAR_COLOURS = list(product((0, 191, 255), repeat=3))
COLOURS = [Colour(m, f) for m in ("bt601", "bt709", "bt2020") for f in (False, True)]  # type: ignore[arg-type]


def random_picture(width: int, height: int, seed: int = 1) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def bars(width: int = 216, height: int = 64) -> Pixels:
    row = np.repeat(np.array(BAR_COLOURS, np.uint8), width // len(BAR_COLOURS), axis=0)
    return np.ascontiguousarray(np.broadcast_to(row, (height, *row.shape)))


def yuv_reference(rgb: NDArray[np.uint8] | Floats, colour: Colour) -> Floats:
    """The textbook, per pixel, unrounded."""
    kr, kb = KR_KB[colour.matrix]
    r, g, b = np.moveaxis(rgb.astype(np.float64) / 255, -1, 0)
    y = kr * r + (1 - kr - kb) * g + kb * b
    pb, pr = (b - y) / (2 * (1 - kb)), (r - y) / (2 * (1 - kr))
    if colour.full_range:
        return np.stack([255 * y, 255 * pb + 128, 255 * pr + 128], -1)
    return np.stack([219 * y + 16, 224 * pb + 128, 224 * pr + 128], -1)


def rgb_reference(yuv: NDArray[np.uint8], colour: Colour) -> Floats:
    kr, kb = KR_KB[colour.matrix]
    black, luma, chroma = (0, 255, 255) if colour.full_range else (16, 219, 224)
    codes = yuv.astype(np.float64)
    y, pb, pr = (codes[..., 0] - black) / luma, (codes[..., 1] - 128) / chroma, (codes[..., 2] - 128) / chroma
    r, b = y + 2 * (1 - kr) * pr, y + 2 * (1 - kb) * pb
    g = (y - kr * r - kb * b) / (1 - kr - kb)
    return np.clip(np.stack([r, g, b], -1) * 255, 0, 255)


def nv12_reference(rgb: Pixels) -> Floats:
    height, width = rgb.shape[:2]
    small = rgb.astype(np.float64).reshape(height // 2, 2, width // 2, 2, 3).mean((1, 3))
    chroma = yuv_reference(small, BT709_LIMITED)[..., 1:].reshape(height // 2, width)
    return np.vstack([yuv_reference(rgb, BT709_LIMITED)[..., 0], chroma])


def yuv444(height: int, width: int) -> NDArray[np.uint8]:
    """Codes of real colours (random YUV is mostly outside the cube and clips)."""
    return np.round(yuv_reference(random_picture(width, height), Colour("bt709", False))).astype(np.uint8)


def frame_of(yuv: NDArray[np.uint8], name: str, colour: Colour | None) -> av.VideoFrame:
    """A frame whose planes are ``yuv``'s, chroma taken at the first pixel of each group."""
    height, width = yuv.shape[:2]
    frame = av.VideoFrame(width, height, name)
    down = 2 if "420" in name else 1
    across = 1 if "444" in name else 2
    for plane, channel in zip(frame.planes, range(3), strict=True):
        part = yuv[..., channel] if channel == 0 else yuv[::down, ::across, channel]
        wide = np.zeros((plane.height, plane.line_size), np.uint8)
        wide[:, : part.shape[1]] = part
        plane.update(wide)
    if colour is not None:
        frame.colorspace, frame.color_range = TAG[colour.matrix], 2 if colour.full_range else 1
    return frame


def repeated_chroma(yuv: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    height, width = yuv.shape[:2]
    rows = np.arange(height) // 2 * 2 if "420" in name else np.arange(height)
    columns = np.arange(width) if "444" in name else np.arange(width) // 2 * 2
    chroma = yuv[rows][:, columns, 1:]
    return np.concatenate([yuv[..., :1], chroma], -1)


@pytest.mark.parametrize("picture", [bars(), random_picture(322, 178)], ids=["bars", "random"])
def test_out_is_within_one_code_value_of_exact_arithmetic(picture: Pixels) -> None:
    assert np.abs(to_nv12(picture) - nv12_reference(picture)).max() <= 1


def test_out_agrees_with_swscale_told_everything() -> None:
    picture = random_picture(320, 180)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
        format="nv12",
        src_colorspace=Colorspace.ITU709,
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        interpolation=Interpolation.AREA,
    )
    assert np.abs(to_nv12(picture).astype(int) - frame.to_ndarray()).max() <= 1


@pytest.mark.parametrize("name", ["yuv420p", "yuv422p", "yuv444p"])
@pytest.mark.parametrize("colour", COLOURS, ids=str)
@pytest.mark.parametrize("size", [(64, 48), (63, 47)], ids=["even", "odd"])
def test_in_is_within_one_code_value_of_exact_arithmetic(
    name: str, colour: Colour, size: tuple[int, int]
) -> None:
    yuv = yuv444(size[1], size[0])
    expected = rgb_reference(repeated_chroma(yuv, name), colour)
    assert np.abs(to_rgb(frame_of(yuv, name, colour)) - expected).max() <= 1


# The samples of one macropixel, plane by plane, and how far eight bits are shifted up.
LAYOUTS = {
    "nv12": (("y", "uv"), 0),
    "yuyv422": (("yuyv",), 0),
    "uyvy422": (("uyvy",), 0),
    "yuv410p": (("y", "u", "v"), 0),
    "yuv420p10le": (("y", "u", "v"), 2),
    "yuv422p10le": (("y", "u", "v"), 2),
    "yuv444p12le": (("y", "u", "v"), 4),
    "p010le": (("y", "uv"), 8),
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("colour", COLOURS, ids=str)
def test_every_format_gives_the_same_picture(name: str, colour: Colour) -> None:
    codes = np.round(yuv_reference(np.array([[[180, 60, 90]]], np.uint8), colour))[0, 0].astype(int)
    layout, shift = LAYOUTS[name]
    frame = av.VideoFrame(64, 48, name)
    for plane, samples in zip(frame.planes, layout, strict=True):
        macropixel = np.array(
            [codes["yuv".index(s)] << shift for s in samples], np.uint16 if shift else np.uint8
        )
        plane.update(np.tile(macropixel, plane.buffer_size // macropixel.nbytes))
    frame.colorspace, frame.color_range = TAG[colour.matrix], 2 if colour.full_range else 1
    expected = rgb_reference(codes[None, None].astype(np.uint8), colour)
    assert np.abs(to_rgb(frame) - expected).max() <= 1.5  # swscale dithers what it shortens


def test_in_agrees_with_swscale_told_everything() -> None:
    frame = av.VideoFrame.from_ndarray(to_nv12(random_picture(320, 180)), format="nv12")
    expected = frame.reformat(
        format="rgb24",
        src_colorspace=Colorspace.ITU709,
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=0x10 | 0x2000 | 0x40000,  # point, chroma at full size, accurate rounding
    ).to_ndarray()
    assert np.abs(to_rgb(frame, BT709_LIMITED).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("name", ["rgb24", "bgr24", "rgba", "bgra", "gbrp"])
def test_rgb_formats_pass_unchanged_at_odd_sizes(name: str) -> None:
    picture = random_picture(37, 21)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=name)
    assert np.array_equal(to_rgb(frame), picture)


def test_grey_pictures_are_full_range() -> None:
    levels = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
    rgb = to_rgb(av.VideoFrame.from_ndarray(levels, format="gray"))
    assert np.array_equal(rgb, np.repeat(levels[..., None], 3, -1))


@pytest.mark.parametrize("name", ["yuv420p", "yuv422p", "yuv444p"])
def test_a_bottom_up_picture_is_the_right_way_up(name: str) -> None:
    yuv = yuv444(16, 32)
    frame = frame_of(yuv, name, BT709_LIMITED)
    frame.pts, frame.time_base = 0, Fraction(1, 30)
    graph = Graph()
    source = graph.add_buffer(width=32, height=16, format=frame.format, time_base=frame.time_base)
    flip, sink = graph.add("vflip"), graph.add("buffersink")
    source.link_to(flip)
    flip.link_to(sink)
    graph.configure()
    graph.push(frame)
    flipped = graph.pull()
    assert isinstance(flipped, av.VideoFrame)
    assert flipped.planes[0].line_size < 0
    difference = to_rgb(flipped, BT709_LIMITED).astype(int) - to_rgb(frame)[::-1]
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize(
    ("width", "height", "name", "expected"),
    [
        (720, 576, "yuv420p", Colour("bt601", False)),
        (1024, 576, "yuv420p", Colour("bt601", False)),
        (1280, 544, "yuv420p", Colour("bt709", False)),
        (1280, 720, "yuv420p", Colour("bt709", False)),
        (1280, 720, "yuvj422p", Colour("bt709", True)),
        (640, 480, "bgr24", RGB),
    ],
)
def test_untagged_pictures_are_taken_for_the_usual(
    width: int, height: int, name: str, expected: Colour
) -> None:
    assert colour_of(av.VideoFrame(width, height, name)) == expected


def test_a_frames_own_tags_come_before_what_the_source_assumes() -> None:
    frame = av.VideoFrame(64, 64, "yuv420p")
    assert colour_of(frame, BT709_LIMITED) == BT709_LIMITED
    frame.colorspace = TAG["bt2020"]
    assert colour_of(frame, BT709_LIMITED) == Colour("bt2020", False)


def test_grey_stays_grey_both_ways() -> None:
    levels = np.repeat(np.arange(256, dtype=np.uint8), 2)
    grey = np.ascontiguousarray(np.broadcast_to(levels[None, :, None], (4, 512, 3)))
    luma, chroma = split_nv12(to_nv12(grey))
    assert (chroma == 128).all()
    assert (luma[0, 0], luma[0, -1]) == (16, 235)
    back = nv12_to_rgb(to_nv12(grey)).astype(int)
    assert np.ptp(back, axis=-1).max() == 0
    assert np.abs(back - grey).max() <= 1


def test_going_through_twice_changes_nothing_more() -> None:
    smooth = np.repeat(np.repeat(random_picture(160, 90), 2, 0), 2, 1)
    once = nv12_to_rgb(to_nv12(smooth))
    twice = nv12_to_rgb(to_nv12(once))
    assert np.abs(once.astype(int) - smooth).max() <= 3
    assert np.abs(twice.astype(int) - once).max() <= 2


def test_packed_pixels_agree_with_the_frame_of_the_same_bytes() -> None:
    packed = np.random.default_rng(3).integers(16, 235, (10, 24, 2), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(packed, format="yuyv422")
    assert np.array_equal(packed_to_rgb(packed, 0, BT709_LIMITED), to_rgb(frame, BT709_LIMITED))


def test_out_fills_the_array_it_is_given() -> None:
    picture, out = random_picture(64, 48), np.zeros((72, 64), np.uint8)
    assert to_nv12(picture, out) is out
    assert np.array_equal(out, to_nv12(picture))


def test_out_refuses_odd_sides_and_arrays_of_another_shape() -> None:
    with pytest.raises(ValueError, match="63×48"):
        to_nv12(random_picture(63, 48))
    with pytest.raises(ValueError, match=r"\(72, 64\)"):
        to_nv12(random_picture(64, 48), np.zeros((48, 64), np.uint8))
