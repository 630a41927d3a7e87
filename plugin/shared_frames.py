"""Pictures handed from one process to another through shared memory, without locks or pickling.

Knows nothing of engines. A ring has one writer and one reader; newest wins. A slot carries a
sequence number that is odd while it is written, so a reader never uses a torn picture, and a
process that is killed in the middle of a write leaves nothing locked behind.

The memory has no name that could outlive the show: on POSIX it is a file that was unlinked before
anybody used it, inherited by its descriptor; on Windows a mapping that goes with its last handle.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.camera.geometry import Pose
from engine.frames import Pixels

_RING = np.dtype([("written", "<u8"), ("heartbeat", "<u8")])
_SLOT = np.dtype(
    [
        ("sequence", "<u8"),
        ("number", "<u8"),
        ("width", "<u4"),
        ("height", "<u4"),
        ("arrived_s", "<f8"),
        ("pose", "<f8", (8,)),
    ]
)
_PAGE = 4096
SHARED_MEMORY = Path("/dev/shm")


class SharedPicture(NamedTuple):
    """A picture out of a ring. ``number`` counts from 1 in the writer's order."""

    number: int
    pixels: Pixels  # a copy: the writer may lap the slot at any time
    pose: Pose
    arrived_s: float


@dataclass(frozen=True, slots=True)
class RingAddress:
    """How another process finds a ring: by inherited descriptor, or by name on Windows."""

    descriptor: int
    name: str
    slots: int
    picture_bytes: int

    @property
    def stride(self) -> int:
        return -(-(_SLOT.itemsize + self.picture_bytes) // _PAGE) * _PAGE

    @property
    def size(self) -> int:
        return _PAGE + self.slots * self.stride


def _nameless_file(folder: Path | None, size: int) -> int:
    """The descriptor of a file in ``folder`` (None: for temporary files) that is already removed.

    Its room is taken at once where that can be asked for: a write into memory without it is a SIGBUS.
    """
    descriptor, path = tempfile.mkstemp(prefix="realcam-", dir=folder)
    try:
        Path(path).unlink()
        os.ftruncate(descriptor, size)
        if sys.platform == "linux":
            os.posix_fallocate(descriptor, 0, size)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


class SharedRing:
    """A ring of pictures of up to ``picture_bytes`` each. Create it in the parent, open it in the child."""

    def __init__(self, address: RingAddress, memory: mmap.mmap) -> None:
        self.address = address
        self._memory = memory
        self._header: NDArray[Any] = np.frombuffer(memory, _RING, 1, 0)
        offsets = [_PAGE + i * address.stride for i in range(address.slots)]
        self._slots = [np.frombuffer(memory, _SLOT, 1, offset) for offset in offsets]
        self._pixels = [
            np.frombuffer(memory, np.uint8, address.picture_bytes, offset + _SLOT.itemsize)
            for offset in offsets
        ]

    @classmethod
    def create(cls, slots: int, picture_bytes: int) -> SharedRing:
        if sys.platform == "win32":
            address = RingAddress(-1, f"realcam-{uuid.uuid4().hex}", slots, picture_bytes)
            return cls(address, mmap.mmap(-1, address.size, tagname=address.name))
        size = RingAddress(-1, "", slots, picture_bytes).size
        try:
            descriptor = _nameless_file(SHARED_MEMORY, size)
        except OSError:  # there is none, or too little of it: containers have 64 MB
            descriptor = _nameless_file(None, size)
        return cls(RingAddress(descriptor, "", slots, picture_bytes), mmap.mmap(descriptor, size))

    @classmethod
    def open(cls, address: RingAddress) -> SharedRing:
        if sys.platform == "win32":
            return cls(address, mmap.mmap(-1, address.size, tagname=address.name))
        return cls(address, mmap.mmap(address.descriptor, address.size))

    def close(self) -> None:
        """Gives the memory back. The ring must not be used afterwards."""
        self._header = np.empty(0, _RING)
        self._slots.clear()
        self._pixels.clear()
        self._memory.close()
        if self.address.descriptor >= 0:
            os.close(self.address.descriptor)

    def write(self, pixels: Pixels, pose: Pose, arrived_s: float) -> int:
        """Copies a picture H W 3 into the oldest slot and returns its number."""
        height, width, _ = pixels.shape
        number = int(self._header[0]["written"]) + 1
        slot = self._slots[number % self.address.slots][0]
        sequence = int(slot["sequence"]) | 1  # odd also after a writer died in the middle
        slot["sequence"] = sequence
        target = self._pixels[number % self.address.slots][: pixels.size].reshape(pixels.shape)
        np.copyto(target, pixels)
        slot["number"], slot["width"], slot["height"] = number, width, height
        slot["arrived_s"], slot["pose"] = arrived_s, pose.to_array()
        slot["sequence"] = sequence + 1
        self._header[0]["written"] = number
        return number

    @property
    def written(self) -> int:
        """The number of the newest picture, 0 before the first."""
        return int(self._header[0]["written"])

    @property
    def newest_pose(self) -> Pose:
        """The pose of the newest picture."""
        return Pose.from_array(self._slots[self.written % self.address.slots][0]["pose"].copy())

    def read(self, number: int) -> SharedPicture | None:
        """A copy of picture ``number``, or None if the writer has been round the ring since."""
        slot = self._slots[number % self.address.slots][0]
        sequence = int(slot["sequence"])
        if sequence % 2 or int(slot["number"]) != number:
            return None
        shape = (int(slot["height"]), int(slot["width"]), 3)
        size = shape[0] * shape[1] * 3
        if size > self.address.picture_bytes:
            return None
        pixels = self._pixels[number % self.address.slots][:size].reshape(shape).copy()
        pose = Pose.from_array(slot["pose"].copy())
        picture = SharedPicture(number, pixels, pose, float(slot["arrived_s"]))
        return picture if int(slot["sequence"]) == sequence else None

    def read_newest(self, after: int) -> SharedPicture | None:
        """The newest whole picture with a number above ``after``, if there is one."""
        for number in range(self.written, after, -1):
            if (picture := self.read(number)) is not None:
                return picture
            if self.written - number >= self.address.slots:
                return None
        return None

    def beat(self) -> None:
        """The sign of life of the process on the other side."""
        self._header[0]["heartbeat"] += 1

    @property
    def heartbeat(self) -> int:
        return int(self._header[0]["heartbeat"])
