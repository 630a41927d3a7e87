"""The teacher's window against plain masks over everything."""

from pathlib import Path

import pytest
import torch

from engine.diffusion.schedule import Schedule
from engine.diffusion.teacher import VARIANT_KEY, Conditions, load_teacher, sample, velocity_of
from engine.errors import WeightsError
from engine.model.attention import attention, window_attention
from engine.model.config import SIZES
from engine.model.dit import Memory, PairTransformer
from engine.model.fitting import config_metadata
from engine.model.prefix import PrefixTransformer
from engine.model.weight_files import save_weights

TINY = SIZES["tiny"]
FRAMES, ROWS, COLUMNS = 6, 4, 6
TOKENS = ROWS * COLUMNS // 4


def random_model(kind: type[PairTransformer] = PairTransformer) -> PairTransformer:
    torch.manual_seed(0)
    model = kind(TINY).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def random_conditions(frames: int = FRAMES, batch: int = 2) -> Conditions:
    torch.manual_seed(1)
    return Conditions(
        source=torch.randn(batch, frames, 48, ROWS, COLUMNS),
        rays=torch.randn(batch, frames, 6, ROWS, COLUMNS),
    )


def noisy(conditions: Conditions) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn_like(conditions.source), torch.full(conditions.source.shape[:2], 600.0)


def of(conditions: Conditions, frames: slice) -> Conditions:
    assert conditions.rays is not None
    return Conditions(source=conditions.source[:, frames], rays=conditions.rays[:, frames])


@pytest.mark.parametrize("reach", [0, 1, 3])
def test_the_window_is_what_a_mask_over_all_pairs_gives(reach: int) -> None:
    model, conditions = random_model(), random_conditions()
    x, levels = noisy(conditions)
    windowed = velocity_of(model, conditions, reach)(x, levels)
    frame = torch.arange(FRAMES).repeat_interleave(TOKENS)
    near = (frame[:, None] - frame[None]).abs() <= reach
    times, text = torch.arange(FRAMES), model.encode_text()
    shown = model.encode_source(conditions.source, times, text, mask=near)
    masked, _ = model.denoise(
        x,
        levels,
        times,
        text,
        Memory(shown.rotated),
        rays=conditions.rays,
        mask=torch.cat([near, near], dim=1),
    )
    torch.testing.assert_close(windowed, masked, rtol=1e-4, atol=1e-5)


def test_a_window_as_long_as_the_clip_is_full_attention() -> None:
    model, conditions = random_model(), random_conditions()
    x, levels = noisy(conditions)
    times, text = torch.arange(FRAMES), model.encode_text()
    shown = model.encode_source(conditions.source, times, text)
    full, _ = model.denoise(x, levels, times, text, Memory(shown.rotated), rays=conditions.rays)
    windowed = velocity_of(model, conditions, FRAMES - 1)(x, levels)
    torch.testing.assert_close(windowed, full, rtol=1e-4, atol=1e-5)


def test_gradients_through_the_window_are_the_masks() -> None:
    torch.manual_seed(2)
    frames, own, seen = 4, 3, 6
    query, key, value = (torch.randn(2, frames * n, 2, 8, requires_grad=True) for n in (own, seen, seen))
    at = torch.arange(frames)
    near = at.repeat_interleave(own)[:, None] - at.repeat_interleave(seen)[None]
    grads = []
    for made in (
        window_attention(query, key, value, frames, 1),
        attention(query, key, value, near.abs() <= 1),
    ):
        grads.append(torch.autograd.grad(made.square().sum(), (query, key, value)))
    for ours, plain in zip(*grads, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)


