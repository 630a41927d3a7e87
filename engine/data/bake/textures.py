"""Bakes the pack's pictures: procedural ones and a few from packages, as JPEG files of at most 256 pixels.

Knows which picture is made how, which are held out, and how much wall or floor one covers. Knows nothing of
downloads (`bake` hands over the folders), of people or of furniture.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from engine.data.bake import patterns as p

QUALITY = 86
OURS = ("RealCam", "CC0-1.0", "made by engine/data/bake/patterns.py")
MIT_ROBOSUITE = ("robosuite contributors", "MIT", "PyPI robosuite 1.5, models/assets/textures/{file}")
WHITE: p.Colour = (1.0, 1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture and its entry in the catalogue; `pixels` is H W 3, sRGB bytes."""

    name: str
    kind: str
    size_m: float | None
    heldout: bool
    author: str
    licence: str
    source: str
    pixels: np.ndarray


Maker = Callable[[np.random.Generator], p.Picture]
Row = tuple[str, float | None, Maker]

WALLS: tuple[Row, ...] = (
    ("white", 1.5, lambda r: p.plaster(r, (0.90, 0.89, 0.87))),
    ("cream", 1.5, lambda r: p.plaster(r, (0.88, 0.83, 0.73), 0.03)),
    ("grey", 1.5, lambda r: p.plaster(r, (0.62, 0.63, 0.64))),
    ("sage", 1.5, lambda r: p.plaster(r, (0.60, 0.66, 0.58))),
    ("blue", 1.5, lambda r: p.plaster(r, (0.45, 0.55, 0.66))),
    ("navy", 1.5, lambda r: p.plaster(r, (0.15, 0.21, 0.32))),
    ("terracotta", 1.5, lambda r: p.plaster(r, (0.72, 0.47, 0.37), 0.04)),
    ("charcoal", 1.5, lambda r: p.plaster(r, (0.20, 0.20, 0.21))),
    ("concrete", 2.0, lambda r: p.concrete(r, (0.60, 0.59, 0.57))),
    ("brick_red", 1.0, lambda r: p.bricks(r, (0.58, 0.30, 0.23), (0.70, 0.67, 0.62), 14, 4)),
    ("panels", 1.2, lambda r: p.boards(r, (0.42, 0.28, 0.17), (0.62, 0.44, 0.28), 8, 1).transpose(1, 0, 2)),
    ("leaves", 0.9, lambda r: p.wallpaper(r, (0.80, 0.80, 0.74), (0.52, 0.62, 0.55))),
    ("stripes", 0.8, lambda r: p.stripes(r, (0.86, 0.83, 0.78), (0.70, 0.72, 0.76), 4, 0.5, True)),
    ("curtain_red", 1.6, lambda r: p.drapes(r, (0.55, 0.08, 0.09))),
    ("curtain_black", 1.6, lambda r: p.drapes(r, (0.12, 0.12, 0.13))),
    ("foam", 0.6, lambda r: p.foam(r, (0.22, 0.22, 0.24))),
    ("heldout_ochre", 1.5, lambda r: p.plaster(r, (0.76, 0.60, 0.30), 0.03)),
    ("heldout_green", 1.5, lambda r: p.plaster(r, (0.20, 0.36, 0.30))),
    ("heldout_brick", 1.1, lambda r: p.bricks(r, (0.74, 0.66, 0.55), (0.55, 0.52, 0.49), 12, 3)),
    ("heldout_curtain", 1.6, lambda r: p.drapes(r, (0.14, 0.20, 0.42), 8)),
    ("heldout_leaves", 1.1, lambda r: p.wallpaper(r, (0.30, 0.36, 0.42), (0.62, 0.60, 0.50), 6)),
)  # fmt: skip
FLOORS: tuple[Row, ...] = (
    ("oak", 1.6, lambda r: p.boards(r, (0.46, 0.31, 0.18), (0.70, 0.52, 0.33), 10, 1)),
    ("walnut", 1.6, lambda r: p.boards(r, (0.20, 0.12, 0.08), (0.36, 0.23, 0.15), 12, 1)),
    ("ash", 1.8, lambda r: p.boards(r, (0.66, 0.58, 0.47), (0.82, 0.75, 0.63), 9, 1)),
    ("parquet", 1.4, lambda r: p.parquet(r, (0.45, 0.28, 0.15), (0.68, 0.47, 0.28))),
    ("carpet_grey", 0.6, lambda r: p.carpet(r, (0.45, 0.45, 0.46))),
    ("carpet_blue", 0.6, lambda r: p.carpet(r, (0.25, 0.32, 0.44))),
    ("carpet_beige", 0.6, lambda r: p.carpet(r, (0.66, 0.60, 0.50))),
    ("tiles", 1.2, lambda r: p.bricks(r, (0.78, 0.76, 0.72), (0.55, 0.53, 0.50), 4, 4, 0.0, 0.03, 0.03)),
    ("slate", 1.6, lambda r: p.bricks(r, (0.30, 0.32, 0.34), (0.20, 0.20, 0.21), 4, 2, 0.5, 0.03, 0.10)),
    ("checker", 1.6, lambda r: p.checker(r, (0.86, 0.85, 0.82), (0.16, 0.16, 0.17))),
    ("concrete", 2.4, lambda r: p.concrete(r, (0.50, 0.50, 0.49))),
    ("stage", 2.0, lambda r: p.boards(r, (0.06, 0.06, 0.06), (0.12, 0.12, 0.12), 8, 1)),
    ("terrazzo", 0.9, lambda r: p.terrazzo(
        r, (0.80, 0.79, 0.76), ((0.5, 0.45, 0.42), (0.65, 0.5, 0.42), (0.3, 0.32, 0.34)),
    )),
    ("heldout_cherry", 1.5, lambda r: p.boards(r, (0.38, 0.16, 0.10), (0.58, 0.30, 0.19), 14, 2)),
    ("heldout_parquet", 1.7, lambda r: p.parquet(r, (0.55, 0.45, 0.32), (0.78, 0.68, 0.52), 6, 4)),
    ("heldout_carpet", 0.7, lambda r: p.carpet(r, (0.36, 0.18, 0.20))),
    ("heldout_checker", 1.2, lambda r: p.checker(r, (0.70, 0.42, 0.32), (0.86, 0.80, 0.70), 6)),
)  # fmt: skip
CEILINGS: tuple[Row, ...] = (
    ("white", 1.5, lambda r: p.plaster(r, (0.93, 0.93, 0.92), 0.012)),
    ("panels", 1.2, lambda r: p.bricks(r, (0.86, 0.86, 0.84), (0.62, 0.62, 0.62), 2, 2, 0.0, 0.015, 0.01)),
    ("dark", 1.5, lambda r: p.plaster(r, (0.10, 0.10, 0.11), 0.03)),
    ("heldout_boards", 1.6, lambda r: p.boards(r, (0.72, 0.64, 0.52), (0.84, 0.77, 0.66), 8, 1)),
)
CLOTHS: tuple[Row, ...] = (  # multiply a garment's colour
    ("weave", 0.10, lambda r: p.tinted(p.weave(r), WHITE)),
    ("twill", 0.10, lambda r: p.tinted(p.twill(r), WHITE)),
    ("knit", 0.16, lambda r: p.tinted(p.knit(r), WHITE)),
    ("denim", 0.14, lambda r: p.blended(
        (0.68, 0.70, 0.74), WHITE, p.twill(r, 64, 0.6) + 0.15 * p.ring_noise(r, 1.4),
    )),
    ("pinstripe", 0.20, lambda r: p.stripes(r, (0.80, 0.80, 0.80), WHITE, 10, 0.12, True)),
    ("stripes", 0.22, lambda r: p.stripes(r, WHITE, (0.30, 0.32, 0.40), 4, 0.45, False)),
    ("breton", 0.20, lambda r: p.stripes(r, WHITE, (0.16, 0.18, 0.30), 6, 0.30, False)),
    ("shirt_stripes", 0.16, lambda r: p.stripes(r, WHITE, (0.50, 0.58, 0.75), 10, 0.35, True)),
    ("check", 0.14, lambda r: p.plaid(r, WHITE, ((0.25, 0.5, (0.35, 0.38, 0.5)),))),
    ("tartan", 0.26, lambda r: p.plaid(
        r, (0.92, 0.9, 0.88), ((0.3, 0.4, (0.15, 0.12, 0.14)), (0.75, 0.06, (1.0, 0.9, 0.5))),
    )),
    ("dots", 0.22, lambda r: p.dots(r, (0.72, 0.72, 0.74), WHITE)),
    ("floral", 0.30, lambda r: p.floral(
        r, (0.86, 0.86, 0.88), ((0.95, 0.45, 0.45), (1.0, 0.8, 0.5), (0.5, 0.65, 0.95)),
    )),
    ("heldout_plaid", 0.24, lambda r: p.plaid(
        r, (0.9, 0.88, 0.84), ((0.2, 0.22, (0.75, 0.25, 0.2)), (0.6, 0.3, (0.2, 0.35, 0.3))),
    )),
    ("heldout_stripes", 0.24, lambda r: p.stripes(r, WHITE, (0.75, 0.45, 0.30), 3, 0.35, False)),
    ("heldout_weave", 0.12, lambda r: p.tinted(p.weave(r, 40, 0.3), WHITE)),
)  # fmt: skip
RUGS: tuple[Row, ...] = (
    ("red", None, lambda r: p.rug(r, ((0.30, 0.08, 0.08), (0.62, 0.50, 0.34), (0.46, 0.14, 0.12)))),
    ("blue", None, lambda r: p.rug(r, ((0.14, 0.18, 0.30), (0.70, 0.66, 0.58), (0.28, 0.36, 0.50)))),
    ("grey", None, lambda r: p.rug(r, ((0.42, 0.42, 0.42), (0.72, 0.71, 0.69), (0.56, 0.55, 0.54)))),
    ("heldout_green", None, lambda r: p.rug(r, ((0.12, 0.24, 0.18), (0.68, 0.62, 0.46), (0.26, 0.42, 0.32)))),
)
POSTERS: tuple[Row, ...] = (
    ("dawn", None, lambda r: p.ridges(r, (0.95, 0.82, 0.62), (0.85, 0.48, 0.32), (0.10, 0.16, 0.22))),
    ("dusk", None, lambda r: p.ridges(r, (0.30, 0.34, 0.55), (0.80, 0.55, 0.55), (0.08, 0.08, 0.16))),
    ("forest", None, lambda r: p.ridges(r, (0.84, 0.90, 0.88), (0.52, 0.68, 0.58), (0.06, 0.18, 0.14))),
    ("shapes_warm", None, lambda r: p.shapes(
        r, (0.93, 0.90, 0.83), ((0.85, 0.35, 0.2), (0.15, 0.2, 0.3), (0.9, 0.7, 0.3)),
    )),
    ("shapes_cool", None, lambda r: p.shapes(
        r, (0.20, 0.24, 0.30), ((0.5, 0.7, 0.75), (0.9, 0.88, 0.8), (0.75, 0.35, 0.4)),
    )),
    ("page_white", None, lambda r: p.page(r, (0.95, 0.95, 0.93), (0.12, 0.12, 0.14))),
    ("page_black", None, lambda r: p.page(r, (0.10, 0.11, 0.13), (0.9, 0.85, 0.7))),
    ("heldout_ridges", None, lambda r: p.ridges(
        r, (0.70, 0.85, 0.95), (0.95, 0.92, 0.85), (0.20, 0.30, 0.45),
    )),
    ("heldout_shapes", None, lambda r: p.shapes(
        r, (0.85, 0.78, 0.80), ((0.3, 0.2, 0.4), (0.95, 0.6, 0.3), (0.2, 0.5, 0.45)),
    )),
    ("heldout_page", None, lambda r: p.page(r, (0.75, 0.20, 0.18), (0.98, 0.96, 0.9))),
)  # fmt: skip
HAIRS: tuple[Row, ...] = (
    ("straight", 0.18, lambda r: p.strands(r, 0.42, 0.0)),
    ("wavy", 0.18, lambda r: p.strands(r, 0.5, 0.8)),
)
TABLES = {
    "wall": WALLS, "floor": FLOORS, "ceiling": CEILINGS, "cloth": CLOTHS, "rug": RUGS, "poster": POSTERS,
    "hair": HAIRS,
}  # fmt: skip

