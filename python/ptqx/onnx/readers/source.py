"""An ONNX file, parsed and checked: nodes, constants, and the shape of every tensor for one sample."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from ...errors import PtqxError

QOPERATOR = {"QLinearConv", "QLinearMatMul", "QLinearAdd", "QGemm", "ConvInteger", "MatMulInteger"}


@dataclass(frozen=True)
class SourceNode:
    """`label` is what messages call it."""

    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: dict[str, Any]
    label: str


class Source:
    """The graph of an ONNX file.

    Attributes:
        nodes: in execution order.
        constants: initializers, and values of Constant nodes.
        input, input_shape: of the network; the shape of one sample.
        outputs: of the network.
        producer: what wrote the file.

    Raises:
        PtqxError: no such file, no valid model, several inputs, shapes that are not fixed, or a
            model that is not in QDQ form.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        model = _parsed(Path(path))
        graph = model.graph
        self.producer = " ".join(part for part in (model.producer_name, model.producer_version) if part)
        self.constants = {t.name: _array(t) for t in graph.initializer}
        self.input, self.input_shape = _input(graph, set(self.constants))
        self.outputs = [output.name for output in graph.output]
        self.nodes: list[SourceNode] = []
        for proto in graph.node:
            node = _node(proto)
            if node.op_type == "Constant":
                self.constants[node.outputs[0]] = _constant(node)
            else:
                self.nodes.append(node)
        self.opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
        self._require_qdq()
        self._shapes = _shapes(model, self.input, self.input_shape)

    def shape(self, tensor: str) -> tuple[int, ...] | None:
        """Of one sample; None if shape inference does not know it."""
        return self._shapes.get(tensor)

    def _require_qdq(self) -> None:
        types = {node.op_type for node in self.nodes}
        if found := sorted(types & QOPERATOR):
            raise PtqxError(f"the model holds {found[0]}; quantize it in QDQ form (QuantFormat.QDQ)")
        if "DynamicQuantizeLinear" in types:
            raise PtqxError("the model quantizes dynamically (DynamicQuantizeLinear); quantize it statically")
        if "DequantizeLinear" not in types:
            raise PtqxError("the model is not quantized: it holds no DequantizeLinear")


def _parsed(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise PtqxError(f"no such file: {path}")
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise PtqxError(f"{path}: onnx.checker refuses it: {error}") from error
    except Exception as error:  # protobuf's own, whose place changes between versions
        raise PtqxError(f"{path} is no ONNX file: {error}") from error
    return model


def _input(graph: onnx.GraphProto, constants: set[str]) -> tuple[str, tuple[int, ...]]:
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1:
        raise PtqxError(f"expected a network with one input, got {[value.name for value in inputs]}")
    kind = inputs[0].type.tensor_type
    if kind.elem_type != onnx.TensorProto.FLOAT:
        raise PtqxError(f"{inputs[0].name}: expected a float32 input")
    _, *sizes = (dim.dim_value for dim in kind.shape.dim)
    if not sizes or min(sizes) < 1:
        raise PtqxError(
            f"{inputs[0].name}: its sizes must be fixed, all but the batch; "
            "onnx.tools.update_model_dims.update_inputs_outputs_dims sets them"
        )
    return inputs[0].name, tuple(sizes)


def _node(proto: onnx.NodeProto) -> SourceNode:
    attrs = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}
    attrs = {name: value.decode() if isinstance(value, bytes) else value for name, value in attrs.items()}
    label = f"{proto.name or proto.output[0]} ({proto.op_type})"
    return SourceNode(proto.op_type, tuple(proto.input), tuple(proto.output), attrs, label)


def _constant(node: SourceNode) -> np.ndarray:
    (value,) = node.attrs.values()
    return _array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def _array(tensor: onnx.TensorProto) -> np.ndarray:
    """4- and 2-bit integers keep their own types."""
    return numpy_helper.to_array(tensor)


def _shapes(model: onnx.ModelProto, name: str, sample: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in copy.graph.input:
        if value.name == name:
            value.type.tensor_type.shape.dim[0].dim_value = 1
    del copy.graph.value_info[:]
    for value in copy.graph.output:
        value.type.tensor_type.ClearField("shape")
    for node in copy.graph.node:
        if node.op_type == "GroupNormalization":  # whose shape ONNX does not infer
            node.CopyFrom(onnx.helper.make_node("Identity", node.input[:1], node.output))
    inferred = onnx.shape_inference.infer_shapes(copy, data_prop=True).graph
    shapes = {}
    for value in (*inferred.value_info, *inferred.output):
        dims = value.type.tensor_type.shape.dim
        if len(dims) > 0 and all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = tuple(dim.dim_value for dim in dims)[1:]
    return {**shapes, name: sample}
