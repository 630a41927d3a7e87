from dataclasses import replace

import pytest
import torch
from diffusers import WanTransformer3DModel
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from engine.errors import ConfigError
from engine.model.adapters import recognise
from engine.model.attention import attention, rotate, rotations
from engine.model.camera_encoder import plucker_rays
from engine.model.config import SIZES, model_config
from engine.model.dit import Memory, MixtureHead, PairTransformer
from engine.model.estimate import pass_flops

TINY = replace(SIZES["tiny"], latent_channels=4)


def test_a_rotation_depends_on_the_distance_of_two_positions_only() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(1, 1, 2, 24), torch.randn(1, 1, 2, 24)

    def score(a: tuple[int, int, int], b: tuple[int, int, int]) -> torch.Tensor:
        turned = [rotate(x, rotations(torch.tensor([at]), 24)) for x, at in ((query, a), (key, b))]
        return (turned[0] * turned[1]).sum(-1)

    torch.testing.assert_close(score((3, 1, 4), (1, 5, 9)), score((13, 21, 34), (11, 25, 39)))


def test_attention_is_the_plain_formula() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 5, 3, 8), torch.randn(2, 7, 3, 8), torch.randn(2, 7, 3, 8)
    mask = torch.rand(5, 7) > 0.3
    mask[:, 0] = True
    scores = torch.einsum("bnhe,bmhe->bhnm", q, k) / 8**0.5
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    torch.testing.assert_close(attention(q, k, v, mask), torch.einsum("bhnm,bmhe->bnhe", weights, v))


def test_attention_in_bfloat16_is_the_plain_formula_forward_and_backward() -> None:
    torch.manual_seed(0)
    made = []
    inputs = [torch.randn(2, n, 3, 16, requires_grad=True) for n in (5, 7, 7)]
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            out = attention(*inputs)
        made.append([out.float(), *torch.autograd.grad(out.float().square().sum(), inputs)])
    for plain, fast in zip(*made, strict=True):
        assert (plain - fast).norm() < 0.02 * plain.norm()


def test_the_blocks_agree_with_diffusers_on_the_same_weights() -> None:
    """The in-context parts switched off: the target alone, without camera."""
    torch.manual_seed(0)
    theirs = WanTransformer3DModel(
        patch_size=TINY.patch,
        num_attention_heads=TINY.heads,
        attention_head_dim=TINY.head_width,
        in_channels=TINY.latent_channels,
        out_channels=TINY.latent_channels,
        text_dim=TINY.text_width,
        freq_dim=TINY.frequency_width,
        ffn_dim=TINY.ffn_width,
        num_layers=TINY.layers,
    ).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    ours = PairTransformer(TINY).eval()
    state = theirs.state_dict()
    found = recognise(state)
    assert found is not None
    missing, unexpected = ours.load_state_dict(
        {ours_name: state[name] for ours_name, name in found.keys.items()}, strict=False
    )
    assert not unexpected
    assert set(missing) == {
        "stream_embedding",
        "empty_prompt",
        "plucker.embedding.weight",
        "plucker.embedding.bias",
    }
    latent, prompt = torch.randn(1, 4, 3, 6, 8), torch.randn(1, 5, 20)
    with torch.no_grad():
        expected = theirs(latent, torch.tensor([637.0]), prompt, return_dict=False)[0]
        levels = torch.full((1, 3), 637.0)
        made, _ = ours.denoise(
            latent.transpose(1, 2), levels, torch.arange(3), ours.encode_text(prompt), None
        )
    error = (made.transpose(1, 2) - expected).abs().max() / expected.abs().max()
    assert error <= 1e-5


