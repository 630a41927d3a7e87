"""Bakes people for the pack: bodies as a linear model, clothes and hair that follow it, a skeleton, face
units.

Knows which bodies, garments and hair there are and how they are thinned out. Knows nothing of downloads,
colours, pictures or of how a person moves.

Every part (body, garment, hair) is decimated once, on the mean body, and each of its new vertices stays
tied to a point on the original surface; so all bodies share one topology. The parts and joints of all
bodies are then written as a mean and principal directions. Shapes: V vertices of the base mesh, P points of
a part, C corners (points with a texture coordinate), N faces, B bones, K directions.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.data.bake.makehuman import Assets, Proxy
from engine.data.bake.shapes import Body, Shapes
from engine.data.bake.thinning import Part, decimated, islands, triangles

BODIES_SEED, BODIES_PER_GENDER, HELDOUT_PER_GENDER, DIRECTIONS = 4, 34, 10, 36
STEP_M = 1e-4  # positions are stored in tenths of a millimetre

# Bones that move; the weights of all others (face, toes, palm) go to their nearest ancestor among these.
BONES = (
    *("root", "spine05", "spine04", "spine03", "spine02", "spine01", "neck01", "neck02", "neck03", "head"),
    *(
        f"{bone}.{side}"
        for side in "LR"
        for bone in (
            *(
                "eye",
                "clavicle",
                "shoulder01",
                "upperarm01",
                "upperarm02",
                "lowerarm01",
                "lowerarm02",
                "wrist",
            ),
            *(f"finger{finger}-{joint}" for finger in range(1, 6) for joint in range(1, 4)),
            *("pelvis", "upperleg01", "upperleg02", "lowerleg01", "lowerleg02", "foot", "toe1-1"),
        )
    ),
)
UNITS = {  # the face units of the pack, and the ones of ARKit's names that they are made of
    "jaw": ("jawOpen",),
    "funnel": ("mouthFunnel",),
    "pucker": ("mouthPucker",),
    "smile": ("mouthSmileLeft", "mouthSmileRight"),
    "lips": ("mouthLowerDownLeft", "mouthLowerDownRight", "mouthUpperUpLeft", "mouthUpperUpRight"),
    "blink": ("eyeBlinkLeft", "eyeBlinkRight"),
    "brows": ("browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
}


@dataclass(frozen=True, kw_only=True)
class Garment:
    """A file of clothes or hair: which of its islands of texture coordinates belong to which region.

    Islands are counted in the order of their first vertices; those that no region names belong to `rest`,
    and those of the region "" are left out (buttons, belts).
    """

    name: str
    kind: str  # suit, shoes or hair
    wearers: str  # "fm", "f" or "m"
    faces: int
    rest: str
    regions: dict[str, tuple[int, ...]]
    heldout: bool = False


def suit(name: str, wearers: str, faces: int, heldout: bool = False, **regions: tuple[int, ...]) -> Garment:
    drop = {"" if region == "drop" else region: islands for region, islands in regions.items()}
    return Garment(
        name=name, kind="suit", wearers=wearers, faces=faces, rest="top", regions=drop, heldout=heldout
    )


def shoes(name: str, heldout: bool, sole: tuple[int, ...], sock: tuple[int, ...]) -> Garment:
    regions = {"sole": sole, "sock": sock}
    return Garment(
        name=name, kind="shoes", wearers="fm", faces=360, rest="shoe", regions=regions, heldout=heldout
    )


def hair(name: str, wearers: str, faces: int, heldout: bool = False) -> Garment:
    return Garment(
        name=name, kind="hair", wearers=wearers, faces=faces, rest="hair", regions={}, heldout=heldout
    )


GARMENTS = (
    suit("male_casualsuit01", "m", 2000, bottom=(2, 3)),
    suit("male_casualsuit02", "fm", 1700, bottom=(0, 1)),
    suit("male_casualsuit03", "fm", 1800, bottom=(9, 10)),
    suit("male_casualsuit04", "fm", 1400, heldout=True, bottom=(4, 5)),
    suit("male_casualsuit05", "m", 2100, bottom=(19, 20), shirt=(15, 16, 17, 18)),
    suit("male_casualsuit06", "fm", 1700, bottom=(4, 5)),
    suit(
        "male_elegantsuit01",
        "m",
        2400,
        bottom=(0, 1),
        shirt=(3, 6, 17, 18, 19, 20),
        drop=(11, 12, 13, 14, 15, 16, 21, 22),
    ),
    suit("male_worksuit01", "m", 1800, heldout=True, bottom=(2, 3, 4, 5, 6, 7), drop=(1, 8, 9, 10)),
    suit("female_casualsuit01", "f", 1400, heldout=True, bottom=(4, 5)),
    suit("female_casualsuit02", "f", 1400, bottom=(0, 1, 3, 4), drop=(2,)),
    suit("female_elegantsuit01", "f", 1700, bottom=(0,)),
    shoes("shoes01", False, sole=(1, 3), sock=(4, 5)),
    shoes("shoes02", False, sole=(2, 3), sock=(6, 7)),
    shoes("shoes03", True, sole=(6, 7, 8, 9, 16, 17, 18, 19), sock=(0, 10)),
    hair("short01", "m", 900),
    hair("short02", "fm", 800),
    hair("short03", "fm", 700, heldout=True),
    hair("short04", "m", 700),
    hair("afro01", "fm", 1100, heldout=True),
    hair("bob01", "f", 1300),
    hair("bob02", "f", 1100),
    hair("long01", "f", 1400),
    hair("ponytail01", "f", 1400),
    hair("braid01", "f", 1500, heldout=True),
)

HEAD_ISLAND, MOUTH_ISLAND = 0, 1  # of the body's texture coordinates
BODY_FACES, TOOTH_FACES = 4600, 60
BODY_REGIONS = ("skin", "face", "mouth", "eye", "teeth")


class Rig:
    """MPFB's skeleton: joints as means of vertices, weights folded onto the bones that move."""

    def __init__(self, assets: Assets, shapes: Shapes) -> None:
        self.rig = json.loads(assets.find("standard/rig.default.json").read_text())
        self.mesh = shapes.mesh
        self.kept = {bone: self._ancestor(bone) for bone in self.rig}
        self.parents = [
            BONES.index(self._ancestor(self.rig[b]["parent"])) if self.rig[b]["parent"] else -1 for b in BONES
        ]
        self.weights = np.zeros((len(self.mesh.vertices), len(BONES)))
        listed = json.loads(assets.find("standard/weights.default.json").read_text())["weights"]
        for bone, pairs in listed.items():
            for vertex, weight in pairs if bone in self.kept else ():
                self.weights[vertex, BONES.index(self.kept[bone])] += weight
        self.weights[self.weights.sum(1) < 1e-6, BONES.index("head")] = 1.0
        self.weights /= self.weights.sum(1, keepdims=True)

    def _ancestor(self, bone: str) -> str:
        while bone not in BONES:
            bone = self.rig[bone]["parent"]
        return bone

    def joints(self, base: np.ndarray) -> np.ndarray:
        """B 3: where each bone begins, and one more row, the top of the head's bone."""
        return np.array(
            [self._point(base, self.rig[b]["head"]) for b in BONES]
            + [self._point(base, self.rig["head"]["tail"])]
        )

    def _point(self, base: np.ndarray, spec: dict[str, Any]) -> np.ndarray:
        if spec["strategy"] == "CUBE":
            indices: Any = self.mesh.vertices_of(spec["cube_name"])
        else:
            indices = spec.get("vertex_indices") or [spec["vertex_index"]]
        return np.asarray(base[indices].mean(0))


