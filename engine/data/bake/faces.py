"""Paints the faces and eyes of the pack: small pictures that multiply a skin's colour.

Knows where brows, lips and beards are on the base mesh. Knows nothing of shapes, clothes or where the
pictures go. Pictures are H W 3 sRGB bytes; white leaves the skin as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from engine.data.bake.makehuman import Assets, Proxy
from engine.data.bake.people import BONES, HEAD_ISLAND, Rig, head_uv
from engine.data.bake.shapes import Shapes
from engine.data.bake.textures import read_picture
from engine.data.bake.thinning import islands, triangles

SIZE, FINE = 256, 1024  # painted at the finer size


@dataclass(frozen=True, kw_only=True)
class FacePaint:
    """What tells one painted face from another. Strengths are 0 to 1."""

    name: str
    wearers: str  # "f" or "m"
    brows: str
    brow: float
    lips: float
    beard: float = 0.0
    moustache: float = 0.0
    stubble: float = 0.0
    freckles: float = 0.0
    age: float = 0.0
    lashes: float = 0.5
    heldout: bool = False


FACES = (
    FacePaint(name="face_f_plain", wearers="f", brows="eyebrow001", brow=0.55, lips=0.45, lashes=0.7),
    FacePaint(name="face_f_red", wearers="f", brows="eyebrow003", brow=0.65, lips=0.9, lashes=1.0),
    FacePaint(name="face_f_freckles", wearers="f", brows="eyebrow006", brow=0.5, lips=0.4, freckles=0.8),
    FacePaint(name="face_f_older", wearers="f", brows="eyebrow010", brow=0.45, lips=0.5, age=0.9),
    FacePaint(
        name="face_f_made_up", wearers="f", brows="eyebrow012", brow=0.8, lips=0.75, lashes=1.0, heldout=True
    ),
    FacePaint(name="face_m_plain", wearers="m", brows="eyebrow002", brow=0.75, lips=0.3),
    FacePaint(name="face_m_stubble", wearers="m", brows="eyebrow005", brow=0.85, lips=0.3, stubble=0.5),
    FacePaint(
        name="face_m_beard", wearers="m", brows="eyebrow004", brow=0.85, lips=0.3, beard=0.9, moustache=0.9
    ),
    FacePaint(
        name="face_m_older", wearers="m", brows="eyebrow008", brow=0.6, lips=0.25, age=1.0, stubble=0.2
    ),
    FacePaint(
        name="face_m_moustache",
        wearers="m",
        brows="eyebrow009",
        brow=0.8,
        lips=0.3,
        moustache=0.9,
        stubble=0.25,
    ),
    FacePaint(
        name="face_m_goatee",
        wearers="m",
        brows="eyebrow011",
        brow=0.8,
        lips=0.3,
        beard=0.5,
        stubble=0.3,
        heldout=True,
    ),
)
EYES = {  # iris colours, sRGB in 0..1
    "eye_brown": (0.28, 0.16, 0.08),
    "eye_dark": (0.13, 0.08, 0.05),
    "eye_blue": (0.35, 0.48, 0.62),
    "eye_green": (0.36, 0.42, 0.26),
}


class Canvas:
    """The head of the base mesh in the coordinates of the face's picture."""

    def __init__(self, assets: Assets, shapes: Shapes, rig: Rig, mean: np.ndarray) -> None:
        self.assets, self.mean = assets, mean
        mesh = shapes.mesh
        joints = rig.joints(mean)
        self.joint, self.top = joints[BONES.index("head")], joints[-1]
        which = mesh.faces_of("body")
        faces, face_uvs = (triangles([source[i] for i in which]) for source in (mesh.faces, mesh.face_uvs))
        mine = islands(face_uvs, len(mesh.uvs)) == HEAD_ISLAND
        self.faces, self.face_uvs, self.uvs = faces[mine], face_uvs[mine], mesh.uvs
        self.eyes = [joints[BONES.index(f"eye.{side}")] for side in "LR"]

    def pixels(self, points: np.ndarray) -> np.ndarray:
        uv = head_uv(points, self.joint, self.top)
        return np.asarray(np.column_stack([uv[:, 0], 1 - uv[:, 1]]) * FINE)

    def fill(self, points: np.ndarray, faces: np.ndarray, values: np.ndarray) -> np.ndarray:
        """FINE FINE: each front face filled with its value (N,), in the order from back to front."""
        out = np.zeros((FINE, FINE), np.float32)
        at = np.round(self.pixels(points) * 16).astype(np.int32)
        depth = points[faces].mean(1)[:, 2]
        for k in np.argsort(depth):
            if depth[k] > self.joint[2] + 0.1:  # what is behind has no place in the picture
                cv2.fillConvexPoly(out, at[faces[k]], float(values[k]), cv2.LINE_AA, 4)
        return out

    def mask(self, name: str) -> np.ndarray:
        """One of MPFB's masks of the skin, laid over the face."""
        picture = read_picture(self.assets.find(f"textures/mpfb_{name}.jpg"))[..., 0]
        centre = self.uvs[self.face_uvs].mean(1)
        at = np.clip((centre * (1, -1) + (0, 1)) * len(picture), 0, len(picture) - 1).astype(int)
        return self.fill(self.mean, self.faces, picture[at[:, 1], at[:, 0]] / 255.0)

    def brows(self, name: str) -> np.ndarray:
        """The eyebrows' area, thinned to the hairs' and faded at its rim."""
        proxy = Proxy(self.assets, name)
        faces = triangles(proxy.mesh.faces)
        area = self.fill(proxy.fit(self.mean), faces, np.ones(len(faces)))
        inside = cv2.distanceTransform((area > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
        return np.asarray(np.clip(inside / max(float(inside.max()), 1.0) * 1.6 - 0.25, 0, 1), np.float32)

    def cavities(self) -> np.ndarray:
        """Where the surface is hollow (0..1): the lids' fold, beside the nose, between the lips."""
        total, count = np.zeros_like(self.mean), np.zeros(len(self.mean))
        for a, b in ((0, 1), (1, 2), (2, 0)):
            np.add.at(total, self.faces[:, a], self.mean[self.faces[:, b]])
            np.add.at(count, self.faces[:, a], 1)
        normal = np.zeros_like(self.mean)
        p, q, r = (self.mean[self.faces[:, k]] for k in range(3))
        across = np.cross(q - p, r - p)
        for k in range(3):
            np.add.at(normal, self.faces[:, k], across)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
        around = total / np.maximum(count, 1)[:, None]
        hollow = ((around - self.mean) * normal).sum(1) / np.sqrt(np.linalg.norm(across, axis=1).mean())
        return self.fill(self.mean, self.faces, np.clip(hollow[self.faces].mean(1), 0, 1))

    def blob(self, x_dm: float, y_dm: float, wide: float, high: float) -> np.ndarray:
        """A soft spot on the front of the face, placed from the middle between the eyes."""
        middle = (self.eyes[0] + self.eyes[1]) / 2
        point = middle + np.array([x_dm, y_dm, 0.3])
        u, v = self.pixels(point[None])[0]
        y, x = np.mgrid[:FINE, :FINE]
        per_dm = FINE / 1.25 / (self.top[1] - self.joint[1])
        near = np.exp(-(((x - u) / (wide * per_dm)) ** 2) - ((y - v) / (high * per_dm)) ** 2)
        return np.asarray(near, np.float32)


def soft(mask: np.ndarray, pixels: float) -> np.ndarray:
    return np.asarray(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), pixels))


