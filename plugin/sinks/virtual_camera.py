"""Sends the picture to a virtual camera that every program on this machine can open.

Knows which drivers exist on which system and what to tell the user; the pictures go out as NV12, just
as they come, so that no driver converts them with another colour matrix. Pacing is not done here.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pyvirtualcam
from numpy.typing import NDArray
from pyvirtualcam.camera import BACKENDS

from engine.errors import SinkError
from plugin.sinks.base import OutputFormat, OutputFrame

if sys.platform == "linux":
    from plugin.sinks import v4l2loopback

PREFERRED_BACKENDS = ("v4l2loopback", "unitycapture", "obs")

LOAD_DRIVER = (
    "sudo modprobe v4l2loopback devices=1 video_nr=10 card_label=RealCam exclusive_caps=1 max_buffers=8"
)
_ADVICE = {
    "linux": f"load the driver with: {LOAD_DRIVER} (package v4l2loopback-dkms)",
    "win32": (
        "install Unity Capture (https://github.com/schellingb/UnityCapture), or stop the virtual camera in "
        "OBS, which only one program can use at a time"
    ),
    "darwin": (
        "install OBS, start its virtual camera once and allow the extension in System Settings, then stop "
        "it there: only one program can use it at a time"
    ),
}
_OTHERWISE = "the sink obs-media needs no driver"


class VirtualCameraSink:
    """``device`` and ``backend``: None takes the best there is (on Linux the device named RealCam)."""

    def __init__(self, device: str | None, backend: str | None) -> None:
        self.name = f"virtual camera {device}" if device else "virtual camera"
        self._device = device
        self._backend = backend
        self._camera: pyvirtualcam.Camera | None = None
        self._guard: int | None = None
        self._last_picture: NDArray[np.uint8] | None = None

    def open(self, output: OutputFormat) -> None:
        device = self._device
        if sys.platform == "linux":
            device = _usable_loopback(device, output)
        self._camera = _open_first(_candidates(self._backend), device, output)
        # Programs see no camera before the first picture is there.
        self._camera.send(_black(output) if self._last_picture is None else self._last_picture)
        if sys.platform == "linux":
            self._guard = v4l2loopback.hold_output(self._camera.device)
            v4l2loopback.announce_rate(self._guard, output.rate)

    def write(self, frame: OutputFrame) -> None:
        assert self._camera is not None, "write before open"
        self._camera.send(frame.nv12)
        self._last_picture = frame.nv12

    def close(self) -> None:
        camera, self._camera = self._camera, None
        if camera is not None:
            camera.close()
        guard, self._guard = self._guard, None
        if guard is not None:
            os.close(guard)


def driver_installed() -> bool:
    """Whether there is a virtual camera to send to: certain on Linux, a good guess elsewhere."""
    if sys.platform == "linux":
        return bool(v4l2loopback.find_loopbacks())
    if sys.platform == "win32":
        return _windows_driver_installed()
    extensions = Path("/Library/SystemExtensions").glob("*/com.obsproject.obs-studio.mac-camera-extension*")
    plugin = Path("/Library/CoreMediaIO/Plug-Ins/DAL/obs-mac-virtualcam.plugin")
    return any(extensions) or plugin.exists()


def _candidates(backend: str | None) -> list[str]:
    available = [name for name in PREFERRED_BACKENDS if name in BACKENDS]
    if backend is None:
        return available
    if backend not in BACKENDS:
        raise SinkError(
            f"there is no virtual camera backend {backend!r} on this system, only {', '.join(available)}; "
            f"leave the backend out to take the best one"
        )
    return [backend]


def _open_first(backends: list[str], device: str | None, output: OutputFormat) -> pyvirtualcam.Camera:
    errors = []
    for backend in backends:
        try:
            return pyvirtualcam.Camera(
                width=output.width,
                height=output.height,
                fps=float(output.rate),
                fmt=pyvirtualcam.PixelFormat.NV12,
                device=device,
                backend=backend,
            )
        except (RuntimeError, ValueError) as error:
            errors.append(str(error).strip().rstrip("."))
    raise _error("; ".join(errors))


def _error(problem: str) -> SinkError:
    advice = _ADVICE.get(sys.platform, "this system has no virtual camera that RealCam knows")
    return SinkError(f"no virtual camera: {problem}. To do: {advice}; {_OTHERWISE}")


def _black(output: OutputFormat) -> NDArray[np.uint8]:
    picture = np.full((output.height * 3 // 2, output.width), 128, dtype=np.uint8)
    picture[: output.height] = 16
    return picture


if sys.platform == "linux":

    def _usable_loopback(device: str | None, output: OutputFormat) -> str:
        """The device to open, rescued if a dead writer left it unusable. Raises if it is taken."""
        if device is None:
            devices = v4l2loopback.find_loopbacks()
            if not devices:
                raise _error("the driver v4l2loopback is not loaded")
            device = devices[0].path
        size = v4l2loopback.running_size(device)
        try:
            if not v4l2loopback.accepts_writer(device):
                if size is not None:
                    raise SinkError(
                        f"{device} is in use: another program sends to it (a second RealCam?), or a reader "
                        f"holds what a dead program left; close both, or choose another device"
                    )
                v4l2loopback.rescue(device)
        except OSError as error:
            raise _error(f"{device}: {error.strerror}") from error
        if size not in (None, (output.width, output.height)):
            raise SinkError(
                f"{device} is being read at {size[0]}×{size[1]} and cannot change to "
                f"{output.width}×{output.height}: close the programs that read it, or keep that size"
            )
        return device


if sys.platform == "win32":

    def _windows_driver_installed() -> bool:
        import winreg

        filters = (
            "{5C2CD55C-92AD-4999-8666-912BD3E70010}",  # Unity Capture
            "{A3FCE0F5-3493-419F-958A-ABA1250EC20B}",  # OBS Virtual Camera
        )
        for identifier in filters:
            try:
                winreg.CloseKey(winreg.OpenKey(winreg.HKEY_CLASSES_ROOT, rf"CLSID\{identifier}"))
                return True
            except OSError:
                continue
        return False
