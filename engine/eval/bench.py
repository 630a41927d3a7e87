"""``bench model``: what a size will cost (counted), what it costs here (timed), and how that compares.

Timings are medians. Comparisons take turns on one thread and count its processor time, so that neither
other programs nor a machine whose speed drifts favour either side.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from engine.camera.geometry import Pose
from engine.diffusion.rollout import Chunk, Stream, rollout
from engine.diffusion.schedule import TIMESTEPS, Schedule
from engine.engines.base import EngineSettings, Progress
from engine.engines.student import StudentEngine
from engine.model.codecs import make_codec
from engine.model.config import ModelConfig, model_config
from engine.model.dit import Memory, PairTransformer
from engine.model.estimate import DEVICES, CodecCost, Device, estimate

MATMUL = 1024
CHUNKS = 30  # timed of a stream
ENGINE_CHUNKS = 16  # of which the last half, when the window is full, is timed
CACHE_PAIRS, MODEL_PAIRS = 5, 49  # timed of a comparison: the nearer to 1, the more
HEAP_BYTES = 31 * 2**20  # below the 32 MiB from which glibc always asks the system, see _comparable()


def estimate_model(size: str, width: int, height: int, steps: int, window: int) -> dict[str, object]:
    """Counted on the meta device: no weights, no memory, no time."""
    config = replace(model_config(size), window=window)
    with torch.device("meta"):
        model = PairTransformer(config)
    found = estimate(
        config,
        width,
        height,
        steps=steps,
        window=window,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        codec=codec_cost(config, width, height),
    )
    return {
        "size": size,
        "resolution": f"{height}x{width}",
        "steps": steps,
        "window": window,
        "attention_sink": config.attention_sink,
        **found.as_json((*DEVICES, this_cpu())),
    }


def codec_cost(config: ModelConfig, width: int, height: int) -> CodecCost:
    """Of one chunk in the middle of a stream, in bfloat16."""
    with torch.device("meta"):
        codec = make_codec(config).to(torch.bfloat16)
        encoder, decoder = codec.encoder_stream(), codec.decoder_stream()
        first = torch.empty(1, encoder.frames_missing(1), 3, height, width, dtype=torch.bfloat16)
        decoder.decode(encoder.encode(first))
        video = first.new_empty(1, config.chunk * config.stride[0], 3, height, width)
        with FlopCounterMode(display=False) as encoding:
            latents = encoder.encode(video)
        with FlopCounterMode(display=False) as decoding:
            decoder.decode(latents)
    return CodecCost(
        encode_flops=encoding.get_total_flops(),
        decode_flops=decoding.get_total_flops(),
        state_bytes=encoder.nbytes + decoder.nbytes,
    )


def this_cpu() -> Device:
    """This machine, by what its matrix multiplication and its memory really do."""
    a, b = torch.randn(MATMUL, MATMUL), torch.randn(MATMUL, MATMUL)
    large = torch.empty(64 * 2**20, dtype=torch.uint8)
    return Device(
        name="this CPU",
        flops=2 * MATMUL**3 / min(_seconds(lambda: a @ b) for _ in range(5)),
        bytes_per_s=2 * large.nbytes / min(_seconds(large.clone) for _ in range(5)),
        memory_bytes=float("inf"),
    )


def measure_model(size: str, steps: int, window: int) -> dict[str, object]:
    """Real chunks with random weights on this CPU, once the window is full."""
    config = replace(model_config(size), window=window)
    model = _random_model(config)
    stream = Stream.start(model, config, config.latent_size(*config.size))
    chunks = rollout(model, stream, iter(lambda: _chunk(config), None), _schedule(steps), torch.randn_like)
    with torch.inference_mode():
        for _ in range(stream.source.capacity // config.chunk + 2):
            next(chunks)
        seconds = [_seconds(lambda: next(chunks)) for _ in range(CHUNKS)]
    median = statistics.median(seconds)
    return {
        "size": size,
        "threads": torch.get_num_threads(),
        "measured_ms_per_chunk": 1000 * median,
        "measured_fps": config.chunk * config.stride[0] / median,
        "cache_bytes": stream.source.nbytes + stream.target.nbytes,
    }


def has_gpu() -> bool:
    """An NVIDIA one, that PyTorch can use."""
    return torch.cuda.is_available()


def measure_engine(
    size: str, *, compile: bool = False, fp8: bool = False, progress: Progress = lambda share, what: None
) -> dict[str, object]:
    """Real chunks with random weights through the engine of live use, upload, codec and download included,
    at the size's own resolution, steps and window.
    """
    engine = StudentEngine(
        EngineSettings(
            name="student",
            model=size,
            size=model_config(size).size,
            horizontal_fov=math.radians(60),
            subject_distance_m=2.0,
            compile=compile,
            fp8=fp8,
        )
    )
    engine.warmup(progress)
    width, height = model_config(size).size
    frames, poses = [np.zeros((height, width, 3), np.uint8)] * engine.chunk, [Pose()] * engine.chunk
    seconds = [_seconds(lambda: engine.step(frames, poses)) for _ in range(ENGINE_CHUNKS)]
    median = statistics.median(seconds[ENGINE_CHUNKS // 2 :])
    return {
        "size": size,
        "device": torch.cuda.get_device_name() if has_gpu() else "CPU",
        "measured_first_ms": 1000 * seconds[0],
        "measured_ms_per_chunk": 1000 * median,
        "measured_fps": engine.chunk / median,
        "gpu_bytes": torch.cuda.max_memory_allocated(),  # 0 where there is none
    }


def compare(steps: int = 2) -> dict[str, float]:
    """Ratios of the time on one thread; below 1 is in our favour."""
    return {
        "cached_over_recomputed": cached_over_recomputed(steps),
        "ours_over_diffusers": ours_over_diffusers(),
    }


def cached_over_recomputed(steps: int) -> float:
    """The mini's cached chunk step against recomputing its window."""
    config = model_config("mini")
    model = _random_model(config)
    stream = Stream.start(model, config, config.latent_size(*config.size))
    chunks = rollout(model, stream, iter(lambda: _chunk(config), None), _schedule(steps), torch.randn_like)
    frames = stream.source.capacity + config.chunk
    window = _chunk(config, frames)
    with torch.inference_mode():
        for _ in range(frames):
            next(chunks)
        return _ratio(
            lambda: next(chunks),
            lambda: recompute(model, config, window, _schedule(steps), stream),
            CACHE_PAIRS,
        )