def test_frames_may_have_timesteps_of_their_own() -> None:
    """With one frame in sight each, two frames at two levels are two runs at one level each."""
    torch.manual_seed(0)
    model = PairTransformer(TINY).eval()
    latent, text = torch.randn(1, 2, 4, 4, 6), model.encode_text()
    own = torch.block_diag(torch.ones(6, 6), torch.ones(6, 6)).bool()
    with torch.no_grad():
        both, _ = model.denoise(latent, torch.tensor([[200.0, 800.0]]), torch.arange(2), text, None, mask=own)
        for frame, level in enumerate((200.0, 800.0)):
            alone, _ = model.denoise(
                latent[:, frame : frame + 1], torch.tensor([[level]]), torch.tensor([frame]), text, None
            )
            torch.testing.assert_close(both[:, frame : frame + 1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("camera", ["plucker", "recammaster"])
def test_an_untrained_camera_adds_nothing(camera: str) -> None:
    torch.manual_seed(0)
    model = PairTransformer(replace(TINY, camera=camera)).eval()  # type: ignore[arg-type]
    latent, levels, times = torch.randn(1, 2, 4, 4, 6), torch.full((1, 2), 300.0), torch.arange(2)
    text = model.encode_text()
    with torch.no_grad():
        plain, _ = model.denoise(latent, levels, times, text, None)
        seen, _ = model.denoise(
            latent,
            levels,
            times,
            text,
            None,
            rays=torch.randn(1, 2, 6, 4, 6),
            extrinsics=torch.randn(1, 2, 12),
        )
    torch.testing.assert_close(seen, plain, rtol=1e-4, atol=1e-5)


def test_a_ray_passes_through_its_pixel_and_the_cameras_place() -> None:
    pose = torch.eye(4)[None, :3].clone()
    pose[0, :, 3] = torch.tensor([0.5, -0.2, 0.1])
    rays = plucker_rays(pose, torch.tensor([[0.8, 1.4, 0.5, 0.5]]), 2, 4)[0]
    moment, direction = rays[:3, 1, 3], rays[3:, 1, 3]
    expected = torch.tensor([(3.5 / 4 - 0.5) / 0.8, (1.5 / 2 - 0.5) / 1.4, 1.0])
    torch.testing.assert_close(direction, expected / expected.norm())
    torch.testing.assert_close(moment, torch.linalg.cross(pose[0, :, 3], direction))


@pytest.mark.parametrize("target", [False, True])
def test_counted_work_agrees_with_torchs_counter_on_a_real_run(target: bool) -> None:
    """With attention spelled out: the counter knows no formula for the CPU's fused kernel."""
    config = replace(SIZES["tiny"], width=96, heads=4, ffn_width=384, layers=3, chunk=3, window=6)
    model = PairTransformer(config).eval()
    frames, rows, columns = 3, 12, 16
    latent = torch.randn(1, frames, config.latent_channels, rows, columns)
    own = frames * rows * columns // 4
    times, text = torch.arange(frames), model.encode_text()
    with torch.no_grad():
        shown = model.encode_source(latent, times, text)
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            if target:
                rays = torch.randn(1, frames, 6, rows, columns)
                levels = torch.full((1, frames), 500.0)
                model.denoise(latent, levels, times, text, Memory(shown.rotated), rays=rays)
            else:
                model.encode_source(latent, times, text)
    keys = 2 * own if target else own
    assert pass_flops(config, own, keys, target=target) == pytest.approx(counter.get_total_flops(), rel=0.03)


def test_a_size_that_does_not_divide_is_said_with_the_nearest_that_does() -> None:
    with pytest.raises(ConfigError, match="832x480"):
        model_config("wan-1.3b").latent_size(834, 481)


def test_an_unknown_size_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"wan-1\.3b"):
        model_config("huge")


def test_a_mixture_can_be_any_of_its_hints_exactly() -> None:
    """With the weights forced to one candidate, x0 is that hint, whatever the noise."""
    torch.manual_seed(0)
    config = replace(SIZES["tiny"], head="mixture", hint_channels=2 * SIZES["tiny"].latent_channels)
    model = PairTransformer(config).eval()
    latent, hints = torch.randn(1, 2, 48, 4, 6), torch.randn(1, 2, 96, 4, 6)
    levels, times = torch.tensor([[700.0, 400.0]]), torch.arange(2)
    assert model.mixture is not None
    for wanted in (0, 1):
        with torch.no_grad():
            model.mixture.weights.weight.zero_()
            # the four tokens' pixels of a patch, then candidates and the pixels of a latent's cell
            model.mixture.weights.bias.zero_().view(4, 3, 16)[:, 1 + wanted] = 1000.0
            velocity, _ = model.denoise(latent, levels, times, model.encode_text(), None, hints=hints)
        x0 = latent - (levels / 1000)[..., None, None, None] * velocity
        torch.testing.assert_close(x0, hints[:, :, 48 * wanted : 48 * (wanted + 1)], rtol=1e-4, atol=1e-4)


def test_a_mixture_without_whole_hints_is_refused() -> None:
    with pytest.raises(ValueError, match="whole hints"):
        replace(SIZES["tiny"], head="mixture", hint_channels=5)


def test_a_mixture_begins_with_the_last_hint_whatever_the_guide_behind_it_says() -> None:
    config = replace(SIZES["tiny"], head="mixture", hint_channels=2 * 48 + 16, guide_channels=16)
    head = MixtureHead(config)
    logits = head.weights(torch.randn(1, 2, 6, config.width))
    shares = logits.view(1, 2, 6, 4, 3, 16).softmax(-2)
    torch.testing.assert_close(shares[..., 2, :], torch.full((1, 2, 6, 4, 16), 0.8))
    guided, plain = torch.randn(1, 2, 112, 4, 6), torch.randn(1, 2, 48, 4, 6)
    other = guided.clone()
    other[:, :, 96:] += 1
    per_cell = torch.randn(1, 2, 48, 4, 6)
    assert torch.equal(head(per_cell, plain, guided), head(per_cell, plain, other))


def test_one_token_of_text_says_what_attention_to_it_would() -> None:
    torch.manual_seed(0)
    model = PairTransformer(replace(TINY, text_length=1)).eval()
    x, block, text = torch.randn(1, 2, 6, TINY.width), model.blocks[0], model.encode_text()[0]
    with torch.no_grad():
        asked = block.cross_attn(block.cross_attn.queries(block.norm3(x).flatten(1, 2)), text)
        torch.testing.assert_close(block._told(x, text).expand_as(x), asked.view_as(x))
