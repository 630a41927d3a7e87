"""Real files, played on a clock that moves only when the source sleeps."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import SourceError
from engine.frames import BT709_LIMITED, Frame
from plugin.clock import FakeClock, MonotonicClock
from plugin.config import FileSourceConfig
from plugin.sources.base import SourceRunner
from plugin.sources.file import FileSource
from plugin.worker import Backoff

START = 1000.0
WriteClip = Callable[..., Path]


def opened(path: Path, clock: FakeClock, loop: bool = True) -> FileSource:
    source = FileSource(FileSourceConfig(kind="file", path=path, loop=loop), clock)
    source.open()
    return source


def played(path: Path, count: int, **settings: Any) -> list[Frame]:
    source = opened(path, FakeClock(START), **settings)
    try:
        return [frame for _ in range(count) if (frame := source.read(0.5))]
    finally:
        source.close()


def index_of(frame: Frame) -> int:
    return round((float(frame.pixels.mean()) - 20) / 10)


@pytest.mark.parametrize("rate", [Fraction(30), Fraction(30000, 1001), Fraction(25), Fraction(60)])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_pictures_come_in_order_at_the_files_rate(write_clip: WriteClip, rate: Fraction, suffix: str) -> None:
    frames = played(write_clip(f"clip.{suffix}", 10, rate=rate), 10)
    assert [index_of(frame) for frame in frames] == list(range(10))
    expected = [float(index / rate) for index in range(10)]
    assert [frame.arrived_s - START for frame in frames] == pytest.approx(
        expected, abs=1.1e-3
    )  # mkv counts ms


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "h264"])
def test_the_end_joins_the_beginning_without_a_gap(write_clip: WriteClip, suffix: str) -> None:
    options = {"preset": "ultrafast", "crf": "10", "bf": "2"}
    frames = played(write_clip(f"clip.{suffix}", 8, rate=Fraction(25), options=options), 24)
    assert [index_of(frame) for frame in frames] == list(range(8)) * 3
    steps = np.diff([frame.arrived_s for frame in frames])
    assert steps == pytest.approx(np.full(23, 0.04), abs=2e-3)
    media = np.diff([frame.media_time_s for frame in frames])
    assert media == pytest.approx(np.full(23, 0.04), abs=2e-3)


def test_a_variable_rate_is_kept(write_clip: WriteClip) -> None:
    stamps = [0, 40, 50, 250, 290, 700]
    clip = write_clip("vfr.mkv", 6, pts=stamps, time_base=Fraction(1, 1000))
    arrivals = [frame.arrived_s - START for frame in played(clip, 6)]
    assert arrivals == pytest.approx([stamp / 1000 for stamp in stamps], abs=1e-3)


def test_a_file_that_does_not_loop_stays_on_its_last_picture(write_clip: WriteClip) -> None:
    frames = played(write_clip("clip.mp4", 4), 7, loop=False)
    assert [index_of(frame) for frame in frames] == [0, 1, 2, 3, 3, 3, 3]


def test_a_change_of_size_is_followed(write_clip: WriteClip, tmp_path: Path) -> None:
    small = write_clip("small.h264", [np.full((48, 64, 3), 90, np.uint8)] * 3)
    large = write_clip("large.h264", [np.full((96, 128, 3), 90, np.uint8)] * 3)
    both = tmp_path / "both.h264"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    assert [(frame.width, frame.height) for frame in played(both, 6)] == [(64, 48)] * 3 + [(128, 96)] * 3


def test_interlaced_pictures_come_out_without_combs(write_clip: WriteClip) -> None:
    pictures = []
    for index in range(8):
        picture = np.full((64, 96, 3), 40, np.uint8)
        for field in (0, 1):  # a bar that moves between the two fields of a picture
            left = 10 + 8 * index + 4 * field
            picture[field::2, left : left + 8] = 220
        pictures.append(picture)
    woven = {"preset": "ultrafast", "crf": "5", "x264-params": "interlaced=1:tff=1:colormatrix=bt709"}
    frames = played(write_clip("field.ts", pictures, rate=Fraction(25), options=woven), 8, loop=False)
    combs = [np.abs(np.diff(frame.pixels[8:-8, :, 0].astype(int), axis=0)).mean() for frame in frames[1:-1]]
    original = np.abs(np.diff(pictures[3][8:-8, :, 0].astype(int), axis=0)).mean()
    assert max(combs) < original / 4
    assert {frame.colour for frame in frames} == {BT709_LIMITED}  # tags pass through the deinterlacer
    assert np.diff([frame.arrived_s for frame in frames]) == pytest.approx(np.full(7, 0.04), abs=1e-3)


def test_pixels_are_square(write_clip: WriteClip) -> None:
    def widescreen(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(16, 11)

    pictures = [np.full((72, 88, 3), 90, np.uint8)] * 3
    assert {frame.width for frame in played(write_clip("pal.mp4", pictures, prepare=widescreen), 3)} == {128}


def test_a_clip_from_a_phone_stands_upright(write_clip: WriteClip) -> None:
    picture = np.full((48, 64, 3), 30, np.uint8)
    picture[:, :32] = 200

    def on_its_side(stream: Any) -> None:
        if not hasattr(stream, "set_display_rotation"):
            pytest.skip("this PyAV cannot write a rotation")
        stream.set_display_rotation(90)

    frame = played(write_clip("phone.mp4", [picture] * 3, prepare=on_its_side), 1)[0]
    assert (frame.width, frame.height) == (48, 64)
    assert frame.pixels[50].mean() > 150 > 60 > frame.pixels[10].mean()  # left went to the bottom


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("gone.mp4", None, "found nothing"),
        ("text.mp4", b"this is no video at all", "broken"),
        ("empty.mp4", b"", "broken"),
    ],
)
def test_what_cannot_be_played_is_an_error_that_names_it(
    tmp_path: Path, name: str, content: bytes | None, expected: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=f"{name}.*{expected}"):
        opened(tmp_path / name, FakeClock())


def test_a_folder_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="found a folder"):
        opened(tmp_path, FakeClock())


def test_a_file_with_sound_only_is_an_error(tmp_path: Path) -> None:
    import wave

    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(48000)
        sound.writeframes(bytes(9600))
    with pytest.raises(SourceError, match="no video in it, only audio"):
        opened(tmp_path / "sound.wav", FakeClock())


def test_a_file_that_breaks_off_is_played_as_far_as_it_goes(write_clip: WriteClip, tmp_path: Path) -> None:
    whole = write_clip("whole.ts", 20).read_bytes()
    (tmp_path / "cut.ts").write_bytes(whole[: len(whole) * 2 // 3])
    frames = played(tmp_path / "cut.ts", 30)
    assert len(frames) == 30
    assert index_of(frames[0]) == 0


def test_a_file_that_vanishes_is_lost_at_its_next_round_and_found_again(write_clip: WriteClip) -> None:
    clip = write_clip("clip.mp4", 5, rate=Fraction(60))
    hidden = clip.with_name("hidden.mp4")
    clock = MonotonicClock()
    source = FileSource(FileSourceConfig(kind="file", path=clip), clock)
    runner = SourceRunner(source, clock, backoff=Backoff(first_s=0.02, limit_s=0.05))
    runner.start()
    try:
        assert runner.frames.take(2.0)
        clip.rename(hidden)
        deadline = clock.now() + 3
        while runner.status().state != "lost" and clock.now() < deadline:
            runner.frames.take(0.1)
        assert clip.name in runner.status().detail
        hidden.rename(clip)
        while runner.status().state != "live" and clock.now() < deadline:
            runner.frames.take(0.1)
        assert runner.status().state == "live"
        assert runner.status().reconnects >= 1
    finally:
        runner.stop()
