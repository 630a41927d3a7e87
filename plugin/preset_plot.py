"""A picture of a preset: its way from above and from the side, and what the camera shows on it.

Knows nothing of files or command lines. Everything is drawn at twice the size and reduced, so that
lines and letters are smooth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.camera.axes import Limits
from engine.camera.director import Director
from engine.camera.geometry import IDENTITY, Intrinsics, Pose, plane_homography
from engine.camera.preset import Preset
from engine.frames import Pixels

SIZE = (1600, 900)
FINE = 2
SAMPLES = 240
CAMERAS = 7

Rgb = tuple[int, int, int]
Point = tuple[float, float]
Points = NDArray[np.float64]  # N 2

BACKGROUND: Rgb = (18, 22, 29)
PANEL: Rgb = (26, 32, 42)
GRID: Rgb = (40, 48, 61)
TEXT: Rgb = (226, 232, 240)
FAINT: Rgb = (139, 152, 169)
SUBJECT: Rgb = (242, 193, 78)
START: Rgb = (120, 170, 255)


@dataclass(frozen=True)
class Box:
    left: int
    top: int
    width: int
    height: int

    @property
    def right(self) -> int:
        return self.left + self.width

    @property
    def bottom(self) -> int:
        return self.top + self.height


ABOVE = Box(32, 108, 940, 470)
SIDE = Box(32, 602, 940, 266)
THUMBNAILS = tuple(Box(1000, 108 + i * 258, 568, 244) for i in range(3))


class Canvas:
    """Draws in the coordinates of the finished picture; text is ASCII."""

    def __init__(self) -> None:
        self._pixels: Pixels = np.full((SIZE[1] * FINE, SIZE[0] * FINE, 3), BACKGROUND, np.uint8)

    def finished(self) -> Pixels:
        return np.asarray(cv2.resize(self._pixels, SIZE, interpolation=cv2.INTER_AREA), np.uint8)

    def rectangle(self, box: Box, colour: Rgb) -> None:
        corner = (box.right * FINE - 1, box.bottom * FINE - 1)
        cv2.rectangle(self._pixels, (box.left * FINE, box.top * FINE), corner, colour, -1)

    def line(self, points: Points, colour: Rgb, width: float = 1.0) -> None:
        fixed = np.round(points * FINE * 16).astype(np.int32)  # four bits of fraction
        thickness = max(1, round(width * FINE))
        cv2.polylines(self._pixels, [fixed], False, colour, thickness, cv2.LINE_AA, 4)

    def polygon(self, points: Points, colour: Rgb) -> None:
        cv2.fillPoly(self._pixels, [np.round(points * FINE * 16).astype(np.int32)], colour, cv2.LINE_AA, 4)

    def disc(self, centre: Point, radius: float, colour: Rgb) -> None:
        at = (round(centre[0] * FINE), round(centre[1] * FINE))
        cv2.circle(self._pixels, at, round(radius * FINE), colour, -1, cv2.LINE_AA)

    def text(
        self,
        text: str,
        left: float,
        baseline: float,
        height: float,
        colour: Rgb = TEXT,
        centred: bool = False,
    ) -> None:
        scale = height * FINE / 22  # Hershey's capitals are 22 high
        thickness = max(1, round(scale * 1.6))
        letters = text.encode("ascii", "replace").decode()
        if centred:
            (width, _), _ = cv2.getTextSize(letters, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
            left -= width / FINE / 2
        at = (round(left * FINE), round(baseline * FINE))
        cv2.putText(
            self._pixels, letters, at, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness, cv2.LINE_AA
        )

    def picture(self, pixels: Pixels, box: Box) -> None:
        top, left = box.top * FINE, box.left * FINE
        self._pixels[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels


@dataclass(frozen=True)
class Scene:
    """The way of a camera, and what stands around it."""

    poses: Sequence[Pose]
    distance_m: float
    fov: float
    picture: Pixels


def plot(preset: Preset, picture: Pixels, limits: Limits, distance_m: float, fov: float) -> Pixels:
    """The finished picture of ``preset``, played once from home by a Director with these limits."""
    director = Director(limits, distance_m)
    director.go(preset, 0.0)
    passes = 2 if preset.on_end == "return" else 1
    total_s = preset.delay_s / preset.speed + passes * preset.duration_s / preset.speed
    poses = [director.pose(total_s * i / SAMPLES) for i in range(SAMPLES + 1)]
    scene = Scene(poses, distance_m, fov, picture)
    accent = parsed_colour(preset.colour)

    canvas = Canvas()
    _head(canvas, preset, director.status(total_s).limited, accent)
    _view(canvas, ABOVE, "From above", scene, (0, 2), accent)
    _view(canvas, SIDE, "From the side", scene, (2, 1), accent)
    for box, name, index in zip(
        THUMBNAILS, ("Start", "Middle", "End"), (0, SAMPLES // 2, SAMPLES), strict=True
    ):
        _thumbnail(canvas, box, name, index / SAMPLES * total_s, scene, poses[index])
    return canvas.finished()


def parsed_colour(text: str) -> Rgb:
    red, green, blue = (int(text[i : i + 2], 16) for i in (1, 3, 5))
    return (red, green, blue)


def _head(canvas: Canvas, preset: Preset, limited: Sequence[str], accent: Rgb) -> None:
    canvas.rectangle(Box(0, 0, SIZE[0], 6), accent)
    canvas.disc((54, 56), 22, accent)
    if preset.slot is not None:
        canvas.text(str(preset.slot), 54, 63, 14, BACKGROUND, centred=True)
    canvas.text(preset.label, 92, 60, 22)
    facts = [preset.name, preset.kind, f"{preset.duration_s / preset.speed:g} s", preset.easing]
    facts.append(f"then {preset.next}" if preset.next else preset.on_end)
    canvas.text("   ".join(facts), 92, 88, 11, FAINT)
    if limited:
        canvas.text(f"at its limit: {', '.join(limited)}", 1000, 88, 11, SUBJECT)


def _view(canvas: Canvas, box: Box, title: str, scene: Scene, axes: tuple[int, int], accent: Rgb) -> None:
    """``axes``: which of x, y, z goes to the right and which upwards on the page (y is drawn up)."""
    canvas.rectangle(box, PANEL)
    way = np.array([pose.translation for pose in scene.poses])
    subject = np.array((0.0, 0.0, scene.distance_m))
    page = _Page.around(box, _flat(np.vstack((way, subject, np.zeros(3))), axes), scene.distance_m * 0.16)
    _grid(canvas, box, page, scene.distance_m)

    at_subject = page.at(_flat(subject, axes))
    canvas.line(np.array((page.at(_flat(np.zeros(3), axes)), at_subject)), GRID, 1.5)
    _camera(canvas, page, IDENTITY, axes, scene, FAINT)
    canvas.line(np.array([page.at(point) for point in _flat(way, axes)]), accent, 2.5)
    for i in range(CAMERAS):
        share = i / (CAMERAS - 1)
        colour = _mixed(START, accent, share)
        _camera(canvas, page, scene.poses[round(share * (len(scene.poses) - 1))], axes, scene, colour)
    canvas.disc(at_subject, 9, SUBJECT)
    canvas.text("subject", at_subject[0] + 16, at_subject[1] + 5, 10, SUBJECT)
    canvas.text(title, box.left + 18, box.top + 30, 13)


def _flat(points: NDArray[np.float64], axes: tuple[int, int]) -> Points:
    """Onto the page: the second axis upwards; OpenCV's y goes down and is turned."""
    right, up = axes
    flat = np.stack((points[..., right], points[..., up] * (-1 if up == 1 else 1)), axis=-1)
    return np.asarray(flat)


