"""Depth and the person's matte of a live feed, picture after picture, by exported networks on one thread: our
own for both, and for people a second opinion, of one that has seen very many real ones.

A network that sees one picture at a time answers a little differently each time, and a warp by such a depth
shimmers. So the answer is blended with the past where the picture stands still, and followed where it moves;
the scale, which the network only guesses, is held by what stands still; and a cut forgets everything.

Knows nothing of lenses, of metres (until :func:`scaled` is told a distance) or of what depth is used for.
Shapes: H W rows and columns of a frame, h w of the network's maps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.frames import Pixels
from engine.onnx_session import open_session

WEIGHTS = Path(__file__).parent / "weights" / "depth.onnx"
PERSON_WEIGHTS = WEIGHTS.with_name("person.onnx")
Map = NDArray[np.float32]

SECOND_OPINION = np.float32(0.6)  # that of the network which has seen real people, but hardly any stage
CERTAIN = np.float32(0.998)  # no opinion is surer than this

STILL_WEIGHT = 0.08  # of a new answer where nothing moves: a memory of a dozen frames
MOVING_WEIGHT = 0.85
SCALE_WEIGHT = 0.05  # of the network's new guess of the whole picture's scale
SUBJECT_WEIGHT = 0.05  # of the subject's new distance: twenty frames, so that the room does not breathe
MOVES_AT = (3.0, 6.0)  # times the noise: below it stands still, above it moves
NOISE_RANGE = (0.004, 0.015)  # of full white, after smoothing; more than that is motion, not noise
STILL_SHARE = 0.2  # of the picture that must stand still to hold the scale
PERSON_SHARE = 0.01  # of the picture, from which on a person is the subject
SUBJECT_QUANTILE = 0.7  # of people's inverse depths: others sit behind the one whose distance is told,
SUBJECT_SPREAD = 0.18  # of the width: and beside, as moves turn about the middle of the picture
BODY_M = 0.15  # from a person's middle, whose distance is told, to what a camera sees of them
CUT_CORRELATION = 0.4  # of thumbnails: less, and it is another picture
CUT_DIFFERENCE = 0.04  # of full white, which the thumbnails must differ by as well
THUMBNAIL = (28, 16)
HALVED = (slice(None, None, 2), slice(None, None, 2))  # to the size at which motion is seen


@dataclass(frozen=True, slots=True)
class Depth:
    """Maps h w: ``inverse_depth`` positive, relative (1/m once :func:`scaled`); ``matte``, 1 = person;
    ``confidence``, the chance that depth is within 25 %. ``subject`` is the inverse depth of what is
    seen of the subject: the person's, or the picture's median where there is nobody, steadied."""

    inverse_depth: Map
    matte: Map
    confidence: Map
    subject: float


def surface_m(subject_distance_m: float) -> float:
    """How far away is what a camera sees of a subject, about whose middle moves turn at the distance told.

    Rendered people (540 views of training scenes) are 0.1 to 0.2 m nearer than their middle. Without it,
    everything is taken to be a tenth too far away, and parallax is as much too small.
    """
    return max(subject_distance_m - BODY_M, subject_distance_m / 2)


def scaled(depth: Depth, distance_m: float) -> Depth:
    """The same in 1/m: what is seen of the subject is ``distance_m`` away."""
    factor = 1 / (depth.subject * distance_m)
    return replace(depth, inverse_depth=depth.inverse_depth * np.float32(factor), subject=1 / distance_m)


class DepthEstimator:
    """For frames of ``width`` × ``height``, in their order; the maps have ``size`` (width, height)."""

    def __init__(self, width: int, height: int, weights: Path = WEIGHTS) -> None:
        self._frame_shape = (height, width, 3)
        self._session, self._person = (
            open_session(path, "the depth network's") for path in (weights, PERSON_WEIGHTS)
        )
        self._input = self._session.get_inputs()[0].name
        rows, columns = self._session.get_inputs()[0].shape[2:]
        self.size = (int(columns), int(rows))
        rows, columns = self._person.get_inputs()[0].shape[1:3]
        self._person_size = (int(columns), int(rows))
        self._steady = Steadier()

    def estimate(self, frame: Pixels) -> Depth:
        """The next frame's depth, steadied by those before it."""
        if frame.shape != self._frame_shape:
            raise ValueError(f"this estimator takes frames of shape {self._frame_shape}, not {frame.shape}")
        picture = shrunk(frame, self.size)
        tensor = np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32)[None] / np.float32(255)
        inverse, matte, confidence = (answer[0] for answer in self._session.run(None, {self._input: tensor}))
        return self._steady.step(picture, inverse, agreed(matte, self._second_opinion(frame)), confidence)

    def _second_opinion(self, frame: Pixels) -> Map:
        """The matte of the other network, h w."""
        tensor = shrunk(frame, self._person_size).astype(np.float32)[None] / np.float32(255)
        (matte,) = self._person.run(None, {"images": tensor})
        return np.asarray(cv2.resize(matte[0, 0], self.size), np.float32)

    def reset(self) -> None:
        """Forget the past: the next frame belongs to another picture."""
        self._steady = Steadier()


@dataclass(frozen=True, slots=True)
class _Memory:
    """``answer`` 3 h w: log inverse depth, matte, confidence; ``grey``: the smoothed picture it belongs to;
    ``thumbnail``: of the newest frame; ``subject``: its log inverse depth; ``frames`` since the cut."""

    answer: Map
    grey: Map
    thumbnail: Map
    subject: float
    frames: int


