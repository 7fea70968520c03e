"""Stored weights and biases as ONNX initializers."""

from __future__ import annotations

import torch
from torch import Tensor

from ...graph import IntegerNode
from ...graph.operators.stored_weights import is_held_in_float, real_weight, stored_codes, unpacked_weight
from ..builder import Builder
from .transposed import transposed_weight


def weight_codes(b: Builder, node: IntegerNode) -> tuple[Tensor, Tensor, Tensor | None]:
    """A layer's weights as int8, their scale float32 [1], [out] or [out, groups], and their zero points int32
    [out] if one is not 0."""
    scale, zero_point = b.tensor(node, "weight_scale"), b.tensor(node, "weight_zero_point")
    assert scale is not None
    has_offset = zero_point is not None and bool(zero_point.any())
    return unpacked_weight(b.model, node), scale, zero_point if has_offset else None


def dequantized_weight(b: Builder, node: IntegerNode, transposed: bool = False) -> str:
    """The layer's real weights: float32 as they are or of levels that are no whole numbers, or
    DequantizeLinear of INT4 or INT8, per tensor, per output channel or in blocks of input channels;
    `transposed` in the order of ConvTranspose."""

    def ordered(weight: Tensor) -> Tensor:
        return transposed_weight(weight) if transposed else weight

    if is_held_in_float(b.model, node):
        return b.constant(ordered(real_weight(b.model, node)), "weight")
    stored = stored_codes(b.model, node)
    if not stored.on_grid:
        return b.constant(ordered(stored.real()), "weight")
    codes, scale, zero_point = weight_codes(b, node)
    if zero_point is None:
        zero_point = torch.zeros(len(codes), dtype=torch.int32)
    group_size = node.attrs["group_size"]
    layout = {"axis": 1, "block_size": group_size} if group_size else {"axis": int(transposed)}
    if group_size:
        blocks = (*scale.shape, *codes.shape[2:])
        scale = scale.reshape(*scale.shape, *[1] * (codes.dim() - 2)).expand(blocks)
        zero_point = zero_point.reshape(-1, *[1] * (codes.dim() - 1)).expand(blocks)
    elif scale.numel() == 1:
        layout, scale, zero_point = {}, scale.reshape(()), zero_point[0]
    return b.op(
        "DequantizeLinear",
        b.integers(ordered(codes), "weight", beside=zero_point),
        b.constant(scale, "weight_scale"),
        b.integers(zero_point, "weight_zero_point", beside=codes),
        **layout,
    )


def dequantized_bias(b: Builder, node: IntegerNode) -> str:
    """The layer's real bias: DequantizeLinear of int32 with scale s_x * s_w, or float32; "" without."""
    bias = b.tensor(node, "bias")
    if bias is None or bias.is_floating_point():
        return "" if bias is None else b.constant(bias, "bias")
    scale = b.qparams(node.inputs[0]).scale * weight_codes(b, node)[1]
    layout = {"axis": 0}
    if len(scale) == 1:
        layout, scale = {}, scale[0]
    # Zero points of 0 are written: ONNX Runtime fuses some layers only if they are there.
    zero_point = torch.zeros(scale.shape, dtype=torch.int32)
    quantized = (b.constant(bias, "bias"), b.constant(scale, "bias_scale"), b.constant(zero_point))
    return b.op("DequantizeLinear", *quantized, **layout)
