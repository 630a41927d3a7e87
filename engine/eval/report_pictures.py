"""Clips side by side and strips with error maps, as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from engine.eval.gallery import Strip, Tile


def clips(strips: Sequence[Strip]) -> str:
    """Each a video of tiles in step, with their names laid over it."""
    return f'<div class="clips">{"".join(_clip(strip) for strip in strips)}</div>' if strips else ""


def strips_with_errors(strips: Sequence[Strip]) -> str:
    if not strips:
        return ""
    scale = '<span class="scale"></span>'
    lead = f"<p>Below each picture its FLIP error map: {scale} from none to 0.5 and more.</p>"
    return lead + "".join(_strip(strip) for strip in strips)


def _clip(strip: Strip) -> str:
    rows = -(-len(strip.names) // strip.columns)
    grid = f"grid-template: repeat({rows}, 1fr) / repeat({strip.columns}, 1fr)"
    names = "".join(f'<li><span class="tag">{escape(name)}</span></li>' for name in strip.names)
    about = escape(", ".join(strip.names))
    return (
        f'<figure class="panel"><div class="mosaic"><video src="{strip.clip}" aria-label="{about}" '
        'tabindex="0" loop muted playsinline preload="auto" title="Click to pause"></video>'
        f'<ol style="{grid}">{names}</ol></div><figcaption>{_about(strip)}</figcaption></figure>'
    )


def _strip(strip: Strip) -> str:
    rows = "".join(
        f'<p class="when">frame {frame}</p><div class="row">'
        f"{''.join(_cell(tile, frame, strip.aspect) for tile in tiles)}</div>"
        for frame, tiles in strip.rows
    )
    return f'<div class="panel strip"><h3>{_about(strip)}</h3>{rows}</div>'


def _cell(tile: Tile, frame: int, aspect: float) -> str:
    style, name = f'style="aspect-ratio: {aspect:.4f}"', escape(tile.name)
    error = f'<img src="{tile.error}" alt="error of {name}" {style}>' if tile.error else ""
    picture = f'<img src="{tile.picture}" alt="{name}, frame {frame}" {style}>'
    return f'<div class="cell">{picture}{error}<span class="tag">{name}</span></div>'


def _about(strip: Strip) -> str:
    where = f"{escape(strip.family)} · {escape(strip.case)}"
    return f'<b>{escape(strip.move)}</b> <span class="note">· {where}</span>'
