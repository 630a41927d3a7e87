"""The names in published checkpoints, turned into ours. Foreign names stop here.

Ours are Wan2.1's original names for the transformer and the VAE, and TAEHV's for the tiny VAE; no
layout needs a tensor reshaped. A layout is told by its names alone, whatever its file is called.
Knows nothing of files or tensors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Part = Literal["transformer", "wan-vae", "tiny-vae"]
Rules = tuple[tuple[str, str], ...]

WRAPPERS = re.compile(r"(_fsdp_wrapped_module|_checkpoint_wrapped_module|_orig_mod)\.")
PLAIN_ROOTS = ("", "model.", "state_dict.", "model.diffusion_model.")

# Of our transformer's tensors, the ones that no published checkpoint has.
OUR_ADDITIONS = ("stream_embedding", "empty_prompt", "plucker.", "hints.")

WAN = (
    "patch_embedding.weight",
    "text_embedding.0.weight",
    "time_embedding.0.weight",
    "time_projection.1.weight",
    "blocks.0.modulation",
    "blocks.0.self_attn.q.weight",
    "blocks.0.cross_attn.q.weight",
    "blocks.0.ffn.0.weight",
    "head.modulation",
    "head.head.weight",
)

WAN_VAE = ("conv1.weight", "conv2.weight", "encoder.conv1.weight", "decoder.upsamples.0.residual.0.gamma")

WAN_DIFFUSERS: Rules = (
    (r"^condition_embedder\.time_embedder\.linear_1\.", "time_embedding.0."),
    (r"^condition_embedder\.time_embedder\.linear_2\.", "time_embedding.2."),
    (r"^condition_embedder\.time_proj\.", "time_projection.1."),
    (r"^condition_embedder\.text_embedder\.linear_1\.", "text_embedding.0."),
    (r"^condition_embedder\.text_embedder\.linear_2\.", "text_embedding.2."),
    (r"^(blocks\.\d+)\.attn1\.", r"\1.self_attn."),
    (r"^(blocks\.\d+)\.attn2\.", r"\1.cross_attn."),
    (r"^(blocks\.\d+\.\w+_attn)\.to_([qkv])\.", r"\1.\2."),
    (r"^(blocks\.\d+\.\w+_attn)\.to_out\.0\.", r"\1.o."),
    (r"^(blocks\.\d+)\.norm2\.", r"\1.norm3."),
    (r"^(blocks\.\d+)\.ffn\.net\.0\.proj\.", r"\1.ffn.0."),
    (r"^(blocks\.\d+)\.ffn\.net\.2\.", r"\1.ffn.2."),
    (r"^(blocks\.\d+)\.scale_shift_table$", r"\1.modulation"),
    (r"^scale_shift_table$", "head.modulation"),
    (r"^proj_out\.", "head.head."),
)

RECAMMASTER: Rules = ((r"^(blocks\.\d+)\.(cam_encoder|projector)\.", r"\1.camera.\2."),)

# The original numbers all layers of a path through; each of its four levels of the decoder is three
# residual blocks and, but for the last, an upsampler.
WAN_VAE_DIFFUSERS: Rules = (
    (r"^quant_conv\.", "conv1."),
    (r"^post_quant_conv\.", "conv2."),
    (r"^(encoder|decoder)\.conv_in\.", r"\1.conv1."),
    (r"^(encoder|decoder)\.norm_out\.", r"\1.head.0."),
    (r"^(encoder|decoder)\.conv_out\.", r"\1.head.2."),
    (r"^(encoder|decoder)\.mid_block\.resnets\.0\.", r"\1.middle.0."),
    (r"^(encoder|decoder)\.mid_block\.attentions\.0\.", r"\1.middle.1."),
    (r"^(encoder|decoder)\.mid_block\.resnets\.1\.", r"\1.middle.2."),
    (r"^encoder\.down_blocks\.", "encoder.downsamples."),
    *(
        (rf"^decoder\.up_blocks\.{level}\.resnets\.{block}\.", f"decoder.upsamples.{4 * level + block}.")
        for level in range(4)
        for block in range(3)
    ),
    *(
        (rf"^decoder\.up_blocks\.{level}\.upsamplers\.0\.", f"decoder.upsamples.{4 * level + 3}.")
        for level in range(3)
    ),
    (r"(samples|middle)\.(\d+)\.norm1\.", r"\1.\2.residual.0."),
    (r"(samples|middle)\.(\d+)\.conv1\.", r"\1.\2.residual.2."),
    (r"(samples|middle)\.(\d+)\.norm2\.", r"\1.\2.residual.3."),
    (r"(samples|middle)\.(\d+)\.conv2\.", r"\1.\2.residual.6."),
    (r"(samples|middle)\.(\d+)\.conv_shortcut\.", r"\1.\2.shortcut."),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """One published way to name a part's tensors. ``signature`` are our names that tell it from others;
    ``roots`` what may stand in front of every name, the best first.
    """

    name: str
    title: str
    part: Part
    signature: tuple[str, ...]
    rules: Rules = ()
    roots: tuple[str, ...] = PLAIN_ROOTS


LAYOUTS = (
    Layout(
        name="realcam",
        title="RealCam's own transformer",
        part="transformer",
        signature=(*WAN, "stream_embedding", "empty_prompt"),
        roots=("",),
    ),
    Layout(
        name="recammaster",
        title="ReCamMaster's transformer",
        part="transformer",
        signature=(*WAN, "blocks.0.camera.cam_encoder.weight", "blocks.0.camera.projector.weight"),
        rules=RECAMMASTER,
    ),
    Layout(name="wan", title="Wan's transformer, original names", part="transformer", signature=WAN),
    Layout(
        name="self-forcing",
        title="a Self-Forcing checkpoint",
        part="transformer",
        signature=WAN,
        roots=("generator_ema.model.", "generator_ema.", "generator.model.", "generator."),
    ),
    Layout(
        name="wan-diffusers",
        title="Wan's transformer, diffusers' names",
        part="transformer",
        signature=WAN,
        rules=WAN_DIFFUSERS,
    ),
    Layout(
        name="wan-vae",
        title="Wan2.1's VAE, original names",
        part="wan-vae",
        signature=WAN_VAE,
    ),
    Layout(
        name="wan-vae-diffusers",
        title="Wan2.1's VAE, diffusers' names",
        part="wan-vae",
        signature=WAN_VAE,
        rules=WAN_VAE_DIFFUSERS,
    ),
    Layout(
        name="taehv",
        title="TAEHV, the tiny VAE",
        part="tiny-vae",
        signature=("encoder.2.conv.weight", "encoder.17.weight", "decoder.1.weight", "decoder.22.weight"),
    ),
)

# Names that give away what else a file is, and what that is. The first match counts.
WAN_VARIANTS = (
    (r"(^|\.)img_emb\.|\.image_embedder\.|\.add_k_proj\.", "an image-to-video Wan transformer"),
    (r"(^|\.)vace_", "Wan's VACE transformer"),
)
STRANGERS = (
    (r"lora_[AB]\b|lora_(down|up)\b|\.lora\.", "a LoRA: changes to a model, to be merged into it first"),
    (r"(^|\.)exp_avg(_sq)?$", "an optimizer's state"),
    *WAN_VARIANTS,
    (r"^critic\.", "a Self-Forcing critic without its generator"),
    (r"samples\.\d+\.(down|up)samples\.|_blocks\.\d+\.(down|up)sampler\.", "Wan2.2's VAE"),
    (r"(^|\.)(controlnet|control_model)", "a ControlNet"),
    (r"(^|\.)input_blocks\.\d+\.|^down_blocks\.\d+\.", "a Stable Diffusion UNet"),
    (r"encoder\.down\.\d+\.block\.|^encoder\.down_blocks\.\d+\.resnets\.", "a Stable Diffusion VAE"),
    (r"(^|\.)double_blocks\.|^single_transformer_blocks\.", "a Flux or HunyuanVideo transformer"),
    (r"^transformer_blocks\.\d+\.", "a diffusers transformer of another family"),
    (r"(^|\.)token_embedding\.weight$|\.SelfAttention\.q\.|^shared\.weight$", "a T5 text encoder"),
    (r"text_model\.encoder\.|vision_model\.|visual\.transformer\.", "a CLIP model"),
    (r"layers\.\d+\.self_attn\.q_proj\.|^lm_head\.", "a language model"),
)


@dataclass(frozen=True, slots=True)
class Recognised:
    """``keys`` maps our name to the file's; ``left`` are the file's keys outside the layout's root."""

    layout: Layout
    keys: dict[str, str]
    left: tuple[str, ...]


