"""An ONNX graph in the making: nodes, initializers and names that are used once."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from ..errors import PtqxError
from ..graph import IntegerModel, IntegerNode
from ..graph.formulas import QParams

OPSET, IR_VERSION = 21, 10  # the first with 4-bit integers and scales of blocks
MAX_BYTES = 2**31 - 1  # of a protobuf message


class Builder:
    """Writes the integer graph of `model` as ONNX nodes.

    A node of the integer graph gives the ONNX tensor of the same name: its uint8 codes, or its float32
    values.

    Args:
        model: the integer model.
        shapes: what every node (and the input) gives for one sample, without the batch.
        style: "qdq" or "integer".
        int4: whether whole numbers of 4 bits are stored as INT4.
    """

    def __init__(
        self, model: IntegerModel, shapes: dict[str, tuple[int, ...]], style: str, int4: bool = True
    ) -> None:
        self.model, self.graph, self.shapes, self.style, self.int4 = model, model.graph, shapes, style, int4
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[TensorProto] = []
        self._used = {model.graph.input, *model.graph.nodes}
        self._constants: dict[tuple[Any, ...], str] = {}
        self._real: dict[str, str] = {}

    # ---- nodes and constants ----

    def op(self, op_type: str, *inputs: str, **attrs: Any) -> str:
        """Add a node; return the name of its output. Trailing empty inputs are left out."""
        output = self._unique(f"{self._scope}/{op_type}")
        self.nodes.append(helper.make_node(op_type, list(inputs), [output], name=output, **attrs))
        return output

    def scalar(self, value: float | Tensor, dtype: Any = np.float32) -> str:
        return self.constant(np.asarray(float(value), dtype))

    def constant(self, value: np.ndarray | Tensor, role: str = "constant") -> str:
        """An initializer; equal ones are stored once."""
        array = np.array(value.numpy() if isinstance(value, Tensor) else value, order="C")
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = self._unique(f"{self._scope}.{role}")
            self.initializers.append(numpy_helper.from_array(array, name))
            self._constants[key] = name
        return self._constants[key]

    def integers(self, values: Tensor, role: str, beside: Tensor | None = None) -> str:
        """An initializer of whole numbers: INT4 if they and those of `beside` fit in 4 bits, else INT8."""
        name = self._unique(f"{self._scope}.{role}")
        if all(self._is_int4(t) for t in (values, beside) if t is not None):
            flat = values.flatten().tolist()
            self.initializers.append(helper.make_tensor(name, TensorProto.INT4, list(values.shape), flat))
        else:
            self.initializers.append(numpy_helper.from_array(values.numpy().astype(np.int8), name))
        return name

    def int8(self, values: Tensor, role: str) -> str:
        """The same for operations that know INT8 only."""
        name = self.integers(values, role)
        return self.op("Cast", name, to=TensorProto.INT8) if self._is_int4(values) else name

    def _is_int4(self, values: Tensor) -> bool:
        return self.int4 and values.numel() > 0 and int(values.min()) >= -8 and int(values.max()) <= 7

    # ---- values of the integer graph ----

    def is_codes(self, name: str) -> bool:
        """Whether the node `name` gives codes; the input of the network and float nodes give real values."""
        return name in self.graph.nodes and self.graph.nodes[name].output.dtype == "uint8"

    def qparams(self, name: str) -> QParams:
        scale, zero_point = self.model.qparams(name)
        output = self.graph.nodes[name].output
        return QParams(scale.reshape(()), zero_point.reshape(()).float(), output.qmin, output.qmax)

    def tensor(self, node: IntegerNode, role: str) -> Tensor | None:
        return self.model.tensor(node, role)

    def real(self, name: str) -> str:
        """The real values that the node `name` gives: DequantizeLinear of codes, made once."""
        if not self.is_codes(name):
            return name
        if name not in self._real:
            q = self.qparams(name)
            self._real[name] = self.op(
                "DequantizeLinear", name, self.scalar(q.scale), self.scalar(q.zero_point, np.uint8)
            )
        return self._real[name]

    def centered(self, name: str) -> str:
        """float32(q - zero_point) of the codes `name`."""
        values, zero_point = self.op("Cast", name, to=TensorProto.FLOAT), self.qparams(name).zero_point
        return values if zero_point == 0 else self.op("Sub", values, self.scalar(zero_point))

    def begin(self, node: IntegerNode) -> None:
        """What is added from here on belongs to `node`."""
        self._scope = node.name

    def finish(self, node: IntegerNode, result: str) -> None:
        """Call `result`, the output of the node added last, by the node's name."""
        if not self.nodes or self.nodes[-1].output[0] != result:
            result = self.op("Identity", result)
        self.nodes[-1].output[0] = node.name

    # ---- the whole ----

    def build(self) -> onnx.ModelProto:
        graph = self.graph
        self._drop_unread()
        x = helper.make_tensor_value_info(graph.input, TensorProto.FLOAT, ["N", *graph.input_shape])
        outputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *self.shapes[name]])
            for name in dict.fromkeys(graph.outputs)
        ]
        body = helper.make_graph(self.nodes, "ptqx", [x], outputs, self.initializers)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(
            body,
            opset_imports=opsets,
            ir_version=IR_VERSION,
            producer_name="ptqx",
            producer_version=_version(),
        )
        helper.set_model_props(model, {**graph.info, "ptqx.style": self.style})
        if model.ByteSize() > MAX_BYTES:
            raise PtqxError(f"the ONNX model would have {model.ByteSize():,} bytes; its format ends at 2 GiB")
        return model

    def _drop_unread(self) -> None:
        """What nobody reads: zeros between pixels, in front of ConvTranspose."""
        read = set(self.graph.outputs)
        for node in reversed(self.nodes):
            if read.intersection(node.output):
                read.update(node.input)
        self.nodes = [node for node in self.nodes if read.intersection(node.output)]
        self.initializers = [tensor for tensor in self.initializers if tensor.name in read]

    _scope = ""

    def _unique(self, name: str) -> str:
        candidate, count = name, 1
        while candidate in self._used:
            count += 1
            candidate = f"{name}_{count}"
        self._used.add(candidate)
        return candidate


def _version() -> str:
    import ptqx

    return ptqx.__version__
