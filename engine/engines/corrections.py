"""The correction that is on air: steadied along time, held between paintings, never jumping.

Whatever changes (the student begins, ends or forgets) is crossfaded. Pure: times are arguments. Knows nothing
of the student or of pictures at full size.
"""

from __future__ import annotations

import numpy as np

from engine.camera.geometry import Intrinsics, Pose, plane_homography
from engine.geometry.delivery import Correction
from engine.geometry.pictures import Floats

FADE_S = 0.5


class Corrections:
    """For pictures of the lens's size; between two views, all is carried over on the subject's plane."""

    def __init__(self, lens: Intrinsics, distance_m: float) -> None:
        self._lens, self._distance_m = lens, distance_m
        self._none = self._newest = self._before = Correction.none((lens.width, lens.height))
        self._pose: Pose | None = None
        self._fade_began: float | None = None
        self._on_air = False  # something that a viewer compares with

    def rest(self) -> None:
        """This picture goes out as it is."""
        self._newest = self._before = self._none
        self._pose = self._fade_began = None
        self._on_air = True

    @property
    def is_none(self) -> bool:
        """Whether pictures go out as they are."""
        return self._newest is self._none and self._fade_began is None

    def fade(self, now: float) -> None:
        """From here on what comes is another sequence: it is crossfaded from what is on air."""
        self._before = self.at(now)
        self._fade_began = now

    def end(self, now: float) -> None:
        """There will be no more corrections."""
        if self._newest is not self._none:
            self.fade(now)
            self._newest = self._none

    def paint(self, newest: Correction, pose: Pose, now: float) -> None:
        """A new one, of the view ``pose``."""
        on_air = self._on_air
        self.hold(pose)
        if self._newest is self._none:
            if on_air:
                self.fade(now)
            self._newest = newest
        else:
            self._newest = newest.steadied(self._newest)

    def hold(self, pose: Pose) -> None:
        """The last one, seen from ``pose``."""
        if self._pose is not None and pose != self._pose:
            carry = self._plane(pose) @ np.linalg.inv(self._plane(self._pose))
            if self._newest is not self._none:
                self._newest = self._newest.carried(carry)
            if self._fade_began is not None:
                self._before = self._before.carried(carry)
        self._pose, self._on_air = pose, True

    def at(self, now: float) -> Correction:
        """What to correct with at the instant ``now``."""
        if self._fade_began is None:
            return self._newest
        share = (now - self._fade_began) / FADE_S
        if share >= 1:
            self._fade_began = None
            return self._newest
        return self._before.mixed(self._newest, max(0.0, share * share * (3 - 2 * share)))

    def _plane(self, pose: Pose) -> Floats:
        return plane_homography(self._lens, self._lens, pose, self._distance_m)
