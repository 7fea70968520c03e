"""Average pooling: exact sums and one rounding in style "integer", ONNX's own in style "qdq" and on real
values."""

from __future__ import annotations

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor

from ...graph import IntegerNode
from ...graph.operators.pooling import AdaptiveAvgPool2d, AvgPool2d
from ..builder import Builder
from .base import round_to_codes, to_codes, writer
from .movement import window_pads


@writer("avg_pool2d_fixed_point", styles=("qdq",))
@writer("avg_pool2d")
def avg_pool(b: Builder, node: IntegerNode) -> str:
    if b.style == "integer" and b.is_codes(node.name):
        return _rounded(b, node, window_sums(b, node), _counts(b, node))
    return _quantized(b, node, _real_average(b, node))


@writer("adaptive_avg_pool2d_fixed_point", styles=("qdq",))
@writer("adaptive_avg_pool2d")
def adaptive_avg_pool(b: Builder, node: IntegerNode) -> str:
    rows, columns = _windows(b, node)
    if b.style == "integer" and b.is_codes(node.name):
        counts = torch.outer(rows.sum(1), columns.sum(1)).float()
        return _rounded(b, node, adaptive_sums(b, node), counts)
    x = b.real(node.inputs[0])
    if tuple(b.shapes[node.name][1:]) == (1, 1):
        return _quantized(b, node, b.op("GlobalAveragePool", x))
    rows, columns = ((t / t.sum(1, keepdim=True)).float() for t in (rows, columns))
    return _quantized(b, node, _between(b, rows, x, columns))


def _rounded(b: Builder, node: IntegerNode, sums: str, counts: Tensor) -> str:
    """Codes of sums * ((s_x / s_y) / counts)."""
    ratio = b.qparams(node.inputs[0]).scale / b.qparams(node.name).scale / counts
    ratio = ratio.flatten()[0] if bool((ratio == ratio.flatten()[0]).all()) else ratio
    t = b.op("Mul", b.op("Cast", sums, to=TensorProto.FLOAT), b.constant(ratio, "multiplier"))
    return round_to_codes(b, node, t)


def _quantized(b: Builder, node: IntegerNode, y: str) -> str:
    return to_codes(b, node, y) if b.is_codes(node.name) else y


def window_sums(b: Builder, node: IntegerNode) -> str:
    """int32: ConvInteger with ones over images of one channel."""
    channels, *size = b.shapes[node.inputs[0]]
    kernel = node.attrs["kernel_size"]
    images = b.op("Reshape", node.inputs[0], b.constant(np.asarray([-1, 1, *size])))
    sums = b.op(
        "ConvInteger",
        images,
        b.constant(np.ones((1, 1, *kernel), np.int8)),
        b.scalar(b.qparams(node.inputs[0]).zero_point, np.uint8),
        kernel_shape=list(kernel),
        strides=list(node.attrs["stride"]),
        pads=window_pads(b, node),
    )
    return b.op("Reshape", sums, b.constant(np.asarray([-1, channels, *b.shapes[node.name][1:]])))


def adaptive_sums(b: Builder, node: IntegerNode) -> str:
    """float64, which holds them exactly."""
    rows, columns = _windows(b, node)
    return _between(b, rows, b.op("Cast", b.centered(node.inputs[0]), to=TensorProto.DOUBLE), columns)


def _real_average(b: Builder, node: IntegerNode) -> str:
    attrs = node.attrs
    kernel, pads = list(attrs["kernel_size"]), window_pads(b, node)
    counts, area = _counts(b, node), float(np.prod(kernel))
    shape = {"kernel_shape": kernel, "strides": list(attrs["stride"]), "pads": pads}
    x = b.real(node.inputs[0])
    if not attrs["count_include_pad"] and not attrs["divisor"]:
        return b.op("AveragePool", x, **shape, count_include_pad=0)
    average = b.op("AveragePool", x, **shape, count_include_pad=1)
    if bool((counts == area).all()):
        return average
    return b.op("Mul", average, b.constant(area / counts, "share"))


def _counts(b: Builder, node: IntegerNode) -> Tensor:
    """What the sums of the windows are divided by, float32, to broadcast with them."""
    return AvgPool2d().sums(node.attrs, torch.zeros(1, *b.shapes[node.inputs[0]]))[1]


def _windows(b: Builder, node: IntegerNode) -> tuple[Tensor, Tensor]:
    """[outputs, size] of either axis, 1 where the output counts, float64."""
    sizes, outputs = b.shapes[node.inputs[0]][1:], b.shapes[node.name][1:]
    rows, columns = (AdaptiveAvgPool2d.windows(*pair) for pair in zip(sizes, outputs, strict=True))
    return rows, columns


def _between(b: Builder, rows: Tensor, x: str, columns: Tensor) -> str:
    """rows @ x @ columns transposed"""
    return b.op("MatMul", b.op("MatMul", b.constant(rows), x), b.constant(columns.T.contiguous()))
