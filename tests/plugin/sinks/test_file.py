from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from engine.errors import ConfigError, SinkError
from plugin.colour import to_nv12, to_rgb
from plugin.sinks.base import OutputFormat, OutputFrame
from plugin.sinks.file import FileSink

Picture = Callable[[int], OutputFrame]

COLOURS = [(200, 40, 40), (30, 180, 60), (20, 60, 220), (240, 240, 240), (12, 12, 12)]

RECORD_UNTIL_KILLED = """
import os, signal, sys
from fractions import Fraction
from pathlib import Path
import numpy as np
from plugin.sinks.base import OutputFormat, OutputFrame
from plugin.sinks.file import FileSink

sink = FileSink(Path(sys.argv[1]))
sink.open(OutputFormat(320, 180, Fraction(30)))
for index in range(120):
    nv12 = np.full((270, 320), 128, dtype=np.uint8)
    nv12[:180] = 16 + index
    sink.write(OutputFrame(nv12, index, 0.0))
os.kill(os.getpid(), signal.SIGKILL)
"""


def solid(colour: tuple[int, int, int], index: int, output: OutputFormat) -> OutputFrame:
    rgb = np.empty((output.height, output.width, 3), dtype=np.uint8)
    rgb[:] = colour
    return OutputFrame(to_nv12(rgb), index, due_s=0.0)


def record(path: Path, output: OutputFormat, frames: list[OutputFrame]) -> None:
    sink = FileSink(path)
    sink.open(output)
    for frame in frames:
        sink.write(frame)
    sink.close()


def decode(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def top_level_boxes(path: Path) -> list[bytes]:
    data, boxes, at = path.read_bytes(), [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        boxes.append(data[at + 4 : at + 8])
        at += size if size > 1 else int.from_bytes(data[at + 8 : at + 16], "big")
    return boxes


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_every_picture_comes_back_in_its_colour_and_tagged_bt709_limited(
    tmp_path: Path, output: OutputFormat, suffix: str
) -> None:
    path = tmp_path / "new folder" / f"show{suffix}"
    shown = [COLOURS[index // 6] for index in range(30)]
    record(path, output, [solid(colour, index, output) for index, colour in enumerate(shown)])

    frames = decode(path)
    assert len(frames) == 30
    for frame, colour in zip(frames, shown, strict=True):
        assert (frame.colorspace, frame.color_range) == (Colorspace.ITU709, ColorRange.MPEG)
        centre = to_rgb(frame)[output.height // 2, output.width // 2].astype(int)
        assert np.abs(centre - colour).max() <= 4


@pytest.mark.parametrize("rate", [Fraction(30), Fraction(30000, 1001)])
def test_a_dropped_picture_leaves_the_others_at_their_time(tmp_path: Path, rate: Fraction) -> None:
    output = OutputFormat(320, 180, rate)
    indices = [100, 101, 104, 105]
    record(tmp_path / "show.mp4", output, [solid(COLOURS[0], index, output) for index in indices])
    times = [frame.time for frame in decode(tmp_path / "show.mp4")]
    assert [round((time - times[0]) * float(rate)) for time in times] == [0, 1, 4, 5]


def test_a_recording_that_was_killed_can_be_played(tmp_path: Path) -> None:
    path = tmp_path / "killed.mp4"
    done = subprocess.run([sys.executable, "-c", RECORD_UNTIL_KILLED, str(path)], timeout=60)
    assert done.returncode == -signal.SIGKILL
    frames = decode(path)
    assert len(frames) >= 60  # of 120: the last fragment and what the encoder held are lost
    assert abs(int(frames[50].to_ndarray()[90, 160]) - 66) <= 3


def test_a_recording_that_was_closed_is_a_plain_mp4(tmp_path: Path, output: OutputFormat) -> None:
    record(tmp_path / "show.mp4", output, [solid(COLOURS[0], index, output) for index in range(70)])
    boxes = top_level_boxes(tmp_path / "show.mp4")
    assert b"moov" in boxes
    assert b"moof" not in boxes


def test_an_existing_file_is_overwritten_but_a_lost_recording_goes_on_beside_it(
    tmp_path: Path, output: OutputFormat, picture: Picture
) -> None:
    path = tmp_path / "show.mp4"
    path.write_text("an older show")
    sink = FileSink(path)
    for _ in range(2):
        sink.open(output)
        for index in range(30):
            sink.write(picture(index))
        sink.close()
    assert len(decode(path)) == len(decode(tmp_path / "show-2.mp4")) == 30


@pytest.mark.parametrize("pictures", [0, 5])
def test_a_part_of_less_than_a_second_is_written_over(
    tmp_path: Path, output: OutputFormat, picture: Picture, pictures: int
) -> None:
    sink = FileSink(tmp_path / "show.mp4")
    sink.open(output)
    for index in range(pictures):
        sink.write(picture(index))
    sink.close()
    sink.close()
    sink.open(output)
    assert sink.current_path == tmp_path / "show.mp4"
    sink.close()


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path, output: OutputFormat) -> None:
    (tmp_path / "file").write_text("not a folder")
    for path in (tmp_path / "file" / "show.mp4", tmp_path / "folder.mp4"):
        (tmp_path / "folder.mp4").mkdir(exist_ok=True)
        sink = FileSink(path)
        with pytest.raises(SinkError, match=f"cannot record to {path}: .*choose another file"):
            sink.open(output)
        sink.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is on Linux only")
def test_a_full_disk_is_an_error_of_the_sink(tmp_path: Path, output: OutputFormat, picture: Picture) -> None:
    (tmp_path / "show.mkv").symlink_to("/dev/full")
    sink = FileSink(tmp_path / "show.mkv")
    with pytest.raises(SinkError, match="No space left"):
        sink.open(output)
        for index in range(200):
            sink.write(picture(index))
    sink.close()


@pytest.mark.skipif(sys.platform != "linux", reason="how many descriptors are open is asked of /proc")
def test_a_disk_that_stays_full_costs_no_descriptors(tmp_path: Path, output: OutputFormat) -> None:
    import resource

    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    sink = FileSink(tmp_path / "show.mp4")
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = descriptors()
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, most))
    try:
        for _ in range(5):
            with pytest.raises(SinkError, match="cannot record"):
                sink.open(output)
            sink.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert descriptors() == before


def test_a_lost_recording_goes_on_over_nobody_elses(
    tmp_path: Path, output: OutputFormat, picture: Picture
) -> None:
    (tmp_path / "show-2.mp4").write_text("of another evening")
    sink = FileSink(tmp_path / "show.mp4")
    for _ in range(2):
        sink.open(output)
        for index in range(30):
            sink.write(picture(index))
        sink.close()
    assert (tmp_path / "show-2.mp4").read_text() == "of another evening"
    assert len(decode(tmp_path / "show-3.mp4")) == 30


def test_a_name_that_is_no_video_is_refused_before_the_show() -> None:
    with pytest.raises(ConfigError, match=r"show.avi: the name must end in one of .mp4, .mov, .mkv"):
        FileSink(Path("show.avi"))
