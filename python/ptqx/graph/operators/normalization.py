"""Layer and group normalization, softmax: real values in; codes out where a reader wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor

from ... import ops
from ..formulas import group_norm, layer_norm, quantize, softmax
from ..ir import Node
from .base import IntegerScope, Lowered, Operator, Value, operator, output_codes

if TYPE_CHECKING:
    from ..document import IntegerNode
    from ..simulated import SimulatedModel

REASON = "means and deviations are real numbers"


class _Norm(Operator):
    """What both share: parameters of every channel, and one rounding to codes."""

    def _normalized(self, attrs: dict[str, Any], x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """By the written formula."""
        raise NotImplementedError

    def exact(self, model: SimulatedModel, node: Node, *inputs: Any) -> Value:
        t = self._normalized(node.attrs, inputs[0], *self._parameters(model, node))
        out = model.qparams(node)
        return t if out is None else quantize(t, out)

    def lower(self, model: SimulatedModel, node: Node) -> Lowered:
        weight, bias = self._parameters(model, node)
        tensors = {"weight": weight.clone(), "bias": bias.clone()}
        return Lowered(dict(node.attrs), tensors, reason=REASON)

    @staticmethod
    def _learned(model: SimulatedModel, node: Node) -> tuple[Tensor | None, Tensor | None]:
        weight, bias = (
            model.tensor(node.params[role]) if role in node.params else None for role in ("weight", "bias")
        )
        return weight, bias

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

    @staticmethod
    def _stored(
        scope: IntegerScope, node: IntegerNode
    ) -> tuple[tuple[Tensor, Tensor, float], tuple[Any, ...]]:
        """Weight, bias and eps; the qparams and the range of the codes, if it gives codes."""
        weight, bias = scope.tensor(node, "weight"), scope.tensor(node, "bias")
        assert weight is not None and bias is not None
        return (weight, bias, node.attrs["eps"]), output_codes(scope, node)


@operator("layer_norm")
class LayerNorm(_Norm):
    """Over the channels of each pixel, in float32, the same bits everywhere."""

    def train(self, model: SimulatedModel, node: Node, *inputs: Tensor) -> Tensor:
        x, (weight, bias) = inputs[0].movedim(1, -1), self._learned(model, node)
        return F.layer_norm(x, x.shape[-1:], weight, bias, node.attrs["eps"]).movedim(-1, 1)

    def _normalized(self, attrs: dict[str, Any], x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return layer_norm(x, weight, bias, attrs["eps"])

    def run(self, scope: IntegerScope, node: IntegerNode, *inputs: Tensor) -> Tensor:
        parameters, codes = self._stored(scope, node)
        return ops.layer_norm(inputs[0], *parameters, *codes)


@operator("group_norm")
class GroupNorm(_Norm):
    """Over the pixels and channels of each group, in float32, the same bits everywhere."""

    def train(self, model: SimulatedModel, node: Node, *inputs: Tensor) -> Tensor:
        weight, bias = self._learned(model, node)
        return F.group_norm(inputs[0], node.attrs["groups"], weight, bias, node.attrs["eps"])

    def _normalized(self, attrs: dict[str, Any], x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return group_norm(x, attrs["groups"], weight, bias, attrs["eps"])

    def run(self, scope: IntegerScope, node: IntegerNode, *inputs: Tensor) -> Tensor:
        parameters, codes = self._stored(scope, node)
        return ops.group_norm(inputs[0], node.attrs["groups"], *parameters, *codes)


@operator("softmax")
class Softmax(Operator):
    """Over the channels of each pixel, or its logarithm: attention's weights, the end of many classifiers."""

    def real(self, attrs: dict[str, Any], *inputs: Tensor) -> Tensor:
        return F.log_softmax(inputs[0], 1) if attrs["log"] else F.softmax(inputs[0], 1)

    def exact(self, model: SimulatedModel, node: Node, *inputs: Any) -> Value:
        t, out = softmax(inputs[0], node.attrs["log"]), model.qparams(node)
        return t if out is None else quantize(t, out)

    def lower(self, model: SimulatedModel, node: Node) -> Lowered:
        return Lowered({"log": node.attrs["log"]}, reason="exponentials are real numbers")

    def run(self, scope: IntegerScope, node: IntegerNode, *inputs: Tensor) -> Tensor:
        return ops.softmax(inputs[0], node.attrs["log"], *output_codes(scope, node))