def recompute(
    model: PairTransformer, config: ModelConfig, window: Chunk, schedule: Schedule, stream: Stream
) -> Tensor:
    """A chunk without a cache: every step runs all pairs of the window, source and target."""
    frames = window.source.shape[1]
    tokens = config.tokens_per_frame(*config.size)
    times = torch.arange(frames)
    chunk_of = torch.arange(frames).repeat_interleave(tokens) // config.chunk
    causal = chunk_of[:, None] >= chunk_of[None]
    x = window.noise
    for sigma in schedule.sigmas:
        shown = model.encode_source(window.source, times, stream.text, mask=causal)
        levels = torch.zeros(1, frames)
        levels[:, -config.chunk :] = sigma * TIMESTEPS
        velocity, _ = model.denoise(
            x,
            levels,
            times,
            stream.text,
            Memory(shown.rotated),
            rays=window.rays,
            mask=torch.cat([causal, causal], dim=1),
        )
        x = x - sigma * velocity
    return x


def ours_over_diffusers() -> float:
    """The mini's transformer against diffusers' Wan at equal work: without the parts that only we have, and
    with a text that both attend to.
    """
    from diffusers import WanTransformer3DModel

    config = replace(model_config("mini"), head="velocity", hint_channels=0, guide_channels=0, text_length=16)
    ours = _random_model(config)
    make: Any = WanTransformer3DModel
    theirs = make(
        patch_size=config.patch,
        num_attention_heads=config.heads,
        attention_head_dim=config.head_width,
        in_channels=config.latent_channels,
        out_channels=config.latent_channels,
        text_dim=config.text_width,
        freq_dim=config.frequency_width,
        ffn_dim=config.ffn_width,
        num_layers=config.layers,
    )
    theirs.eval()
    frames = config.window
    width, height = config.latent_size(*config.size)
    latent = torch.randn(1, frames, config.latent_channels, height, width)
    prompt = torch.randn(1, config.text_length, config.text_width)
    levels, times = torch.full((1, frames), 500.0), torch.arange(frames)
    with torch.inference_mode():
        return _ratio(
            lambda: ours.denoise(latent, levels, times, ours.encode_text(prompt), None),
            lambda: theirs(latent.transpose(1, 2), levels[:, 0], prompt, return_dict=False),
            MODEL_PAIRS,
        )


def _ratio(ours: Callable[[], object], theirs: Callable[[], object], pairs: int) -> float:
    """The median of the ratios of pairs that were run in turns."""
    with _comparable():
        ours(), theirs()
        return statistics.median(_processor_s(ours) / _processor_s(theirs) for _ in range(pairs))


@contextmanager
def _comparable() -> Iterator[None]:
    """One thread, and an allocator that keeps what is freed.

    glibc gives the free top of its heap back to the system above a limit, which the largest block freed
    so far sets. Near it, the luck of where blocks lie lets one of two equal models pay thousands of
    page faults in each pass. So the limit is raised here to where a longer life would have taken it.
    """
    torch.empty(HEAP_BYTES, dtype=torch.uint8)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _processor_s(run: Callable[[], object]) -> float:
    """Of this thread: waiting for a core does not count."""
    started = time.thread_time()
    run()
    return time.thread_time() - started


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _random_model(config: ModelConfig) -> PairTransformer:
    torch.manual_seed(0)
    return PairTransformer(config).eval().requires_grad_(False)


def _chunk(config: ModelConfig, frames: int | None = None) -> Chunk:
    width, height = config.latent_size(*config.size)
    count = config.chunk if frames is None else frames
    shape = (1, count, config.latent_channels, height, width)
    return Chunk(torch.randn(shape), torch.randn(shape), rays=torch.randn(1, count, 6, height, width))


def _schedule(steps: int) -> Schedule:
    return Schedule.many_step(steps, 1.0)
