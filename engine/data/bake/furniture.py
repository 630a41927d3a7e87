"""Bakes furniture from Sweet Home 3D's catalogue of Blend Swap models: CC0 only, thinned out, with small
pictures.

Knows the catalogue, which models are worth having, and their OBJ and MTL files. Knows nothing of downloads
or rooms. A model counts as CC0 only if the licence file in its own folder says so: the catalogue's title is
not enough, some of its models are CC-BY.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engine.data.bake.textures import Picture, read_picture, shrunk
from engine.data.bake.thinning import decimated

MOST_FACES = 1600
TEXTURE_SIDE = 256
CREASE_COS = 0.70  # faces that meet at more than 45 degrees do not share normals
CLEAR = 0.35  # materials more transparent than this are left out: the renderer knows no glass
SOURCE = "Debian sweethome3d-furniture 1.8-1, BlendSwap-CC-0.sh3f, {model}"

MODELS = {  # by category; a star marks the held-out ones
    "chair": "chair antiqueChair osakaChair sillaBlanca silla2 designChair* chairWithCushion plasticChair* "
    "armchair stool* foldingChair chair2",
    "sofa": "couch2 sofa sofa2* L_shaped_sofa modernArmchair relaxChair armchair2 couch*",
    "table": "table oakTable* tableWithTablecloth technicalTable1",
    "desk": "desk technicalTable2*",
    "shelf": "verticalShelves shelves* bookcase wardrobeWithSlidingDoors televisionCabinet* bedsideTable2 "
    "cupboard",
    "plant": "plant plantie* littlePlant cactus* orchids",
    "lamp": "desklamp lamp2* wallLight",
    "instrument": "pianoAQueue electricGuitar* pianoBench",
    "electronics": "led_tv speaker2 speaker3* tableFan",
    "board": "whiteBoard",
    "kitchen": "refrigerator oven coffeeBrewer caffe_final",
    "bed": "bed1* bed2 bed3 bedWithTexture",
    "decoration": "teddyBear basketball caballito box handbag umbrellaFolded bench "
    "crate barrel* dustbin radiator1 fireExtinguisher kalender horse2",
}
ON_TABLES = {
    *("littlePlant", "cactus", "orchids", "desklamp", "lamp2", "led_tv", "speaker2", "tableFan"),
    *("coffeeBrewer", "caffe_final", "teddyBear", "handbag", "kalender"),
}
ON_WALLS = {"wallLight", "radiator1"}


@dataclass(kw_only=True)
class Model:
    """An OBJ file's triangles in metres, in the pack's axes, with materials by name."""

    positions: np.ndarray  # V 3
    uvs: np.ndarray  # U 2, v up
    faces: np.ndarray  # N 3
    face_uvs: np.ndarray  # N 3
    face_materials: np.ndarray  # N
    materials: list[dict[str, Any]] = field(default_factory=list)


def catalogue(folder: Path) -> dict[str, dict[str, str]]:
    """The catalogue's entries by the model's name."""
    entries: dict[str, dict[str, str]] = defaultdict(dict)
    text = (folder / "PluginFurnitureCatalog.properties").read_text(encoding="latin-1")
    for key, number, value in re.findall(r"^(\w+)#(\d+)=(.*)$", text, re.MULTILINE):
        entries[number][key] = value.strip()
    return {Path(e["model"]).parent.name: e for e in entries.values()}


def is_cc0(folder: Path) -> bool:
    """Whether the model's own licence file says CC0, and no other licence."""
    papers = [f for f in folder.iterdir() if f.suffix.lower() in (".txt", ".html")]
    text = " ".join(f.read_text(errors="replace") for f in papers).lower()
    zero = re.search(r"creative commons zero|publicdomain/zero|\bcc-?0\b", text)
    other = re.search(r"licenses/by|creative commons attribution|cc-by", text)
    return bool(zero) and not other


