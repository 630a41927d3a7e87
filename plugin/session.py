"""One show: joins source, engine, compositor, pacer, sinks and control, and takes them down again.

Everything that thinks is elsewhere; this only knows who is connected to whom.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict
from math import radians
from types import TracebackType

import cv2

from engine.camera.axes import Limits
from engine.camera.director import Director
from engine.engines.base import EngineSettings
from engine.errors import ConfigError
from engine.frames import Frame
from plugin.clock import Clock, MonotonicClock, ask_for_fine_timers
from plugin.compositor import Compositor
from plugin.config import FileSinkConfig, FileSourceConfig, LimitsConfig, ObsConfig, SessionConfig
from plugin.control.commands import Command
from plugin.control.osc import OscServer
from plugin.control.switcher import Switcher
from plugin.control.web import WebServer
from plugin.engine_host import EngineHost
from plugin.latency import Latencies
from plugin.library import PresetLibrary
from plugin.obs.client import ObsClient
from plugin.obs.local import address
from plugin.obs.tally import TallyWatcher
from plugin.pacer import Pacer
from plugin.sinks.base import OutputFormat, Sink, SinkRunner
from plugin.sinks.factory import make_sink
from plugin.sinks.preview import PreviewSink
from plugin.sources.base import SourceRunner
from plugin.sources.factory import make_source
from plugin.warp import Plane

log = logging.getLogger(__name__)

SWITCH_S = 0.001  # Python's own 5 ms between threads would be a sixth of a frame for the pacer
FIRST_PICTURE_S = 1.5  # how long the output waits to begin with a picture instead of the slate
AFTER_FAILURE_S = 0.02  # so that a failure that comes at once does not take the whole processor
LARGEST_PICTURE = (1920, 1080)  # that an engine is given, unless the output is larger


class Session:
    """``with Session(config) as session:`` is on air inside the block.

    ``extra_sinks`` come on top of the configured ones: tests and the benchmark listen with them.
    Raises :class:`engine.errors.ConfigError` when a port is in use or the folder of presets is not there.
    """

    def __init__(
        self, config: SessionConfig, clock: Clock | None = None, extra_sinks: Sequence[Sink] = ()
    ) -> None:
        _check_files(config)
        self.config = config
        self.clock = clock or MonotonicClock()
        self.output = OutputFormat(config.output.width, config.output.height, config.output.rate)
        self.library = PresetLibrary(config.presets.folder)
        director = Director(
            limits_from(config.camera.limits), config.camera.subject_distance_m, self.library.find
        )
        self.switcher = Switcher(self.library, director, {"reload": self._reload, "reset": self._reset})
        self.compositor = Compositor(self.output, config.camera, config.picture)
        self.source = SourceRunner(make_source(config.source, self.clock, config.obs), self.clock)
        self.engine = EngineHost(engine_settings(config), self.clock)
        sinks = [*(make_sink(sink) for sink in config.sinks), *extra_sinks]
        self.sinks = [SinkRunner(sink, self.output) for sink in sinks]
        self.pacer = Pacer(self.output.rate, self.clock, self._compose, self.sinks)
        self.osc = OscServer(config.osc, self.apply, self.state, self.clock, self.refused)
        preview = next((sink for sink in sinks if isinstance(sink, PreviewSink)), None)
        self.web = WebServer(config.web, self, self.state, self.clock, preview, config.osc)
        self._obs = _obs_client(config.obs)
        if self._obs is not None:
            TallyWatcher(self._obs, config.obs.tally_input, self._tell_tally)
        self.latency = Latencies()
        self._control = Latencies()
        self._applied_s: float | None = None  # the oldest command that no picture has shown yet
        self._stop = threading.Event()
        self._has_picture = threading.Event()
        self.on_air: deque[tuple[float, float]] = deque(maxlen=100)
        """When a command came in, and when the first picture that obeys it was due."""
        loops = {"engine feed": self._feed_engine, "engine pictures": self._collect_picture}
        self._failures = dict.fromkeys(loops, "")
        self._threads = [
            threading.Thread(target=self._keep_doing, args=(name, once), name=name, daemon=True)
            for name, once in loops.items()
        ]

    def __enter__(self) -> Session:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Control first: a port in use is found before anything is on air. Takes up to two seconds."""
        ask_for_fine_timers()
        sys.setswitchinterval(SWITCH_S)
        cv2.setNumThreads(1)  # a second one would be waited for whenever the machine is busy
        try:
            self.osc.start()
            if self.config.web.enabled:
                self.web.start()
            self.library.watch(self._stop, lambda: None)
            self.engine.start()
            self.source.start()
            for thread in self._threads:
                thread.start()
            if self._obs is not None:
                self._obs.start()
            self._has_picture.wait(FIRST_PICTURE_S)
            for sink in self.sinks:
                sink.start()
            self.pacer.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """The output last, so that it ends with pictures and not with a hole."""
        self._stop.set()
        self.osc.stop()
        self.web.stop()
        if self._obs is not None:
            self._obs.stop()
        self.source.stop()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(2.0)
        self.engine.stop()
        self.pacer.stop()
        for sink in self.sinks:
            sink.stop()

    def state(self, now: float) -> dict[str, object]:
        """Everything that an operator may want to see, ready for JSON."""
        source, engine, pacer = self.source.status(), self.engine.status(), self.pacer.status()
        sinks = [sink.status() for sink in self.sinks]
        latency = self.latency.quantiles_ms(0.5, 0.95)
        return {
            **self.switcher.state(now),
            "rung": self.compositor.rung.name.lower(),
            "shown": self.compositor.shown.value,
            "fps": round(pacer.fps, 2),
            "latency_ms": latency["p50"],
            "latency_p95_ms": latency["p95"],
            "control_ms": self._control.quantiles_ms(0.5, 0.95),
            "drops": pacer.missed + sum(sink.dropped for sink in sinks),
            "output": {
                "width": self.output.width,
                "height": self.output.height,
                "rate": str(self.output.rate),
                **asdict(pacer),
            },
            "source": asdict(source),
            "engine": asdict(engine),
            "health": dict(engine.health),
            "sinks": [asdict(sink) for sink in sinks],
            "obs": self._obs and dict(zip(("state", "detail"), self._obs.state, strict=True)),
            "error": next(filter(None, self._failures.values()), ""),
            "preset_errors": [str(error) for error in self.library.errors],
        }

    def apply(self, command: Command, now: float) -> None:
        """Does what an operator asks, or raises :class:`engine.errors.CommandError`."""
        self.switcher.apply(command, now)
        if self._applied_s is None:
            self._applied_s = now

    def refused(self, why: str, now: float) -> None:
        self.switcher.refused(why, now)

    def presets(self) -> list[dict[str, object]]:
        return self.switcher.presets()

    def _tell_tally(self, program: bool | None, preview: bool) -> None:
        """To the operator's buttons, and on to the camera's own lamp where the source has one."""
        self.switcher.set_tally(program, preview)
        self.source.set_tally(bool(program), preview)

    def _keep_doing(self, name: str, once: Callable[[], bool]) -> None:
        """Runs in a thread for the whole show: a failure is logged and told once, and does not end it.

        ``once`` says whether there was something to do.
        """
        while not self._stop.is_set():
            try:
                if once():
                    self._failures[name] = ""
            except Exception as error:
                if not self._failures[name]:
                    log.exception("the %s failed in a way it should not", name)
                self._failures[name] = f"{name}: {type(error).__name__}: {error}"
                self._stop.wait(AFTER_FAILURE_S)

    def _feed_engine(self) -> bool:
        frame: Frame | None = self.source.frames.take(0.2)
        if frame is None:
            return False
        self.compositor.set_source(frame)
        self.engine.submit(frame, self.switcher.view(self.clock.now()).pose)
        return True

    def _collect_picture(self) -> bool:
        picture = self.engine.take(0.2)
        if picture is None:
            return False
        self.compositor.set_engine_picture(picture)
        self._has_picture.set()
        return True

    def _compose(self, due_s: float) -> Plane:
        applied_s, self._applied_s = self._applied_s, None
        nv12 = self.compositor.compose(self.switcher.view(due_s), self.engine.status().interval_s, due_s)
        arrived_s = self.compositor.shown_arrival_s()
        if arrived_s is not None:
            self.latency.add(due_s - arrived_s)
        if applied_s is not None:
            self._control.add(due_s - applied_s)
            self.on_air.append((applied_s, due_s))
        return nv12

    def _reload(self, command: Command, now: float) -> None:
        self.library.reload()

    def _reset(self, command: Command, now: float) -> None:
        self.engine.reset()


