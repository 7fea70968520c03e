"""Layer normalization: real values in; codes out where a reader wants them. Softmax: real values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor

from ... import ops
from ..formulas import layer_norm, quantize, softmax
from ..ir import Node
from .base import IntegerScope, Lowered, Operator, Value, operator

if TYPE_CHECKING:
    from ..document import IntegerNode
    from ..simulated import SimulatedModel

REASON = "means and deviations are real numbers"


@operator("layer_norm")
class LayerNorm(Operator):
    """Over the channels of each pixel, in float32, the same bits everywhere."""

    def train(self, model: SimulatedModel, node: Node, *inputs: Tensor) -> Tensor:
        weight, bias = (
            model.tensor(node.params[role]) if role in node.params else None for role in ("weight", "bias")
        )
        x = inputs[0].movedim(1, -1)
        return F.layer_norm(x, x.shape[-1:], weight, bias, node.attrs["eps"]).movedim(-1, 1)

    def exact(self, model: SimulatedModel, node: Node, *inputs: Any) -> Value:
        t = layer_norm(inputs[0], *self._parameters(model, node), node.attrs["eps"])
        out = model.qparams(node)
        return t if out is None else quantize(t, out)

    def lower(self, model: SimulatedModel, node: Node) -> Lowered:
        weight, bias = self._parameters(model, node)
        tensors = {"weight": weight.clone(), "bias": bias.clone()}
        return Lowered({"eps": node.attrs["eps"]}, tensors, reason=REASON)

    def run(self, scope: IntegerScope, node: IntegerNode, *inputs: Tensor) -> Tensor:
        weight, bias = scope.tensor(node, "weight"), scope.tensor(node, "bias")
        assert weight is not None and bias is not None
        codes: tuple[Any, ...] = ()
        if node.output.dtype != "float32":
            codes = (*scope.qparams(node.name), node.output.qmin, node.output.qmax)
        return ops.layer_norm(inputs[0], weight, bias, node.attrs["eps"], *codes)

    @staticmethod
    def _parameters(model: SimulatedModel, node: Node) -> tuple[Tensor, Tensor]:
        channels = node.shape[0]
        reference = next(model.parameters())
        weight, bias = (
            model.tensor(node.params[role]).detach().float()
            if role in node.params
            else reference.new_full((channels,), absent).float()
            for role, absent in (("weight", 1.0), ("bias", 0.0))
        )
        return weight, bias


@operator("softmax")
class Softmax(Operator):
    """Of features, or its logarithm; the end of many classifiers."""

    def real(self, attrs: dict[str, Any], *inputs: Tensor) -> Tensor:
        return F.log_softmax(inputs[0], 1) if attrs["log"] else F.softmax(inputs[0], 1)

    def exact(self, model: SimulatedModel, node: Node, *inputs: Any) -> Value:
        return softmax(inputs[0], node.attrs["log"])

    def lower(self, model: SimulatedModel, node: Node) -> Lowered:
        return Lowered({"log": node.attrs["log"]}, reason="exponentials are real numbers")

    def run(self, scope: IntegerScope, node: IntegerNode, *inputs: Tensor) -> Tensor:
        return ops.softmax(inputs[0], node.attrs["log"])
