"""Style "integer" of steps that requantize without floats: int64 arithmetic of `ptqx.graph.requantize`."""

from __future__ import annotations

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor

from ...graph import IntegerNode
from ...graph.formulas import per_channel
from ..builder import Builder
from .base import writer
from .integer_layers import accumulators
from .pooling import adaptive_sums, window_sums
from .weights import weight_codes


@writer("conv2d_fixed_point", "linear_fixed_point", styles=("integer",))
def layer(b: Builder, node: IntegerNode) -> str:
    codes, _, zero_point = weight_codes(b, node)
    x_zero = b.scalar(b.qparams(node.inputs[0]).zero_point, np.uint8)
    acc = accumulators(b, node, node.inputs[0], x_zero, codes, zero_point)
    bias = b.tensor(node, "bias")
    if bias is not None:
        acc = b.op("Add", acc, b.constant(per_channel(bias, codes), "bias"))
    return _requantized(b, node, [acc], (-1, 1, 1) if codes.dim() == 4 else (-1,))


@writer("add_fixed_point", "mul_fixed_point", styles=("integer",))
def binary(b: Builder, node: IntegerNode) -> str:
    terms = [b.op("Cast", b.centered(name), to=TensorProto.INT64) for name in node.inputs]
    return _requantized(b, node, terms if node.op.startswith("add") else [b.op("Mul", *terms)])


@writer("avg_pool2d_fixed_point", styles=("integer",))
def avg_pool(b: Builder, node: IntegerNode) -> str:
    return _requantized(b, node, [window_sums(b, node)])


@writer("adaptive_avg_pool2d_fixed_point", styles=("integer",))
def adaptive_avg_pool(b: Builder, node: IntegerNode) -> str:
    return _requantized(b, node, [adaptive_sums(b, node)])


def _requantized(b: Builder, node: IntegerNode, terms: list[str], channels: tuple[int, ...] = (-1,)) -> str:
    """clamp(round(sum of term * multiplier / 2**shift) + zero_point, low, high)"""
    multipliers, shift = b.tensor(node, "multiplier"), b.tensor(node, "shift")
    assert multipliers is not None and shift is not None
    total = ""
    for term, multiplier in zip(terms, multipliers, strict=True):
        factor = b.constant(multiplier.long().reshape(channels), "multiplier")
        product = b.op("Mul", b.op("Cast", term, to=TensorProto.INT64), factor)
        total = b.op("Add", total, product) if total else product
    rounded = _shifted(b, total, shift.long().reshape(channels))
    codes = b.op("Add", rounded, b.scalar(b.qparams(node.name).zero_point, np.int64))
    bounds = (b.scalar(node.attrs[key], np.int64) for key in ("low", "high"))
    return b.op("Cast", b.op("Clip", codes, *bounds), to=TensorProto.UINT8)


def _shifted(b: Builder, x: str, places: Tensor) -> str:
    """round(x / 2**places), half to even. ONNX shifts unsigned numbers only: Mod has the sign of its
    divisor."""
    unit, one, two = (
        b.constant(torch.ones_like(places) << places),
        b.scalar(1, np.int64),
        b.scalar(2, np.int64),
    )
    rest = b.op("Mod", x, unit)
    floor = b.op("Div", b.op("Sub", x, rest), unit)
    twice = b.op("Mul", rest, two)
    tie_to_odd = b.op("And", b.op("Equal", twice, unit), b.op("Equal", b.op("Mod", floor, two), one))
    up = b.op("Or", b.op("Greater", twice, unit), tie_to_odd)
    return b.op("Add", floor, b.op("Cast", up, to=TensorProto.INT64))