ROBOSUITE = (  # kind, file, side in metres, held out
    ("wood", "light-wood", 0.8, False),
    ("wood", "dark-wood", 0.8, False),
    ("wood", "red-wood", 0.8, False),
    ("wood", "gray-woodgrain", 0.8, True),
    ("wood", "wood-varnished-panels", 1.0, False),
    ("floor", "wood-tiles", 1.2, False),
    ("floor", "light-gray-floor-tile", 1.0, True),
    ("wall", "cream-plaster", 1.5, False),
    ("wall", "gray-plaster", 1.5, False),
    ("wall", "light-gray-plaster", 1.5, False),
    ("wall", "pink-plaster", 1.5, False),
    ("wall", "white-plaster", 1.5, False),
    ("wall", "yellow-plaster", 1.5, True),
    ("wall", "white-bricks", 1.4, False),
)
NASA = "Public domain (NASA)"
PHOTOGRAPHS = (  # of scikit-image's data: file, author, licence, held out
    ("astronaut.png", "NASA, Eileen Collins", NASA, False),
    ("rocket.jpg", "SpaceX", "CC0-1.0", False),
    ("hubble_deep_field.jpg", "NASA, Hubble", NASA, False),
    ("coffee.png", "Rachel Michetti", "CC0-1.0", False),
    ("chelsea.png", "Stefan van der Walt", "CC0-1.0", True),
)


