"""What a hidden part of a picture may look like: what is seen beside it in the same row, mirrored.

So shelves, skirting boards and brickwork go on, where a smooth fill would leave a smear. It is a guess that
grows worse with the way, so it gives way to the smooth fill. Knows nothing of depth or of what hides.

Shapes: H W the picture's rows and columns, h w the grid's.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from engine.geometry.pictures import Bytes, Floats, Mask, Part, Size, enlarged_in

REACH = 0.09  # of the width: deeper inside, nothing is guessed
ROWS = (1, 9)  # that a mirror's edge is straightened over: it shall not show who stands before it
SOFTENED = (3, 3)  # cells
FOLLOW = 0.4  # share of a new mirror in the old one


@dataclass(frozen=True, slots=True)
class Mirror:
    """For every cell h w: ``shift``, how many cells to the right its texture comes from, and ``share`` 0…1,
    how much is to be thought of it; ``hidden`` where there is anything to be made up at all.
    """

    shift: Floats
    share: Floats
    hidden: Mask

    @classmethod
    def of(cls, lends: Mask, before: Mirror | None) -> Mirror:
        """Cells ``lends`` h w are seen. What was made up ``before`` changes slowly into what is now."""
        hidden = ~lends
        columns = lends.shape[1]
        x = np.arange(columns, dtype=np.float32)
        left, right = _nearest(lends, x)
        depth, span = np.minimum(x - left, right - x), right - left
        shift = np.where(x - left <= right - x, 2 * (left - x), 2 * (right - x))
        shift = _straightened(np.where(hidden, shift, 0), hidden)
        source = np.clip(np.rint(x + shift), 0, columns - 1).astype(np.intp)
        is_seen = np.take_along_axis(lends, source, axis=1) & (np.abs(x + shift - source) <= 0.5)
        share = 1 - depth / np.minimum(REACH * columns, np.maximum(span, 1) / 2)
        share = cv2.blur(np.where(hidden & is_seen, np.clip(share, 0, 1), 0).astype(np.float32), SOFTENED)
        if before is not None:
            both = hidden & before.hidden
            shift = np.where(both, before.shift + FOLLOW * (shift - before.shift), shift)
            share = np.where(both, before.share + FOLLOW * (share - before.share), share)
        return cls(shift.astype(np.float32), share.astype(np.float32), hidden)

    def within(self, picture: Bytes, size: Size, part: Part) -> tuple[Bytes, Bytes]:
        """In that part of a picture H W 4 of ``size``: how it looks in the mirror, and the share 0…255."""
        rows, columns = part
        scale = np.float32(size[0] / self.shift.shape[1])
        x = np.arange(columns.start, columns.stop, dtype=np.float32) + scale * enlarged_in(
            self.shift, size, part
        )
        y = np.repeat(np.arange(rows.start, rows.stop, dtype=np.float32)[:, None], x.shape[1], axis=1)
        texture = cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return texture, (255 * enlarged_in(self.share, size, part)).astype(np.uint8)


def _nearest(lends: Mask, x: Floats) -> tuple[Floats, Floats]:
    """For every cell the column of the nearest that lends to its left and to its right; far away if none."""
    far = np.float32(4 * len(x))
    left = np.maximum.accumulate(np.where(lends, x, -far), axis=1)
    right = np.minimum.accumulate(np.where(lends, x, far)[:, ::-1], axis=1)[:, ::-1]
    return left, right


def _straightened(shift: Floats, hidden: Mask) -> Floats:
    """Averages along the columns, of what is hidden only."""
    counted = cv2.blur(hidden.astype(np.float32), ROWS)
    mean: Floats = cv2.blur(shift.astype(np.float32), ROWS) / np.maximum(counted, np.float32(1e-3))
    return np.where(hidden, mean, np.float32(0))
