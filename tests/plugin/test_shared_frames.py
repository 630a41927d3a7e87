import errno
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

from engine.camera.geometry import Pose
from plugin import shared_frames
from plugin.shared_frames import SharedRing

POSE = Pose.from_angles(pan=0.1, tilt=-0.2, translation=(1.0, 2.0, 3.0), zoom=1.5)


@pytest.fixture
def ring():
    ring = SharedRing.create(slots=4, picture_bytes=64 * 48 * 3)
    yield ring
    ring.close()


def picture(value: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_a_picture_comes_out_as_it_went_in(ring: SharedRing) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    number = ring.write(pixels, POSE, 12.5)
    found = ring.read(number)
    assert found is not None
    np.testing.assert_array_equal(found.pixels, pixels)
    assert (found.pose, found.arrived_s, found.number) == (POSE, 12.5, 1)


def test_the_newest_pose_is_told_without_its_picture(ring: SharedRing) -> None:
    for number in range(6):
        ring.write(picture(number), Pose.from_angles(pan=0.1 * number), 0.0)
        assert ring.newest_pose == Pose.from_angles(pan=0.1 * number)


def test_another_mapping_of_the_same_memory_sees_it(ring: SharedRing) -> None:
    ring.write(picture(7), POSE, 0.0)
    if sys.platform != "win32":  # a child owns its descriptor; here both would close the same one
        from dataclasses import replace

        address = replace(ring.address, descriptor=os.dup(ring.address.descriptor))
        other = SharedRing.open(address)
    else:
        other = SharedRing.open(ring.address)
    found = other.read_newest(0)
    assert found is not None
    assert (found.pixels == 7).all()
    other.close()


def test_the_newest_picture_wins_and_is_given_once(ring: SharedRing) -> None:
    for value in range(6):
        ring.write(picture(value), POSE, 0.0)
    found = ring.read_newest(0)
    assert found is not None
    assert found.pixels[0, 0, 0] == 5
    assert ring.read_newest(found.number) is None


def test_an_overwritten_picture_is_not_given(ring: SharedRing) -> None:
    first = ring.write(picture(1), POSE, 0.0)
    for value in range(4):
        ring.write(picture(value), POSE, 0.0)
    assert ring.read(first) is None


def test_a_picture_whose_writer_died_in_the_middle_is_not_given(ring: SharedRing) -> None:
    ring.write(picture(1), POSE, 0.0)
    second = ring.write(picture(2), POSE, 0.0)
    ring._slots[second % 4][0]["sequence"] += 1  # as the writer leaves it while it copies
    found = ring.read_newest(0)
    assert found is not None
    assert found.pixels[0, 0, 0] == 1
    third = ring.write(picture(3), POSE, 0.0)
    assert ring.read(third) is not None


def test_a_reader_never_sees_half_a_picture(ring: SharedRing) -> None:
    done = threading.Event()

    def write() -> None:
        value = 0
        while not done.is_set():
            value = (value + 1) % 256
            ring.write(picture(value), POSE, 0.0)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = 0
        while seen < 200:
            if (found := ring.read_newest(0)) is not None:
                assert (found.pixels == found.pixels[0, 0, 0]).all()
                seen += 1
    finally:
        done.set()
        writer.join()


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="looks into Linux's shared memory folder")
def test_nothing_is_left_in_shared_memory_even_by_a_process_that_is_killed() -> None:
    shared_memory = Path("/dev/shm")
    before = set(shared_memory.glob("*realcam*"))
    script = (
        "import os, signal\n"
        "from plugin.shared_frames import SharedRing\n"
        "ring = SharedRing.create(4, 1_000_000)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], check=False)
    assert result.returncode == -9
    assert set(shared_memory.glob("*realcam*")) <= before


@pytest.mark.skipif(sys.platform != "linux", reason="only there the room can be asked for")
def test_a_ring_that_shared_memory_has_no_room_for_goes_to_the_temporary_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = os.posix_fallocate
    asked: list[int] = []

    def full_at_first(descriptor: int, offset: int, size: int) -> None:
        asked.append(descriptor)
        if len(asked) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor, offset, size)

    monkeypatch.setattr(os, "posix_fallocate", full_at_first)
    monkeypatch.setattr(shared_frames, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    ring = SharedRing.create(2, 300)
    assert ring.write(picture(7, 10, 10), POSE, 0.0) == 1
    assert os.fstat(ring.address.descriptor).st_blocks * 512 >= ring.address.size
    ring.close()
    assert len(asked) == 2 and [path.name for path in tmp_path.iterdir()] == ["temporary"]


def test_without_shared_memory_a_ring_is_a_temporary_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shared_frames, "SHARED_MEMORY", tmp_path / "nowhere")
    SharedRing.create(2, 300).close()
