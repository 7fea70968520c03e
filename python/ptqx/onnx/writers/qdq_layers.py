"""Style "qdq": layers, sums and pools on dequantized values, then QuantizeLinear.

Runtimes recognize DequantizeLinear, an operation and QuantizeLinear as one integer operation. Levels that are
no whole numbers have this form alone; requantization without floats becomes QuantizeLinear.
"""

from __future__ import annotations

from ...graph import IntegerNode
from ..builder import Builder
from .base import add_named_tail, to_codes, writer
from .real import layer
from .weights import dequantized_bias


@writer("conv2d_simulated", "linear_simulated")
@writer("conv2d", "linear", "binary_conv2d", "binary_linear", styles=("qdq",))
@writer("conv2d_fixed_point", "linear_fixed_point", styles=("qdq",))
def static_layer(b: Builder, node: IntegerNode) -> str:
    residual = node.inputs[1:]
    y = layer(b, node, dequantized_bias(b, node))
    if residual:
        y = b.op("Add", y, b.real(residual[0]))
    return finished(b, node, y)


@writer("add", "mul", "add_fixed_point", "mul_fixed_point", styles=("qdq",))
def binary(b: Builder, node: IntegerNode) -> str:
    y = b.op("Add" if node.op.startswith("add") else "Mul", *(b.real(name) for name in node.inputs))
    return finished(b, node, y)


def finished(b: Builder, node: IntegerNode, y: str) -> str:
    """Activation of real values, and QuantizeLinear if the node gives codes."""
    if not b.is_codes(node.name):
        return add_named_tail(b, node, y)
    return to_codes(b, node, add_named_tail(b, node, y, b.qparams(node.name).scale.item()))