@dataclass(frozen=True, kw_only=True)
class Baked:
    """A part that is ready to store, and how its points follow a body."""

    name: str
    kind: str  # body, suit, shoes or hair
    wearers: str
    heldout: bool
    regions: tuple[str, ...]
    part: Part
    weights: np.ndarray  # P B
    points: Callable[[np.ndarray], np.ndarray]  # base vertices → P 3, decimetres
    hidden: np.ndarray | None = None  # base vertices under it


def head_uv(points: np.ndarray, joint: np.ndarray, top: np.ndarray) -> np.ndarray:
    """The face as seen from in front (v up), from below the chin to the crown; what is behind goes to the
    rims."""
    height = top[1] - joint[1]
    x, y, z = ((points[:, k] - joint[k]) / height for k in range(3))
    u = np.where(z > 0, 0.5 + x / 1.12, np.where(x > 0, 1.0, 0.0))
    return np.column_stack([u, (y + 0.35) / 1.25]).clip(0, 1)


def enlarged_head(vertices: np.ndarray, joint: np.ndarray) -> np.ndarray:
    """The body as decimation should weigh it: the head counts for more, the feet, under shoes, for less."""
    near = np.clip((vertices[:, 1] - joint[1] + 0.3) / 0.8, 0.0, 1.0)[:, None]
    foot = np.clip((vertices[:, 1].min() + 1.2 - vertices[:, 1]) / 0.6, 0.0, 1.0)[:, None]
    return np.asarray(joint + (vertices - joint) * (1 + 1.1 * near) * (1 - 0.15 * foot))