@dataclass(frozen=True)
class _Page:
    """Metres to pixels, the same scale both ways."""

    centre: Points
    middle: Points
    scale: float

    @classmethod
    def around(cls, box: Box, points: Points, margin_m: float) -> _Page:
        low, high = points.min(axis=0) - margin_m, points.max(axis=0) + margin_m
        span = np.maximum(high - low, 1e-6)
        scale = min(box.width / float(span[0]), (box.height - 40) / float(span[1]))
        centre = np.array((box.left + box.width / 2, box.top + box.height / 2 + 12))
        return cls(centre, (low + high) / 2, scale)

    def at(self, point: Points) -> Point:
        x, y = (point - self.middle) * self.scale
        return float(self.centre[0] + x), float(self.centre[1] - y)


def _grid(canvas: Canvas, box: Box, page: _Page, distance_m: float) -> None:
    """A line each tenth of the subject's distance, or each metre or ten where that is too dense."""
    step_m = next(s for s in (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 100.0) if s * page.scale > 40)
    reach = int(max(box.width, box.height) / (step_m * page.scale)) + 2
    for i in range(-reach, reach + 1):
        x, _ = page.at(np.array((round(page.middle[0] / step_m + i) * step_m, 0.0)))
        _, y = page.at(np.array((0.0, round(page.middle[1] / step_m + i) * step_m)))
        if box.left < x < box.right:
            canvas.line(np.array(((x, box.top), (x, box.bottom))), GRID, 0.5)
        if box.top < y < box.bottom:
            canvas.line(np.array(((box.left, y), (box.right, y))), GRID, 0.5)
    canvas.text(f"grid {step_m:g} m", box.right - 110, box.bottom - 14, 9, FAINT)


