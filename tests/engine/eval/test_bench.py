import pytest

from engine.eval.bench import (
    cached_over_recomputed,
    estimate_model,
    measure_engine,
    measure_model,
    ours_over_diffusers,
)
from engine.model.config import SIZES
from engine.model.estimate import Device, Estimate, Work


def test_wan_with_four_steps_and_a_window_of_six_stays_under_180_tflop_a_chunk() -> None:
    found = estimate_model("wan-1.3b", 832, 480, steps=4, window=6)
    work = found["tflop_per_chunk"]
    assert work["transformer"] <= 180  # type: ignore[index]
    assert 0 < work["encode"] < work["decode"] < 5  # type: ignore[index]
    assert found["frames_per_chunk"] == 12
    assert found["parameters"] == pytest.approx(1.42e9, rel=0.01)
    assert 100e6 < found["codec_bytes"] < 130e6  # type: ignore[operator]
    assert set(found["floor"]) == {"H100 SXM", "RTX 5090", "RTX 4090", "this CPU"}  # type: ignore[call-overload]


def test_the_floor_is_the_slower_of_arithmetic_and_memory() -> None:
    work = Work(source_pass=10, steps=60, cache_write=20, encode=4, decode=6)
    estimate = Estimate(
        parameters=5,
        weight_bytes=10,
        cache_bytes=20,
        codec_bytes=0,
        frames_per_chunk=12,
        passes=4,
        work=work,
    )
    by_arithmetic = Device(name="slow", flops=50, bytes_per_s=1e9, memory_bytes=1)
    by_memory = Device(name="narrow", flops=1e9, bytes_per_s=60, memory_bytes=1)
    assert estimate.floor_s(by_arithmetic) == pytest.approx(100 / 50)
    assert estimate.floor_s(by_memory) == pytest.approx(4 * 30 / 60)


def test_every_size_can_be_estimated() -> None:
    for name, config in SIZES.items():
        assert estimate_model(name, *config.size, steps=2, window=config.window)["parameters"]


def test_the_mini_is_measured_for_real() -> None:
    found = measure_model("mini", steps=1, window=2)
    assert 0.1 < found["measured_fps"] < 1000  # type: ignore[operator]


def test_an_engine_is_measured_with_all_that_a_live_chunk_costs() -> None:
    found = measure_engine("tiny")
    assert found["measured_fps"] == pytest.approx(
        1000 * SIZES["tiny"].chunk * SIZES["tiny"].stride[0] / found["measured_ms_per_chunk"]  # type: ignore[operator]
    )
    assert 0 < found["measured_ms_per_chunk"] < 10_000  # type: ignore[operator]


@pytest.mark.slow
def test_the_cache_at_least_halves_the_time_of_recomputing_the_window() -> None:
    ratio = cached_over_recomputed(steps=2)
    print(f"cached over recomputed: {ratio:.3f}")
    assert ratio <= 0.5


@pytest.mark.slow
def test_our_transformer_is_no_slower_than_diffusers_at_equal_work() -> None:
    ratio = ours_over_diffusers()
    print(f"ours over diffusers: {ratio:.3f}")
    assert ratio <= 1.0
