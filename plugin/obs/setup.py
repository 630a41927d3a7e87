"""Puts the input "RealCam" into OBS from outside. Knows OBS's input kinds; knows nothing of sockets."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from engine.errors import ObsError
from plugin.obs.client import NOT_FOUND, Data, ObsClient, RequestRefused
from plugin.obs.own_input import MEDIA_PORT, NAME, media_settings

Kind = Literal["obs-media", "virtual-camera"]

MEDIA_KIND = "ffmpeg_source"
PROBE_NAME = "RealCam looks for cameras"
REMOVAL_TIMEOUT_S = 3.0
CAMERA_NAMES = ("realcam", "obs virtual camera", "unity video capture", "unity capture")


@dataclass(frozen=True, slots=True)
class CameraKind:
    """How one system's OBS reads a camera: which setting names the device, and what else it needs.

    Without buffering, and with the colours that RealCam sends (BT.709 limited) where they can be said.
    """

    kind: str
    device_setting: str
    settings: Data


CAMERA_KINDS = (
    CameraKind("v4l2_input", "device_id", {"buffering": False, "auto_reset": True, "color_range": 1}),
    CameraKind(
        "dshow_input",
        "video_device_id",
        {"buffering": 2, "color_space": "709", "color_range": "partial", "active": True},  # 2: off
    ),
    CameraKind("macos-avcapture", "device", {"use_preset": True, "preset": "AVCaptureSessionPresetHigh"}),
    CameraKind("av_capture_input", "device", {"use_preset": True, "preset": "AVCaptureSessionPresetHigh"}),
)


def add_to_scene(
    client: ObsClient,
    kind: Kind = "obs-media",
    *,
    scene: str | None = None,
    host: str = "127.0.0.1",
    port: int = MEDIA_PORT,
    device: str | None = None,
) -> str:
    """Adds the input, fitted to the canvas, or sets right what is there. Returns the scene's name.

    ``host`` and ``port`` are RealCam's, as OBS reaches it; ``device`` is a part of the camera's name.
    """
    if scene is None:
        scene = str(client.call("GetCurrentProgramScene")["currentProgramSceneName"])
    if kind == "obs-media":
        _ensure_input(client, scene, MEDIA_KIND, media_settings(host, port))
    else:
        _add_camera(client, scene, device)
    _fit_to_canvas(client, scene, _ensure_item(client, scene))
    return scene


def _add_camera(client: ObsClient, scene: str, device: str | None) -> None:
    known = client.call("GetInputKindList")["inputKinds"]
    camera = next((camera for camera in CAMERA_KINDS if camera.kind in known), None)
    if camera is None:
        raise ObsError("this OBS has no input for cameras; use the media source: --kind obs-media")
    value = _find_device(client, scene, camera, device)
    _ensure_input(client, scene, camera.kind, {**camera.settings, camera.device_setting: value})


def _find_device(client: ObsClient, scene: str, camera: CameraKind, device: str | None) -> str:
    items = _devices(client, scene, camera)
    for name in (device.casefold(),) if device else CAMERA_NAMES:
        for item in items:
            if name in str(item["itemName"]).casefold() or name == str(item["itemValue"]).casefold():
                return str(item["itemValue"])
    found = ", ".join(str(item["itemName"]) for item in items) or "none"
    raise ObsError(
        f"OBS sees no camera called {device or NAME!r}; it sees: {found}. Start RealCam with "
        "--sink virtual-camera first (readers see the device only then), or name it with --device"
    )


def _devices(client: ObsClient, scene: str, camera: CameraKind) -> list[Data]:
    """Only an input can be asked for its devices: one that nobody sees, for a moment."""
    client.call(
        "CreateInput", sceneName=scene, inputName=PROBE_NAME, inputKind=camera.kind, sceneItemEnabled=False
    )
    try:
        answer = client.call(
            "GetInputPropertiesListPropertyItems",
            inputName=PROBE_NAME,
            propertyName=camera.device_setting,
        )
    finally:
        _remove_input(client, PROBE_NAME)
    return list(answer["propertyItems"])


def _ensure_input(client: ObsClient, scene: str, kind: str, settings: Data) -> None:
    """An input of ours of another kind is replaced, anybody else's is not."""
    there = _inputs(client).get(NAME)
    if there == kind:
        client.call("SetInputSettings", inputName=NAME, inputSettings=settings)
        return
    if there is not None:
        if there not in {MEDIA_KIND, *(camera.kind for camera in CAMERA_KINDS)}:
            raise ObsError(f"OBS has an input {NAME!r} of kind {there}, which is not ours: rename it in OBS")
        _remove_input(client, NAME)
    client.call(
        "CreateInput",
        sceneName=scene,
        inputName=NAME,
        inputKind=kind,
        inputSettings=settings,
        sceneItemEnabled=True,
    )


def _inputs(client: ObsClient) -> dict[str, str]:
    """Names and kinds."""
    return {
        str(found["inputName"]): str(found["inputKind"]) for found in client.call("GetInputList")["inputs"]
    }


def _remove_input(client: ObsClient, name: str) -> None:
    """OBS answers first and removes then; until that is done the name is taken."""
    client.call("RemoveInput", inputName=name)
    deadline_s = time.monotonic() + REMOVAL_TIMEOUT_S
    while name in _inputs(client):
        if time.monotonic() > deadline_s:
            raise ObsError(f"OBS did not remove its input {name!r} in {REMOVAL_TIMEOUT_S:g} s: do it by hand")
        time.sleep(0.05)


def _ensure_item(client: ObsClient, scene: str) -> int:
    try:
        return int(client.call("GetSceneItemId", sceneName=scene, sourceName=NAME)["sceneItemId"])
    except RequestRefused as error:
        if error.code != NOT_FOUND:
            raise
    return int(client.call("CreateSceneItem", sceneName=scene, sourceName=NAME)["sceneItemId"])


def _fit_to_canvas(client: ObsClient, scene: str, item: int) -> None:
    video = client.call("GetVideoSettings")
    transform = {
        "positionX": 0.0,
        "positionY": 0.0,
        "rotation": 0.0,
        "alignment": 5,  # left and top
        "boundsType": "OBS_BOUNDS_SCALE_INNER",
        "boundsAlignment": 0,  # centre
        "boundsWidth": float(video["baseWidth"]),
        "boundsHeight": float(video["baseHeight"]),
    }
    client.call("SetSceneItemTransform", sceneName=scene, sceneItemId=item, sceneItemTransform=transform)
