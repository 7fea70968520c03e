"""Style "qdq": layers, sums and pools on dequantized values, then QuantizeLinear.

Runtimes recognize DequantizeLinear, an operation and QuantizeLinear as one integer operation.
"""

from __future__ import annotations

from ...errors import PtqxError
from ...graph import IntegerNode
from ..builder import Builder
from .base import clip, slopes, to_codes, writer
from .real import layer
from .weights import dequantized_bias, dequantized_weight


@writer("conv2d", "linear", styles=("qdq",))
def static_layer(b: Builder, node: IntegerNode) -> str:
    x, *residual = node.inputs
    y = layer(b, node, b.real(x), dequantized_weight(b, node), dequantized_bias(b, node))
    if residual:
        y = b.op("Add", y, b.real(residual[0]))
    return finished(b, node, y)


@writer("add", "mul", styles=("qdq",))
def binary(b: Builder, node: IntegerNode) -> str:
    y = b.op({"add": "Add", "mul": "Mul"}[node.op], *(b.real(name) for name in node.inputs))
    return finished(b, node, y)


def finished(b: Builder, node: IntegerNode, y: str) -> str:
    """Activation of real values, and QuantizeLinear if the node gives codes."""
    if not b.is_codes(node.name):
        return _activated(b, node, y, 1.0)
    return to_codes(b, node, _activated(b, node, y, b.qparams(node.name).scale.item()))


def _activated(b: Builder, node: IntegerNode, y: str, unit: float) -> str:
    """`unit`: what the activation's arguments are multiples of."""
    kind, args = node.attrs["activation"], node.attrs["activation_args"]
    if kind == "none":
        return y
    if kind == "clip":
        return clip(b, y, args[0] * unit, args[1] * unit)
    if kind == "leaky_relu":
        return b.op("LeakyRelu", y, alpha=args[0])
    if kind == "prelu":
        return b.op("PRelu", y, slopes(b, node))
    if kind == "hardsigmoid":
        return b.op("HardSigmoid", y, alpha=1 / 6, beta=0.5)
    if kind == "hardswish":
        return b.op("HardSwish", y)
    raise PtqxError(f"{node.name}: the activation {kind!r} has no form in ONNX here")
