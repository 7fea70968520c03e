"""Sums, products and tables on codes."""

from __future__ import annotations

import torch
from onnx import TensorProto

from ...graph import IntegerNode
from ..builder import Builder
from ..tables import table
from .base import add_tail, round_to_codes, to_codes, writer
from .qdq_layers import binary as real_binary


@writer("add", styles=("integer",))
def add(b: Builder, node: IntegerNode) -> str:
    if not b.is_codes(node.name):
        return real_binary(b, node)
    out = b.qparams(node.name).scale
    first, second = (
        b.op("Mul", b.centered(name), b.scalar(b.qparams(name).scale / out)) for name in node.inputs
    )
    return round_to_codes(b, node, add_tail(b, node, b.op("Add", first, second)))


@writer("mul", styles=("integer",))
def mul(b: Builder, node: IntegerNode) -> str:
    if not b.is_codes(node.name):
        return real_binary(b, node)
    first, second = (b.qparams(name).scale for name in node.inputs)
    product = b.op("Mul", *(b.centered(name) for name in node.inputs))
    ratio = b.scalar((first * second) / b.qparams(node.name).scale)
    return round_to_codes(b, node, add_tail(b, node, b.op("Mul", product, ratio)))


@writer("lookup")
def lookup(b: Builder, node: IntegerNode) -> str:
    """A table of 256 codes; in style "qdq" a mere change of scale is QuantizeLinear, which gives the same."""
    codes = b.tensor(node, "table")
    assert codes is not None
    x, out = node.inputs[0], b.qparams(node.name)
    if b.style == "qdq" and torch.equal(codes, table([], b.qparams(x), out)):
        return to_codes(b, node, b.real(x))
    return b.op("Gather", b.constant(codes, "table"), b.op("Cast", x, to=TensorProto.INT32))
