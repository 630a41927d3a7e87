"""The asset pack that synthetic scenes are made of: people, furniture, textures and light, read from `pack/`.

Knows the pack's files, which items are held out of training, and who made them under which licence. Knows
nothing of how the pack was baked (`engine.data.bake`), of how a person moves (`motion`, `character`), of
rooms or of rendering.

Everything is in the axes of `mesh`: y down, the floor at y = 0, metres. Colours of materials and light are
linear, pictures are sRGB bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.data.render.mesh import Material, Mesh, vertex_normals
from engine.data.scenes.character import Character
from engine.data.scenes.wardrobe import Cloth, Looks, Wardrobe
from engine.errors import ConfigError

PACK = Path(__file__).parents[1] / "pack"

TextureKind = Literal[
    "wall", "floor", "ceiling", "wood", "cloth", "rug", "poster", "furniture", "face", "eye", "hair"
]
Mount = Literal["floor", "table", "wall"]


@dataclass(frozen=True, kw_only=True)
class Credit:
    """Whom an item is owed to. ``source`` names the package and the file in it."""

    name: str
    author: str
    licence: str
    source: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Furniture:
    """A thing that stands on the floor, or, where ``mount`` says so, on a table or against a wall.

    Its mesh stands over the origin on y = 0 and faces -z. ``size_m`` is width, height, depth.
    """

    credit: Credit
    heldout: bool
    category: str  # one of `Pack.categories()`
    mount: Mount
    size_m: tuple[float, float, float]
    mesh: Mesh


@dataclass(frozen=True, kw_only=True, eq=False)
class Texture:
    """A picture. ``size_m`` is the side that one repetition covers on a wall or floor; None where it is not
    tiled."""

    credit: Credit
    heldout: bool
    kind: TextureKind
    size_m: float | None
    pixels: NDArray[np.uint8]  # H W 3, sRGB


@dataclass(frozen=True, kw_only=True, eq=False)
class Environment:
    """Light from all around, equirectangular: the middle column looks along +z, columns go right to +x,
    rows down."""

    credit: Credit
    heldout: bool
    indoor: bool
    light: NDArray[np.float32]  # 32 64 3, linear radiance; its mean over the sphere is 1
    background: NDArray[np.uint8]  # 128 256 3, sRGB, tone-mapped


class Pack:
    """All assets. Lists come in a fixed order; `heldout` chooses the training or the held-out items, never
    both."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        catalogue = folder / "catalogue.json"
        if not catalogue.is_file():
            raise ConfigError(
                "the asset pack has no catalogue; expected what the repository holds in engine/data/pack. "
                "Check the files out again, or bake them anew: python realcam_obs.py data bake",
                catalogue,
            )
        self._entries: dict[str, list[dict[str, Any]]] = json.loads(catalogue.read_text())
        self._textures: dict[str, Texture] = {}

    @classmethod
    def load(cls, folder: Path = PACK) -> Pack:
        """Open the pack; what is large is read when it is first asked for."""
        return cls(folder)

    def person(self, seed: int, *, heldout: bool) -> Character:
        """A person whose body, face, hair, clothes and colours the seed draws; the same seed, the same
        person."""
        return self._wardrobe.person(seed, self._looks(heldout), heldout=heldout)

    def categories(self) -> tuple[str, ...]:
        """The categories of furniture."""
        return tuple(sorted({entry["category"] for entry in self._entries["furniture"]}))

    def furniture(self, category: str, *, heldout: bool) -> list[Furniture]:
        """The models of a category; of some there is nothing held out."""
        if category not in self.categories():
            raise ValueError(f"category {category!r}: expected one of {', '.join(self.categories())}")
        return [f for f in self._furniture if f.category == category and f.heldout == heldout]

    def textures(self, kind: TextureKind, *, heldout: bool) -> list[Texture]:
        """The pictures of a kind."""
        entries = self._entries["textures"]
        return [self.texture(e["name"]) for e in entries if e["kind"] == kind and e["heldout"] == heldout]

    def texture(self, name: str) -> Texture:
        """The picture that a `Material.texture` names."""
        if name not in self._textures:
            entry = next((e for e in self._entries["textures"] if e["name"] == name), None)
            if entry is None:
                raise ValueError(f"the pack has no texture {name!r}")
            data = np.frombuffer((self.folder / "textures" / f"{name}.jpg").read_bytes(), np.uint8)
            self._textures[name] = Texture(
                credit=_credit(entry),
                heldout=entry["heldout"],
                kind=entry["kind"],
                size_m=entry["size_m"],
                pixels=_decoded(data),
            )
        return self._textures[name]

    def environments(self, *, heldout: bool) -> list[Environment]:
        return [e for e in self._environments if e.heldout == heldout]

    def credits(self) -> tuple[Credit, ...]:
        """Of everything in the pack, for `scene.json` and `LICENSES.md`."""
        return tuple(_credit(entry) for entries in self._entries.values() for entry in entries)

    @cached_property
    def _wardrobe(self) -> Wardrobe:
        with np.load(self.folder / "people.npz") as stored:
            return Wardrobe(dict(stored))

    def _looks(self, heldout: bool) -> Looks:
        def entries(kind: str, split: bool) -> list[dict[str, Any]]:
            return [e for e in self._entries["textures"] if e["kind"] == kind and e["heldout"] == split]

        def cloths(kind: str, split: bool) -> tuple[Cloth, ...]:
            return tuple(Cloth(name=e["name"], size_m=e["size_m"]) for e in entries(kind, split))

        return Looks(
            faces=tuple(e["name"] for e in entries("face", heldout)),
            eyes=tuple(e["name"] for e in entries("eye", False)),
            cloths=cloths("cloth", heldout),
            hairs=cloths("hair", False),
        )

    @cached_property
    def _furniture(self) -> list[Furniture]:
        with np.load(self.folder / "furniture.npz") as stored:
            arrays = dict(stored)
        return [_furniture(entry, arrays) for entry in self._entries["furniture"]]

    @cached_property
    def _environments(self) -> list[Environment]:
        with np.load(self.folder / "environments.npz") as stored:
            return [
                Environment(
                    credit=_credit(entry),
                    heldout=entry["heldout"],
                    indoor=entry["indoor"],
                    light=stored[f"{entry['name']}/light"].astype(np.float32),
                    background=_decoded(stored[f"{entry['name']}/background"]),
                )
                for entry in self._entries["environments"]
            ]


