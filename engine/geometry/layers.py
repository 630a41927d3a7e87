"""Two layers of one picture, what stands in front and what lies behind, and where another camera sees them.

Each layer is a surface of its own, so its picture is fetched whole and sharp, and the edge between them is
the front's own soft one: no rubber sheet from one to the other. Knows nothing of time, and not where the
layers come from.

Shapes: H W the picture's rows and columns, h w the source grid's, th tw the target grid's.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from engine.geometry.background import Plate
from engine.geometry.forward_warp import FARTHEST, Projection, refine, source_positions, splat
from engine.geometry.pictures import Bytes, Corner, Floats, Mask, Size, multiplied, smooth_around

BEHIND = 1.3  # what is nearer than the farthest around it by more lends a hole no colour
EDGE = 0.1  # neighbouring cells whose inverse depths differ by more, relatively, are of two surfaces
NEXT = np.ones((3, 3), np.uint8)
AROUND = np.ones((7, 7), np.uint8)
ROUNDING = (5, 5)  # cells: their corners are taken off the edges of what is enlarged
SURROUNDINGS = np.ones((25, 25), np.uint8)
CORE = np.ones((3, 3), np.uint8)
NEARBY = np.ones((15, 15), np.uint8)
SAY = np.float32(0.05)


@dataclass(frozen=True, slots=True)
class Layers:
    """``front``: colour times share, and share, H W 4 cut down to what is not empty, with its first row and
    column in ``front_corner``; ``back`` H W 4: colour, and 255 where it is known.

    Inverse depths h w are complete: the front's goes on smoothly where there is no front.
    ``front_share`` h w is the front's share on the grid, 0…1; ``small`` h w 3 is the undivided picture.
    """

    front: Bytes
    front_corner: Corner
    front_share: Floats
    front_inverse_depth: Floats
    back: Bytes
    back_inverse_depth: Floats
    small: Bytes

    def nearness(self) -> float:
        """The subject's inverse depth: the front's, or all there is."""
        front = self.front_share > 0
        return float(np.median(self.front_inverse_depth[front] if front.any() else self.back_inverse_depth))

    @classmethod
    def of(
        cls,
        frame: Bytes,
        small: Bytes,
        share: Bytes,
        corner: Corner,
        small_share: Floats,
        front_inverse_depth: Floats,
        background: Plate,
    ) -> Layers:
        """From a picture H W 4 (and h w 3 on the grid), the front's ``share`` 0…255 in the part of it that
        begins at ``corner`` and holds all of the front (and h w in 0…1), its inverse depth, and the
        background that the picture was taken into.
        """
        return cls(
            front=_lifted(frame, share, corner, background.colour),
            front_corner=corner,
            front_share=small_share,
            front_inverse_depth=front_inverse_depth,
            back=background.colour,
            # what lies behind is not nearer, whatever was pulled in from around it
            back_inverse_depth=np.minimum(
                background.inverse_depth, np.where(small_share > 0.5, front_inverse_depth, np.inf)
            ),
            small=small,
        )


def _lifted(frame: Bytes, share: Bytes, corner: Corner, back: Bytes) -> Bytes:
    """The front by itself, times its share: what is left of the mixture I = αF + (1 − α)B without B.

    So a soft edge carries nothing of the old background along, and the two layers, put together again
    unmoved, give the picture that they were made of, whatever the matte's mistakes.
    """
    part = tuple(slice(first, first + side) for first, side in zip(corner, share.shape, strict=True))
    front = multiplied(back[part], cv2.bitwise_not(share), np.empty((*share.shape, 4), np.uint8))
    cv2.subtract(frame[part], front, dst=front)
    cv2.min(front, cv2.merge([share] * 4), dst=front)
    return front


def front_depth(inverse_depth: Floats, share: Floats) -> Floats:
    """That of the front's core, going on smoothly beyond it: at the very edge, depth is of neither layer.
    What is far from any core, as it is thin or unsure, has a say as well.
    """
    core = cv2.erode((share > 0.9).astype(np.float32), CORE)
    apart = (share > 0) & (cv2.dilate(core, NEARBY) <= 0)
    return smooth_around(inverse_depth[..., None], np.where(apart, SAY, core))[..., 0]


@dataclass(frozen=True, slots=True)
class Surface:
    """A layer in the target's grid th tw: its inverse depth, and where each cell comes from.

    At an edge there are two answers, that of the near side and that of the far side; ``nearness`` says which
    holds. Each is smooth across the edge, so it may be enlarged, and the edge is then drawn by nearness.
    """

    inverse_depth: Floats
    hole: Mask  # nothing of the layer falls here
    lends: Mask  # what is not a hole, nor near for its surroundings: fills holes
    positions: Floats  # th tw 2, on the source's grid
    edge: Mask | None = None  # None: there are no edges, and positions are all there is
    far_positions: Floats | None = None
    nearness: Bytes | None = None  # 0…255, rounded off

    @classmethod
    def splatted(
        cls, inverse_depth: Floats, keep: Mask | None, forward: Projection, back: Projection, grid: Size
    ) -> Surface:
        """The layer of a source's inverse depth h w, or of what of it is kept."""
        found = splat(inverse_depth, forward, grid, keep)
        hole = found <= 0
        lends = ~hole
        if hole.any():
            if keep is None:  # what is uncovered is what lies behind
                farthest = cv2.erode(np.where(hole, np.float32(np.inf), found), SURROUNDINGS)
                lends &= found / BEHIND < farthest
            spread = smooth_around(found[..., None], lends.astype(np.float32))[..., 0]
            found = np.where(hole, np.maximum(spread, FARTHEST), found)
        found = np.where(hole, found, refine(found, inverse_depth, back))
        near, far = cv2.dilate(found, NEXT), cv2.erode(found, NEXT)
        edge = near - far > EDGE * near
        if keep is not None or not edge.any():
            return cls(found, hole, lends, source_positions(found, back))
        middle = cv2.dilate(found, AROUND) + cv2.erode(found, AROUND)
        nearness = np.where(2 * found > middle, 255, 0).astype(np.uint8)
        near, far = np.where(edge, near, found), np.where(edge, far, found)
        return cls(
            found,
            hole,
            lends,
            source_positions(near, back),
            edge,
            source_positions(far, back),
            cv2.blur(nearness, ROUNDING),
        )
