"""The chunk loop against one masked forward over the whole sequence, written out plainly."""

import itertools
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace

import psutil
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from engine.diffusion.rollout import Chunk, Stream, rollout
from engine.diffusion.schedule import TIMESTEPS, Schedule
from engine.model import dit
from engine.model.attention import attention, grid_positions, rotate, rotations
from engine.model.config import SIZES, ModelConfig
from engine.model.dit import PairTransformer, layer_norm

TINY = SIZES["tiny"]
ROWS, COLUMNS = 4, 6
SCHEDULE = Schedule((1.0, 0.6))


def random_model(config: ModelConfig = TINY, seed: int = 0) -> PairTransformer:
    """With every parameter random, so that nothing is switched off by its initial zeros."""
    torch.manual_seed(seed)
    model = PairTransformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def random_chunks(count: int, config: ModelConfig = TINY, seed: int = 1) -> list[Chunk]:
    torch.manual_seed(seed)
    shape = (1, config.chunk, config.latent_channels, ROWS, COLUMNS)
    rays = (1, config.chunk, 6, ROWS, COLUMNS)
    return [Chunk(torch.randn(shape), torch.randn(shape), rays=torch.randn(rays)) for _ in range(count)]


def stream_for(model: PairTransformer, config: ModelConfig = TINY) -> Stream:
    return Stream.start(model, config, (COLUMNS, ROWS))


def noise_of(number: int) -> Tensor:
    shape = (1, TINY.chunk, TINY.latent_channels, ROWS, COLUMNS)
    return torch.randn(shape, generator=torch.Generator().manual_seed(number))


class FreshNoise:
    """The same noise for the same call of every run."""

    def __init__(self, first: int = 0) -> None:
        self.calls = first

    def __call__(self, like: Tensor) -> Tensor:
        self.calls += 1
        return noise_of(self.calls)


def whole_forward(
    model: PairTransformer,
    config: ModelConfig,
    source: Tensor,
    clean: Tensor,
    noisy: Tensor,
    rays: Tensor,
    sigma: float,
) -> Tensor:
    """Velocity of every noisy chunk at once: all tokens of source, clean and noisy target go through
    each layer together; who sees whom, and at what distance in time, is spelled out here.
    """
    frames = source.shape[1]
    levels = {"source": 0.0, "clean": 0.0, "noisy": sigma * TIMESTEPS}
    x = {
        "source": model._patches(source) + model.stream_embedding[0],
        "clean": model._patches(clean) + model.stream_embedding[1] + model.plucker(rays),
        "noisy": model._patches(noisy) + model.stream_embedding[1] + model.plucker(rays),
    }
    time_of, parts = {}, {}
    text = model.encode_text()
    for name, level in levels.items():
        timesteps = torch.full((1, frames), level)
        time_of[name] = model.time_embedding(model._frequencies(timesteps))
        parts[name] = model.time_projection(time_of[name]).unflatten(-1, (6, -1))
    for number, block in enumerate(model.blocks):
        modulation = {k: (block.modulation[:, None] + v).unsqueeze(3).unbind(2) for k, v in parts.items()}
        queries, keys, values = {}, {}, {}
        for name in x:
            shift, scale = modulation[name][:2]
            tokens = (layer_norm(x[name]) * (1 + scale) + shift).flatten(1, 2)
            queries[name] = block.self_attn.queries(tokens)
            own = block.self_attn.keys_values(tokens)
            keys[name], values[name] = own.keys, own.values
        for name in x:
            attended = attend_by_chunks(config, frames, name, queries, keys, values)
            out = block.self_attn.o(attended.flatten(2)).view_as(x[name])
            x[name] = x[name] + out * modulation[name][2]
            crossed = block.cross_attn(
                block.cross_attn.queries(block.norm3(x[name]).flatten(1, 2)), text[number]
            )
            x[name] = x[name] + crossed.view_as(x[name])
            fed = block.ffn(layer_norm(x[name]) * (1 + modulation[name][4]) + modulation[name][3])
            x[name] = x[name] + fed * modulation[name][5]
    return model._unpatched(model.head(x["noisy"], time_of["noisy"]), source.shape[-2:])