def noise(rng: np.random.Generator, grain: float) -> np.ndarray:
    """FINE FINE of deviation one, with spots of about `grain` pixels."""
    field = soft(rng.normal(size=(FINE, FINE)), grain)
    return np.asarray((field - field.mean()) / field.std())


def painted_face(canvas: Canvas, paint: FacePaint, seed: int) -> np.ndarray:
    """One face as a multiplier of the skin's colour."""
    rng = np.random.default_rng(seed)
    out = np.ones((FINE, FINE, 3), np.float32)

    def multiply(mask: np.ndarray, colour: tuple[float, float, float], strength: float = 1.0) -> None:
        out[:] *= 1 - strength * mask[..., None] * (1 - np.array(colour, np.float32))

    multiply(np.clip(0.4 + 0.25 * noise(rng, 24), 0, 1), (0.95, 0.91, 0.90))
    for side in (-1, 1):
        multiply(canvas.blob(0.43 * side, -0.38, 0.22, 0.18), (1.0, 0.84, 0.80), 0.6)
        multiply(canvas.blob(0.30 * side, 0.0, 0.22, 0.13), (0.80, 0.70, 0.68), 0.55)
    multiply(canvas.blob(0.0, -0.38, 0.12, 0.10), (1.0, 0.82, 0.78), 0.6)
    multiply(soft(canvas.cavities(), 4), (0.45, 0.32, 0.28), 1.0 + paint.age)
    lips = soft(canvas.mask("lips"), 3)
    multiply(lips, (0.86, 0.42, 0.42), 0.2 + 0.8 * paint.lips)
    multiply(canvas.blob(0.0, -0.685, 0.24, 0.022), (0.35, 0.16, 0.15), 0.75)
    multiply(soft(canvas.mask("eyelids"), 4), (0.45, 0.33, 0.30), 0.4 + 0.6 * paint.lashes)
    if paint.freckles:
        spots = np.clip(noise(rng, 3) - 1.2, 0, 1)
        multiply(spots * canvas.blob(0.0, -0.3, 0.55, 0.22), (0.6, 0.42, 0.32), paint.freckles)
    if paint.age:
        for y in (0.42, 0.52, 0.62):
            multiply(canvas.blob(0.0, y, 0.38, 0.016), (0.75, 0.68, 0.64), 0.5 * paint.age)
        for side in (-1, 1):
            multiply(canvas.blob(0.33 * side, -0.13, 0.16, 0.02), (0.7, 0.6, 0.56), 0.6 * paint.age)
    hairs = np.clip(0.75 + 0.25 * noise(rng, 2.0), 0, 1)
    jaw = canvas.blob(0.0, -1.0, 0.45, 0.20)
    for side in (-1, 1):
        jaw = jaw + canvas.blob(0.42 * side, -0.88, 0.22, 0.26) + canvas.blob(0.68 * side, -0.5, 0.11, 0.34)
    jaw = np.clip(1.5 * jaw, 0, 1)
    above = np.clip(canvas.blob(0.0, -0.555, 0.25, 0.055) * 1.4, 0, 1)
    chin = np.clip(canvas.blob(0.0, -0.98, 0.20, 0.17) * 1.4, 0, 1)
    bare = 1 - lips
    grown = jaw if paint.beard > 0.6 else chin
    multiply(np.clip(jaw + above, 0, 1) * bare * hairs, (0.62, 0.58, 0.58), paint.stubble)
    multiply(grown * bare * hairs, (0.16, 0.12, 0.10), paint.beard)
    multiply(above * bare * hairs, (0.16, 0.12, 0.10), paint.moustache)
    multiply(soft(canvas.brows(paint.brows), 2) * hairs, (0.13, 0.09, 0.07), paint.brow)
    rim = np.clip(np.minimum(np.arange(FINE), np.arange(FINE)[::-1]) / (0.06 * FINE), 0, 1)[None, :, None]
    faded = 1 - (1 - out) * rim  # the rims also cover the back of the head
    small = cv2.resize(np.clip(faded, 0, 1).astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return np.asarray(np.round(small * 255), np.uint8)


def painted_eye(iris: tuple[float, float, float]) -> np.ndarray:
    """The front of an eyeball, seen from in front: its rim lies under the lids."""
    y, x = np.mgrid[-1:1:256j, -1:1:256j]
    r, angle = np.hypot(x, y)[..., None], np.arctan2(y, x)[..., None]
    fibres = 0.85 + 0.25 * np.sin(angle * 31 + 3 * np.sin(angle * 11))
    colour = np.array(iris) * fibres * (0.75 + 1.4 * (0.46 - r).clip(0))
    white = np.array([0.90, 0.87, 0.85]) * (
        1 - 0.25 * (r - 0.4).clip(0) - 0.25 * np.clip(-y[..., None], 0, 1)
    )
    picture = np.where(r < 0.46, colour, white) * (1 - 0.7 * np.exp(-(((r - 0.46) / 0.05) ** 2)))
    picture = np.where(r < 0.19, 0.02, picture)
    glint = np.exp(-(((x + 0.14) ** 2 + (y + 0.16) ** 2) / 0.06**2))[..., None]
    picture = picture + (1 - picture) * 0.9 * glint
    small = cv2.resize(np.clip(picture, 0, 1).astype(np.float32), (64, 64), interpolation=cv2.INTER_AREA)
    return np.asarray(np.round(small * 255), np.uint8)
