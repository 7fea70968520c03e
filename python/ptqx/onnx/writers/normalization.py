"""Layer and group normalization, softmax: the written formula in style "integer", ONNX's in style "qdq"."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto
from torch import Tensor

from ...graph import IntegerNode
from ...graph.channel_order import TO_FIRST, TO_LAST
from ..builder import Builder
from .base import to_codes, writer
from .movement import to_shape


@writer("layer_norm")
def layer_norm(b: Builder, node: IntegerNode) -> str:
    formula = _written if b.style == "integer" else _own
    y = formula(b, node, b.real(node.inputs[0]))
    return to_codes(b, node, y) if b.is_codes(node.name) else y


@writer("group_norm")
def group_norm(b: Builder, node: IntegerNode) -> str:
    x, attrs = b.real(node.inputs[0]), node.attrs
    if b.style == "integer":
        y = _groups_written(b, node, x)
    else:
        weight, bias = (b.constant(_parameter(b, node, role), role) for role in ("weight", "bias"))
        y = b.op("GroupNormalization", x, weight, bias, num_groups=attrs["groups"], epsilon=attrs["eps"])
    return to_codes(b, node, y) if b.is_codes(node.name) else y


@writer("softmax")
def softmax(b: Builder, node: IntegerNode) -> str:
    x, log = b.real(node.inputs[0]), node.attrs["log"]
    if b.style == "integer":
        y = _softmax_written(b, x, log)
    else:
        y = b.op("LogSoftmax" if log else "Softmax", x, axis=1)
    return to_codes(b, node, y) if b.is_codes(node.name) else y


def _own(b: Builder, node: IntegerNode, x: str) -> str:
    spatial = len(b.shapes[node.name]) == 3
    weight, bias = (b.constant(_parameter(b, node, role), role) for role in ("weight", "bias"))
    last = b.op("Transpose", x, perm=TO_LAST) if spatial else x
    y = b.op("LayerNormalization", last, weight, bias, axis=-1, epsilon=node.attrs["eps"])
    return b.op("Transpose", y, perm=TO_FIRST) if spatial else y


def _written(b: Builder, node: IntegerNode, x: str) -> str:
    return _scaled(b, node, _normal(b, node, x, 1))


def _groups_written(b: Builder, node: IntegerNode, x: str) -> str:
    c, h, w = b.shapes[node.name]
    groups = node.attrs["groups"]
    normal = _normal(b, node, to_shape(b, x, (groups, c // groups * h * w)), 2)
    return _scaled(b, node, to_shape(b, normal, (c, h, w)))


def _normal(b: Builder, node: IntegerNode, x: str, axis: int) -> str:
    """(x - mean) * inverse deviation over one axis. Means in float64, whose last bits, which depend on the
    order of a sum, are rounded off."""
    wide = b.op("Cast", x, to=TensorProto.DOUBLE)
    mean = _mean(b, wide, axis)
    variance = b.op("Sub", _mean(b, b.op("Mul", wide, wide), axis), b.op("Mul", mean, mean))
    variance = b.op("Max", variance, b.scalar(0.0, np.float64))
    deviation = b.op("Sqrt", b.op("Add", variance, b.scalar(node.attrs["eps"], np.float64)))
    inverse = b.op("Cast", b.op("Div", b.scalar(1.0, np.float64), deviation), to=TensorProto.FLOAT)
    centered = b.op("Sub", x, b.op("Cast", mean, to=TensorProto.FLOAT))
    return b.op("Mul", centered, inverse)


def _scaled(b: Builder, node: IntegerNode, normal: str) -> str:
    channels = (-1, 1, 1) if len(b.shapes[node.name]) == 3 else (-1,)
    weight, bias = (
        b.constant(_parameter(b, node, role).reshape(channels), role) for role in ("weight", "bias")
    )
    return b.op("Add", b.op("Mul", normal, weight), bias)


def _softmax_written(b: Builder, x: str, log: bool) -> str:
    """In float64, whose last bits, which are the runtime's own exp's, are rounded off."""
    wide, channels = b.op("Cast", x, to=TensorProto.DOUBLE), b.constant(np.asarray([1]))
    shifted = b.op("Sub", wide, b.op("ReduceMax", wide, channels, keepdims=1))
    powers = b.op("Exp", shifted)
    total = b.op("ReduceSum", powers, channels, keepdims=1)
    result = b.op("Sub", shifted, b.op("Log", total)) if log else b.op("Div", powers, total)
    return b.op("Cast", result, to=TensorProto.FLOAT)


def _mean(b: Builder, x: str, axis: int) -> str:
    return b.op("ReduceMean", x, b.constant(np.asarray([axis])), keepdims=1)


def _parameter(b: Builder, node: IntegerNode, role: str) -> Tensor:
    values = b.tensor(node, role)
    assert values is not None, role
    return values
