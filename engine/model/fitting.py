"""Which model some tensors fit: by their shapes, or by the config that RealCam wrote beside them.

Tensors have our names here. Knows nothing of files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache

import torch
from torch import Tensor

from engine.errors import WeightsError
from engine.model.adapters import Part
from engine.model.codec import Codec
from engine.model.config import SIZES, CameraName, ModelConfig
from engine.model.dit import PairTransformer
from engine.model.tiny_vae import TINY_VAES, TinyVAE, TinyVAEConfig
from engine.model.wan_vae import WAN_VAES, WanVAE, WanVAEConfig

CONFIG_KEY = "realcam_config"
WAN_HEAD_WIDTH = 128

CodecConfig = WanVAEConfig | TinyVAEConfig
Config = ModelConfig | CodecConfig
Shape = tuple[int, ...]
Shapes = dict[str, Shape]


def fit(part: Part, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> tuple[str, Config]:
    """The name of a size and its config. Raises :class:`WeightsError` if it cannot be told."""
    if part == "transformer":
        written = metadata.get(CONFIG_KEY)
        config = _inferred(tensors) if written is None else _written(written)
        return config.name, config
    table: Mapping[str, CodecConfig] = WAN_VAES if part == "wan-vae" else TINY_VAES
    for name, codec_config in table.items():
        shapes = shapes_of(codec_config)
        if all(tuple(tensors[key].shape) == shape for key, shape in shapes.items() if key in tensors):
            return name, codec_config
    return next(iter(table.items()))  # the published one, to compare with


def transformer_on_meta(config: ModelConfig) -> PairTransformer:
    with torch.device("meta"):
        return PairTransformer(config)


def codec_on_meta(config: CodecConfig) -> Codec:
    with torch.device("meta"):
        return WanVAE(config) if isinstance(config, WanVAEConfig) else TinyVAE(config)


@cache
def shapes_of(config: Config) -> Shapes:
    """Of all tensors of a model."""
    model = transformer_on_meta(config) if isinstance(config, ModelConfig) else codec_on_meta(config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def config_metadata(config: ModelConfig) -> dict[str, str]:
    """How a file says which transformer it holds."""
    return {
        CONFIG_KEY: json.dumps(asdict(config)),
        "camera": config.camera,
        "hint_channels": str(config.hint_channels),
    }


def _written(text: str) -> ModelConfig:
    try:
        values = json.loads(text)
        known = {field.name for field in fields(ModelConfig)}
        if set(values) != known:
            raise ValueError(f"its fields differ in {', '.join(sorted(set(values) ^ known))}")
        lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
        return ModelConfig(**{**values, **lists})
    except (ValueError, TypeError) as error:
        raise WeightsError(f"its config is not one of this version of RealCam: {error}") from None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Dimensions:
    """All of a size that the shapes of its tensors tell; the number of heads is not among it."""

    width: int
    ffn_width: int
    layers: int
    patch: tuple[int, int, int]
    latent_channels: int
    text_width: int
    frequency_width: int

    @classmethod
    def of(cls, config: ModelConfig) -> _Dimensions:
        return cls(
            width=config.width,
            ffn_width=config.ffn_width,
            layers=config.layers,
            patch=config.patch,
            latent_channels=config.latent_channels,
            text_width=config.text_width,
            frequency_width=config.frequency_width,
        )


def _inferred(tensors: Mapping[str, Tensor]) -> ModelConfig:
    """The named size that the shapes fit, or else one made after the nearest of Wan's."""
    width, latent_channels, *patch = _shape(tensors, "patch_embedding.weight", 5)
    dimensions = _Dimensions(
        width=width,
        ffn_width=_shape(tensors, "blocks.0.ffn.0.weight", 2)[0],
        layers=1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks.")),
        patch=(patch[0], patch[1], patch[2]),
        latent_channels=latent_channels,
        text_width=_shape(tensors, "text_embedding.0.weight", 2)[1],
        frequency_width=_shape(tensors, "time_embedding.0.weight", 2)[1],
    )
    fitting = [size for size in SIZES.values() if _Dimensions.of(size) == dimensions]
    size = fitting[0] if fitting else _after_wan(dimensions)
    camera: CameraName = "recammaster" if "blocks.0.camera.cam_encoder.weight" in tensors else "plucker"
    hint_channels = _shape(tensors, "hints.weight", 5)[1] if "hints.weight" in tensors else 0
    return replace(size, camera=camera, hint_channels=hint_channels)


def _shape(tensors: Mapping[str, Tensor], name: str, dimensions: int) -> Shape:
    shape = tuple(tensors[name].shape)
    if len(shape) != dimensions:
        raise WeightsError(f"{name}: expected {dimensions} dimensions, found {len(shape)}")
    return shape


def _after_wan(dimensions: _Dimensions) -> ModelConfig:
    """A size that no table has, with heads as wide as all of Wan's are."""
    width = dimensions.width
    if width % WAN_HEAD_WIDTH:
        raise WeightsError(
            f"a width of {width} is none of the known sizes' ({', '.join(SIZES)}) and no multiple of "
            f"{WAN_HEAD_WIDTH}, so the number of its heads cannot be told"
        )
    wide_latents = dimensions.latent_channels == SIZES["wan2.2-5b"].latent_channels
    return replace(
        SIZES["wan2.2-5b" if wide_latents else "wan-1.3b"],
        name=f"wan-{width}x{dimensions.layers}",
        heads=width // WAN_HEAD_WIDTH,
        **asdict(dimensions),
    )
