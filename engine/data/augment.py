"""What a live camera does to a picture, drawn at random, without touching what the geometry says.

Light and colour change on source and target alike, since the target must show the source's world; blur,
noise and compression are the source's alone, since the target is to be clean. Cropping and mirroring change
poses and lenses with the pictures. Knows nothing of scenes or files.

Shapes: T frames, H W rows and columns; pictures are RGB bytes, T H W 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from engine.camera.geometry import Intrinsics, Pose
from engine.data.decode import Bytes, Size, Window, centred_window


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How far each change may go (drawn evenly up to it), and how often the optional ones happen."""

    gain_stops: float = 0.25
    white_balance: float = 0.08  # natural logarithm of each channel's gain
    gamma: float = 0.15  # natural logarithm of the exponent
    saturation: float = 0.25  # share by which it grows or falls
    blur_px: float = 0.6  # standard deviation, source only
    noise: float = 5.0  # standard deviation in bytes at full light, source only
    compression_share: float = 0.5  # half of it JPEG, half H.264, source only
    mirror_share: float = 0.5
    crop_share: float = 0.0  # off where pictures are stored at the training size: cropping would soften them
    smallest_crop: float = 0.75  # of the picture's sides


def draw_window(augmentation: Augmentation, stored: Size, size: Size, rng: np.random.Generator) -> Window:
    """The part of the stored picture to keep: one for source and target, so that the target's lens stays the
    source's but for the zoom. Even numbers, so that 4:2:0 pictures are cut between their chroma pixels.
    """
    whole = centred_window(stored, size)
    if rng.random() >= augmentation.crop_share:
        return whole
    share = rng.uniform(augmentation.smallest_crop, 1.0)
    width, height = (2 * round(side * share / 2) for side in (whole.width, whole.height))
    left = 2 * int(rng.integers((stored[0] - width) // 2 + 1))
    top = 2 * int(rng.integers((stored[1] - height) // 2 + 1))
    return Window(left, top, width, height)


def mirrored_pose(pose: Pose) -> Pose:
    """What the pose is when both pictures are mirrored left to right: M R M and M t, M = diag(−1, 1, 1)."""
    (w, x, y, z), (tx, ty, tz) = pose.rotation, pose.translation
    return Pose((w, x, -y, -z), (-tx, ty, tz), pose.zoom)


def mirrored_lens(lens: Intrinsics) -> Intrinsics:
    return replace(lens, cx=lens.width - 1 - lens.cx)


def change_colours(
    augmentation: Augmentation, videos: Sequence[Bytes], rng: np.random.Generator
) -> list[Bytes]:
    """The same light, white balance, gamma and saturation for all of the videos and frames."""
    a = augmentation
    stops = rng.uniform(-a.gain_stops, a.gain_stops)
    channels = rng.uniform(-a.white_balance, a.white_balance, 3)
    gamma = np.exp(rng.uniform(-a.gamma, a.gamma))
    saturation = 1 + rng.uniform(-a.saturation, a.saturation)
    levels = (np.arange(256) / 255)[:, None] ** gamma * 2**stops * np.exp(channels)
    table = np.rint(np.clip(levels, 0, 1) * 255).astype(np.uint8)[None]  # 1 256 3
    grey = np.tile([0.2126, 0.7152, 0.0722], (3, 1))  # ITU-R BT.709's luma
    mix = saturation * np.eye(3) + (1 - saturation) * grey
    return [_flat(video, lambda rows: cv2.transform(cv2.LUT(rows, table), mix)) for video in videos]


def spoil(augmentation: Augmentation, video: Bytes, rng: np.random.Generator) -> Bytes:
    """As a lens (blur), a sensor (noise) and a link (compression) spoil it, in this order."""
    sigma = rng.uniform(0, augmentation.blur_px)
    strength = rng.uniform(0, augmentation.noise)
    compression, quality = rng.uniform(0, 1, 2)
    video = (
        np.stack([cv2.GaussianBlur(picture, (5, 5), sigma) for picture in video]) if sigma > 0.2 else video
    )
    video = _noisy(video, strength, rng)
    if compression < augmentation.compression_share / 2:
        return through_jpeg(video, quality=round(35 + 55 * quality))
    if compression < augmentation.compression_share:
        return through_h264(video, constant_rate_factor=round(34 - 14 * quality))
    return video


def through_jpeg(video: Bytes, quality: int) -> Bytes:
    """Each picture through a real JPEG encoder; ``quality`` from 0 to 100."""
    pictures = []
    for picture in video:
        done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        assert done
        pictures.append(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8))
    return np.stack(pictures)


def through_h264(video: Bytes, constant_rate_factor: int) -> Bytes:
    """The clip through a real H.264 encoder as a live sender sets it up: no look-ahead, no B frames."""
    _, height, width, _ = video.shape
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.framerate, encoder.thread_count = Fraction(25), 1
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": str(constant_rate_factor)}
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    packets = [p for picture in video for p in encoder.encode(_to_yuv(picture))] + encoder.encode(None)
    frames = [f for packet in [*packets, None] for f in decoder.decode(packet)]
    pictures = [cv2.cvtColor(frame.to_ndarray(), cv2.COLOR_YUV2RGB_I420) for frame in frames]
    return np.stack(pictures).astype(np.uint8, copy=False)


def _to_yuv(picture: Bytes) -> av.VideoFrame:
    yuv = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420), np.uint8)
    return av.VideoFrame.from_ndarray(yuv, "yuv420p")


def _noisy(video: Bytes, strength: float, rng: np.random.Generator) -> Bytes:
    """Photon noise grows with the root of the light; a fifth of its variance is there in the dark."""
    deviation = (strength * np.sqrt(0.2 + 0.8 * np.arange(256) / 255)).astype(np.float32)[None]
    grains = rng.standard_normal(video.shape, np.float32)

    def add(rows: Bytes) -> NDArray[Any]:
        noise = cv2.multiply(cv2.LUT(rows, deviation), grains.reshape(rows.shape))
        return np.asarray(cv2.add(rows, noise, dtype=cv2.CV_8U))  # rounds and saturates

    return _flat(video, add)


def _flat(video: Bytes, change: Callable[[Bytes], NDArray[Any]]) -> Bytes:
    """OpenCV knows no time: the frames one below the other."""
    frames, height, width, channels = video.shape
    rows = video.reshape(frames * height, width, channels)
    return change(rows).reshape(video.shape).astype(np.uint8, copy=False)
