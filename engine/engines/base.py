"""What every engine is. Knows nothing of processes, queues or devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from engine.camera.geometry import Pose
from engine.frames import Pixels

BUDGET_MS = 100.0  # ten pictures a second, between which the compositor reprojects

Progress = Callable[[float, str], None]  # share done in [0, 1], and what is being done
Following = Callable[[], Sequence[Pixels]]  # the next step's frames; none if they are not there yet


class Rendered(NamedTuple):
    """A picture H W 3 and the pose it shows: reprojecting from there is the compositor's work."""

    pixels: Pixels
    pose: Pose


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineSettings:
    """What an engine is built from; crosses the process border by pickle.

    ``size`` is the largest picture (width, height) that the engine may be given or give; ``aspect``
    is the source's width over its height, in square pixels. What follows ``delay_s`` is for engines
    with a model: its named size, the weights (None: the ones that come with it, or random ones), those of
    the VAE if it works on latents, a file with the embedding of a text prompt (None: the empty one), how to
    run it on a GPU, and how long a step should take on a machine without one.
    """

    name: str
    size: tuple[int, int]
    horizontal_fov: float  # of the source, radians
    subject_distance_m: float
    aspect: float = 16 / 9
    delay_s: float = 0.0  # added to each step, to see what a slow model does to the show
    model: str = "mini"
    weights: str | None = None
    codec: str | None = None
    prompt: str | None = None
    compile: bool = False
    fp8: bool = False
    budget_ms: float = BUDGET_MS


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What an operator may want to know. ``level``: how well the engine renders now, in words, and why if it
    could do better; empty for an engine that has one way only. ``health``: figures by name, for the log.
    """

    level: str = ""
    health: Mapping[str, float] = field(default_factory=dict)


NOTHING_TO_REPORT = Report()


def nothing_follows() -> Sequence[Pixels]:
    return ()


class Engine(Protocol):
    """Frames and poses in, frames out. A step may take as long as it takes."""

    chunk: int
    """Frames in one step."""

    size: tuple[int, int] | None
    """Width and height it wants its frames in; None: as they come."""

    def warmup(self, progress: Progress) -> None:
        """Load, compile, allocate: everything slow, before the first frame."""

    def step(
        self, frames: Sequence[Pixels], poses: Sequence[Pose], following: Following = nothing_follows
    ) -> list[Rendered]:
        """``chunk`` consecutive frames (RGB) with the pose wanted at each, rendered.

        An engine that has something to do on frames before it needs their poses may ask for the ``following``
        ones, once, and do it beside the rest of this step. They are the next step's then, unless there is a
        ``reset`` before it.
        """

    def reset(self) -> None:
        """Forget the past: the next frame belongs to another picture."""

    def report(self) -> Report:
        """As of the newest step."""
