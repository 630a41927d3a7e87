"""The mini student's transformer as one ONNX graph, of which one run is one pass of one frame's tokens.

A pass of the source and a pass of the target at any noise level are the same graph. What tells them apart,
the modulations and the biases that depend on them, are rows of a table, chosen by ``kind``. Knows nothing
of torch, of streams, or of what the kinds stand for.

Shapes: T tokens of a frame, I numbers that a token is made of, D width, H heads, E width of a head, F width
of the feed-forward, P pixels of a patch, K+1 candidates that a pixel is mixed from, M tokens of the past.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Floats = NDArray[np.float32]

OPSET, IR_VERSION = 17, 8  # ONNX Runtime 1.17 reads them
MICROSOFT = "com.microsoft"  # ONNX Runtime's own operators
EPSILON = 1e-6
COLOURS = 3
LAYER_ROWS = 8
# Of 8: without VNNI, processors add pairs of products in 16 bits, which weights of 8 bits would overflow.
WEIGHT_BITS = 7


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Layer:
    """What a block multiplies by."""

    queries_keys_values: Floats  # D 3·D
    queries_keys_values_bias: Floats  # 3·D
    query_norm: Floats  # D, and 1/√E within
    key_norm: Floats  # D
    attended: Floats  # D D
    widened: Floats  # D F
    widened_bias: Floats  # F
    narrowed: Floats  # F D


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Network:
    """``table``, kinds rows D, has for each kind: the bias of the tokens; for each layer the first norm's
    scale and shift, gate and bias behind the attention, the second norm's scale and shift, gate and bias
    behind the feed-forward; the scale and shift of the head's norm. With ``is_int8`` the layers multiply in
    8 bits.
    """

    tokens: int
    heads: int
    pixels: int
    is_int8: bool
    embedding: Floats  # I D
    layers: Sequence[Layer]
    generated: Floats  # D 3·P
    generated_bias: Floats  # 3·P
    shares: Floats  # D (K+1)·P
    shares_bias: Floats  # (K+1)·P
    table: Floats

    @property
    def width(self) -> int:
        return int(self.embedding.shape[1])

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def candidates(self) -> int:
        return int(self.shares.shape[1]) // self.pixels


def build(network: Network, metadata: dict[str, str]) -> onnx.ModelProto:
    """Inputs: ``kind``; ``paints``, false where only keys and values are wanted; ``tokens`` T I; ``cosines``
    and ``sines`` T E/2; for each layer ``shown_keys`` (what comes before one's own stream's past), and one's
    own past before and after one's own place in it, M H E each, and the same of values. Outputs: ``x0``
    T 3·P and ``shares`` T K+1 P, empty unless it paints; each layer's own keys, turned, and values, T H E.
    """
    graph = _Graph(network, "main_")
    table = network.table
    rows = [f"row{number}" for number in range(table.shape[1])]
    chosen = graph.add("Gather", graph.constant(table.reshape(len(table), -1)), "kind", axis=0)
    graph.add("Split", chosen, graph.constant(np.full(len(rows), network.width)), to=rows)
    x = graph.add("Gemm", "tokens", graph.constant(network.embedding), rows[0])
    normed = graph.normed(x, rows[1], rows[2])
    last = len(network.layers) - 1
    for number in range(last):
        graph.project(number, normed)
        x, normed = graph.rest(number, x, rows[1 + LAYER_ROWS * number :])
    graph.project(last, normed)
    _paint_or_not(graph, x, rows[1 + LAYER_ROWS * last :])
    return _model(graph, metadata)


def _paint_or_not(graph: _Graph, x: str, rows: Sequence[str]) -> None:
    """What no keys and values depend on: the last layer from its attention on, and the head."""
    network = graph.network
    painting, resting = _Graph(network, "paint_"), _Graph(network, "rest_")
    painted = painting.head(*painting.rest(len(network.layers) - 1, x, rows))
    nothing = (
        resting.nothing(COLOURS * network.pixels),
        resting.nothing(network.candidates, network.pixels),
    )
    branches = {
        "then_branch": painting.as_branch("paint", painted),
        "else_branch": resting.as_branch("rest", nothing),
    }
    graph.add("If", "paints", to=["x0", "shares"], **branches)


class _Graph:
    """Nodes in their order, and the constants among their inputs; their names begin with ``prefix``."""

    def __init__(self, network: Network, prefix: str) -> None:
        self.network = network
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._prefix = prefix

    def constant(self, values: NDArray[np.generic]) -> str:
        name = f"{self._prefix}constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add(self, operator: str, *inputs: str, to: Sequence[str] = (), **attributes: Any) -> str:
        """Returns the name of the first output."""
        name = f"{self._prefix}{operator}{len(self.nodes)}"
        outputs = list(to) or [name]
        self.nodes.append(helper.make_node(operator, list(inputs), outputs, name=name, **attributes))
        return outputs[0]

    def reshaped(self, x: str, *shape: int, to: Sequence[str] = ()) -> str:
        return self.add("Reshape", x, self.constant(np.array(shape)), to=to)

    def normed(self, x: str, scale: str, shift: str) -> str:
        return self.add("LayerNormalization", x, scale, shift, axis=-1, epsilon=EPSILON)

    def linear(self, x: str, weights: Floats, bias: Floats | None = None) -> str:
        """x · weights + bias, N A → N B. In 8 bits, x is rounded in steps of its range at that moment, and
        each column of the weights in steps of its own.
        """
        biases = [] if bias is None else [self.constant(bias)]
        if not self.network.is_int8:
            return self.add("MatMul" if bias is None else "Gemm", x, self.constant(weights), *biases)
        largest = 2 ** (WEIGHT_BITS - 1) - 1
        steps = np.maximum(np.abs(weights).max(0) / largest, np.finfo(np.float32).tiny).astype(np.float32)
        rounded = np.rint(weights / steps).astype(np.int8)
        constants = (rounded, steps, np.zeros(len(steps), np.int8))
        names = [self.constant(values) for values in constants]
        return self.add("DynamicQuantizeMatMul", x, *names, *biases, domain=MICROSOFT)

    def project(self, number: int, normed: str) -> None:
        """A layer's own queries, keys and values."""
        network = self.network
        layer = network.layers[number]
        parts = [f"{part}{number}" for part in ("queries", "keys", "values")]
        made = self.linear(normed, layer.queries_keys_values, layer.queries_keys_values_bias)
        self.add("Split", made, self.constant(np.full(3, network.width)), to=parts, axis=-1)
        self._turned(parts[1], layer.key_norm, to=[f"own_keys{number}"])
        each = (network.tokens, network.heads, network.head_width)
        self.reshaped(parts[2], *each, to=[f"own_values{number}"])

    def rest(self, number: int, x: str, rows: Sequence[str]) -> tuple[str, str]:
        """A layer behind its keys and values: its output, and that as the next one's first norm has it."""
        layer = self.network.layers[number]
        x, normed = self._joined(x, self._attended(number), rows[2:6])
        wide = self.linear(normed, layer.widened)
        wide = self.add("FastGelu", wide, self.constant(layer.widened_bias), domain=MICROSOFT)
        return self._joined(x, self.linear(wide, layer.narrowed), rows[6:10])

    def head(self, x: str, normed: str) -> list[str]:
        """x0 and the shares: mixed are the generated colours and the hints among the tokens."""
        network = self.network
        tokens, candidates, pixels = network.tokens, network.candidates, network.pixels
        colours = COLOURS * pixels
        generated = self.add(
            "Gemm", normed, self.constant(network.generated), self.constant(network.generated_bias)
        )
        one, zero = (self.constant(value(network.width, np.float32)) for value in (np.ones, np.zeros))
        logits = self.add(
            "Gemm",
            self.normed(x, one, zero),
            self.constant(network.shares),
            self.constant(network.shares_bias),
        )
        shares = self.add("Softmax", self.reshaped(logits, tokens, candidates, pixels), axis=1)
        bounds = [self.constant(np.array([bound])) for bound in (colours, candidates * colours, 1)]
        mixed = self.add("Concat", generated, self.add("Slice", "tokens", *bounds), axis=1)
        mixed = self.add(
            "Mul",
            self.reshaped(mixed, tokens, candidates, COLOURS, pixels),
            self.reshaped(shares, tokens, candidates, 1, pixels),
        )
        x0 = self.add("ReduceSum", mixed, self.constant(np.array([1])), keepdims=0)
        return [self.reshaped(x0, tokens, colours), shares]

    def nothing(self, *shape: int) -> str:
        """A tensor without numbers."""
        return self.add("Identity", self.constant(np.zeros((0, *shape), np.float32)))

    def as_branch(self, name: str, outputs: Sequence[str]) -> onnx.GraphProto:
        told = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None) for output in outputs]
        return helper.make_graph(self.nodes, name, [], told, self.constants)

    def _joined(self, x: str, made: str, rows: Sequence[str]) -> tuple[str, str]:
        """x + gate · made + bias, and that normalised, scaled and shifted."""
        gate, bias, scale, shift = rows
        summed = self.add("Add", self.add("Add", x, bias), self.add("Mul", made, gate))
        return summed, self.normed(summed, scale, shift)

    def _attended(self, number: int) -> str:
        """A layer's own queries to the past and to one another, and their way out of the heads: T D.

        Keys and values lie token by token, as the streams remember them; the heads are taken apart within
        the products, by strides.
        """
        layer = self.network.layers[number]
        queries = self._turned(f"queries{number}", layer.query_norm)
        keys, values = (self._all(what, number) for what in ("keys", "values"))
        apart: dict[str, Any] = {"domain": MICROSOFT, "transBatchB": 1}
        scores = self.add("FusedMatMul", queries, keys, transBatchA=1, transB=1, **apart)
        attended = self.add("FusedMatMul", self.add("Softmax", scores, axis=-1), values, **apart)
        attended = self.add("Transpose", attended, perm=[1, 0, 2])
        return self.linear(self.reshaped(attended, self.network.tokens, -1), layer.attended)

    def _all(self, what: str, number: int) -> str:
        return self.add("Concat", *(name.format(what, number) for name in PARTS), axis=0)

    def _turned(self, x: str, norm: Floats, to: Sequence[str] = ()) -> str:
        """Normalised and turned to its position: T D → T H E."""
        network = self.network
        normed = self.add("SimplifiedLayerNormalization", x, self.constant(norm), axis=-1, epsilon=EPSILON)
        turned = self.add(
            "RotaryEmbedding",
            self.reshaped(normed, 1, network.tokens, network.width),
            self.constant(np.zeros(1, np.int64)),
            "cosines",
            "sines",
            domain=MICROSOFT,
            interleaved=1,
            num_heads=network.heads,
        )
        return self.reshaped(turned, network.tokens, network.heads, network.head_width, to=to)