def read_model(obj: Path, entry: dict[str, str]) -> Model:
    """The model, scaled to the catalogue's size, in the middle of the floor, its front towards -z."""
    vertices, uvs, faces, face_uvs, names, which = [], [[0.0, 0.0]], [], [], [], []
    current = 0
    for line in obj.read_text(errors="replace").splitlines():
        word, *rest = line.split() or [""]
        if word == "v":
            vertices.append([float(x) for x in rest[:3]])
        elif word == "vt":
            uvs.append([float(x) for x in rest[:2]])
        elif word == "usemtl":
            if rest[0] not in names:
                names.append(rest[0])
            current = names.index(rest[0])
        elif word == "f":
            corners = [[*token.split("/"), ""][:2] for token in rest]
            v = [_index(c[0], len(vertices)) for c in corners]
            t = [_index(c[1], len(uvs) - 1) + 1 if c[1] else 0 for c in corners]
            for k in range(1, len(v) - 1):
                faces.append([v[0], v[k], v[k + 1]])
                face_uvs.append([t[0], t[k], t[k + 1]])
                which.append(current)
    points = np.array(vertices)
    low, high = points[np.unique(faces)].min(0), points[np.unique(faces)].max(0)
    size = 0.01 * np.array([float(entry[key]) for key in ("width", "height", "depth")])
    points = (points - (low + high) / 2) / np.maximum(high - low, 1e-9) * size
    points = points * (1, -1, -1) - (0, size[1] / 2, 0)
    _, first, inverse = np.unique(np.round(points * 5000), axis=0, return_index=True, return_inverse=True)
    model = Model(
        positions=points[first],
        uvs=np.array(uvs),
        faces=inverse.ravel()[np.array(faces)],
        face_uvs=np.array(face_uvs),
        face_materials=np.array(which),
    )
    looks = read_materials(obj.with_suffix(".mtl"))
    model.materials = [looks.get(name, _look()) for name in names or ["none"]]
    return without(model)


def _index(text: str, count: int) -> int:
    number = int(text)
    return number - 1 if number > 0 else count + number


def _look() -> dict[str, Any]:
    return {"colour": [0.5, 0.5, 0.5], "file": None, "opacity": 1.0, "shine": 0.0, "gloss": 10.0}


def read_materials(path: Path) -> dict[str, dict[str, Any]]:
    """Colour (linear), picture, opacity and shine of every material of an MTL file."""
    looks: dict[str, dict[str, Any]] = {}
    look = _look()
    for line in path.read_text(errors="replace").splitlines() if path.is_file() else ():
        word, *rest = line.split() or [""]
        if word == "newmtl":
            look = looks[rest[0]] = _look()
        elif word == "Kd":
            look["colour"] = [round(min(max(float(x), 0.01), 1.0) ** 2.2, 4) for x in rest[:3]]
        elif word == "Ks":
            look["shine"] = float(rest[0])
        elif word == "Ns":
            look["gloss"] = float(rest[0])
        elif word == "d":
            look["opacity"] = float(rest[-1])
        elif word == "map_Kd":
            look["file"] = path.parent / " ".join(rest).replace("\\", "/").split("/")[-1]
            look["colour"] = [1.0, 1.0, 1.0]
    return looks