def of_frames(table: Tensor, which: list[int], frames: int) -> Tensor:
    return table.unflatten(1, (frames, -1))[:, which].flatten(1, 2)


def turned(
    config: ModelConfig, table: Tensor, which: list[int], time_of: dict[int, int], frames: int
) -> Tensor:
    times = torch.tensor([time_of[frame] for frame in which])
    positions = grid_positions(times, ROWS // config.patch[1], COLUMNS // config.patch[2])
    return rotate(of_frames(table, which, frames), rotations(positions, config.head_width))


def attend_by_chunks(config, frames, name, queries, keys, values):
    out = []
    recent = config.window - config.chunk
    for start in range(0, frames, config.chunk):
        own = list(range(start, start + config.chunk))
        past = [f for f in range(start) if f < config.attention_sink or f >= start - recent]
        clamp = max(0, start - config.attention_sink - recent)  # how far the stream has outrun its memory
        time_of = {f: f if f < min(config.attention_sink, start - recent) else f - clamp for f in past + own}
        seen = {"source": {"source": past + own}}.get(name) or {
            "source": past + own,
            "clean": past + own if name == "clean" else past,
            "noisy": own if name == "noisy" else [],
        }
        parts = [(kind, which) for kind, which in seen.items() if which]
        key = torch.cat([turned(config, keys[kind], which, time_of, frames) for kind, which in parts], 1)
        value = torch.cat([of_frames(values[kind], which, frames) for kind, which in parts], 1)
        query = turned(config, queries[name], own, time_of, frames)
        weights = torch.einsum("bnhe,bmhe->bhnm", query, key) / config.head_width**0.5
        out.append(torch.einsum("bhnm,bmhe->bnhe", weights.softmax(-1), value))
    return torch.cat(out, 1)


@pytest.mark.parametrize(
    "config",
    [TINY, replace(TINY, attention_sink=0), replace(TINY, chunk=1, window=3, attention_sink=1)],
    ids=["chunk 2, sink 2", "no sink", "chunk 1"],
)
def test_cached_chunks_equal_one_masked_forward_beyond_the_windows_eviction(config: ModelConfig) -> None:
    model = random_model(config).eval()
    chunks = random_chunks(8, config)
    one_step = Schedule((0.7,))
    with torch.no_grad():
        made = torch.cat(list(rollout(model, stream_for(model, config), chunks, one_step, FreshNoise())), 1)
        noisy = torch.cat([chunk.noise for chunk in chunks], 1)
        source = torch.cat([chunk.source for chunk in chunks], 1)
        rays = torch.cat([chunk.rays for chunk in chunks], 1)
        velocity = whole_forward(model, config, source, made, noisy, rays, 0.7)
    expected = noisy - 0.7 * velocity
    assert (made - expected).abs().max() / expected.abs().max() <= 1e-5


def outputs(model: PairTransformer, chunks: list[Chunk]) -> list[Tensor]:
    with torch.no_grad():
        return list(rollout(model, stream_for(model), chunks, SCHEDULE, FreshNoise()))


@pytest.mark.parametrize("what", ["source", "rays"])
def test_a_change_in_the_future_changes_nothing_earlier(what: str) -> None:
    model, chunks = random_model().eval(), random_chunks(5)
    changed = [
        *chunks[:3],
        replace(chunks[3], **{what: torch.randn_like(getattr(chunks[3], what))}),
        chunks[4],
    ]
    before, after = outputs(model, chunks), outputs(model, changed)
    for index in range(3):
        assert torch.equal(before[index], after[index])
    assert not torch.allclose(before[3], after[3])


def test_the_targets_noise_changes_no_feature_of_the_source() -> None:
    model, chunks = random_model().eval(), random_chunks(4)
    streams = [stream_for(model) for _ in range(2)]
    others = [replace(chunk, noise=torch.randn_like(chunk.noise)) for chunk in chunks]
    with torch.no_grad():
        for stream, given in zip(streams, (chunks, others), strict=True):
            list(rollout(model, stream, given, SCHEDULE, FreshNoise()))
    for layer in range(TINY.layers):
        for mine, theirs in zip(streams[0].source.read(layer), streams[1].source.read(layer), strict=True):
            assert torch.equal(mine, theirs)
        assert not torch.equal(streams[0].target.read(layer)[0], streams[1].target.read(layer)[0])


def test_the_source_is_paid_for_once_however_many_steps() -> None:
    """Each further step costs exactly one pass of the target, and none of the source."""
    model, chunks = random_model().eval(), random_chunks(1)
    costs = []
    for steps in (1, 2, 3):
        stream = stream_for(model)
        schedule = Schedule(tuple(1 - i / 4 for i in range(steps)))
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            list(rollout(model, stream, chunks, schedule, FreshNoise()))
        costs.append(counter.get_total_flops())
    assert costs[2] - costs[1] == costs[1] - costs[0]
    stream = stream_for(model)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.encode_source(chunks[0].source, torch.arange(2), stream.text)
    assert costs[0] - 2 * (costs[1] - costs[0]) == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_each_chunk_is_there_before_the_next_is_asked_for() -> None:
    model, chunks = random_model().eval(), random_chunks(3)
    asked = []

    def feed():
        for number, chunk in enumerate(chunks):
            asked.append(number)
            yield chunk

    with torch.no_grad():
        for number, _ in enumerate(rollout(model, stream_for(model), feed(), SCHEDULE, FreshNoise())):
            assert asked == list(range(number + 1))


def test_a_reset_starts_a_stream_as_if_it_were_new() -> None:
    model, chunks = random_model().eval(), random_chunks(4)
    stream = stream_for(model)
    with torch.no_grad():
        first = list(rollout(model, stream, chunks, SCHEDULE, FreshNoise()))
        stream.reset()
        again = list(rollout(model, stream, chunks, SCHEDULE, FreshNoise()))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_re_anchoring_forgets_the_target_and_keeps_the_source_and_its_time() -> None:
    model, chunks = random_model().eval(), random_chunks(6)
    stream = stream_for(model)
    with torch.no_grad():
        list(rollout(model, stream, chunks[:5], SCHEDULE, FreshNoise()))
        kept = [stream.source.read(layer)[0].clone() for layer in range(TINY.layers)]
        stream.re_anchor()
        assert stream.target.remembered == 0
        assert stream.target.next_time == stream.source.next_time
        assert all(torch.equal(stream.source.read(layer)[0], kept[layer]) for layer in range(TINY.layers))
        assert torch.isfinite(next(rollout(model, stream, chunks[5:], SCHEDULE, FreshNoise()))).all()


@pytest.mark.parametrize("exit_step", [0, 1])
def test_gradients_with_an_exit_step_are_those_of_the_plain_formula(exit_step: int) -> None:
    """Two chunks by the rollout, against the same two written out: x0 of the exit step with gradients,
    everything before it and everything cached without.
    """
    model, chunks = random_model(), random_chunks(2)
    goal = torch.randn_like(torch.cat([chunk.source for chunk in chunks], 1))
    stream = stream_for(model)
    made = torch.cat(list(rollout(model, stream, chunks, SCHEDULE, FreshNoise(), exit_step=exit_step)), 1)
    (made - goal).pow(2).mean().backward()
    ours = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    model.zero_grad()
    fresh, done, sources = FreshNoise(), [], []
    for chunk in chunks:
        with torch.no_grad():
            past_source = torch.cat(sources, 1) if sources else None
            past_target = torch.cat([d.detach() for d in done], 1) if done else None
        done.append(plain_chunk(model, chunk, past_source, past_target, chunks, fresh, exit_step))
        sources.append(chunk.source)
    made_plainly = torch.cat(done, 1)
    (made_plainly - goal).pow(2).mean().backward()
    theirs = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    torch.testing.assert_close(made, made_plainly, rtol=1e-4, atol=1e-5)
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        scale = max(1e-6, float(theirs[name].abs().max()))
        assert float((gradient - theirs[name]).abs().max()) / scale < 1e-3, name


def plain_chunk(model, chunk, past_source, past_target, chunks, fresh, exit_step):
    """One chunk by the formulas: no cache object, the past recomputed without gradients."""
    from engine.model.dit import KeysValues, Memory

    text = model.encode_text()
    first = 0 if past_source is None else past_source.shape[1]
    own_times = torch.arange(first, first + TINY.chunk)
    past_s = past_t = Memory([None] * TINY.layers)
    if past_source is not None:
        with torch.no_grad():
            times = torch.arange(first)
            past_s = Memory(model.encode_source(past_source, times, text).rotated)
            _, left = model.denoise(
                past_target, torch.zeros(1, first), times, text, past_s, rays=chunks[0].rays
            )
            past_t = Memory(left.rotated)
    own = model.encode_source(chunk.source, own_times, text, past_s).rotated
    seen = Memory(
        [
            KeysValues(
                torch.cat([p.keys for p in parts if p], 1), torch.cat([p.values for p in parts if p], 1)
            )
            for parts in zip(past_s.layers, own, past_t.layers, strict=True)
        ]
    )
    x = chunk.noise
    for step, sigma in enumerate(SCHEDULE.sigmas[: exit_step + 1]):
        with torch.set_grad_enabled(step == exit_step):
            timesteps = torch.full((1, TINY.chunk), sigma * TIMESTEPS)
            velocity, _ = model.denoise(x, timesteps, own_times, text, seen, rays=chunk.rays)
            x0 = x - sigma * velocity
        if step < exit_step:
            following = SCHEDULE.sigmas[step + 1]
            x = (1 - following) * x0 + following * fresh(x0)
    return x0


def test_no_attention_of_the_live_loop_has_a_mask_so_that_a_gpu_runs_it_by_flash_attention(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    masks = []

    def watched(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        masks.append(mask)
        return attention(query, key, value, mask)

    monkeypatch.setattr(dit, "attention", watched)
    model = random_model()
    with torch.inference_mode():
        list(rollout(model, stream_for(model), random_chunks(3), SCHEDULE, FreshNoise()))
    passes = 3 * (1 + len(SCHEDULE.sigmas) + 1)  # the source, the steps, the cache
    assert masks == [None] * (passes * TINY.layers * 2)  # to itself and to the text


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ten_thousand_mini_chunks_cost_as_much_as_the_first_in_time_and_memory() -> None:
    config = replace(SIZES["mini"], layers=2)  # of the six, which all do the same, and few tokens: for time
    model = random_model(config).eval()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            old = endless(model, config)
            run(old, 1000)
            early = process_bytes()
            run(old, 9000)
            late = process_bytes()
            young = endless(model, config)
            run(young, 100)
            # in turns, since the speed of a shared machine drifts by more than what is looked for
            ratio = statistics.median(seconds(old) / seconds(young) for _ in range(200))
    finally:
        torch.set_num_threads(threads)
    assert ratio <= 1.05
    assert late - early < 8e6


def endless(model: PairTransformer, config: ModelConfig) -> Iterator[Tensor]:
    torch.manual_seed(2)
    shape = (1, 1, config.latent_channels, 2, 2)
    hints = torch.randn(1, 1, config.hint_channels, 2, 2) if config.hint_channels else None
    chunk = Chunk(torch.randn(shape), torch.randn(shape), rays=torch.randn(1, 1, 6, 2, 2), hints=hints)
    stream = Stream.start(model, config, (2, 2))
    return rollout(model, stream, itertools.repeat(chunk), Schedule((1.0,)), torch.randn_like)


def run(chunks: Iterator[Tensor], count: int) -> None:
    for x0 in itertools.islice(chunks, count):
        assert torch.isfinite(x0).all()


def seconds(chunks: Iterator[Tensor]) -> float:
    started = time.perf_counter()
    next(chunks)
    return time.perf_counter() - started


def process_bytes() -> int:
    return psutil.Process().memory_info().rss
