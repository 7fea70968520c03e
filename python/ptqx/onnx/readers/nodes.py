"""Nodes and tensors of an integer graph in the making."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import PtqxError
from ...graph import IntegerNode
from ...graph.document import Output
from ...graph.formulas import QParams
from ..tables import Function, table
from .values import LookedUp, Quantization

# Operations that round to codes of their own; all others keep those of their input.
ROUNDING = (
    "quantize", "conv2d", "linear", "add", "mul", "avg_pool2d", "adaptive_avg_pool2d", "lookup",
    "layer_norm", "group_norm", "matmul", "softmax",
)  # fmt: skip


class Nodes:
    """A node is called as the ONNX tensor that it gives. Those that nobody reads are left out in the end."""

    def __init__(self, input: str, input_shape: tuple[int, ...]) -> None:
        self.input = input
        self.nodes: dict[str, IntegerNode] = {}
        self.tensors: dict[str, Tensor] = {}
        self._shapes = {input: input_shape}

    def quantization(self, node: str) -> Quantization:
        """What the codes of a node mean."""
        output = self.nodes[node].output
        scale, zero_point = self.tensors[output.scale], self.tensors[output.zero_point]
        return Quantization(np.float32(scale.item()), int(zero_point.item()))

    def _renamed(self, node: str, name: str) -> str:
        """The same step once more, under the name of its codes in the ONNX file."""
        self.nodes[name] = replace(self.nodes[node], name=name)
        self._shapes[name] = self._shapes[node]
        return name

    def _widest_output(self, nodes: list[str]) -> Output:
        """The codes of nodes that mean the same."""
        outputs = [self.nodes[node].output for node in nodes]
        qmin, qmax = min(o.qmin for o in outputs), max(o.qmax for o in outputs)
        return replace(outputs[0], qmin=qmin, qmax=qmax)

    def narrowed(self, node: str, low: int, high: int, name: str) -> str:
        """The codes of a node clipped to [low, high]: in its rounding, if it has one."""
        old = self.nodes[node]
        output = Output("uint8", old.output.scale, old.output.zero_point, low, high)
        if old.op in ROUNDING and old.op != "lookup":
            self.nodes[name] = replace(old, name=name, output=output)
            self._shapes[name] = self._shapes[node]
            return name
        inputs, codes = [node], torch.arange(256, dtype=torch.uint8)
        if old.op == "lookup":
            inputs, codes = list(old.inputs), self.tensors[old.tensors["table"]]
        clipped = {"table": codes.clamp(low, high)}
        return self._add(name, "lookup", inputs, {}, clipped, output, self._shapes[node])

    def looked_up(self, value: LookedUp, meaning: Quantization) -> str:
        if value.tensor in self.nodes:
            return value.tensor
        if value.table.dtype != np.uint8 or value.table.shape != (256,):
            raise PtqxError(
                f"the table is {value.table.dtype} {list(value.table.shape)}; expected uint8 [256]"
            )
        tensors = {"table": torch.from_numpy(value.table.copy())}
        shape = self._shapes[value.x.node]
        return self._add(value.tensor, "lookup", [value.x.node], {}, tensors, meaning, shape)

    def _rescaled(
        self, node: str, meaning: Quantization, name: str, functions: tuple[Function, ...] = ()
    ) -> str:
        """A table, unless the codes mean that already."""
        if not functions and self.quantization(node) == meaning:
            return node
        out = QParams(torch.tensor(meaning.scale), torch.tensor(float(meaning.zero_point)), 0, 255)
        tensors = {"table": table(functions, self._qparams(node), out)}
        return self._add(name, "lookup", [node], {}, tensors, meaning, self._shapes[node])

    def _qparams(self, node: str) -> QParams:
        scale, zero_point = self.quantization(node)
        output = self.nodes[node].output
        return QParams(torch.tensor(scale), torch.tensor(float(zero_point)), output.qmin, output.qmax)

    def _add(
        self,
        name: str,
        op: str,
        inputs: list[str],
        attrs: dict[str, Any],
        tensors: dict[str, Tensor],
        output: Quantization | Output | None,
        shape: tuple[int, ...],
        reason: str = "",
    ) -> str:
        unique, count = name, 1
        while unique in self.nodes or unique == self.input:
            count += 1
            unique = f"{name}_{count}"
        names = {role: f"{unique}.{role}" for role in tensors}
        self.tensors.update({names[role]: tensor.contiguous() for role, tensor in tensors.items()})
        if isinstance(output, Quantization):
            scale, zero_point = f"{unique}.output_scale", f"{unique}.output_zero_point"
            self.tensors[scale] = torch.tensor([output.scale])
            self.tensors[zero_point] = torch.tensor([output.zero_point], dtype=torch.int32)
            output = Output("uint8", scale, zero_point)
        self.nodes[unique] = IntegerNode(unique, op, tuple(inputs), attrs, names, output or Output(), reason)
        self._shapes[unique] = shape
        return unique