def agreed(matte: Map, second: Map) -> Map:
    """Two mattes' weighted mean log-odds, as a matte (the logarithmic opinion pool; Genest and Zidek,
    *Combining probability distributions*, 1986), but never less than the first: whoever is unsure has little
    say, and the second, which misses people on a stage, only adds.
    """
    first_odds, second_odds = (
        np.log(part / (1 - part)) for part in (np.clip(one, 1 - CERTAIN, CERTAIN) for one in (matte, second))
    )
    pooled = np.maximum(first_odds, first_odds + SECOND_OPINION * (second_odds - first_odds))
    return np.asarray(1 / (1 + np.exp(-pooled)), np.float32)


def shrunk(frame: Pixels, size: tuple[int, int]) -> Pixels:
    """``frame`` at ``size`` (width, height). A large one by way of twice the size, where averaging is fast:
    half a millisecond instead of five, at 720p."""
    height, width = frame.shape[:2]
    if width > 2 * size[0] and height > 2 * size[1]:
        frame = np.asarray(cv2.resize(frame, (2 * size[0], 2 * size[1])), np.uint8)
    grows = width < size[0] or height < size[1]
    how = cv2.INTER_LINEAR if grows else cv2.INTER_AREA
    return np.asarray(cv2.resize(frame, size, interpolation=how), np.uint8)


class Steadier:
    """Blends the network's answers along time."""

    def __init__(self) -> None:
        self._memory: _Memory | None = None

    def step(self, picture: Pixels, inverse_depth: Map, matte: Map, confidence: Map) -> Depth:
        """The network's answer, maps h w, for the next picture h w 3 → the steadied one."""
        grey = _smoothed_grey(picture)
        thumbnail = np.asarray(cv2.resize(grey, THUMBNAIL, interpolation=cv2.INTER_AREA), np.float32)
        answer = np.stack([np.log(inverse_depth), matte, confidence])
        memory = self._memory
        if memory is None or is_cut(memory.thumbnail, thumbnail):
            memory = _Memory(answer, grey, thumbnail, _subject(answer), frames=1)
        else:
            memory = _blended(memory, answer, grey, thumbnail)
        self._memory = memory
        log_inverse, matte, confidence = memory.answer
        return Depth(np.exp(log_inverse), matte, confidence, float(np.exp(memory.subject)))


def _blended(memory: _Memory, answer: Map, grey: Map, thumbnail: Map) -> _Memory:
    moving = motion(memory.grey, grey)
    still = moving < 0.5
    if still.mean() > STILL_SHARE:
        jump = np.median((answer[0][HALVED] - memory.answer[0][HALVED])[still])
        answer[0] -= (1 - SCALE_WEIGHT) * jump
    least = max(STILL_WEIGHT, 1 / (memory.frames + 1))
    weight = least + max(MOVING_WEIGHT - least, 0.0) * moving
    steadied = memory.answer + (answer - memory.answer) * cv2.resize(weight, answer.shape[:0:-1])
    return _Memory(
        answer=steadied,
        grey=memory.grey + (grey - memory.grey) * weight,
        thumbnail=thumbnail,
        subject=memory.subject + SUBJECT_WEIGHT * (_subject(steadied) - memory.subject),
        frames=memory.frames + 1,
    )


def motion(before: Map, now: Map) -> Map:
    """0 where two smoothed pictures differ by no more than noise, 1 where they surely do; grown by a margin,
    because depth changes beside what moves."""
    difference = np.abs(now - before)
    noise = float(np.clip(np.median(difference) * 1.5, *NOISE_RANGE))
    low, high = (noise * times for times in MOVES_AT)
    moving = np.clip((difference - low) / (high - low), 0, 1).astype(np.float32)
    return np.asarray(cv2.dilate(moving, np.ones((5, 5), np.uint8)), np.float32)


def is_cut(before: Map, now: Map) -> bool:
    """Whether two thumbnails show different scenes: another layout, not only another brightness."""
    if float(np.abs(now - before).mean()) < CUT_DIFFERENCE:
        return False
    a, b = before - before.mean(), now - now.mean()
    lengths = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return lengths < 1e-6 or float((a * b).sum()) / lengths < CUT_CORRELATION


def _smoothed_grey(picture: Pixels) -> Map:
    """Half the size, [0, 1]."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32) / np.float32(255)
    return np.asarray(cv2.GaussianBlur(cv2.pyrDown(grey), (3, 3), 0), np.float32)


def _subject(state: Map) -> float:
    """The log inverse depth of the person, or of the picture where there is hardly one."""
    log_inverse, matte = state[0][HALVED], state[1][HALVED]
    person = matte > 0.5
    if person.mean() <= PERSON_SHARE:
        return float(np.median(log_inverse))
    aside = (np.arange(person.shape[1]) + 0.5) / person.shape[1] - 0.5
    weights = np.broadcast_to(np.exp(-0.5 * (aside / SUBJECT_SPREAD) ** 2), person.shape)[person]
    order = np.argsort(log_inverse[person])
    below = np.cumsum(weights[order])
    return float(log_inverse[person][order][np.searchsorted(below, SUBJECT_QUANTILE * below[-1])])
