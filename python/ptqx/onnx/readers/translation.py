"""From the nodes of an ONNX graph to those of the integer graph."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from ...errors import PtqxError
from ...graph import IntegerGraph, IntegerModel, IntegerNode
from .images import with_merged_permutes
from .network import MOVERS, Network
from .operations import array_of, transposed
from .products import SOFTMAX, softmax_attrs
from .source import Source, SourceNode
from .values import (
    Codes,
    Constant,
    Dequantized,
    LookedUp,
    Pending,
    Quantization,
    QuantizedConstant,
    Real,
    Value,
)

Inputs = tuple[Value | None, ...]
WEIGHT_TYPES = ("int8", "uint8", "int4", "uint4", "int2", "uint2")


def translated(source: Source) -> IntegerModel:
    """The integer model of an ONNX graph in QDQ form.

    Raises:
        PtqxError: what can't be read, by the name of its node.
    """
    network = Network(source.input, source.input_shape)
    values: dict[str, Value] = {name: Constant(array) for name, array in source.constants.items()}
    values[source.input] = Real(source.input)
    for node in source.nodes:
        inputs = tuple(values[name] if name else None for name in node.inputs)
        try:
            results = _Reader(source, network, node, inputs).results()
        except PtqxError as error:
            raise error if node.label in str(error) else PtqxError(f"{node.label}: {error}") from error
        values.update(zip(node.outputs, results, strict=False))
    real = {name: network.real(values[name]) for name in source.outputs}
    output = real if len(real) > 1 else next(iter(real.values()))
    info = {"source": " ".join(["ONNX", source.producer]).strip()}
    nodes = _needed(with_merged_permutes(network.nodes), real.values())
    graph = IntegerGraph(source.input, source.input_shape, output, nodes, info)
    return IntegerModel(graph, {name: network.tensors[name] for name in graph.tensor_names()})


def _needed(nodes: dict[str, IntegerNode], outputs: Iterable[str]) -> dict[str, IntegerNode]:
    """The nodes that the outputs depend on."""
    live = set(outputs)
    for node in reversed(nodes.values()):
        if node.name in live:
            live.update(node.inputs)
    return {name: node for name, node in nodes.items() if name in live}


class _Reader:
    """Reads one node."""

    def __init__(self, source: Source, network: Network, node: SourceNode, inputs: Inputs) -> None:
        self.source, self.network, self.node, self.inputs = source, network, node, inputs

    def results(self) -> list[Value]:
        node, inputs = self.node, self.inputs
        x = inputs[0] if inputs else None
        if node.op_type in ("Identity", "Dropout") and x is not None:
            return [x]
        if node.op_type == "QuantizeLinear":
            return [self._quantized()]
        if node.op_type == "DequantizeLinear":
            return [self._dequantized()]
        if inputs and all(isinstance(v, Constant) or v is None for v in inputs):
            return self._folded()
        if node.op_type == "Transpose" and isinstance(x, QuantizedConstant):
            return [transposed(x)]
        if any(isinstance(v, Codes) for v in inputs):
            return [self._of_codes()]
        if node.op_type == "Split":
            return self._split()
        return [self.network.moved(self._pending(inputs, node.outputs[0]))]

    def _pending(self, inputs: Inputs, tensor: str) -> Pending:
        attrs, shape = self.node.attrs, self.source.shape(tensor)
        if self.node.op_type in SOFTMAX and shape is not None:
            attrs = softmax_attrs(attrs, len(shape) + 1, self.source.opset)
        return Pending(tensor, self.node.op_type, inputs, attrs, shape)

    def _split(self) -> list[Value]:
        results: list[Value] = []
        start = 0
        for tensor in self.node.outputs:
            pending = self._pending((), tensor)
            axis = self.node.attrs.get("axis", 0) % (len(pending.shape) + 1)
            if axis == 0:
                raise PtqxError("batches can't be split")
            end = start + pending.shape[axis - 1]
            bounds = (Constant(np.asarray([v])) for v in (start, end, axis))
            piece = replace(pending, op_type="Slice", inputs=(self.inputs[0], *bounds))
            results.append(self.network.moved(piece))
            start = end
        return results

    def _folded(self) -> list[Value]:
        """What depends on constants alone."""
        names = [name for name in self.node.inputs if name]
        proto = helper.make_node(
            self.node.op_type, list(self.node.inputs), list(self.node.outputs), **self.node.attrs
        )
        graph = helper.make_graph(
            [proto],
            "constants",
            [onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names)],
            [onnx.ValueInfoProto(name=name) for name in self.node.outputs],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.source.opset)])
        given = {
            n: v.array for n, v in zip(self.node.inputs, self.inputs, strict=True) if isinstance(v, Constant)
        }
        return [Constant(np.asarray(array)) for array in ReferenceEvaluator(model).run(None, given)]

    def _quantized(self) -> Value:
        x, (scale, zero_point) = self.inputs[0], self._parameters()
        assert x is not None
        dtype = zero_point.dtype.name
        if isinstance(x, Constant):
            return _quantized_constant(x.array, scale, zero_point, self._axis(x.array), self._block_size())
        if scale.size != 1:
            raise PtqxError("activations have a scale for each channel; quantize them per tensor")
        if dtype not in ("uint8", "int8"):
            raise PtqxError(f"activations are quantized to {dtype}; only uint8 and int8 can be read")
        shift = 128 if dtype == "int8" else 0
        meaning = Quantization(np.float32(scale.item()), int(zero_point.item()) + shift)
        return Codes(self.network.codes(x, meaning, self.node.outputs[0]), shift)

    def _dequantized(self) -> Value:
        x, (scale, zero_point) = self.inputs[0], self._parameters()
        if isinstance(x, QuantizedConstant):
            return x
        if isinstance(x, Constant):
            dtype = x.array.dtype.name
            if dtype not in (*WEIGHT_TYPES, "int32"):
                raise PtqxError(
                    f"constants of type {dtype}; only {', '.join(WEIGHT_TYPES)}, int32 can be read"
                )
            whole = (x.array.astype(np.int32), dtype, scale, zero_point.astype(np.int32))
            return QuantizedConstant(*whole, self._axis(x.array), self._block_size())
        if not isinstance(x, Codes | LookedUp):
            raise PtqxError("it dequantizes what is not quantized")
        shift = x.shift if isinstance(x, Codes) else 0
        meaning = Quantization(np.float32(scale.item()), int(zero_point.item()) + shift)
        if isinstance(x, LookedUp):
            return Dequantized(self.network.looked_up(x, meaning), self.node.outputs[0])
        if meaning != self.network.quantization(x.node):
            raise PtqxError("its scale or zero point is not that of the QuantizeLinear before it")
        return Dequantized(x.node, self.node.outputs[0])

    def _parameters(self) -> tuple[np.ndarray, np.ndarray]:
        """Scale and zero point of QuantizeLinear and DequantizeLinear."""
        x, scale, zero_point = (*self.inputs, None)[:3]
        if not isinstance(scale, Constant) or not isinstance(zero_point, Constant | None):
            raise PtqxError("scale and zero point are computed; only constants can be read")
        if not np.isfinite(scale.array).all() or not (scale.array > 0).all():
            raise PtqxError("scales must be positive and finite")
        if zero_point is None:
            is_whole = isinstance(x, Constant) and x.array.dtype != np.float32
            dtype = x.array.dtype if isinstance(x, Constant) and is_whole else np.dtype(np.uint8)
            zero_point = Constant(np.zeros(scale.array.shape, dtype))
        return scale.array.astype(np.float32), zero_point.array

    def _axis(self, array: np.ndarray) -> int:
        return int(self.node.attrs.get("axis", 1)) % max(array.ndim, 1)

    def _block_size(self) -> int:
        return int(self.node.attrs.get("block_size", 0))

    def _of_codes(self) -> Value:
        """What some writers do with the codes themselves."""
        node, network = self.node, self.network
        x = next(v for v in self.inputs if isinstance(v, Codes))
        if node.op_type == "Cast":
            return x
        if node.op_type == "Clip":
            arrays = [array_of(v) for v in self.inputs[1:3]]
            low, high = (int(a.item()) + x.shift for a in arrays if a is not None)
            return Codes(network.narrowed(x.node, low, high, node.outputs[0]), x.shift)
        if node.op_type == "Gather" and isinstance(self.inputs[0], Constant):
            return LookedUp(node.outputs[0], self.inputs[0].array, x)
        if node.op_type not in (*MOVERS, "Concat"):
            raise PtqxError(f"{node.op_type} of codes; only what moves them can be read")
        real = tuple(Dequantized(v.node, "") if isinstance(v, Codes) else v for v in self.inputs)
        pending = self._pending(real, node.outputs[0])
        return Codes(network.codes(pending, network.quantization(x.node), node.outputs[0]), x.shift)


def _quantized_constant(
    array: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, axis: int, block_size: int
) -> QuantizedConstant:
    """QuantizeLinear of float weights, which some quantizers leave in the graph."""
    dtype = zero_point.dtype.name
    if dtype not in WEIGHT_TYPES or block_size:
        raise PtqxError(f"weights are quantized to {dtype} in blocks of {block_size}; that can't be read")
    bits = int(dtype.removeprefix("u").removeprefix("int"))
    low, high = (0, 2**bits - 1) if dtype.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    unit = QuantizedConstant(
        np.ones(array.shape, np.int32), dtype, scale, np.zeros_like(scale, np.int32), axis, 0
    )
    offset = replace(unit, scale=zero_point.astype(np.float32)).real()
    codes = np.clip(np.rint(array / unit.real()) + offset, low, high).astype(np.int32)
    return replace(unit, codes=codes, zero_point=zero_point.astype(np.int32))