def without(model: Model) -> Model:
    """Without glass and without faces of no area."""
    clear = np.array([m["opacity"] < CLEAR for m in model.materials])
    a, b, c = (model.positions[model.faces[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    keep = (area > 1e-9) & ~clear[model.face_materials]
    model.faces, model.face_uvs = model.faces[keep], model.face_uvs[keep]
    model.face_materials = model.face_materials[keep]
    return model


def thinned(model: Model, count: int) -> Model:
    if len(model.faces) <= count:
        return model
    part = decimated(model.positions, model.faces, model.face_uvs, model.uvs, model.face_materials, count)
    points = part.carry(model.positions)
    return Model(
        positions=points,
        uvs=part.uv,
        faces=part.corner_points[part.faces],
        face_uvs=part.faces,
        face_materials=part.regions,
        materials=model.materials,
    )


def creased(model: Model) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices doubled at creases and seams: positions V 3, texture coordinates V 2 (v down), faces N 3."""
    a, b, c = (model.positions[model.faces[:, k]] for k in range(3))
    across = np.cross(b - a, c - a)
    normals = across / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-12)
    groups: dict[int, list[np.ndarray]] = defaultdict(list)
    table: dict[tuple[int, int, int], int] = {}
    faces = np.empty_like(model.faces)
    for n, (corners, uv) in enumerate(zip(model.faces.tolist(), model.face_uvs.tolist(), strict=True)):
        for k in range(3):
            known = groups[corners[k]]
            group = next(
                (g for g, normal in enumerate(known) if normal @ normals[n] > CREASE_COS), len(known)
            )
            if group == len(known):
                known.append(normals[n])
            faces[n, k] = table.setdefault((corners[k], uv[k], group), len(table))
    keys = np.array(list(table))
    return model.positions[keys[:, 0]], model.uvs[keys[:, 1]] * (1, -1) + (0, 1), faces


def bake_furniture(
    folder: Path, progress: Callable[[str], None]
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray], list[Picture]]:
    """Entries for the catalogue, the arrays of `furniture.npz` and the pictures of all models.

    `folder` is the unpacked BlendSwap-CC-0.sh3f.
    """
    listed = catalogue(folder)
    entries: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    pictures: dict[str, Picture] = {}
    for category, models in MODELS.items():
        for starred in models.split():
            model_name = starred.rstrip("*")
            mount = "table" if model_name in ON_TABLES else "wall" if model_name in ON_WALLS else "floor"
            entry = listed[model_name]
            home = folder / "blendswap-cc-0" / model_name
            if not is_cc0(home):
                progress(f"{model_name}: its licence file does not say CC0; left out")
                continue
            model = thinned(read_model(home / f"{model_name}.obj", entry), MOST_FACES)
            positions, uv, faces = creased(model)
            low, high = positions.min(0), positions.max(0)  # without the glass
            positions -= ((low + high) / 2 * (1, 0, 1)) + high * (0, 1, 0)
            used = np.unique(model.face_materials)
            looks = [stored_material(model_name, model.materials[k], entry, starred, pictures) for k in used]
            arrays[f"{model_name}/positions"] = np.round(positions * 1000).astype(np.int16)
            arrays[f"{model_name}/uv"] = uv.astype(np.float16)
            arrays[f"{model_name}/faces"] = faces.astype(np.uint16)
            arrays[f"{model_name}/materials"] = np.searchsorted(used, model.face_materials).astype(np.uint8)
            entries.append(
                {
                    "name": model_name, "category": category, "mount": mount,
                    "heldout": starred.endswith("*"),
                    "materials": looks, "author": entry["creator"], "licence": "CC0-1.0",
                    "source": SOURCE.format(model=model_name),
                }
            )  # fmt: skip
            progress(f"{model_name}: {len(faces)} faces")
    return entries, arrays, list(pictures.values())


def stored_material(
    model_name: str, look: dict[str, Any], entry: dict[str, str], starred: str, pictures: dict[str, Picture]
) -> dict[str, Any]:
    """As the catalogue keeps it; adds the material's picture."""
    texture = None
    colour = look["colour"]
    if look["file"] is not None and look["file"].is_file():
        texture = f"furniture_{model_name}_{re.sub(r'[^a-z0-9]+', '_', look['file'].stem.lower())}"
        pixels = read_picture(look["file"])
        pictures[texture] = Picture(
            name=texture, kind="furniture", size_m=None, heldout=starred.endswith("*"),
            author=entry["creator"],
            licence="CC0-1.0", source=SOURCE.format(model=f"{model_name}/{look['file'].name}"),
            pixels=shrunk(pixels, min(TEXTURE_SIDE, *pixels.shape[:2])),
        )  # fmt: skip
    elif look["file"] is not None:
        colour = [0.4, 0.4, 0.4]
    shiny = min(max(look["shine"], 0.0), 1.0) * min(look["gloss"] / 200, 1.0)
    return {"colour": colour, "texture": texture, "roughness": round(0.9 - 0.6 * shiny, 2), "metallic": 0.0}
