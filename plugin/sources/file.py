"""A video file as if it were a camera: at its own speed, over and over. Knows nothing of codecs or time."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from engine.errors import SourceError
from engine.frames import Frame
from plugin.clock import Clock
from plugin.config import FileSourceConfig
from plugin.sources.player import Player
from plugin.sources.pyav import Opening, Reader

ADVICE = "Play it in another player to see whether it is whole, or name another file."


class Rounds:
    """A file's pictures, over and over if it loops; stamps go on rising from one round to the next."""

    def __init__(self, config: FileSourceConfig, name: str, clock: Clock) -> None:
        self._opening = Opening(name=name, target=str(config.path), live=False, advice=ADVICE)
        self._loop = config.loop
        self._clock = clock
        self._reader = Reader(self._opening, clock)
        self._offset_s = self._end_s = Fraction(0)
        self._empty = True

    @property
    def step_s(self) -> Fraction:
        return 1 / self._reader.rate

    def next(self) -> Frame | None:
        """None once a file that does not loop is over."""
        frame = self._reader.next()
        if frame is None and self._empty:
            raise SourceError(f"{self._opening.name}: there is no picture in it. {ADVICE}")
        if frame is None and self._loop:
            frame = self._first_again()
        if frame is None:
            return None
        self._empty = False
        frame = replace(frame, pts=frame.pts + round(self._offset_s / frame.time_base))
        self._end_s = frame.pts * frame.time_base + self.step_s
        return frame

    def close(self) -> None:
        self._reader.close()

    def _first_again(self) -> Frame | None:
        self._reader.close()
        self._reader = Reader(self._opening, self._clock)
        frame = self._reader.next()
        if frame is not None:
            self._offset_s = self._end_s - frame.pts * frame.time_base
        return frame


class FileSource:
    def __init__(self, config: FileSourceConfig, clock: Clock) -> None:
        self.name = f"file {config.path.name}"
        self._config = config
        self._clock = clock
        self._rounds: Rounds | None = None
        self._player: Player | None = None

    def open(self) -> None:
        path = self._config.path
        if not path.is_file():
            found = "a folder" if path.is_dir() else "nothing"
            raise SourceError(f"{self.name}: expected a video at {path.absolute()}, found {found}. {ADVICE}")
        self._rounds = Rounds(self._config, self.name, self._clock)
        self._player = Player(self._rounds.next, float(self._rounds.step_s), self._clock)

    def read(self, timeout_s: float) -> Frame | None:
        assert self._player is not None, "read before open"
        return self._player.read(timeout_s)

    def close(self) -> None:
        if self._rounds is not None:
            self._rounds.close()
            self._rounds = None
