"""Products of two results of the network: MatMulInteger in style "integer", MatMul in style "qdq"."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from ...graph import IntegerNode
from ...graph.activations import float32
from ...graph.channel_order import ROWS_FIRST, TO_FIRST, TO_LAST
from ..builder import Builder
from .base import round_to_codes, to_codes, writer


@writer("matmul", styles=("integer",))
def written_product(b: Builder, node: IntegerNode) -> str:
    (first, a), (second, c) = ((name, b.qparams(name)) for name in node.inputs)
    operands = b.op("Transpose", first, perm=TO_LAST), b.op("Transpose", second, perm=ROWS_FIRST)
    zeros = (b.scalar(q.zero_point, np.uint8) for q in (a, c))
    sums = b.op("Cast", b.op("MatMulInteger", *operands, *zeros), to=TensorProto.FLOAT)
    unit = a.scale * c.scale * float32(node.attrs["factor"])
    if not b.is_codes(node.name):
        return b.op("Transpose", b.op("Mul", sums, b.scalar(unit)), perm=TO_FIRST)
    t = b.op("Mul", sums, b.scalar(unit / b.qparams(node.name).scale))
    return b.op("Transpose", round_to_codes(b, node, t), perm=TO_FIRST)


@writer("matmul", styles=("qdq",))
def real_product(b: Builder, node: IntegerNode) -> str:
    first, second = (b.real(name) for name in node.inputs)
    operands = b.op("Transpose", first, perm=TO_LAST), b.op("Transpose", second, perm=ROWS_FIRST)
    y, factor = b.op("MatMul", *operands), float32(node.attrs["factor"])
    if factor != 1.0:
        y = b.op("Mul", y, b.scalar(factor))
    y = b.op("Transpose", y, perm=TO_FIRST)
    return to_codes(b, node, y) if b.is_codes(node.name) else y
