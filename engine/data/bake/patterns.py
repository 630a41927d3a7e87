"""Procedural pictures: plaster, boards, bricks, cloth, carpets, abstract posters, hair.

Knows how surfaces look, flat and evenly lit. Knows nothing of where they are used. Every picture is S S 3,
floats in 0..1, sRGB; all but posters tile without a seam, because their noise is drawn on a ring and their
grids divide S.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

S = 256
Picture = NDArray[np.float64]
Colour = tuple[float, float, float]


def ring_noise(rng: np.random.Generator, roughness: float, stretch: tuple[float, float] = (1, 1)) -> Picture:
    """S S of deviation one that tiles: white noise with a spectrum falling as frequency ** -roughness."""
    fy, fx = np.meshgrid(
        np.fft.fftfreq(S) * S * stretch[1], np.fft.fftfreq(S) * S * stretch[0], indexing="ij"
    )
    spectrum = np.fft.fft2(rng.normal(size=(S, S))) / np.maximum(np.hypot(fy, fx), 1.0) ** roughness
    spectrum[0, 0] = 0
    field = np.fft.ifft2(spectrum).real
    return np.asarray(field / field.std())


def tinted(value: Picture, colour: Colour) -> Picture:
    return np.asarray(value[..., None] * np.array(colour))


def blended(low: Colour, high: Colour, share: Picture) -> Picture:
    share = np.clip(share, 0, 1)[..., None]
    return np.asarray((1 - share) * np.array(low) + share * np.array(high))


def plaster(rng: np.random.Generator, colour: Colour, relief: float = 0.02) -> Picture:
    return tinted(1 + relief * ring_noise(rng, 0.6) + 0.6 * relief * ring_noise(rng, 1.8), colour)


def concrete(rng: np.random.Generator, colour: Colour) -> Picture:
    pores = ring_noise(rng, 0.2) > 2.4
    value = 1 + 0.05 * ring_noise(rng, 1.7) + 0.03 * ring_noise(rng, 0.5) - 0.2 * pores
    return tinted(value, colour)


def cells(rows: int, columns: int, shift: float) -> tuple[Picture, Picture, Picture, Picture]:
    """For every pixel: row and column of its brick (shifted in every second row), and its place in it,
    0..1."""
    y, x = np.mgrid[:S, :S] / S
    v = y * rows
    row = np.floor(v)
    u = x * columns + shift * (row % 2)
    column = np.floor(u) % columns
    return row, column, v - row, u - np.floor(u)


def bricks(
    rng: np.random.Generator,
    colour: Colour,
    mortar: Colour,
    rows: int,
    columns: int,
    shift: float = 0.5,
    gap: float = 0.06,
    variety: float = 0.12,
) -> Picture:
    row, column, v, u = cells(rows, columns, shift)
    shade = 1 + variety * rng.normal(size=(rows, columns))[row.astype(int), column.astype(int)]
    side = gap * columns / rows
    edge = np.minimum(np.minimum(v, 1 - v) / gap, np.minimum(u, 1 - u) / side)
    face = tinted(shade * (1 + 0.04 * ring_noise(rng, 0.7)), colour)
    solid = np.clip((edge - 0.5) * 3, 0, 1)[..., None]
    return np.asarray(solid * face + (1 - solid) * tinted(1 + 0.04 * ring_noise(rng, 0.4), mortar))


def boards(rng: np.random.Generator, dark: Colour, light: Colour, rows: int, columns: int) -> Picture:
    """Planks along x, each with its own shade and grain."""
    row, column, v, u = cells(rows, columns, 0.37)
    pick = (row * columns + column).astype(int)
    grain = ring_noise(rng, 1.2, (0.35, 9.0))
    offset = rng.integers(0, S, rows * columns)[pick]
    y, x = np.mgrid[:S, :S]
    grain = grain[(y + offset) % S, (x + 3 * offset) % S]
    share = 0.5 + 0.22 * rng.normal(size=rows * columns)[pick] + 0.16 * grain
    gap = np.clip(np.minimum(v, 1 - v) * (S / rows) / 1.2, 0, 1) * np.clip(
        np.minimum(u, 1 - u) * (S / columns) / 1.2, 0, 1
    )
    return np.asarray(blended(dark, light, share) * (0.45 + 0.55 * gap)[..., None])


def parquet(
    rng: np.random.Generator, dark: Colour, light: Colour, squares: int = 4, strips: int = 5
) -> Picture:
    """Squares of strips, along and across in turn."""
    row, column, v, u = cells(squares, squares, 0.0)
    across = (row + column) % 2 == 0
    along, over = np.where(across, v, u), np.where(across, u, v)
    strip = np.floor(over * strips)
    pick = ((row * squares + column) * strips + strip).astype(int)
    grain = np.where(across, ring_noise(rng, 1.1, (9, 0.5)), ring_noise(rng, 1.1, (0.5, 9)))
    share = 0.5 + 0.25 * rng.normal(size=squares * squares * strips)[pick] + 0.12 * grain
    part = over * strips - strip
    gap = np.clip(np.minimum(part, 1 - part) * 10, 0, 1) * np.clip(np.minimum(along, 1 - along) * 40, 0, 1)
    return np.asarray(blended(dark, light, share) * (0.6 + 0.4 * gap)[..., None])


def carpet(rng: np.random.Generator, colour: Colour) -> Picture:
    return tinted(1 + 0.13 * ring_noise(rng, 0.15) + 0.05 * ring_noise(rng, 1.2), colour)


def terrazzo(rng: np.random.Generator, ground: Colour, chips: tuple[Colour, ...]) -> Picture:
    picture = plaster(rng, ground, 0.01)
    for colour in chips:
        picture[ring_noise(rng, 0.9) > 1.55] = colour
    return picture


def checker(rng: np.random.Generator, one: Colour, other: Colour, count: int = 4) -> Picture:
    row, column, v, u = cells(count, count, 0.0)
    share = ((row + column) % 2) + 0.03 * ring_noise(rng, 1.0)
    joint = np.clip(np.minimum(np.minimum(v, 1 - v), np.minimum(u, 1 - u)) * 60, 0, 1)
    return np.asarray(blended(one, other, share) * (0.7 + 0.3 * joint)[..., None])


def drapes(rng: np.random.Generator, colour: Colour, folds: int = 6) -> Picture:
    """A curtain: folds along y."""
    x = np.arange(S) / S
    phase = sum(
        a * np.sin(2 * np.pi * (k * x + rng.random())) for k, a in ((folds, 1.0), (folds + 3, 0.5), (3, 0.5))
    )
    value = 0.62 + 0.22 * np.asarray(phase)[None] + 0.02 * ring_noise(rng, 0.3)
    return tinted(np.clip(value, 0.1, 1.2), colour)


def foam(rng: np.random.Generator, colour: Colour, count: int = 8) -> Picture:
    """Acoustic foam: wedges, along and across in turn."""
    row, column, v, u = cells(count, count, 0.0)
    over = np.where((row + column) % 2 == 0, u, v) * 3 % 1
    return tinted(0.55 + 0.55 * (1 - np.abs(2 * over - 1)) + 0.02 * ring_noise(rng, 0.3), colour)


def wallpaper(rng: np.random.Generator, ground: Colour, figure: Colour, count: int = 4) -> Picture:
    """A repeated leaf, half a step lower in every second column."""
    y, x = np.mgrid[:S, :S] / S * count
    y = y + 0.5 * (np.floor(x) % 2)
    u, v = x % 1 - 0.5, y % 1 - 0.5
    r, a = np.hypot(u, v), np.arctan2(v, u)
    leaf = (r < 0.30 + 0.11 * np.cos(5 * a)) & (r > 0.10 + 0.05 * np.cos(10 * a))
    return np.asarray(blended(ground, figure, leaf * 0.8) * (1 + 0.02 * ring_noise(rng, 0.5))[..., None])


def weave(rng: np.random.Generator, threads: int = 64, depth: float = 0.16) -> Picture:
    y, x = np.mgrid[:S, :S] / S * threads
    over = (np.floor(x) + np.floor(y)) % 2
    bump = np.where(over > 0, np.sin(np.pi * (x % 1)), np.sin(np.pi * (y % 1)))
    return np.asarray(1 - depth + depth * bump + 0.03 * ring_noise(rng, 0.8))


def twill(rng: np.random.Generator, lines: int = 48, depth: float = 0.2) -> Picture:
    y, x = np.mgrid[:S, :S] / S * lines
    return np.asarray(
        1 - depth + depth * (0.5 + 0.5 * np.sin(2 * np.pi * (x + y))) + 0.05 * ring_noise(rng, 0.5)
    )


def knit(rng: np.random.Generator, rows: int = 24, depth: float = 0.3) -> Picture:
    y, x = np.mgrid[:S, :S] / S * rows
    slant = np.abs(2 * (x % 1) - 1)
    loop = (0.5 + 0.5 * np.cos(2 * np.pi * (y + 0.7 * slant))) * (0.4 + 0.6 * np.sqrt(slant))
    return np.asarray(1 - depth + depth * loop + 0.02 * ring_noise(rng, 0.8))


def stripes(
    rng: np.random.Generator, one: Colour, other: Colour, count: int, share: float, upright: bool
) -> Picture:
    at = np.arange(S) / S * count % 1
    line = (at < share).astype(float)
    line = line[None, :] if upright else line[:, None]
    return np.asarray(blended(one, other, np.broadcast_to(line, (S, S))) * weave(rng)[..., None])


def plaid(
    rng: np.random.Generator, ground: Colour, bands: tuple[tuple[float, float, Colour], ...]
) -> Picture:
    """Bands (centre, width, colour) crossed with themselves, half covering."""
    at, picture = np.arange(S) / S, np.broadcast_to(np.array(ground), (S, S, 3)).copy()
    for centre, width, colour in bands:
        band = (np.abs((at - centre + 0.5) % 1 - 0.5) < width / 2).astype(float)
        for cover in (band[None, :, None], band[:, None, None]):
            picture = picture * (1 - 0.5 * cover) + 0.5 * cover * np.array(colour)
    return np.asarray(picture * twill(rng)[..., None])


def dots(rng: np.random.Generator, ground: Colour, colour: Colour, count: int = 12) -> Picture:
    y, x = np.mgrid[:S, :S] / S * count
    x = x + 0.5 * (np.floor(y) % 2)
    near = np.hypot(x % 1 - 0.5, y % 1 - 0.5)
    return np.asarray(blended(ground, colour, (0.26 - near) * 20) * weave(rng)[..., None])


def floral(rng: np.random.Generator, ground: Colour, colours: tuple[Colour, ...]) -> Picture:
    """Small flowers strewn over a ring."""
    picture = np.broadcast_to(np.array(ground), (S, S, 3)).copy()
    y, x = np.mgrid[:S, :S]
    for k in range(26):
        cy, cx, turn = *rng.integers(0, S, 2), rng.uniform(0, 6)
        dy, dx = (y - cy + S // 2) % S - S // 2, (x - cx + S // 2) % S - S // 2
        r, a = np.hypot(dx, dy), np.arctan2(dy, dx) + turn
        size = rng.uniform(9, 17)
        picture[r < size * (0.72 + 0.28 * np.cos(5 * a))] = colours[k % len(colours)]
        picture[r < size * 0.22] = (0.95, 0.85, 0.45)
    return np.asarray(picture * weave(rng)[..., None])


def rug(rng: np.random.Generator, colours: tuple[Colour, Colour, Colour]) -> Picture:
    """A bordered carpet with lozenges; not tiled."""
    y, x = np.mgrid[-1 : 1 : S * 1j, -1 : 1 : S * 1j]
    edge = np.maximum(np.abs(x), np.abs(y))
    lozenge = (np.abs(x) * 5 % 2 - 1) + (np.abs(y) * 5 % 2 - 1)
    pick = np.where(
        edge > 0.9, 0, np.where(edge > 0.78, 1, np.where(np.abs(lozenge) < 0.35, 2, (lozenge > 0) * 1))
    )
    return np.asarray(np.array(colours)[pick] * (1 + 0.12 * ring_noise(rng, 0.2))[..., None])


def ridges(rng: np.random.Generator, sky: Colour, low: Colour, near: Colour) -> Picture:
    """A poster: ridges under a sun."""
    y, x = np.mgrid[:S, :S] / S
    picture = blended(sky, low, y)
    picture[np.hypot(x - rng.uniform(0.3, 0.7), y - 0.3) < 0.1] = low
    for k in range(4):
        line = (
            0.45
            + 0.13 * k
            + sum(
                rng.uniform(0.01, 0.05) * np.sin(x * rng.uniform(3, 18) + rng.uniform(0, 6)) for _ in range(4)
            )
        )
        picture[y > line] = blended(low, near, np.full((), (k + 1) / 4))
    return np.asarray(picture)


def shapes(rng: np.random.Generator, ground: Colour, colours: tuple[Colour, ...]) -> Picture:
    """A poster: discs, half discs and bars."""
    y, x = np.mgrid[:S, :S] / S
    picture = np.broadcast_to(np.array(ground), (S, S, 3)).copy()
    for k in range(7):
        cx, cy, r = rng.uniform((0.15, 0.15, 0.08), (0.85, 0.85, 0.25))
        inside = np.hypot(x - cx, y - cy) < r
        if k % 3 == 1:
            inside &= x > cx
        if k % 3 == 2:
            inside = (np.abs(x - cx) < r) & (np.abs(y - cy) < 0.25 * r)
        picture[inside] = colours[k % len(colours)]
    return np.asarray(picture)


def page(rng: np.random.Generator, ground: Colour, ink: Colour) -> Picture:
    """A poster: a heading, lines as of text, and a picture."""
    y, x = np.mgrid[:S, :S]
    picture = np.broadcast_to(np.array(ground), (S, S, 3)).copy()
    picture[(y > 20) & (y < 52) & (x > 24) & (x < 24 + rng.integers(120, 200))] = ink
    picture[(y > 70) & (y < 150) & (x > 24) & (x < 232)] = rng.uniform(0.2, 0.9, 3)
    for line in range(168, 240, 9):
        end = rng.integers(150, 232)
        words = (np.sin(x * rng.uniform(0.25, 0.4)) > -0.75) & (x > 24) & (x < end)
        picture[(y >= line) & (y < line + 4) & words] = ink
    return np.asarray(picture)


def strands(rng: np.random.Generator, depth: float, curl: float) -> Picture:
    """Hair along y, a multiplier of its colour."""
    y, x = np.mgrid[:S, :S]
    bent = (x + curl * 10 * np.sin(2 * np.pi * y / S * 2)).astype(int) % S
    field = ring_noise(rng, 0.55, (1.0, 14.0))
    return tinted(np.clip(1 - depth + depth * 0.55 * field[y, bent], 0.15, 1.0), (1, 1, 1))
