"""A moving test picture that carries the time in its pixels (:mod:`plugin.stamps`). Needs no camera.

Soft colours all over, so that the stamp's discs are the only strong ones; fine lines to judge sharpness,
a grid to judge geometry, and a ball on a pendulum to judge motion.
"""

from __future__ import annotations

import math
from fractions import Fraction

import cv2
import numpy as np

from engine.frames import RGB, Frame, Pixels
from plugin.clock import Clock, Pacing
from plugin.stamps import draw_stamp

TURN_S = 4.0  # of the pendulum and the second hand's sweep


class PatternSource:
    """Pictures are due at a constant rate; each is stamped with the instant that it is handed out at."""

    def __init__(self, width: int, height: int, rate: Fraction, clock: Clock) -> None:
        self.name = f"test pattern {width}×{height}"
        self._clock = clock
        self._rate = rate
        self._card = draw_card(width, height)
        self._pacing = Pacing(0.0, rate)

    def open(self) -> None:
        self._pacing = Pacing(self._clock.now(), self._rate)

    def read(self, timeout_s: float) -> Frame | None:
        now = self._clock.now()
        if self._pacing.deadline_s > now + timeout_s:
            self._clock.sleep_until(now + timeout_s)
            return None
        self._clock.sleep_until(self._pacing.deadline_s)
        index, now = self._pacing.index, self._clock.now()
        self._pacing, _ = self._pacing.after(now)
        pixels = self._card.copy()
        draw_moving(pixels, float(index / self._rate))
        draw_stamp(pixels, now)
        return Frame(pixels, index, 1 / self._rate, RGB, now)

    def close(self) -> None:
        """Nothing is held."""


def draw_card(width: int, height: int) -> Pixels:
    """What stands still."""
    across, down = np.linspace(0, 1, width)[None, :], np.linspace(0, 1, height)[:, None]
    red = 92 + 46 * across + 0 * down
    green = 104 + 34 * down + 0 * across
    blue = 138 - 30 * across * down + 8 * down
    card: Pixels = np.stack([red, green, blue], -1).astype(np.uint8)
    step = max(width // 16, 8)
    offset = width % (2 * step) // 2
    for x in range(offset, width, step):
        cv2.line(card, (x, 0), (x, height), (168, 172, 178), 1)
    for y in range(height % (2 * step) // 2, height, step):
        cv2.line(card, (0, y), (width, y), (168, 172, 178), 1)
    _draw_lines(card, step)
    _draw_greys(card, step)
    radius = int(min(width, height) * 0.46)
    cv2.circle(card, (width // 2, height // 2), radius, (214, 216, 220), max(1, width // 640), cv2.LINE_AA)
    return card


def _draw_lines(card: Pixels, step: int) -> None:
    """Vertical lines of one, two and three pixels, in the upper corners."""
    width = card.shape[1]
    for corner in (step // 2, width - step // 2 - 3 * step):
        for index in range(3):
            left, period = corner + index * step, 2 * (index + 1)
            columns = (np.arange(step) // (period // 2)) % 2 * 180 + 40
            card[step // 2 : 2 * step, left : left + step] = columns[None, :, None]


def _draw_greys(card: Pixels, step: int) -> None:
    """Eleven steps from black to white, along the lower edge."""
    height, width = card.shape[:2]
    levels = np.linspace(16, 235, 11).astype(np.uint8)
    bar = np.repeat(levels, step)[None, :, None]
    left = (width - bar.shape[1]) // 2
    card[height - 2 * step : height - step, left : left + bar.shape[1]] = bar


def draw_moving(pixels: Pixels, media_s: float) -> None:
    """A ball on a pendulum, and a hand that goes around once in TURN_S."""
    height, width = pixels.shape[:2]
    size = min(width, height)
    phase = 2 * math.pi * media_s / TURN_S
    swing = 0.9 * math.sin(phase)
    pivot, length = (width / 2, height * 0.02), size * 0.28
    ball = (pivot[0] + 2.2 * length * math.sin(swing), pivot[1] + length * math.cos(swing))
    cv2.circle(pixels, _fixed(ball), round(size * 0.035) * 16, (196, 178, 150), cv2.FILLED, cv2.LINE_AA, 4)
    middle = (width / 2, height * 0.76)
    tip = (middle[0] + size * 0.09 * math.sin(phase), middle[1] - size * 0.09 * math.cos(phase))
    cv2.line(pixels, _fixed(middle), _fixed(tip), (236, 236, 236), max(2, size // 160), cv2.LINE_AA, 4)


def _fixed(point: tuple[float, float]) -> tuple[int, int]:
    """In OpenCV's sixteenths of a pixel."""
    return round(point[0] * 16), round(point[1] * 16)