def body_part(shapes: Shapes, rig: Rig, mean: np.ndarray) -> Baked:
    """Skin, face, mouth, the front of the eyes and the upper teeth."""
    mesh = shapes.mesh
    joint, top = rig.joints(mean)[BONES.index("head")], rig.joints(mean)[-1]
    pieces = []
    groups = (
        ("body", BODY_FACES),
        ("helper-l-eye", 999),
        ("helper-r-eye", 999),
        ("helper-upper-teeth", TOOTH_FACES),
    )
    for group, count in groups:
        which = mesh.faces_of(group)
        faces = triangles([mesh.faces[i] for i in which])
        face_uvs = triangles([mesh.face_uvs[i] for i in which])
        shape, uvs = mean, mesh.uvs
        if group == "body":
            island = islands(face_uvs, len(mesh.uvs))
            regions = np.select([island == HEAD_ISLAND, island == MOUTH_ISLAND], [1, 2], 0)
            shape = enlarged_head(mean, joint)
        else:
            regions = np.full(len(faces), 4 if group.endswith("teeth") else 3)
        if group.endswith("eye"):
            centre = mean[np.unique(faces)].mean(0)
            front = mean[faces].mean(1)[:, 2] > centre[2]
            faces, face_uvs, regions = faces[front], face_uvs[front], regions[front]
        part = decimated(shape, faces, face_uvs, uvs, regions, count)
        pieces.append(part)
    part = stacked(pieces)
    uv = part.uv.copy()
    points = part.carry(mean)[part.corner_points]
    of_face = np.unique(part.faces[part.regions == 1])
    uv[of_face] = head_uv(points[of_face], joint, top)
    for side in "LR":
        eye = points - rig.joints(mean)[BONES.index(f"eye.{side}")]
        mine = np.unique(part.faces[part.regions == 3])
        mine = mine[np.abs(eye[mine, 0]) < 0.2]
        radius = np.ptp(points[mine, 1]) / 2
        uv[mine] = 0.5 + 0.5 * eye[mine, :2] / radius
    part = replace(part, uv=uv)
    return Baked(
        name="body",
        kind="body",
        wearers="fm",
        heldout=False,
        regions=BODY_REGIONS,
        part=part,
        weights=part.carry(rig.weights),
        points=part.carry,
    )


def stacked(parts: list[Part]) -> Part:
    """Several parts of one original as one."""
    points = np.cumsum([0] + [len(p.anchors) for p in parts])
    corners = np.cumsum([0] + [len(p.uv) for p in parts])
    return Part(
        anchors=np.concatenate([p.anchors for p in parts]),
        weights=np.concatenate([p.weights for p in parts]),
        corner_points=np.concatenate([p.corner_points + n for p, n in zip(parts, points, strict=False)]),
        uv=np.concatenate([p.uv for p in parts]),
        faces=np.concatenate([p.faces + n for p, n in zip(parts, corners, strict=False)]),
        regions=np.concatenate([p.regions for p in parts]),
    )


def worn_part(garment: Garment, assets: Assets, rig: Rig, mean: np.ndarray) -> Baked:
    """A garment or hair; texture coordinates of cloth become metres on the cloth."""
    proxy = Proxy(assets, garment.name)
    rest = proxy.fit(mean)
    faces, face_uvs = triangles(proxy.mesh.faces), triangles(proxy.mesh.face_uvs)
    island = islands(face_uvs, len(proxy.mesh.uvs))
    names = (garment.rest, *(n for n in garment.regions if n))
    regions = np.zeros(len(faces), int)
    for name, which in garment.regions.items():
        regions[np.isin(island, which)] = names.index(name) if name else -1
    keep = regions >= 0
    faces, face_uvs, regions = faces[keep], face_uvs[keep], regions[keep]
    uvs = proxy.mesh.uvs * metres_per_uv(rest, faces, proxy.mesh.uvs, face_uvs)
    part = decimated(rest, faces, face_uvs, uvs, regions, garment.faces)
    weights = np.einsum("vk,vkb->vb", proxy.weights, rig.weights[proxy.anchors]).clip(0)
    hidden = np.zeros(len(mean), bool)
    hidden[list(proxy.hidden)] = True
    return Baked(
        name=garment.name,
        kind=garment.kind,
        wearers=garment.wearers,
        heldout=garment.heldout,
        regions=names,
        part=part,
        weights=part.carry(weights),
        points=lambda base: part.carry(proxy.fit(base)),
        hidden=hidden,
    )