def procedural() -> Iterator[Picture]:
    author, licence, source = OURS
    for kind, rows in TABLES.items():
        for name, size_m, make in rows:
            full = f"{kind}_{name}"
            values = make(np.random.default_rng(zlib.crc32(full.encode())))
            yield Picture(
                name=full, kind=kind, size_m=size_m, heldout=name.startswith("heldout"),
                author=author, licence=licence, source=source,
                pixels=np.round(np.clip(values, 0, 1) * 255).astype(np.uint8),
            )  # fmt: skip


def from_robosuite(folder: Path) -> Iterator[Picture]:
    author, licence, source = MIT_ROBOSUITE
    for kind, file, size_m, heldout in ROBOSUITE:
        pixels = read_picture(folder / f"{file}.png")
        yield Picture(
            name=f"{kind}_{file.replace('-', '_')}", kind=kind, size_m=size_m, heldout=heldout,
            author=author, licence=licence, source=source.format(file=f"{file}.png"),
            pixels=seamless(shrunk(pixels, 288), 256),
        )  # fmt: skip


def from_scikit_image(folder: Path) -> Iterator[Picture]:
    for file, author, licence, heldout in PHOTOGRAPHS:
        pixels = read_picture(folder / file)
        side = min(pixels.shape[:2])
        top, left = ((n - side) // 2 for n in pixels.shape[:2])
        yield Picture(
            name=f"poster_{Path(file).stem}", kind="poster", size_m=None, heldout=heldout,
            author=author, licence=licence, source=f"PyPI scikit-image, skimage/data/{file}",
            pixels=shrunk(pixels[top : top + side, left : left + side], 256),
        )  # fmt: skip


def read_picture(path: Path) -> np.ndarray:
    """H W 3, sRGB bytes; transparency is laid over white."""
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError(f"{path}: not a picture that OpenCV reads")
    if pixels.ndim == 2:
        pixels = pixels[..., None].repeat(3, axis=2)
    if pixels.dtype == np.uint16:
        pixels = (pixels // 256).astype(np.uint8)
    if pixels.shape[2] == 4:
        alpha = pixels[..., 3:] / 255.0
        pixels = np.round(pixels[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return np.ascontiguousarray(pixels[..., ::-1])


def shrunk(pixels: np.ndarray, side: int) -> np.ndarray:
    """Squeezed (or stretched) into side × side, each axis for itself."""
    return np.asarray(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA))


def seamless(pixels: np.ndarray, side: int) -> np.ndarray:
    """The first `side` rows and columns, their beginning faded into what follows their end."""
    out = pixels.astype(float)
    for axis in (0, 1):
        out = np.swapaxes(out, 0, axis)
        margin = len(out) - side
        fade = np.linspace(0, 1, margin)[:, None, None]
        body = out[:side].copy()
        body[:margin] = fade * body[:margin] + (1 - fade) * out[side:]
        out = np.swapaxes(body, 0, axis)
    return np.round(out).astype(np.uint8)


def jpeg(pixels: np.ndarray) -> np.ndarray:
    """A JPEG file's bytes, as an array."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    return np.asarray(cv2.imencode(".jpg", pixels[..., ::-1], flags)[1], np.uint8)


def write_pictures(pictures: Iterable[Picture], folder: Path) -> list[dict[str, Any]]:
    """JPEG files, and their entries for the catalogue."""
    entries = []
    for picture in pictures:
        path = folder / f"{picture.name}.jpg"
        path.write_bytes(jpeg(picture.pixels).tobytes())
        entries.append(
            {
                "name": picture.name, "kind": picture.kind, "size_m": picture.size_m,
                "heldout": picture.heldout,
                "author": picture.author, "licence": picture.licence, "source": picture.source,
            }
        )  # fmt: skip
    return entries
