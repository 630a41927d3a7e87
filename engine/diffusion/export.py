"""A trained mini student as an ONNX file for :mod:`engine.diffusion.onnx_student`.

All that does not change while a stream runs is worked out here: what the text says in each layer, the
modulations of each noise level, the biases behind the gates. Knows nothing of the graph's operators.

Shapes: D width.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from engine.diffusion.export_graph import COLOURS, Floats, Layer, Network, build
from engine.diffusion.onnx_student import CLEAN, METADATA_KEY
from engine.diffusion.schedule import TIMESTEPS, Schedule
from engine.errors import WeightsError
from engine.model.config import ModelConfig
from engine.model.dit import SOURCE, TARGET, Block, PairTransformer
from engine.model.weights import load_transformer


def export_student(
    weights: Path,
    onnx_path: Path,
    *,
    is_int8: bool = True,
    cache_from_last_step: bool = False,
    window: int | None = None,
    attention_sink: int | None = None,
) -> None:
    """Writes ``onnx_path``, whole or not at all. Raises :class:`WeightsError` if the weights are no mini's.

    With ``is_int8`` the blocks multiply in 8 bits: smaller, faster, and a little less exact. With
    ``cache_from_last_step`` the last denoising pass leaves what the target is remembered by; else a pass
    of its own over the finished frame does, as in :func:`engine.diffusion.rollout.rollout`. ``window`` and
    ``attention_sink``, in frames, say what it remembers; None: as it was trained.
    """
    model, config = load_transformer(weights, "cpu", torch.float32)
    config = replace(
        config,
        window=config.window if window is None else window,
        attention_sink=config.attention_sink if attention_sink is None else attention_sink,
    )
    for name, found, expected in (
        ("codec", config.codec, "pixel"),
        ("patch", config.patch, (1, 1, 1)),
        ("head", config.head, "mixture"),
        ("camera", config.camera, "plucker"),
        ("text_length", config.text_length, 1),
        ("chunk", config.chunk, 1),
    ):
        if found != expected:
            raise WeightsError(
                f"{weights}: without PyTorch runs a student whose {name} is {expected}, not {found}; "
                f"this one is {config.name}"
            )
    schedules = _schedules(config)
    levels = sorted({CLEAN, *(sigma for sigmas in schedules.values() for sigma in sigmas)})
    with torch.inference_mode():
        network = _network(model, config, levels, is_int8=is_int8)
    told = {
        "size": config.size,
        "patch": config.stride[1],
        "layers": config.layers,
        "heads": config.heads,
        "head_width": config.head_width,
        "window": config.window,
        "attention_sink": config.attention_sink,
        "levels": levels,
        "schedules": {str(steps): sigmas for steps, sigmas in schedules.items()},
        "cache_from_last_step": cache_from_last_step,
    }
    _save(build(network, {METADATA_KEY: json.dumps(told)}), onnx_path)


def _schedules(config: ModelConfig) -> dict[int, tuple[float, ...]]:
    """The noise levels of the student's own number of steps, and of each that divides it: every n-th."""
    count = len(config.timesteps)
    return {
        steps: Schedule.few_step(config.timesteps[:: count // steps], config.shift).sigmas
        for steps in range(1, count + 1)
        if count % steps == 0
    }


def _network(model: PairTransformer, config: ModelConfig, levels: list[float], *, is_int8: bool) -> Network:
    assert model.hints is not None and model.plucker is not None and model.mixture is not None
    given = (model.patch_embedding, model.hints, model.plucker.embedding)
    blocks = cast("list[Block]", list(model.blocks))
    kinds = [(SOURCE, CLEAN), *((TARGET, sigma) for sigma in levels)]
    return Network(
        tokens=config.tokens_per_frame(*config.size),
        heads=config.heads,
        pixels=config.latent_channels // COLOURS,
        is_int8=is_int8,
        embedding=_array(torch.cat([layer.weight.flatten(1) for layer in given], dim=1).T),
        layers=[_layer(block, config.head_width) for block in blocks],
        generated=_array(model.head.head.weight.T),
        generated_bias=_array(model.head.head.bias),
        shares=_array(model.mixture.weights.weight.T),
        shares_bias=_array(model.mixture.weights.bias),
        table=np.stack([_rows(model, blocks, *kind) for kind in kinds]),
    )


def _layer(block: Block, head_width: int) -> Layer:
    own = block.self_attn
    projections = (own.q, own.k, own.v)
    widened, narrowed = cast("tuple[nn.Linear, nn.Linear]", (block.ffn[0], block.ffn[2]))
    return Layer(
        queries_keys_values=_array(torch.cat([layer.weight for layer in projections]).T),
        queries_keys_values_bias=_array(torch.cat([layer.bias for layer in projections])),
        query_norm=_array(own.norm_q.weight / head_width**0.5),
        key_norm=_array(own.norm_k.weight),
        attended=_array(own.o.weight.T),
        widened=_array(widened.weight.T),
        widened_bias=_array(widened.bias),
        narrowed=_array(narrowed.weight.T),
    )


def _rows(model: PairTransformer, blocks: list[Block], stream: int, sigma: float) -> Floats:
    """All that depends on the stream and the noise level, as :class:`Network` wants its table's rows."""
    time = model.time_embedding(model._frequencies(torch.tensor([[sigma * TIMESTEPS]])))[0, 0]
    modulation = model.time_projection(time).unflatten(-1, (6, -1))
    rows = [_bias(model, stream)]
    for block, text in zip(blocks, model.encode_text(), strict=True):
        shift, scale, gate, last_shift, last_scale, last_gate = block.modulation[0] + modulation
        told = block.cross_attn.joined(text.values)[0, 0]  # one token of text says the same to all
        rows += [1 + scale, shift, gate, gate * block.self_attn.o.bias + told]
        rows += [1 + last_scale, last_shift, last_gate, last_gate * cast("Tensor", block.ffn[2].bias)]
    shift, scale = model.head.modulation[0] + time
    return _array(torch.stack([*rows, 1 + scale, shift]))


def _bias(model: PairTransformer, stream: int) -> Tensor:
    """Of the tokens' embedding."""
    assert model.hints is not None and model.plucker is not None
    layers = [model.patch_embedding]
    if stream == TARGET:
        layers += [model.hints, model.plucker.embedding]
    return model.stream_embedding[stream] + sum(cast("Tensor", layer.bias) for layer in layers)


def _array(tensor: Tensor) -> Floats:
    return np.ascontiguousarray(tensor.detach().numpy())


def _save(model: onnx.ModelProto, path: Path) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        onnx.save(model, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