PARTS = ("shown_{}{}", "{}_before{}", "own_{}{}", "{}_after{}")  # of what a layer's queries see


def _model(graph: _Graph, metadata: dict[str, str]) -> onnx.ModelProto:
    network = graph.network
    tokens, pixels = network.tokens, network.pixels
    each = (network.heads, network.head_width)

    def info(name: str, *shape: int | str, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    inputs = [
        info("kind", kind=TensorProto.INT64),
        info("paints", kind=TensorProto.BOOL),
        info("tokens", tokens, len(network.embedding)),
        info("cosines", tokens, network.head_width // 2),
        info("sines", tokens, network.head_width // 2),
    ]
    outputs = [
        info("x0", "painted", COLOURS * pixels),
        info("shares", "painted", network.candidates, pixels),
    ]
    shown, before, own, after = PARTS
    for number in range(len(network.layers)):
        for what in ("keys", "values"):
            lengths = ((shown, "shown"), (before, "before"), (after, "after"))
            inputs += [info(name.format(what, number), length, *each) for name, length in lengths]
            outputs.append(info(own.format(what, number), tokens, *each))
    made = helper.make_graph(graph.nodes, "student", inputs, outputs, graph.constants)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=IR_VERSION)
    helper.set_model_props(model, metadata)
    return model