def test_what_lies_beyond_all_layers_windows_changes_nothing() -> None:
    """Two layers of reach one: a frame is made from the two before and the two behind it."""
    model, conditions = random_model(), random_conditions(frames=9, batch=1)
    x, levels = noisy(conditions)
    whole = velocity_of(model, conditions, 1)(x, levels)
    part = slice(2, 7)
    cut = velocity_of(model, of(conditions, part), 1)(x[:, part], levels[:, part])
    torch.testing.assert_close(cut[:, 2], whole[:, 4], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(cut[:, 0], whole[:, 2], atol=1e-3)


def test_the_targets_noise_reaches_no_source_token_and_both_reach_the_target() -> None:
    model, conditions = random_model(), random_conditions()
    x, levels = noisy(conditions)
    times, text = torch.arange(FRAMES), model.encode_text()
    before = model.encode_source(conditions.source, times, text, reach=1).rotated[-1].keys
    made = velocity_of(model, conditions, 1)(x, levels)
    other = Conditions(source=conditions.source + 1, rays=conditions.rays)
    assert not torch.allclose(velocity_of(model, other, 1)(x, levels), made, atol=1e-3)
    moved = x.clone()
    moved[:, 1] += 1
    assert not torch.allclose(velocity_of(model, conditions, 1)(moved, levels)[:, 0], made[:, 0], atol=1e-3)
    assert torch.equal(model.encode_source(conditions.source, times, text, reach=1).rotated[-1].keys, before)


def test_the_prefix_puts_the_source_at_the_first_positions_and_lets_all_see_all() -> None:
    model = random_model(PrefixTransformer)
    conditions = random_conditions()
    x, levels = noisy(conditions)
    made = velocity_of(model, conditions, reach=1)(x, levels)
    assert conditions.rays is not None
    text = model.encode_text()
    # the same tokens as one sequence of a plain transformer, whose two streams get their marks by hand
    source = model._patches(conditions.source) + model.stream_embedding[0]
    target = model._patches(x) + model.stream_embedding[1] + model.plucker(conditions.rays)
    time = model.time_embedding(model._frequencies(torch.cat([torch.zeros_like(levels), levels], 1)))
    tokens = torch.cat([source, target], dim=1)
    rotation = model.rotation(torch.arange(2 * FRAMES), (ROWS, COLUMNS))
    for block, told in zip(model.blocks, text, strict=True):
        modulation = model.time_projection(time).unflatten(-1, (6, -1))
        tokens, _, _ = block(
            tokens, modulation, None, rotation, told, lambda q, own: attention(q, own.keys, own.values)
        )
    expected = model._unpatched(model.head(tokens[:, FRAMES:], time[:, FRAMES:]), (ROWS, COLUMNS))
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5)


def test_both_arrangements_have_the_same_tensors() -> None:
    shapes = [
        {name: tensor.shape for name, tensor in kind(TINY).state_dict().items()}
        for kind in (PairTransformer, PrefixTransformer)
    ]
    assert shapes[0] == shapes[1]


def test_a_file_says_which_arrangement_its_weights_are_for(tmp_path: Path) -> None:
    conditions = random_conditions()
    x, levels = noisy(conditions)
    for variant, kind in (("pair", PairTransformer), ("prefix", PrefixTransformer)):
        model = random_model(kind)
        path = tmp_path / f"{variant}.safetensors"
        save_weights(path, model.state_dict(), {**config_metadata(TINY), VARIANT_KEY: variant})
        loaded, config = load_teacher(path, "cpu", torch.float32)
        assert type(loaded) is kind and config == TINY
        with torch.no_grad():
            torch.testing.assert_close(
                velocity_of(loaded, conditions, 1)(x, levels), velocity_of(model, conditions, 1)(x, levels)
            )
    save_weights(path, model.state_dict(), {**config_metadata(TINY), VARIANT_KEY: "spiral"})
    with pytest.raises(WeightsError, match="spiral"):
        load_teacher(path, "cpu", torch.float32)


def test_sampling_ends_at_the_clean_clip_of_a_teacher_that_knows_it() -> None:
    """With one step, x0 is the noise less the velocity."""
    model, conditions = random_model(), random_conditions()
    x, _ = noisy(conditions)
    made = sample(model, conditions, 1, x, Schedule((1.0,)))
    levels = torch.full(x.shape[:2], 1000.0)
    torch.testing.assert_close(made, x - velocity_of(model, conditions, 1)(x, levels))
