"""Products of two results of the network: attention over pixels or tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from ... import ops
from ..activations import float32
from ..formulas import Codes, matmul, product_over_channels, round_and_clamp
from ..ir import Node
from .base import IntegerScope, Lowered, Operator, Value, operator, output_codes, spatial

if TYPE_CHECKING:
    from ..document import IntegerNode
    from ..simulated import SimulatedModel


@operator("matmul")
class Matmul(Operator):
    """`factor` times the products over channels, of codes; to codes, or to the real values that softmax
    reads."""

    def real(self, attrs: dict[str, Any], *inputs: Tensor) -> Tensor:
        return product_over_channels(inputs[0], inputs[1]) * attrs["factor"]

    def exact(self, model: SimulatedModel, node: Node, *inputs: Any) -> Value:
        out = model.qparams(node)
        t = matmul(inputs[0], inputs[1], float32(node.attrs["factor"]), out)
        return t if out is None else Codes(round_and_clamp(t, out), out)

    def lower(self, model: SimulatedModel, node: Node) -> Lowered:
        return Lowered({"factor": node.attrs["factor"]})

    def run(self, scope: IntegerScope, node: IntegerNode, *inputs: Tensor) -> Tensor:
        (a, b), (a_name, b_name) = map(spatial, inputs), node.inputs
        codes, factor = output_codes(scope, node), node.attrs["factor"]
        return ops.matmul(a, *scope.qparams(a_name), b, *scope.qparams(b_name), factor, *codes)
