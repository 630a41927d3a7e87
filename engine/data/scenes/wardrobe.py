"""Makes persons of the pack's parts: mixes a body, chooses clothes, hair, a face and colours by a seed.

Knows the stored parts (`people.npz`) and what goes together. Knows nothing of motion, furniture or files'
places.

Shapes: P points, V vertices, N faces, B bones, K directions of the linear model of bodies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.data.render.mesh import Colour, Floats, Indices, Material, Mesh, vertex_normals
from engine.data.scenes.character import Character
from engine.data.scenes.skeleton import Skeleton

STEP_M, UV_STEP = 1e-4, 1 / 2048  # in which positions and texture coordinates are stored
LOOSE_M = np.float32(0.005)  # by which clothes are taken out
UNITS = ("jaw", "funnel", "pucker", "smile", "lips", "blink", "brows")

# Linear RGB. Skins by race (african, asian, caucasian), the darkest and the lightest.
SKINS: tuple[tuple[Colour, Colour], ...] = (
    ((0.085, 0.042, 0.028), (0.26, 0.135, 0.085)),
    ((0.40, 0.24, 0.15), (0.62, 0.43, 0.31)),
    ((0.46, 0.27, 0.19), (0.72, 0.49, 0.39)),
)
HAIRS: dict[str, Colour] = {
    "black": (0.012, 0.010, 0.010),
    "dark brown": (0.035, 0.019, 0.012),
    "brown": (0.085, 0.042, 0.022),
    "light brown": (0.20, 0.11, 0.055),
    "blond": (0.46, 0.31, 0.14),
    "red": (0.26, 0.07, 0.022),
    "grey": (0.30, 0.30, 0.30),
}
BRIGHT: tuple[Colour, ...] = (
    (0.85, 0.84, 0.82), (0.62, 0.03, 0.03), (0.03, 0.12, 0.45), (0.02, 0.20, 0.12), (0.75, 0.45, 0.06),
    (0.30, 0.05, 0.22), (0.10, 0.38, 0.42), (0.70, 0.35, 0.35), (0.35, 0.36, 0.38), (0.55, 0.62, 0.75),
    (0.72, 0.66, 0.50), (0.025, 0.025, 0.03), (0.42, 0.55, 0.30), (0.80, 0.30, 0.10), (0.05, 0.06, 0.13),
)  # fmt: skip
SOBER: tuple[Colour, ...] = (
    (0.020, 0.020, 0.024), (0.020, 0.030, 0.075), (0.09, 0.09, 0.10), (0.24, 0.23, 0.22), (0.10, 0.065, 0.04),
    (0.05, 0.08, 0.16), (0.40, 0.33, 0.22), (0.055, 0.07, 0.05),
)  # fmt: skip
HELDOUT_BRIGHT: tuple[Colour, ...] = (
    (0.50, 0.16, 0.42), (0.08, 0.30, 0.20), (0.85, 0.70, 0.30), (0.20, 0.24, 0.52), (0.60, 0.20, 0.12),
)  # fmt: skip
HELDOUT_SOBER: tuple[Colour, ...] = ((0.15, 0.13, 0.20), (0.12, 0.16, 0.18), (0.30, 0.20, 0.14))
BARE_LEGS = ("female_elegantsuit01", "female_casualsuit02")  # a skirt and shorts: no socks
SHOES: tuple[Colour, ...] = ((0.02, 0.02, 0.02), (0.10, 0.05, 0.025), (0.6, 0.6, 0.58), (0.25, 0.26, 0.28))
SOLES: tuple[Colour, ...] = ((0.02, 0.02, 0.02), (0.55, 0.54, 0.50))


@dataclass(frozen=True, kw_only=True)
class Part:
    """A body, garment or hair as stored: where its points are in the linear model, its topology and
    weights."""

    name: str
    kind: str  # body, suit, shoes or hair
    wearers: str
    heldout: bool
    regions: tuple[str, ...]
    rows: slice  # of the linear model's points
    corner_points: Indices
    uv: Floats
    faces: Indices
    face_regions: Indices
    bones: Indices  # P 4
    weights: Floats  # P 4


@dataclass(frozen=True, kw_only=True)
class Cloth:
    """A picture for garments, and the metres that one repetition covers."""

    name: str
    size_m: float


@dataclass(frozen=True, kw_only=True)
class Looks:
    """Names of pictures to choose from, of one split."""

    faces: tuple[str, ...]
    eyes: tuple[str, ...]
    cloths: tuple[Cloth, ...]
    hairs: tuple[Cloth, ...]


class Wardrobe:
    """All bodies and parts; `person` makes one."""

    def __init__(self, stored: Mapping[str, NDArray[np.generic]]) -> None:
        self.mean = STEP_M * stored["mean"].astype(np.float32)
        self.directions = stored["directions"]  # K, points, 3, in steps: int16 is a quarter of the memory
        self.coefficients = stored["coefficients"].astype(np.float32)
        self.female, self.heldout = stored["female"].astype(bool), stored["heldout"].astype(bool)
        self.races = stored["races"].astype(np.float32)
        self.bones = tuple(str(b) for b in stored["bone_names"])
        self.parents = tuple(int(k) for k in stored["bone_parents"].astype(int))
        self.parts = [self._part(row, stored) for row in stored["parts"]]
        self.body = self.parts[0]
        body_points = self.body.rows.stop
        self.hides = {
            p.name: np.unpackbits(stored[f"hides/{p.name}"].astype(np.uint8))[:body_points].astype(bool)
            for p in self.parts[1:]
        }
        self.units = {}
        for unit in UNITS:
            offsets = STEP_M * stored[f"unit/{unit}"].astype(np.float32)
            moved = np.flatnonzero(np.abs(offsets).max(1) > 0).astype(np.int32)
            self.units[unit] = (moved, offsets[moved])

    def _part(self, row: NDArray[np.generic], stored: Mapping[str, NDArray[np.generic]]) -> Part:
        name, kind, wearers, heldout, regions, start, count = (str(value) for value in row)
        weights = stored[f"{name}/weights"].astype(np.float32)
        return Part(
            name=name,
            kind=kind,
            wearers=wearers,
            heldout=heldout == "1",
            regions=tuple(regions.split(",")),
            rows=slice(int(start), int(start) + int(count)),
            corner_points=stored[f"{name}/corner_points"].astype(np.int32),
            uv=UV_STEP * stored[f"{name}/uv"].astype(np.float32),
            faces=stored[f"{name}/faces"].astype(np.int32),
            face_regions=stored[f"{name}/regions"].astype(np.int32),
            bones=stored[f"{name}/bones"].astype(np.int32),
            weights=weights / weights.sum(1, keepdims=True),
        )

    def person(self, seed: int, looks: Looks, *, heldout: bool) -> Character:
        """The same seed and split, the same person, down to the colours."""
        rng = np.random.default_rng((seed, int(heldout)))
        gender = "f" if rng.random() < 0.5 else "m"
        pool = np.flatnonzero((self.female == (gender == "f")) & (self.heldout == heldout))
        one, other = rng.choice(pool, 2, replace=False)
        share = np.float32(rng.beta(0.7, 0.7))
        coefficients = (1 - share) * self.coefficients[one] + share * self.coefficients[other]
        races = (1 - share) * self.races[one] + share * self.races[other]
        parts = [self.body] + [self._choice(kind, gender, heldout, rng) for kind in ("suit", "shoes")]
        face = str(rng.choice([f for f in looks.faces if f.startswith(f"face_{gender}")]))
        if gender == "f" or rng.random() > 0.08:
            parts.append(self._choice("hair", gender, heldout, rng))
        materials = self._materials(parts, races, face, looks, rng, heldout)
        return self._assembled(f"person-{seed}", heldout, parts, coefficients, materials)

    def _points(self, coefficients: Floats, rows: slice) -> Floats:
        """Some of the model's points for a body, metres."""
        moved = np.einsum("k,kpd->pd", coefficients, self.directions[:, rows].astype(np.float32))
        return np.asarray(self.mean[rows] + np.float32(STEP_M) * moved)

    def _choice(self, kind: str, gender: str, heldout: bool, rng: np.random.Generator) -> Part:
        fitting = [p for p in self.parts if p.kind == kind and p.heldout == heldout and gender in p.wearers]
        return fitting[int(rng.integers(len(fitting)))]

    def _materials(
        self,
        parts: list[Part],
        races: Floats,
        face: str,
        looks: Looks,
        rng: np.random.Generator,
        heldout: bool,
    ) -> dict[tuple[str, str], tuple[Material, float]]:
        """Material and metres per repetition of the texture, by part and region."""
        tone = rng.random()
        ends = np.log(np.array(SKINS))
        skin = np.exp(np.einsum("r,rc->c", races, (1 - tone) * ends[:, 0] + tone * ends[:, 1]))
        skin_colour = _colour(skin)
        eye = looks.eyes[int(rng.integers(len(looks.eyes)))] if races[2] > 0.5 else "eye_dark"
        dark_hair = ("black", "dark brown")
        shade = str(rng.choice(tuple(HAIRS) if races[2] > 0.5 else dark_hair))
        if "older" in face:
            shade = "grey"
        bright, sober = (HELDOUT_BRIGHT, HELDOUT_SOBER) if heldout else (BRIGHT, SOBER)
        out: dict[tuple[str, str], tuple[Material, float]] = {
            ("body", "skin"): (Material(colour=skin_colour, roughness=0.55), 1.0),
            ("body", "face"): (Material(colour=skin_colour, texture=face, roughness=0.5), 1.0),
            ("body", "mouth"): (Material(colour=(0.10, 0.02, 0.02), roughness=0.6), 1.0),
            ("body", "eye"): (Material(colour=(0.85, 0.85, 0.85), texture=eye, roughness=0.15), 1.0),
            ("body", "teeth"): (Material(colour=(0.62, 0.58, 0.50), roughness=0.3), 1.0),
        }
        bare_legs = any(part.name in BARE_LEGS for part in parts)
        for part in parts[1:]:
            for region in part.regions:
                palette, patterned = _palette(part.name, region, bright, sober)
                colour = palette[int(rng.integers(len(palette)))]
                jitter = np.exp(rng.normal(0, 0.2) + rng.normal(0, 0.05, 3))
                colour = _colour(np.clip(np.array(colour) * jitter, 0.005, 0.9))
                cloth = None
                if region == "hair":
                    colour = _colour(np.array(HAIRS[shade]) * np.exp(rng.normal(0, 0.15)) * 1.3)
                    cloth = looks.hairs[0 if "afro" not in part.name else 1]
                elif region == "sock" and bare_legs:
                    colour = skin_colour
                elif patterned and rng.random() < 0.75:
                    cloth = looks.cloths[int(rng.integers(len(looks.cloths)))]
                elif region == "bottom":
                    cloth = next(c for c in looks.cloths if "weave" in c.name)
                size_m = cloth.size_m if cloth else 1.0
                rough = {"hair": 0.55, "shoe": 0.45}.get(region, 0.9)
                material = Material(colour=colour, texture=cloth.name if cloth else None, roughness=rough)
                out[part.name, region] = (material, size_m)
        return out

    def _assembled(
        self,
        name: str,
        heldout: bool,
        parts: list[Part],
        coefficients: Floats,
        materials: dict[tuple[str, str], tuple[Material, float]],
    ) -> Character:
        """One mesh of all parts, without the skin that clothes hide, standing on the floor."""
        hidden = np.any([self.hides[p.name] for p in parts[1:]], axis=0)
        slots: list[Material] = []
        rows, bones, weights, uvs, corners, faces, face_materials = [], [], [], [], [], [], []
        first_point = first_vertex = 0
        for part in parts:
            seen = np.ones(len(part.faces), bool)
            if part is self.body:
                seen = ~hidden[part.corner_points[part.faces]].all(1)
            uv, slot_of = part.uv.copy(), np.zeros(len(part.regions), np.int32)
            for k, region in enumerate(part.regions):
                material, size_m = materials[part.name, region]
                uv[np.unique(part.faces[part.face_regions == k])] /= np.float32(size_m)
                slot_of[k] = len(slots)
                slots.append(material)
            uv[:, 1] = (1 if part is self.body else 0) - uv[:, 1]  # stored with v up
            rows.append(self._points(coefficients, part.rows))
            if part.kind == "suit":  # thinned cloth and thinned skin cross each other where they were close
                topology = part.corner_points[part.faces]
                rows[-1] = rows[-1] + LOOSE_M * vertex_normals(rows[-1], topology)
            bones.append(part.bones)
            weights.append(part.weights)
            uvs.append(uv)
            corners.append(part.corner_points + np.int32(first_point))
            faces.append(part.faces[seen] + np.int32(first_vertex))
            face_materials.append(slot_of[part.face_regions[seen]])
            first_point += len(rows[-1])
            first_vertex += len(part.uv)
        rest, face_array, vertex_points = np.concatenate(rows), np.concatenate(faces), np.concatenate(corners)
        joints = self._points(coefficients, slice(-len(self.bones) - 1, None)).astype(np.float64)
        used = np.unique(vertex_points[face_array])
        floor = rest[used, 1].max()
        rest[:, 1] -= floor
        joints[:, 1] -= floor
        point_normals = vertex_normals(rest, vertex_points[face_array])
        mesh = Mesh(
            positions=rest[vertex_points], normals=point_normals[vertex_points], uv=np.concatenate(uvs),
            faces=face_array, face_materials=np.concatenate(face_materials), materials=tuple(slots),
        )  # fmt: skip
        return Character(
            name=name,
            heldout=heldout,
            assets=tuple(p.name for p in parts),
            height_m=float(-rest[used, 1].min()),
            mesh=mesh,
            skeleton=Skeleton(names=self.bones, parents=self.parents, joints=joints[: len(self.bones)]),
            points=rest,
            point_normals=point_normals,
            vertex_points=vertex_points,
            bones=np.concatenate(bones),
            weights=np.concatenate(weights),
            units=self.units,
        )


def _colour(values: NDArray[np.floating]) -> Colour:
    r, g, b = (float(np.round(v, 4)) for v in values)
    return (r, g, b)


def _palette(
    part: str, region: str, bright: tuple[Colour, ...], sober: tuple[Colour, ...]
) -> tuple[tuple[Colour, ...], bool]:
    """Colours that a region may have, and whether a pattern suits it."""
    match region:
        case "shoe":
            return SHOES, False
        case "sole":
            return SOLES, False
        case "sock":
            return sober, False
        case "shirt":
            return ((0.85, 0.85, 0.84), (0.55, 0.62, 0.75), (0.80, 0.74, 0.70)), True
        case "bottom":
            return sober, False
        case "top" if "elegant" in part and part.startswith("male"):
            return sober, False
        case _:
            return bright, True
