"""The published layouts at their published sizes, without numbers (on the meta device).

The references are diffusers' own models and converter, and Wan2.1's names written out from its source.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import nn

from engine.model.adapters import looks_like, recognise
from engine.model.config import ModelConfig, model_config
from engine.model.fitting import shapes_of
from engine.model.tiny_vae import TINY_VAES
from engine.model.wan_vae import WAN_VAES

WAN_1_3B = model_config("wan-1.3b")
OURS_ALONE = {"stream_embedding", "empty_prompt", "plucker.embedding.weight", "plucker.embedding.bias"}


def wan_names(layers: int) -> set[str]:
    """Of Wan2.1's own checkpoints."""
    both = ("weight", "bias")
    linear = ["patch_embedding", "head.head", "time_projection.1"]
    linear += [f"{name}.{number}" for name in ("text_embedding", "time_embedding") for number in (0, 2)]
    names = {"head.modulation"}
    for block in (f"blocks.{number}" for number in range(layers)):
        linear += [f"{block}.norm3", f"{block}.ffn.0", f"{block}.ffn.2"]
        names.add(f"{block}.modulation")
        for attention in ("self_attn", "cross_attn"):
            linear += [f"{block}.{attention}.{name}" for name in "qkvo"]
            names |= {f"{block}.{attention}.{name}.weight" for name in ("norm_q", "norm_k")}
    return names | {f"{name}.{kind}" for name in linear for kind in both}


def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def shapes_for(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Ours, under the names of ReCamMaster or Wan."""
    return {
        name.replace(".camera.", "."): shape
        for name, shape in shapes_of(config).items()
        if name not in OURS_ALONE
    }


@pytest.fixture(scope="module")
def diffusers_1_3b() -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return shapes(WanTransformer3DModel(num_attention_heads=12, ffn_dim=8960, num_layers=30))


def test_wans_1_3b_has_825_tensors_and_all_of_them_are_ours() -> None:
    assert shapes_for(WAN_1_3B).keys() == wan_names(30)
    assert shapes_of(WAN_1_3B).keys() == wan_names(30) | OURS_ALONE
    found = recognise(wan_names(30))
    assert found is not None and found.layout.name == "wan"
    assert len(found.keys) == 825 and not found.left
    assert all(ours == key for ours, key in found.keys.items())


def test_recammaster_adds_four_tensors_to_each_block() -> None:
    config = replace(WAN_1_3B, camera="recammaster")
    theirs = wan_names(30) | {
        f"blocks.{number}.{module}.{kind}"
        for number in range(30)
        for module in ("cam_encoder", "projector")
        for kind in ("weight", "bias")
    }
    assert shapes_for(config).keys() == theirs and len(theirs) == 825 + 4 * 30
    found = recognise(theirs)
    assert found is not None and found.layout.name == "recammaster"
    assert found.keys.keys() == shapes_of(config).keys() - OURS_ALONE


def test_diffusers_names_lead_to_ours_with_the_same_shapes(
    diffusers_1_3b: dict[str, tuple[int, ...]],
) -> None:
    found = recognise(diffusers_1_3b)
    assert found is not None and found.layout.name == "wan-diffusers"
    assert {ours: diffusers_1_3b[key] for ours, key in found.keys.items()} == shapes_for(WAN_1_3B)


@pytest.mark.parametrize(
    "wrapper", ["", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod."]
)
def test_self_forcing_gives_its_averaged_generator_first(wrapper: str) -> None:
    inner = [f"model.{wrapper}{name}".replace("blocks.1.", f"blocks.1.{wrapper}") for name in wan_names(2)]
    tops = ("generator_ema", "generator", "critic")
    keys = [f"{top}.{name}" for top in tops for name in inner]
    found = recognise(keys)
    assert found is not None and found.layout.name == "self-forcing"
    assert found.keys.keys() == wan_names(2)
    assert all(key.startswith("generator_ema.") for key in found.keys.values())
    assert len(found.left) == 2 * len(inner)
    without_average = recognise(key for key in keys if not key.startswith("generator_ema."))
    assert without_average is not None
    assert all(key.startswith("generator.") for key in without_average.keys.values())


@pytest.mark.parametrize("root", ["model.", "state_dict.", "model.diffusion_model."])
def test_a_common_root_in_front_of_wans_names_is_dropped(root: str) -> None:
    found = recognise(root + name for name in wan_names(2))
    assert found is not None and found.layout.name == "wan"
    assert found.keys == {name: root + name for name in wan_names(2)}


def test_both_names_of_wans_vae_lead_to_its_194_tensors() -> None:
    original = shapes_of(WAN_VAES["wan2.1"])
    with torch.device("meta"):
        theirs = shapes(AutoencoderKLWan())
    assert len(original) == len(theirs) == 194
    found, converted = recognise(original), recognise(theirs)
    assert found is not None and found.layout.name == "wan-vae" and found.keys.keys() == original.keys()
    assert converted is not None and converted.layout.name == "wan-vae-diffusers"
    assert {ours: theirs[key] for ours, key in converted.keys.items()} == original
    back = convert_wan_vae_to_diffusers({name: name for name in original})
    assert {name: key for key, name in back.items()} == converted.keys


def test_a_taehv_is_recognised() -> None:
    names = shapes_of(TINY_VAES["taew2_1"])
    found = recognise(names)
    assert found is not None and found.layout.name == "taehv"
    assert found.keys == {name: name for name in names}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["blocks.0.self_attn.q.lora_A.weight"], "a LoRA"),
        (["lora_unet_down_blocks_0.lora_down.weight"], "a LoRA"),
        (["state.0.exp_avg", "state.0.exp_avg_sq"], "an optimizer's state"),
        ([*wan_names(1), "img_emb.proj.0.weight"], "image-to-video"),
        ([*wan_names(1), "vace_blocks.0.before_proj.weight"], "VACE"),
        ([f"critic.model.{name}" for name in wan_names(1)], "critic without its generator"),
        (["model.diffusion_model.input_blocks.0.0.weight"], "a Stable Diffusion UNet"),
        (["down_blocks.0.resnets.0.conv1.weight"], "a Stable Diffusion UNet"),
        (["first_stage_model.encoder.down.0.block.0.conv1.weight"], "a Stable Diffusion VAE"),
        (["double_blocks.0.img_attn.qkv.weight"], "a Flux"),
        (["token_embedding.weight", "blocks.0.attn.q.weight"], "a T5 text encoder"),
        (["encoder.downsamples.0.downsamples.0.residual.0.gamma"], "Wan2.2's VAE"),
        (["model.layers.0.self_attn.q_proj.weight"], "a language model"),
        (
            wan_names(1) - {"head.head.weight", "head.modulation"},
            "a part of Wan's transformer, original names",
        ),
        (["first", "second"], "2 tensors of something else, the first of them first 3×4"),
        ([], "without a single tensor"),
    ],
)
def test_what_is_not_recognised_is_named(keys: list[str], expected: str) -> None:
    assert recognise(keys) is None
    assert expected in looks_like(dict.fromkeys(keys, (3, 4)))
