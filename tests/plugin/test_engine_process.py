import io
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from engine.camera.geometry import Pose
from engine.engines.base import EngineSettings, Following, Progress, Rendered, Report
from engine.errors import EngineError
from engine.frames import Pixels
from plugin.engine_process import RESET, EngineProcess
from plugin.shared_frames import SharedRing

SETTINGS = EngineSettings(name="fake", size=(16, 8), horizontal_fov=1.0, subject_distance_m=2.5)


class Fake:
    """An engine whose steps do what a test says, one after the other, and end the process after the last."""

    size: tuple[int, int] | None = None

    def __init__(self, *steps: Callable[[Following], object], chunk: int = 1) -> None:
        self.chunk = chunk
        self._steps = list(steps)
        self.taken: list[list[int]] = []
        self.pans: list[list[int]] = []
        self.resets = 0
        self.health: dict[str, float] = {}

    def warmup(self, progress: Progress) -> None:
        pass

    def step(self, frames: Sequence[Pixels], poses: Sequence[Pose], following: Following) -> list[Rendered]:
        self.taken.append(numbers(frames))
        self.pans.append([round(10 * pose.translation[0]) for pose in poses])
        self._steps.pop(0)(following)
        if not self._steps:
            raise EngineError("the test is over")
        return [Rendered(frame, pose) for frame, pose in zip(frames, poses, strict=True)]

    def reset(self) -> None:
        self.resets += 1

    def report(self) -> Report:
        return Report(health=self.health)


def numbers(frames: Sequence[Pixels]) -> list[int]:
    return [int(frame[0, 0, 0]) for frame in frames]


class Bench:
    """Frame number n is of that colour, and wanted from n decimetres to the right."""

    def __init__(self) -> None:
        self.incoming, self.outgoing = (SharedRing.create(8, 16 * 8 * 3) for _ in range(2))
        self.said = io.BytesIO()
        self.process = EngineProcess(SETTINGS, self.incoming, self.outgoing, self.said)

    def send(self, *which: int) -> None:
        for number in which:
            pose = Pose(translation=(number / 10, 0.0, 0.0))
            self.incoming.write(np.full((8, 16, 3), number, np.uint8), pose, float(number))

    def run(self, engine: Fake, monkeypatch: pytest.MonkeyPatch, *first: int) -> None:
        """Until the engine's last step; begins with these frames."""
        monkeypatch.setattr("plugin.engine_process.build_engine", lambda settings: engine)

        def run() -> None:
            with pytest.raises(EngineError, match="the test is over"):
                self.process.run()

        thread = threading.Thread(target=run)
        thread.start()
        end = time.monotonic() + 20
        while b"ready" not in self.said.getvalue():
            assert time.monotonic() < end
            time.sleep(0.001)
        self.send(*first)
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.incoming.close()
    bench.outgoing.close()


def test_what_the_engine_asked_for_ahead_is_its_next_step(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead: list[list[int]] = []

    def asks(following: Following) -> None:
        bench.send(2, 3)
        ahead.append(numbers(following()))
        bench.send(4)

    def asks_for_nothing(following: Following) -> None:
        pass

    engine = Fake(asks, asks_for_nothing, asks_for_nothing)
    bench.run(engine, monkeypatch, 1)
    assert ahead == [[3]]
    assert engine.taken == [[1], [3], [4]]
    assert engine.pans == [[1], [4], [4]]  # of what was taken ahead, as it is wanted by now


def test_nothing_follows_before_it_is_there(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def asks(following: Following) -> None:
        assert not list(following())
        bench.send(2)

    engine = Fake(asks, lambda following: None)
    bench.run(engine, monkeypatch, 1)
    assert engine.taken == [[1], [2]]


def test_a_reset_drops_what_was_taken_ahead(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugin.engine_process.os._exit", lambda code: None)  # when it hears no more

    def asks(following: Following) -> None:
        bench.send(2)
        following()
        reading, writing = os.pipe()
        os.write(writing, RESET)
        os.close(writing)
        with os.fdopen(reading, "rb") as events:
            bench.process.listen(events)
        bench.send(3)

    engine = Fake(asks, lambda following: None)
    bench.run(engine, monkeypatch, 1)
    assert engine.taken == [[1], [3]]
    assert engine.resets == 1


def test_figures_that_are_no_numbers_are_not_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Fake(lambda following: bench.send(2), lambda following: None)
    engine.health = {"error": float("nan"), "sharpness": 1.0}
    bench.run(engine, monkeypatch, 1)
    told = [json.loads(line) for line in bench.said.getvalue().splitlines()]
    assert [event["health"] for event in told if event["event"] == "picture"] == [{"sharpness": 1.0}]


def test_a_chunk_keeps_the_pose_of_each_of_its_frames(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def asks(following: Following) -> None:
        bench.send(4, 5, 6)
        following()
        bench.send(7)

    engine = Fake(asks, lambda following: None, chunk=3)
    bench.run(engine, monkeypatch, 1, 2, 3)
    assert engine.taken == engine.pans == [[1, 2, 3], [4, 5, 6]]
