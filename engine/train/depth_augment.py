"""What a webcam, a cable and a codec do to a rendered picture, done to a pair of frames and its truth.

The two frames share crop, lens, colour and blur, and differ in noise and compression: what differs between
them and not in the truth is what the network learns to ignore from one frame to the next. Depth follows the
crop: a crop is a longer lens, and depth is kept for a lens of the canonical focal length.

Knows nothing of files (beside encoding in memory) and of networks. Shapes: T = 2 frames, H W.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from engine.frames import Pixels
from engine.train.depth_data import Views

SMALLEST_CROP = 0.45  # of the picture's width
WIDEST_STRETCH = 1.25  # of width against height: a 4:3 camera squeezed into our picture
LARGEST_ROLL_DEG = 5.0
PASTED = 0.2  # the share of pairs on which another pair's person is set
ON_PHOTO = 0.15  # the share whose person is set on a photo, as before a screen
SMALLEST_PERSON = 0.02  # of the picture: less is not worth cutting out
IN_FRONT = 0.9  # of a person's pixels must be nearer than what they are pasted on


@dataclass(frozen=True, slots=True)
class Example:
    """``images`` T H W 3; ``inverse_depth`` T H W for the canonical lens, in 1/m; ``matte`` T H W in [0, 1];
    ``known`` T H W: where the depth is true."""

    images: Pixels
    inverse_depth: NDArray[np.float32]
    matte: NDArray[np.float32]
    known: NDArray[np.bool_]


def canonical(views: Views, focal: float) -> Example:
    """The frames as they are, with depth for a lens of focal length ``focal`` (over the width)."""
    scale = (views.focal / focal)[:, None, None]
    return Example(
        views.images,
        (views.inverse_depth() * scale).astype(np.float32),
        (views.matte / 255).astype(np.float32),
        np.ones(views.matte.shape, np.bool_),
    )


def augmented(
    pair: Views,
    other: Views,
    photos: Sequence[Pixels],
    size: tuple[int, int],
    focal: float,
    rng: np.random.Generator,
) -> Example:
    """A pair at ``size`` (width, height), perhaps with ``other``'s person in it or on a photo."""
    example = cropped(canonical(pair, focal), size, rng)
    draw = rng.random()
    if draw < PASTED:
        example = pasted(example, cropped(canonical(other, focal), size, rng))
    elif draw < PASTED + ON_PHOTO and photos:
        example = on_photo(example, photos[int(rng.integers(len(photos)))], rng)
    return Example(degraded(example.images, rng), example.inverse_depth, example.matte, example.known)


def cropped(example: Example, size: tuple[int, int], rng: np.random.Generator) -> Example:
    """A random window, perhaps mirrored and rolled, at ``size``, and depth as its longer lens sees it."""
    height, width = example.matte.shape[1:]
    crop_width = width * rng.uniform(SMALLEST_CROP, 1.0) ** 0.7
    stretch = WIDEST_STRETCH ** rng.uniform(-1, 1)
    crop_height = min(crop_width * height / width * stretch, height)
    centre = (
        rng.uniform(crop_width, 2 * width - crop_width) / 2 - 0.5,
        rng.uniform(crop_height, 2 * height - crop_height) / 2 - 0.5,
    )
    roll = np.deg2rad(LARGEST_ROLL_DEG) * rng.uniform(-1, 1) * (rng.random() < 0.3)
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    to_source = turn @ np.diag([mirror * crop_width / size[0], crop_height / size[1]])
    middle = np.array([(size[0] - 1) / 2, (size[1] - 1) / 2])
    window = np.column_stack([to_source, np.array(centre) - to_source @ middle])
    view = _warped(example, window, size)
    return replace(view, inverse_depth=view.inverse_depth * np.float32(width / crop_width))


def _warped(example: Example, to_source: NDArray[np.float64], size: tuple[int, int]) -> Example:
    """What a 2×3 matrix from new pixels to old ones shows. Depth has edges, so it is not interpolated."""

    def take(pictures: NDArray[Any], how: int) -> NDArray[Any]:
        flags = how | cv2.WARP_INVERSE_MAP
        mirrored = cv2.BORDER_REFLECT_101
        return np.stack(
            [cv2.warpAffine(one, to_source, size, flags=flags, borderMode=mirrored) for one in pictures]
        )

    return Example(
        take(example.images, cv2.INTER_LINEAR),
        take(example.inverse_depth, cv2.INTER_NEAREST),
        take(example.matte, cv2.INTER_LINEAR),
        take(example.known.view(np.uint8), cv2.INTER_NEAREST).astype(np.bool_),
    )


def pasted(behind: Example, person: Example) -> Example:
    """``person``'s people in front of ``behind``, if they are nearer than what they would hide."""
    theirs = person.matte > 0.5
    if theirs.mean() < SMALLEST_PERSON:
        return behind
    if np.mean(person.inverse_depth[theirs] > behind.inverse_depth[theirs]) < IN_FRONT:
        return behind
    return Example(
        _over(person.images, person.matte, behind.images),
        np.where(theirs, person.inverse_depth, behind.inverse_depth),
        np.maximum(person.matte, behind.matte),
        behind.known,
    )