def _check_files(config: SessionConfig) -> None:
    """No recording over the clip that is played."""
    if not isinstance(config.source, FileSourceConfig):
        return
    for sink in config.sinks:
        if isinstance(sink, FileSinkConfig) and sink.path.resolve() == config.source.path.resolve():
            raise ConfigError(f"{sink.path} is what is played: record into another file")


def _obs_client(config: ObsConfig) -> ObsClient | None:
    if not config.enabled:
        return None
    return ObsClient(*address(config.host, config.port, config.password or None))


def limits_from(config: LimitsConfig) -> Limits:
    """Degrees to radians."""
    return Limits(
        pan=radians(config.pan_deg),
        tilt=radians(config.tilt_deg),
        roll=radians(config.roll_deg),
        sideways=config.sideways,
        vertical=config.vertical,
        forward=config.forward,
        backward=config.backward,
        zoom_in=config.zoom_in,
        zoom_out=config.zoom_out,
    )


def engine_settings(config: SessionConfig) -> EngineSettings:
    return EngineSettings(
        name=config.engine.name,
        size=(
            max(LARGEST_PICTURE[0], config.output.width),
            max(LARGEST_PICTURE[1], config.output.height),
        ),
        horizontal_fov=radians(config.camera.horizontal_fov_deg),
        subject_distance_m=config.camera.subject_distance_m,
        aspect=config.output.width / config.output.height,
        delay_s=config.engine.delay_ms / 1000,
        model=config.engine.model,
        weights=config.engine.weights,
        codec=config.engine.codec,
        prompt=str(config.engine.prompt) if config.engine.prompt else None,
        compile=config.engine.compile,
        fp8=config.engine.fp8,
        budget_ms=config.engine.budget_ms,
    )
