"""The mini student's live form: frames, hints and poses in, painted frames out, by ONNX Runtime alone.

The loop is :func:`engine.diffusion.rollout.rollout`'s for one frame a chunk, against which it is tested; the
graph is :mod:`engine.diffusion.export_graph`'s. Knows nothing of depth, of delivery at full size, or of time.

Shapes: H W rows and columns of the picture, T tokens (patches of P pixels) of a frame, K hints, L layers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from engine.camera.geometry import Intrinsics, Pose
from engine.diffusion.stream_memory import MemoryShape, StreamMemory, axis_widths, turns
from engine.errors import WeightsError
from engine.frames import Pixels
from engine.onnx_session import open_session

if TYPE_CHECKING:
    from engine.geometry.hints import Hints

Floats = NDArray[np.float32]

METADATA_KEY = "realcam_student"  # under which the file says what follows
SOURCE_KIND = 0  # rows of the graph's table: the source, then the target at each of the levels
FIRST_LEVEL_KIND = 1
CLEAN = 0.0  # the level at which a finished frame is remembered
SEED = 0


@dataclass(frozen=True, slots=True)
class Painted:
    """``pixels`` H W 3 in about [0, 255], not clipped; ``shares`` K+1 H W of what they were mixed from:
    generated, rotated, warped; they sum to 1.
    """

    pixels: Floats
    shares: Floats


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the file says of itself."""

    size: tuple[int, int]
    patch: int
    memory: MemoryShape
    levels: tuple[float, ...]
    schedules: dict[int, tuple[float, ...]]
    default_steps: int
    cache_from_last_step: bool


