"""Makes `engine/geometry/weights/person.onnx` of MediaPipe's Selfie Segmentation (Apache-2.0).

Knows how the published file differs from ONNX: TensorFlow Lite's layout, and a last layer of MediaPipe's own
(a transposed convolution with an offset), which the converter leaves as it is. Needed only to make the file:
    npm pack @mediapipe/selfie_segmentation@0.1.1675465747 && tar xzf mediapipe-*.tgz
    python3.11 -m venv venv && venv/bin/pip install tensorflow-cpu==2.21.0 tf2onnx==1.17.0
    venv/bin/python -m engine.data.bake.person_matte package/selfie_segmentation_landscape.tflite person.onnx
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import onnx
import tf2onnx.convert  # type: ignore[import-not-found]
from onnx import ModelProto, helper, numpy_helper

OWN_LAYER = "TFL_Convolution2DTransposeBias"
HEIGHT, WIDTH = 144, 256


def converted(tflite: Path) -> ModelProto:
    """As the converter leaves it: input 1 H W 3, RGB in [0, 1]."""
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        tf2onnx.convert.from_tflite(str(tflite), opset=17, output_path=file.name)
        return onnx.load(file.name)


def with_own_layer_spelt_out(model: ModelProto) -> ModelProto:
    """The same with ONNX's ConvTranspose at its end: `images` 1 H W 3 → `matte` 1 1 H W."""
    graph = model.graph
    (own,) = (node for node in graph.node if node.op_type == OWN_LAYER)
    (to_nhwc,) = (node for node in graph.node if node.output[0] == own.input[0])
    weights = {one.name: one for one in graph.initializer}
    kernel = numpy_helper.to_array(weights[own.input[1]]).transpose(3, 0, 1, 2)  # O H W I → I O H W
    weights[own.input[1]].CopyFrom(numpy_helper.from_array(kernel, own.input[1]))
    upwards = helper.make_node(
        "ConvTranspose", [to_nhwc.input[0], *own.input[1:]], own.output, strides=kernel.shape[2:]
    )
    nodes = [upwards if node is own else node for node in graph.node if node is not to_nhwc]
    names = {graph.input[0].name: "images", graph.output[0].name: "matte"}
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    made = helper.make_graph(
        nodes,
        "person",
        [helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, (1, HEIGHT, WIDTH, 3))],
        [helper.make_tensor_value_info("matte", onnx.TensorProto.FLOAT, (1, 1, HEIGHT, WIDTH))],
        graph.initializer,
    )
    finished = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(finished, full_check=True)
    return finished


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tflite", type=Path, help="selfie_segmentation_landscape.tflite")
    parser.add_argument("out", type=Path, help="the .onnx to write")
    args = parser.parse_args()
    onnx.save(with_own_layer_spelt_out(converted(args.tflite)), args.out)


if __name__ == "__main__":
    main()
