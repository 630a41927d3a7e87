"""Streams with faults, and the pieces of the reader by themselves."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from engine.errors import SourceError
from engine.frames import BT709_LIMITED, Colour, Frame
from plugin.clock import FakeClock
from plugin.sources.pyav import LiveSource, Opening, Reader, Stamps, upright

WriteClip = Callable[..., Path]


def opening(path: Path, **settings: object) -> Opening:
    return Opening(name=path.name, target=str(path), live=False, advice="Do something.", **settings)  # type: ignore[arg-type]


def frames_of(path: Path, **settings: object) -> list[Frame]:
    reader = Reader(opening(path, **settings), FakeClock())
    try:
        return list(iter(reader.next, None))
    finally:
        reader.close()


def test_damaged_packets_are_skipped(write_clip: WriteClip) -> None:
    rng = np.random.default_rng(2)
    noise = [rng.integers(0, 256, (96, 128, 3), dtype=np.uint8) for _ in range(30)]
    clip = write_clip("clip.ts", noise, options={"preset": "ultrafast", "g": "5"})
    data = bytearray(clip.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 20_000] = rng.integers(0, 256, 20_000, dtype=np.uint8).tobytes()
    clip.write_bytes(data)
    assert 10 < len(frames_of(clip)) <= 30


def test_a_stream_of_nothing_but_damage_is_given_up(tmp_path: Path, write_clip: WriteClip) -> None:
    pictures = [np.full((48, 64, 3), index % 200, np.uint8) for index in range(400)]
    clip = write_clip("clip.h264", pictures, options={"preset": "ultrafast", "g": "400"})
    with av.open(str(clip)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    (tmp_path / "headless.h264").write_bytes(b"".join(packets[1:]))
    with pytest.raises(SourceError, match=r"headless|broken"):
        frames_of(tmp_path / "headless.h264")


def test_pictures_without_tags_are_taken_for_what_the_source_says(write_clip: WriteClip) -> None:
    clip = write_clip("clip.mp4", 2)
    assert frames_of(clip)[0].colour == Colour("bt601", False)
    assert frames_of(clip, untagged=BT709_LIMITED)[0].colour == BT709_LIMITED


def test_missing_stamps_follow_the_rate_and_present_ones_are_kept() -> None:
    base = Fraction(1, 1000)
    stamps = Stamps(base, Fraction(25))
    given = [stamps.of(pts, base)[0] for pts in (None, None, 500, None, 560, None)]
    assert given == [0, 40, 500, 540, 560, 600]


def test_a_stamp_without_a_time_base_counts_in_the_streams() -> None:
    assert Stamps(Fraction(1, 90_000), Fraction(30)).of(7, None) == (7, Fraction(1, 90_000))


@pytest.mark.parametrize(
    ("aspect", "turn", "size", "corner"),
    [
        (Fraction(1), 0, (40, 20), (0, 0)),
        (Fraction(2), 0, (80, 20), (0, 0)),
        (Fraction(1), 90, (20, 40), (0, 39)),
        (Fraction(1), -90, (20, 40), (19, 0)),
        (Fraction(1), 180, (40, 20), (39, 19)),
        (Fraction(4, 3), 90, (20, 54), (0, 53)),
    ],
)
def test_pixels_become_square_and_upright(
    aspect: Fraction, turn: int, size: tuple[int, int], corner: tuple[int, int]
) -> None:
    picture = np.zeros((20, 40, 3), np.uint8)
    picture[:4, :4] = 255
    result = upright(picture, aspect, turn)
    assert result.shape[1::-1] == size
    assert result[corner[1], corner[0], 0] == 255


def test_of_several_ways_to_open_the_first_that_works_is_taken(write_clip: WriteClip, tmp_path: Path) -> None:
    missing, there = tmp_path / "missing.mp4", write_clip("there.mp4", 2)
    source = LiveSource([opening(missing), opening(there)], FakeClock())
    source.open()
    assert source.read(0.1)
    source.close()
    with pytest.raises(SourceError, match=r"missing\.mp4: there is no such file"):
        LiveSource([opening(missing), opening(missing)], FakeClock()).open()


def test_closing_twice_is_fine(write_clip: WriteClip) -> None:
    source = LiveSource([opening(write_clip("clip.mp4", 2))], FakeClock())
    source.open()
    source.close()
    source.close()