class OnnxStudent:
    """One stream: each frame is seen, then painted. On one thread by default, and never spinning. ``steps``
    may be changed between frames, to any of ``available_steps``.
    """

    def __init__(self, weights: Path, *, steps: int | None = None, threads: int = 1) -> None:
        """``steps`` None: the file's own. Raises :class:`WeightsError` if there is no usable file."""
        self._session = open_session(weights, "the student's", threads)
        self._facts = _facts(self._session, weights)
        self.size = self._facts.size
        self.available_steps = tuple(sorted(self._facts.schedules))
        self.steps = self._facts.default_steps if steps is None else steps
        if self.steps not in self.available_steps:
            raise ValueError(f"{weights} takes {self.available_steps} steps, not {self.steps}")
        shape = self._facts.memory
        self._shown, self._made = StreamMemory(shape), StreamMemory(shape)
        self._outputs = [output.name for output in self._session.get_outputs()]
        given = {given.name: given.shape for given in self._session.get_inputs()}
        self._token_width = int(given["tokens"][1])
        self._space = _space_turns(self._facts)
        self._turned = self._turns_now()
        self._noise = np.random.default_rng(SEED)

    def reset(self) -> None:
        """Forgets everything: the next frame begins a stream."""
        self._shown.reset()
        self._made.reset()

    def re_anchor(self) -> None:
        """Forgets what it made, but not what it was shown: the way out of a drift."""
        self._made.forget()

    def see(self, source: Pixels) -> None:
        """The next frame H W 3 of ``size``. It waits for no hints."""
        width, height = self.size
        if source.shape != (height, width, 3):
            raise ValueError(f"this student takes frames of {height} rows of {width}, not {source.shape}")
        picture = self._folded(_range(source))
        tokens = np.zeros((len(picture), self._token_width), np.float32)  # without noise and hints
        tokens[:, : picture.shape[1]] = picture
        self._turned = self._turns_now()
        *_, left = self._pass(SOURCE_KIND, tokens, self._shown, None)
        self._write(self._shown, left)

    def paint(self, hints: Hints, pose: Pose, source_lens: Intrinsics) -> Painted:
        """The frame that was seen last, as seen from the pose, with its hints of ``size``."""
        conditions = self._conditions(hints, pose, source_lens)
        x = self._fresh()
        sigmas = self._facts.schedules[self.steps]
        for number, sigma in enumerate(sigmas):
            x0, shares, left = self._denoise(x, sigma, conditions)
            if number + 1 < len(sigmas):
                following = np.float32(sigmas[number + 1])
                x = (1 - following) * x0 + following * self._fresh()
        if not self._facts.cache_from_last_step:
            *_, left = self._denoise(x0, CLEAN, conditions)
        self._write(self._made, left)
        self._shown.advance()
        self._made.advance()
        return Painted((self._unfolded(x0) + 1) * np.float32(127.5), self._unfolded_shares(shares))

    def _denoise(self, x: Floats, sigma: float, conditions: Floats) -> tuple[Floats, Floats, list[Floats]]:
        kind = FIRST_LEVEL_KIND + self._facts.levels.index(sigma)
        tokens = np.concatenate([x, conditions], axis=1)
        return self._pass(kind, tokens, self._made, self._shown)

    def _pass(
        self,
        kind: int,
        tokens: Floats,
        own: StreamMemory,
        shown: StreamMemory | None,
    ) -> tuple[Floats, Floats, list[Floats]]:
        """x0 T 3·P and shares T K+1 P, if this pass paints; each layer's own keys and values, T H E."""
        feed = {
            "kind": np.array(kind),
            "paints": np.array(kind not in (SOURCE_KIND, FIRST_LEVEL_KIND)),
            "tokens": tokens,
            "cosines": self._turned[0],
            "sines": self._turned[1],
        }
        before, after = own.before(), own.after()
        seen = slice(0) if shown is None else shown.all()
        for layer in range(own.shape.layers):
            for what in ("keys", "values"):
                past, others = (getattr(memory, what)[layer] for memory in (own, shown or own))
                feed[f"shown_{what}{layer}"] = _joined(others[seen])
                feed[f"{what}_before{layer}"] = _joined(past[before])
                feed[f"{what}_after{layer}"] = _joined(past[after])
        x0, shares, *left = self._session.run(self._outputs, feed)
        return x0, shares, left

    def _write(self, memory: StreamMemory, left: list[Floats]) -> None:
        for layer in range(self._facts.memory.layers):
            memory.write(layer, left[2 * layer], left[2 * layer + 1])

    def _turns_now(self) -> tuple[Floats, Floats]:
        """Cosines and sines of the next frame's tokens, T E/2 each."""
        width = axis_widths(self._facts.memory.head_width)[0]
        time = np.repeat(turns(np.array([self._shown.now]), width), len(self._space), axis=0)
        whole = np.concatenate([time, self._space], axis=1)
        return np.ascontiguousarray(whole.real), np.ascontiguousarray(whole.imag)

    def _conditions(self, hints: Hints, pose: Pose, lens: Intrinsics) -> Floats:
        """What the target's tokens know besides their noise, in the order of training's channels."""
        rows, columns = (side // self._facts.patch for side in self.size[::-1])
        parts = (
            self._folded(_range(hints.rotated)),
            self._folded(_range(hints.warped)),
            self._folded(hints.visible[..., None]),
            plucker_rays(pose, lens, rows, columns).reshape(-1, 6),
        )
        return np.concatenate(parts, axis=1)

    def _fresh(self) -> Floats:
        return self._noise.standard_normal((self._facts.memory.tokens, 3 * self._facts.patch**2), np.float32)

    def _folded(self, picture: Floats) -> Floats:
        """H W C → T C·P: the patches, channel by channel, as the pixel codec has them."""
        patch = self._facts.patch
        rows, columns, channels = (picture.shape[0] // patch, picture.shape[1] // patch, picture.shape[2])
        apart = picture.reshape(rows, patch, columns, patch, channels).transpose(0, 2, 4, 1, 3)
        return np.ascontiguousarray(apart).reshape(rows * columns, channels * patch**2)

    def _unfolded(self, tokens: Floats) -> Floats:
        """The inverse."""
        patch = self._facts.patch
        columns, rows = (side // patch for side in self.size)
        apart = tokens.reshape(rows, columns, -1, patch, patch).transpose(0, 3, 1, 4, 2)
        return np.ascontiguousarray(apart).reshape(rows * patch, columns * patch, -1)

    def _unfolded_shares(self, shares: Floats) -> Floats:
        """T K+1 P → K+1 H W."""
        return np.ascontiguousarray(self._unfolded(shares.reshape(len(shares), -1)).transpose(2, 0, 1))


def plucker_rays(pose: Pose, lens: Intrinsics, rows: int, columns: int) -> Floats:
    """As :func:`engine.model.camera_encoder.plucker_rays`, of the source's lens zoomed: rows columns 6."""
    target = lens.zoomed(pose.zoom)
    y = ((np.arange(rows) + 0.5) / rows - (target.cy + 0.5) / target.height) * target.height / target.fy
    x = ((np.arange(columns) + 0.5) / columns - (target.cx + 0.5) / target.width) * target.width / target.fx
    grid_y, grid_x = np.meshgrid(y, x, indexing="ij")
    directions = np.dstack([grid_x, grid_y, np.ones_like(grid_x)]) @ pose.matrix().T
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    ox, oy, oz = pose.translation
    crossed = np.array([[0, -oz, oy], [oz, 0, -ox], [-oy, ox, 0]])  # with the camera's place
    return np.concatenate([directions @ crossed.T, directions], axis=2, dtype=np.float32)


def _joined(frames: Floats) -> Floats:
    """Slots T H E → M H E, without a copy."""
    return frames.reshape(-1, *frames.shape[2:])


def _range(picture: Pixels) -> Floats:
    """[0, 255] → [−1, 1]."""
    values: Floats = picture * np.float32(1 / 127.5) - np.float32(1)
    return values


def _space_turns(facts: _Facts) -> NDArray[np.complex64]:
    """Of each token's row and column: T turns."""
    columns, rows = (side // facts.patch for side in facts.size)
    _, height, width = axis_widths(facts.memory.head_width)
    down, across = np.repeat(np.arange(rows), columns), np.tile(np.arange(columns), rows)
    return np.concatenate([turns(down, height), turns(across, width)], axis=1)


def _facts(session: onnxruntime.InferenceSession, weights: Path) -> _Facts:
    told = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if told is None:
        raise WeightsError(f"{weights} is not a student's: it says nothing of how it streams")
    try:
        facts = json.loads(told)
        size, patch = tuple(facts["size"]), facts["patch"]
        schedules = {int(steps): tuple(sigmas) for steps, sigmas in facts["schedules"].items()}
        memory = MemoryShape(
            layers=facts["layers"],
            tokens=(size[0] // patch) * (size[1] // patch),
            heads=facts["heads"],
            head_width=facts["head_width"],
            recent=facts["window"] - 1,
            attention_sink=facts["attention_sink"],
        )
        levels, cache_from_last_step = tuple(facts["levels"]), facts["cache_from_last_step"]
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{weights} is of another version of RealCam: {error!r}; export it again"
        ) from None
    return _Facts(
        size=size,
        patch=patch,
        memory=memory,
        levels=levels,
        schedules=schedules,
        default_steps=max(schedules),
        cache_from_last_step=cache_from_last_step,
    )
