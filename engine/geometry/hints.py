"""The geometric hints of the mini student: what geometry alone knows of the view that is wanted.

They are made of what engine ``depth`` drew, at the model's size, live and in training alike. Knows nothing of
models, networks or people.

Shapes: H W the model's rows and columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2

from engine.camera.geometry import Intrinsics, Pose
from engine.frames import Pixels
from engine.geometry.forward_warp import rotation_homography
from engine.geometry.pictures import Floats


@dataclass(frozen=True, slots=True)
class Hints:
    """``rotated`` H W 3: the source turned and zoomed, from where the real camera is; ``warped`` H W 3: from
    where the virtual camera is, by depth; ``visible`` H W, 0…1: where ``warped`` shows what was really seen,
    now or earlier.
    """

    rotated: Pixels
    warped: Pixels
    visible: Floats


def hints_of_view(frame: Pixels, view: Pixels, seen: Floats, source: Intrinsics, pose: Pose) -> Hints:
    """Of a ``frame`` H W 3 by the lens ``source`` whose ``view`` H W 3 from ``pose`` was drawn already, with
    the share H W, 0…1, of it that was really ``seen``.
    """
    homography = rotation_homography(source, source, pose)
    size = (source.width, source.height)
    rotated: Pixels = cv2.warpPerspective(frame, homography, size, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[assignment]
    return Hints(rotated, view, seen)