def recognise(keys: Iterable[str]) -> Recognised | None:
    """The layout of a file with these keys (nested ones joined by dots); None: see :func:`looks_like`."""
    bare = _bare(keys)
    for layout in LAYOUTS:
        for root in layout.roots:
            ours = _renamed(bare, root, layout.rules)
            if all(name in ours for name in layout.signature):
                if _named(ours.values(), WAN_VARIANTS):
                    return None
                left = set(bare.values()) - set(ours.values())
                return Recognised(layout, ours, tuple(sorted(left)))
    return None


def looks_like(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """What a file that was not recognised seems to be, as the end of "it looks like …"."""
    if not shapes:
        return "a file without a single tensor"
    bare = _bare(shapes)
    known = _named(bare, STRANGERS) or _nearest(bare)
    if known is not None:
        return known
    first = ", ".join(f"{key} {'×'.join(map(str, shape))}" for key, shape in list(shapes.items())[:4])
    return f"{len(shapes)} tensors of something else, the first of them {first}"


def expected() -> str:
    return "; ".join(layout.title for layout in LAYOUTS)


def _bare(keys: Iterable[str]) -> dict[str, str]:
    """Without what distributed training wraps around modules: the bare key → the file's."""
    return {WRAPPERS.sub("", key): key for key in keys}


def _renamed(bare: Mapping[str, str], root: str, rules: Rules) -> dict[str, str]:
    return {_rename(name[len(root) :], rules): key for name, key in bare.items() if name.startswith(root)}


def _rename(name: str, rules: Rules) -> str:
    for pattern, ours in rules:
        name = re.sub(pattern, ours, name)
    return name


def _named(names: Iterable[str], table: Rules) -> str | None:
    names = list(names)
    return next((what for pattern, what in table if any(re.search(pattern, name) for name in names)), None)


def _nearest(bare: Mapping[str, str]) -> str | None:
    """The layout that misses the fewest names of its signature, if it has the most of them."""
    candidates = []
    for layout in LAYOUTS:
        for root in layout.roots:
            ours = _renamed(bare, root, layout.rules)
            absent = [name for name in layout.signature if name not in ours]
            if len(absent) < len(layout.signature) / 2:
                candidates.append((len(absent), f"a part of {layout.title}, without {', '.join(absent[:3])}"))
    return min(candidates, key=lambda candidate: candidate[0])[1] if candidates else None