def on_photo(example: Example, photo: Pixels, rng: np.random.Generator) -> Example:
    """The person alone, on a picture without people, whose depth nobody knows."""
    theirs = example.matte > 0.5
    if theirs.mean() < SMALLEST_PERSON:
        return example
    _, height, width = example.matte.shape
    scale = max(width / photo.shape[1], height / photo.shape[0]) * rng.uniform(1.0, 1.6)
    grown = cv2.resize(
        photo,
        (max(round(photo.shape[1] * scale), width), max(round(photo.shape[0] * scale), height)),
        interpolation=cv2.INTER_AREA,
    )
    x = int(rng.integers(grown.shape[1] - width + 1))
    y = int(rng.integers(grown.shape[0] - height + 1))
    behind = np.broadcast_to(grown[y : y + height, x : x + width], example.images.shape)
    return Example(_over(example.images, example.matte, behind), example.inverse_depth, example.matte, theirs)


def _over(front: Pixels, matte: NDArray[np.float32], behind: NDArray[Any]) -> Pixels:
    alpha = matte[..., None]
    return (front * alpha + behind * (1 - alpha) + 0.5).astype(np.uint8)


def degraded(images: Pixels, rng: np.random.Generator) -> Pixels:
    """Colour and blur alike on all frames, noise and compression on each."""
    images = np.stack(list(images))
    if rng.random() < 0.8:
        images = recoloured(images, rng)
    if rng.random() < 0.35:
        images = blurred(images, rng)
    if rng.random() < 0.5:
        images = noisy(images, rng)
    codec = rng.random()
    if codec < 0.1:
        images = through_h264(images, crf=int(rng.integers(20, 40)))
    elif codec < 0.4:
        images = through_jpeg(images, quality=int(rng.integers(15, 90)))
    return images


def recoloured(images: Pixels, rng: np.random.Generator) -> Pixels:
    """Exposure, contrast, gamma and tint as one curve per channel; then saturation and falling light."""
    x = np.arange(256, dtype=np.float32) / 255
    gains = np.exp(rng.normal(0, 0.12, 3) + rng.normal(0, 0.25))
    gamma = np.exp(rng.normal(0, 0.25, 3) * 0.3 + rng.normal(0, 0.25))
    contrast, pivot, lift = np.exp(rng.normal(0, 0.2)), rng.uniform(0.3, 0.6), rng.uniform(-0.06, 0.08)
    curve = (x[:, None] ** gamma * gains - pivot) * contrast + pivot + lift
    table = (np.clip(curve, 0, 1) * 255 + 0.5).astype(np.uint8)[None]
    images = np.stack([cv2.LUT(image, table) for image in images])
    values = images.astype(np.float32)
    if rng.random() < 0.6:
        grey = values.mean(-1, keepdims=True)
        saturation = 0.0 if rng.random() < 0.08 else rng.uniform(0.3, 1.5)
        values = grey + (values - grey) * np.float32(saturation)
    if rng.random() < 0.4:
        values *= _falling_light(images.shape[1:3], rng)
    return np.asarray(np.clip(values + 0.5, 0, 255), np.uint8)


def _falling_light(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """A lamp or a window at one side, or a lens darker in its corners, H W 1."""
    y = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, shape[1], dtype=np.float32)[None]
    side, up, corners = rng.normal(0, 0.25), rng.normal(0, 0.15), rng.uniform(0, 0.25)
    light: NDArray[np.float32] = np.exp(side * x + up * y - corners * (x * x + y * y)).astype(np.float32)
    return light[..., None]


def blurred(images: Pixels, rng: np.random.Generator) -> Pixels:
    """Out of focus, scaled up from a smaller picture, or sharpened too much by the camera."""
    height, width = images.shape[1:3]
    kind = rng.random()
    if kind < 0.5:
        sigma = rng.uniform(0.4, 1.6)
        return np.stack([cv2.GaussianBlur(image, (0, 0), sigma) for image in images])
    if kind < 0.8:
        scale = rng.uniform(0.4, 0.9)
        small = (round(width * scale), round(height * scale))
        shrunk = [cv2.resize(image, small, interpolation=cv2.INTER_AREA) for image in images]
        return np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_LINEAR) for one in shrunk])
    amount = rng.uniform(0.3, 1.5)
    soft = [cv2.GaussianBlur(image, (0, 0), 1.0) for image in images]
    return np.stack(
        [cv2.addWeighted(i, 1 + amount, s, -amount, 0) for i, s in zip(images, soft, strict=True)]
    )


def noisy(images: Pixels, rng: np.random.Generator) -> Pixels:
    """Shot and read noise, sometimes in blotches as a denoiser leaves it."""
    read, shot = rng.uniform(0, 6), rng.uniform(0, 0.6)
    blotch = rng.uniform(0.4, 1.2) if rng.random() < 0.4 else 0.0
    result = []
    for image in images:
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        if blotch:
            noise = cv2.GaussianBlur(noise, (0, 0), blotch) * np.float32(1 + 2 * blotch)
        values = image.astype(np.float32)
        values += noise * (np.float32(read) + np.float32(shot) * np.sqrt(values))
        result.append(np.clip(values + 0.5, 0, 255).astype(np.uint8))
    return np.stack(result)


def through_jpeg(images: Pixels, quality: int) -> Pixels:
    result = []
    for image in images:
        _, packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        unpacked = cv2.imdecode(packed, cv2.IMREAD_COLOR)
        assert unpacked is not None
        result.append(unpacked)
    return np.stack(result).astype(np.uint8)


def through_h264(images: Pixels, crf: int) -> Pixels:
    """Encoded as a short video: the first frame whole, the next as a difference."""
    height, width = images.shape[1:3]
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.framerate, encoder.thread_count = Fraction(15), 1
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": str(crf)}
    packets = []
    for index, image in enumerate(images):
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts = index
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    frames = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
    return np.stack([frame.to_ndarray(format="rgb24") for frame in frames])