def _camera(
    canvas: Canvas, page: _Page, pose: Pose, axes: tuple[int, int], scene: Scene, colour: Rgb
) -> None:
    """A dot, and the edges of the field of view as the page sees them."""
    length = scene.distance_m * 0.14
    half = np.tan(scene.fov / 2) / pose.zoom * (1 if axes == (0, 2) else SIZE[1] / SIZE[0])
    across = 0 if axes == (0, 2) else 1
    position = np.array(pose.translation)
    corners = []
    for side in (-1.0, 1.0):
        ray = np.array((0.0, 0.0, 1.0))
        ray[across] = side * half
        corners.append(page.at(_flat(position + pose.matrix() @ ray * length, axes)))
    at = page.at(_flat(position, axes))
    canvas.line(np.array((corners[0], at, corners[1], corners[0])), colour, 1.2)
    canvas.disc(at, 4, colour)


def _mixed(a: Rgb, b: Rgb, share: float) -> Rgb:
    red, green, blue = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return (red, green, blue)


def _thumbnail(canvas: Canvas, box: Box, name: str, at_s: float, scene: Scene, pose: Pose) -> None:
    canvas.rectangle(box, PANEL)
    height, width = scene.picture.shape[:2]
    shown = Box(box.left, box.top, round(box.height * width / height), box.height)
    if shown.width > box.width:
        shown = Box(box.left, box.top, box.width, round(box.width * height / width))
    canvas.picture(reprojected(scene, pose, (shown.width * FINE, shown.height * FINE)), shown)
    left = min(shown.right + 14, box.right - 120)
    canvas.text(name, left, box.top + 26, 12)
    right, down, forward = pose.translation
    pan, tilt, roll = np.degrees(pose.angles())
    facts = [f"{at_s:.1f} s"]
    facts += [
        f"{word} {_signed(angle, 0)} deg" for word, angle in (("pan", pan), ("tilt", tilt), ("roll", roll))
    ]
    lengths = (("right", right), ("up", -down), ("forward", forward))
    facts += [f"{word} {_signed(length, 2)} m" for word, length in lengths]
    facts.append(f"zoom {pose.zoom:.2f}")
    for i, fact in enumerate(facts):
        canvas.text(fact, left, box.top + 52 + i * 24, 9, FAINT)


def _signed(value: float, digits: int) -> str:
    """Without a negative zero."""
    return f"{round(value, digits) + 0.0:+.{digits}f}"


def reprojected(scene: Scene, pose: Pose, size: tuple[int, int]) -> Pixels:
    """The picture as a plane at the subject, seen from ``pose``; dark where the camera saw nothing."""
    height, width = scene.picture.shape[:2]
    lens = Intrinsics.from_horizontal_fov(width, height, scene.fov)
    homography = plane_homography(lens, lens.scaled(*size), pose, scene.distance_m)
    warped = cv2.warpPerspective(
        scene.picture, homography, size, flags=cv2.INTER_LINEAR, borderValue=(8, 10, 14)
    )
    return np.asarray(warped, np.uint8)


def drawn_room(width: int = 1280, height: int = 720) -> Pixels:
    """A room drawn from lines with somebody in it, where no other picture is at hand."""
    picture = np.full((height, width, 3), (58, 70, 88), np.uint8)
    cv2.rectangle(picture, (0, round(height * 0.78)), (width, height), (44, 52, 66), -1)
    for x in range(0, width, width // 16):
        cv2.line(picture, (x, 0), (x, height), (72, 86, 106), 2, cv2.LINE_AA)
    for y in range(0, height, height // 9):
        cv2.line(picture, (0, y), (width, y), (72, 86, 106), 2, cv2.LINE_AA)
    cv2.rectangle(picture, (3, 3), (width - 4, height - 4), (120, 138, 164), 3)
    middle = width // 2
    shirt, skin = (47, 92, 158), (214, 170, 140)
    body = ((middle, round(height * 0.98)), (height // 4, round(height * 0.4)), 180, shirt)
    head = ((middle, round(height * 0.42)), (height // 10, height // 8), 0, skin)
    for centre, radii, from_deg, colour in (body, head):
        cv2.ellipse(picture, centre, radii, 0, from_deg, 360, colour, -1, cv2.LINE_AA)
    return picture
