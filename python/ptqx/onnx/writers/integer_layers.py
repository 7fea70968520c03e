"""Style "integer": layers by ConvInteger and MatMulInteger, then every step of ptqx's formulas as one node.

Each of these nodes has one exact or once-rounded result in IEEE float32, so that a runtime gives the same
integers without knowing ptqx.
"""

from __future__ import annotations

import numpy as np
import torch
from onnx import TensorProto, helper
from torch import Tensor

from ...graph import IntegerNode
from ...graph.formulas import per_channel, requantize_multiplier
from ...quant import MIN_SCALE
from ..builder import Builder
from .base import add_tail, clip, round_to_codes, writer
from .real import conv_attributes
from .weights import weight_codes


@writer("conv2d", "linear", "binary_conv2d", "binary_linear", styles=("integer",))
def static_layer(b: Builder, node: IntegerNode) -> str:
    x, *residual = node.inputs
    codes, scale, zero_point = weight_codes(b, node)
    bias = b.tensor(node, "bias")
    unit = b.qparams(x).scale * scale
    if b.is_codes(node.name):
        output_scale = b.qparams(node.name).scale
        unit = requantize_multiplier(b.qparams(x).scale, scale, output_scale)
        bias = bias / output_scale if bias is not None and bias.is_floating_point() else bias
    x_zero = b.scalar(b.qparams(x).zero_point, np.uint8)
    if node.attrs["group_size"]:
        t = _sum_of_groups(b, node, x, x_zero, codes, unit)
    else:
        acc = accumulators(b, node, x, x_zero, codes, zero_point)
        if bias is not None and not bias.is_floating_point():
            acc = b.op("Add", acc, b.constant(per_channel(bias, codes), "bias"))
        t = _scaled(b, acc, per_channel(unit, codes))
    if bias is not None and bias.is_floating_point():
        t = b.op("Add", t, b.constant(per_channel(bias, codes), "bias"))
    if residual:
        ratio = b.qparams(residual[0]).scale / b.qparams(node.name).scale
        t = b.op("Add", t, b.op("Mul", b.centered(residual[0]), b.scalar(ratio)))
    t = add_tail(b, node, t)
    return round_to_codes(b, node, t) if b.is_codes(node.name) else t


def _sum_of_groups(b: Builder, node: IntegerNode, x: str, x_zero: str, codes: Tensor, unit: Tensor) -> str:
    """Sum over the groups of input channels, ascending, of float32(accumulator) * unit."""
    parts = codes.split(node.attrs["group_size"], 1)
    axis = 1 if "stride" in node.attrs else len(b.shapes[node.inputs[0]])
    total, start = "", 0
    for group, part in enumerate(parts):
        bounds = (b.constant(np.asarray([v], np.int64)) for v in (start, start + part.shape[1], axis))
        piece = b.op("Slice", x, *bounds) if len(parts) > 1 else x
        acc = accumulators(b, node, piece, x_zero, part.contiguous(), None)
        t = _scaled(b, acc, per_channel(unit[:, group], codes))
        total, start = b.op("Add", total, t) if total else t, start + part.shape[1]
    return total


def accumulators(
    b: Builder, node: IntegerNode, x: str, x_zero: str, codes: Tensor, zero_point: Tensor | None
) -> str:
    """int32: the sums of (x - x_zero) * (w - w_zero)."""
    if zero_point is None:
        return _product(b, node, x, x_zero, codes, "")
    if bool((zero_point == zero_point[0]).all()):
        return _product(b, node, x, x_zero, codes, b.scalar(int(zero_point[0]), np.int8))
    # ONNX Runtime's ConvInteger takes one zero point: take those of channels off the sums.
    sums = _product(b, node, x, x_zero, torch.ones_like(codes), "")
    offset = b.op("Mul", sums, b.constant(per_channel(zero_point, codes), "weight_zero_point"))
    return b.op("Sub", _product(b, node, x, x_zero, codes, ""), offset)


def _product(b: Builder, node: IntegerNode, x: str, x_zero: str, codes: Tensor, w_zero: str) -> str:
    zeros = [name for name in (x_zero, w_zero) if name]
    if codes.dim() == 4:
        return b.op("ConvInteger", x, b.int8(codes, "weight"), *zeros, **conv_attributes(node))
    return b.op("MatMulInteger", x, b.int8(codes.T.contiguous(), "weight"), *zeros)


def _scaled(b: Builder, acc: str, unit: Tensor) -> str:
    return b.op("Mul", b.op("Cast", acc, to=TensorProto.FLOAT), b.constant(unit, "multiplier"))


@writer("conv2d_dynamic", "linear_dynamic")
def dynamic_layer(b: Builder, node: IntegerNode) -> str:
    """Each sample is quantized by its own range; ONNX's DynamicQuantizeLinear has one for the batch."""
    codes, scale, zero_point = weight_codes(b, node)
    x, x_scale, x_zero = _dynamic_codes(b, node.inputs[0], len(b.shapes[node.inputs[0]]))
    nothing = b.scalar(0, np.uint8)
    acc = accumulators(b, node, x, nothing, codes, zero_point)
    # Zero points differ between samples, which ConvInteger does not take; padding counts neither here nor
    # there.
    ones = b.op(
        "ConstantOfShape",
        b.constant(np.asarray([1, *b.shapes[node.inputs[0]]], np.int64)),
        value=_uint8_tensor(1),
    )
    offset = b.op("Mul", x_zero, accumulators(b, node, ones, nothing, codes, zero_point))
    acc = b.op("Cast", b.op("Sub", acc, offset), to=TensorProto.FLOAT)
    t = b.op("Mul", acc, b.op("Mul", x_scale, b.constant(per_channel(scale, codes), "weight_scale")))
    bias = b.tensor(node, "bias")
    if bias is not None:
        t = b.op("Add", t, b.constant(per_channel(bias, codes), "bias"))
    return add_tail(b, node, t)


def _dynamic_codes(b: Builder, x: str, dims: int) -> tuple[str, str, str]:
    """Codes uint8 of 0 to 255, and of each sample scale float32 and zero point int32."""
    axes, zero, steps = b.constant(np.arange(1, dims + 1)), b.scalar(0.0), b.scalar(255.0)
    low = b.op("Min", b.op("ReduceMin", x, axes), zero)
    high = b.op("Max", b.op("ReduceMax", x, axes), zero)
    scale = b.op("Max", b.op("Div", b.op("Sub", high, low), steps), b.scalar(MIN_SCALE))
    scale = b.op("Where", b.op("Equal", low, high), b.scalar(1.0), scale)
    zero_point = clip(b, b.op("Round", b.op("Sub", zero, b.op("Div", low, scale))), 0.0, 255.0)
    shifted = b.op("Add", b.op("Round", b.op("Div", x, scale)), zero_point)
    codes = b.op("Cast", clip(b, shifted, 0.0, 255.0), to=TensorProto.UINT8)
    return codes, scale, b.op("Cast", zero_point, to=TensorProto.INT32)


def _uint8_tensor(value: int) -> TensorProto:
    return helper.make_tensor("value", TensorProto.UINT8, [1], [value])