def metres_per_uv(rest: np.ndarray, faces: np.ndarray, uvs: np.ndarray, face_uvs: np.ndarray) -> float:
    """The side of the texture's square on the surface, from the ratio of areas."""
    a, b, c = (0.1 * rest[faces[:, k]] for k in range(3))
    u, v, w = (uvs[face_uvs[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()
    flat = np.abs(np.linalg.det(np.stack([v - u, w - u], 1))).sum()
    return float(np.sqrt(area / flat))


def face_units(assets: Assets, body: Baked, count: int) -> dict[str, np.ndarray]:
    """P 3 offsets in metres, y down, of each unit at full strength."""
    out = {}
    for unit, sources in UNITS.items():
        offset = sum(assets.target(f"{source}.target", count) for source in sources)
        out[unit] = world(body.part.carry(np.asarray(offset)))
    return out


def world(points_dm: np.ndarray) -> np.ndarray:
    """MakeHuman's decimetres (y up, facing +z) in the pack's metres (y down, facing -z)."""
    return np.asarray(points_dm * (0.1, -0.1, -0.1))


def drawn_bodies(shapes: Shapes, rng: np.random.Generator) -> list[Body]:
    """Women, then men, of each the held-out ones first."""
    return [
        shapes.draw(gender, k < HELDOUT_PER_GENDER, rng)
        for gender in ("female", "male")
        for k in range(BODIES_PER_GENDER)
    ]


def mean_body(shapes: Shapes, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(np.mean([b.vertices for b in drawn_bodies(shapes, rng)], axis=0))


def bake_people(assets: Assets, out: Path, progress: Callable[[str], None]) -> None:
    """Write `people.npz`."""
    shapes = Shapes(assets)
    rig = Rig(assets, shapes)
    bodies = drawn_bodies(shapes, np.random.default_rng(BODIES_SEED))
    mean = np.mean([b.vertices for b in bodies], axis=0)
    progress(f"{len(bodies)} bodies drawn")
    parts = [body_part(shapes, rig, mean)]
    progress(f"body: {len(parts[0].part.faces)} faces")
    for garment in GARMENTS:
        parts.append(worn_part(garment, assets, rig, mean))
        progress(f"{garment.name}: {len(parts[-1].part.faces)} faces")
    rows = []
    for body in bodies:
        pieces = [p.points(body.vertices) for p in parts] + [rig.joints(body.vertices)]
        rows.append(world(np.concatenate(pieces)).ravel())
    arrays = linear_model(np.array(rows))
    arrays |= stored_bodies(bodies) | stored_parts(parts)
    arrays["bone_parents"] = np.array(rig.parents, np.int8)
    arrays["bone_names"] = np.array(BONES)
    for unit, offset in face_units(assets, parts[0], len(mean)).items():
        arrays[f"unit/{unit}"] = np.round(offset / STEP_M).astype(np.int16)
    for p in parts:
        if p.hidden is not None:
            under = parts[0].part.carry(p.hidden[:, None].astype(float))[:, 0] > 0.5
            arrays[f"hides/{p.name}"] = np.packbits(under)
    np.savez_compressed(out, allow_pickle=False, **arrays)
    progress(f"{out.name}: {out.stat().st_size / 1e6:.1f} MB")


def linear_model(rows: np.ndarray) -> dict[str, np.ndarray]:
    """Principal directions of the bodies' points; a coefficient of one is the greatest among the bodies."""
    mean = rows.mean(0)
    u, s, vt = np.linalg.svd(rows - mean, full_matrices=False)
    coefficients = (u * s)[:, :DIRECTIONS]
    reach = np.abs(coefficients).max(0)
    directions = vt[:DIRECTIONS] * reach[:, None]
    return {
        "mean": np.round(mean / STEP_M).astype(np.int16).reshape(-1, 3),
        "directions": np.round(directions / STEP_M).astype(np.int16).reshape(DIRECTIONS, -1, 3),
        "coefficients": (coefficients / reach).astype(np.float32),
    }


def stored_bodies(bodies: list[Body]) -> dict[str, np.ndarray]:
    return {
        "female": np.array([b.gender == "female" for b in bodies]),
        "heldout": np.array([b.heldout for b in bodies]),
        "races": np.array([b.races for b in bodies], np.float32),
    }


def stored_parts(parts: list[Baked]) -> dict[str, np.ndarray]:
    """Per part: which points of the model are its own, topology, texture coordinates, weights."""
    arrays: dict[str, np.ndarray] = {}
    table, start = [], 0
    for p in parts:
        count = len(p.part.anchors)
        table.append(
            (p.name, p.kind, p.wearers, str(int(p.heldout)), ",".join(p.regions), str(start), str(count))
        )
        start += count
        bones = np.argsort(-p.weights, axis=1)[:, :4]
        weights = np.take_along_axis(p.weights, bones, 1)
        arrays[f"{p.name}/bones"] = bones.astype(np.uint8)
        arrays[f"{p.name}/weights"] = np.round(weights / weights.sum(1, keepdims=True) * 255).astype(np.uint8)
        arrays[f"{p.name}/corner_points"] = p.part.corner_points.astype(np.uint16)
        arrays[f"{p.name}/uv"] = np.round(p.part.uv * 2048).astype(np.int16)
        arrays[f"{p.name}/faces"] = p.part.faces.astype(np.uint16)
        arrays[f"{p.name}/regions"] = p.part.regions.astype(np.uint8)
    arrays["parts"] = np.array(table)
    return arrays
