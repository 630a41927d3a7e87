"""The show's state for Prometheus, read at the moment of each scrape. Knows nothing of HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from plugin.control.commands import lookup

GAUGES = {
    "fps": ("realcam_output_frames_per_second", "Frames a second that go out.", 1.0),
    "latency_ms": ("realcam_latency_p50_seconds", "From the source's picture to the output, median.", 1e-3),
    "latency_p95_ms": ("realcam_latency_p95_seconds", "From the source's picture to the output, p95.", 1e-3),
    "moving": ("realcam_moving", "1 while the camera moves.", 1.0),
    "locked": ("realcam_locked", "1 while the lock holds commands back.", 1.0),
    "engine.fps": ("realcam_engine_frames_per_second", "Pictures a second that the engine renders.", 1.0),
    "health.error": ("realcam_student_error", "The student against the source, levels of 255.", 1.0),
    "health.sharpness": ("realcam_student_sharpness", "Its sharpness; 1 is the source's.", 1.0),
    "health.colour": ("realcam_student_colour", "How far its colours are off, in levels.", 1.0),
    "source.fps": ("realcam_source_frames_per_second", "Frames a second that come in.", 1.0),
}
COUNTERS = {
    "drops": ("realcam_dropped_frames", "Frames dropped or missed since the start."),
    "source.reconnects": ("realcam_source_reconnects", "How often the source was lost."),
}


class _StateCollector(Collector):
    def __init__(self, state: Callable[[], Mapping[str, object]]) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        state = self._state()
        for key, (name, help, scale) in GAUGES.items():
            value = lookup(state, key)
            if isinstance(value, int | float):
                yield GaugeMetricFamily(name, help, value=value * scale)
        for key, (name, help) in COUNTERS.items():
            value = lookup(state, key)
            if isinstance(value, int | float):
                yield CounterMetricFamily(name, help, value=value)
        yield _labelled("realcam_mode", "Which mode is on.", "mode", {str(state.get("mode")): 1})
        yield from _sinks(state.get("sinks"))


def make_scrape(state: Callable[[], Mapping[str, object]]) -> Callable[[], bytes]:
    """What answers a scrape, in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    collector = _StateCollector(state)
    registry.register(collector)
    return lambda: generate_latest(registry)


def _labelled(name: str, help: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, help, labels=[label])
    for of, value in values.items():
        family.add_metric([of], value)
    return family


def _sinks(sinks: object) -> Iterator[Metric]:
    if not isinstance(sinks, list | tuple):
        return
    live = {str(sink.get("name")): float(sink.get("state") == "live") for sink in sinks}
    yield _labelled("realcam_sink_live", "1 while the sink takes pictures.", "sink", live)
    for key in ("written", "dropped"):
        family = CounterMetricFamily(f"realcam_sink_{key}_frames", f"Frames {key}.", labels=["sink"])
        for sink in sinks:
            family.add_metric([str(sink.get("name"))], float(sink.get(key, 0)))
        yield family
