"""The Linux driver behind the virtual camera: finding its devices, and keeping them usable. Linux only.

Knows nothing of pictures. Two traps of v4l2loopback are handled here (seen with 0.12.7):

- With ``exclusive_caps=1`` a device whose writer only ever called ``write`` stays "no output device"
  when the writer ends, until the module is loaded again. A second descriptor that announced itself as
  the writer (:func:`hold_output`) gives the device back when it closes, even after ``kill -9``.
- A device that runs, because somebody reads it, silently keeps its size: pictures of another size
  would arrive as garbage (:func:`running_size`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

assert sys.platform == "linux"

SYSFS = Path("/sys/class/video4linux")
CARD_LABEL = "RealCam"

_BUF_TYPE_VIDEO_OUTPUT = 2
_CAP_VIDEO_OUTPUT = 0x2
_CAPABILITY = struct.Struct("=16s32s32sIII3I")
_STREAM_PARAMETERS = struct.Struct("=IIIII184x")  # type, capability, mode, seconds per frame, padding


def _request(direction: int, number: int, size: int) -> int:
    """_IOC of <linux/ioctl.h> for the "V" family; direction: 1 write, 2 read, 3 both."""
    return direction << 30 | size << 16 | ord("V") << 8 | number


_VIDIOC_QUERYCAP = _request(2, 0, _CAPABILITY.size)
_VIDIOC_STREAMON = _request(1, 18, 4)
_VIDIOC_S_PARM = _request(3, 22, _STREAM_PARAMETERS.size)


@dataclass(frozen=True, slots=True)
class Loopback:
    """A loopback device: "/dev/video10" and its card label."""

    path: str
    label: str


def find_loopbacks(sysfs: Path = SYSFS) -> list[Loopback]:
    """All loopback devices, the one labelled RealCam first, then by number."""
    found = []
    for folder in sysfs.glob("video*"):
        if (folder / "max_openers").exists():  # an attribute that only this driver has
            number = int(folder.name.removeprefix("video"))
            label = (folder / "name").read_text().strip()
            found.append((label != CARD_LABEL, number, Loopback(f"/dev/{folder.name}", label)))
    return [device for _, _, device in sorted(found, key=lambda entry: entry[:2])]


def running_size(path: str, sysfs: Path = SYSFS) -> tuple[int, int] | None:
    """Width and height that the device is held at by a writer or a reader; None when it is free."""
    try:
        text = (sysfs / Path(path).name / "format").read_text()
    except OSError:
        return None
    match = re.match(r"....:(\d+)x(\d+)@", text)
    return (int(match[1]), int(match[2])) if match else None


def accepts_writer(path: str) -> bool:
    """Whether the device says that it is an output device; raises OSError when it cannot be opened."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        answer = bytearray(_CAPABILITY.size)
        fcntl.ioctl(descriptor, _VIDIOC_QUERYCAP, answer)
        return bool(_CAPABILITY.unpack(answer)[4] & _CAP_VIDEO_OUTPUT)
    finally:
        os.close(descriptor)


def rescue(path: str) -> None:
    """Frees a device that a dead writer left as "no output device". Only for one that nobody holds."""
    os.close(hold_output(path))


def hold_output(path: str) -> int:
    """A descriptor that is the device's writer; closing it makes the device an output device again.

    Newer drivers (0.13 and later) need no such thing and refuse the second writer: no harm done.
    """
    descriptor = os.open(path, os.O_RDWR)
    with contextlib.suppress(OSError):  # EINVAL while the device has no buffers: it is marked as wanted
        fcntl.ioctl(descriptor, _VIDIOC_STREAMON, struct.pack("=i", _BUF_TYPE_VIDEO_OUTPUT))
    return descriptor


def announce_rate(descriptor: int, rate: Fraction) -> None:
    """Tells readers the nominal rate; the driver would say 30 otherwise."""
    parameters = _STREAM_PARAMETERS.pack(_BUF_TYPE_VIDEO_OUTPUT, 0, 0, rate.denominator, rate.numerator)
    with contextlib.suppress(OSError):  # only a hint
        fcntl.ioctl(descriptor, _VIDIOC_S_PARM, parameters)