def _decoded(jpeg: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """H W 3, sRGB."""
    pixels = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
    if pixels is None:
        raise ValueError("a picture of the asset pack is damaged; check its files out again")
    return np.ascontiguousarray(pixels[..., ::-1], np.uint8)


def _credit(entry: dict[str, Any]) -> Credit:
    return Credit(
        name=entry["name"], author=entry["author"], licence=entry["licence"], source=entry["source"]
    )


def _furniture(entry: dict[str, Any], stored: dict[str, NDArray[Any]]) -> Furniture:
    """A model as the baking stores it: millimetres, and one row of texture coordinates for each
    vertex."""
    name = entry["name"]
    positions = (stored[f"{name}/positions"] / np.float32(1000)).astype(np.float32)
    faces = stored[f"{name}/faces"].astype(np.int32)
    mesh = Mesh(
        positions=positions,
        normals=vertex_normals(positions, faces),
        uv=stored[f"{name}/uv"].astype(np.float32),
        faces=faces,
        face_materials=stored[f"{name}/materials"].astype(np.int32),
        materials=tuple(
            Material(
                colour=tuple(m["colour"]),
                texture=m["texture"],
                roughness=m["roughness"],
                metallic=m["metallic"],
            )
            for m in entry["materials"]
        ),
    )
    low, high = mesh.bounds
    width, height, depth = (float(n) for n in high - low)
    return Furniture(
        credit=_credit(entry),
        heldout=entry["heldout"],
        category=entry["category"],
        mount=entry["mount"],
        size_m=(width, height, depth),
        mesh=mesh,
    )
