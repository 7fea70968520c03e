"""Real values: the boundary between them and codes, functions of one variable, layers that compute in float.

Their results may differ from ptqx's in the last bits: the runtime sums in another order and has its own
functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...errors import PtqxError
from ...graph import IntegerNode
from ...graph.formulas import TAIL_KINDS
from ..builder import Builder
from .base import add_named_tail, to_codes, writer
from .movement import integers
from .transposed import image_without_zeros, transposed_attributes
from .weights import dequantized_weight

Function = Callable[..., str]


@writer("quantize")
def quantize(b: Builder, node: IntegerNode) -> str:
    return to_codes(b, node, node.inputs[0])


@writer("dequantize")
def dequantize(b: Builder, node: IntegerNode) -> str:
    q = b.qparams(node.inputs[0])
    return b.op("DequantizeLinear", node.inputs[0], b.scalar(q.scale), b.scalar(q.zero_point, np.uint8))


@writer("constant")
def constant(b: Builder, node: IntegerNode) -> str:
    values = b.tensor(node, "values")
    assert values is not None
    samples = b.op("Shape", node.inputs[0], start=0, end=1)
    shape = b.op("Concat", samples, integers(b, values.shape), axis=0)
    return b.op("Expand", b.constant(values, "values"), shape)


@writer("activation")
def activation(b: Builder, node: IntegerNode) -> str:
    name, args = node.attrs["activation"], node.attrs["activation_args"]
    x = b.real(node.inputs[0])
    if name in TAIL_KINDS:
        return add_named_tail(b, node, x)
    if name not in FUNCTIONS:
        raise PtqxError(f"{node.name}: the function {name!r} of real values has no form in ONNX here")
    return FUNCTIONS[name](b, x, *args)


def _unary(op_type: str) -> Function:
    return lambda b, x: b.op(op_type, x)


def _with_number(op_type: str, number_first: bool = False) -> Function:
    def function(b: Builder, x: str, value: float) -> str:
        number = b.scalar(value)
        return b.op(op_type, *((number, x) if number_first else (x, number)))

    return function


def _softplus(b: Builder, x: str, beta: float, threshold: float) -> str:
    scaled = b.op("Mul", x, b.scalar(beta))
    soft = b.op("Div", b.op("Softplus", scaled), b.scalar(beta))
    return b.op("Where", b.op("Greater", scaled, b.scalar(threshold)), x, soft)


def _threshold(b: Builder, x: str, threshold: float, value: float) -> str:
    return b.op("Where", b.op("Greater", x, b.scalar(threshold)), x, b.scalar(value))


FUNCTIONS: dict[str, Function] = {
    "sigmoid": _unary("Sigmoid"),
    "tanh": _unary("Tanh"),
    "softsign": _unary("Softsign"),
    "mish": _unary("Mish"),
    "exp": _unary("Exp"),
    "abs": _unary("Abs"),
    "neg": _unary("Neg"),
    "identity": _unary("Identity"),
    "silu": lambda b, x: b.op("Mul", x, b.op("Sigmoid", x)),
    "gelu": lambda b, x, approximate="none": b.op("Gelu", x, approximate=approximate),
    "gelu_tanh": lambda b, x: b.op("Gelu", x, approximate="tanh"),
    "elu": lambda b, x, alpha: b.op("Elu", x, alpha=float(alpha)),
    "log_sigmoid": lambda b, x: b.op("Neg", b.op("Softplus", b.op("Neg", x))),
    "softplus": _softplus,
    "selu": _unary("Selu"),
    "celu": lambda b, x, alpha: b.op("Celu", x, alpha=float(alpha)),
    "hardshrink": lambda b, x, lambd: b.op("Shrink", x, lambd=float(lambd)),
    "softshrink": lambda b, x, lambd: b.op("Shrink", x, lambd=float(lambd), bias=float(lambd)),
    "tanhshrink": lambda b, x: b.op("Sub", x, b.op("Tanh", x)),
    "threshold": _threshold,
    "square": lambda b, x: b.op("Mul", x, x),
    "power": _with_number("Pow"),
    "add_scalar": _with_number("Add"),
    "mul_scalar": _with_number("Mul"),
    "subtract_from": _with_number("Sub", number_first=True),
    "divide_by_scalar": _with_number("Div"),
}


@writer("conv2d_float", "linear_float")
def float_layer(b: Builder, node: IntegerNode) -> str:
    bias = b.tensor(node, "bias")
    bias_name = "" if bias is None else b.constant(bias, "bias")
    return add_named_tail(b, node, layer(b, node, bias_name))


def layer(b: Builder, node: IntegerNode, bias: str) -> str:
    """Conv, ConvTranspose, Gemm or MatMul of real values; `bias` may be ""."""
    rest = [bias] if bias else []
    image = image_without_zeros(b, node) if "stride" in node.attrs else None
    if image is not None:
        weight = dequantized_weight(b, node, transposed=True)
        return b.op("ConvTranspose", b.real(image), weight, *rest, **transposed_attributes(b, node))
    x, weight = b.real(node.inputs[0]), dequantized_weight(b, node)
    if "stride" in node.attrs:
        return b.op("Conv", x, weight, *rest, **conv_attributes(node))
    if len(b.shapes[node.name]) == 1:
        return b.op("Gemm", x, weight, *rest, transB=1)
    y = b.op("MatMul", x, b.op("Transpose", weight, perm=[1, 0]))
    return b.op("Add", y, bias) if bias else y


def conv_attributes(node: IntegerNode) -> dict[str, Any]:
    attrs = node.attrs
    return {
        "kernel_shape": list(attrs["weight_shape"][2:]),
        "strides": list(attrs["stride"]),
        "pads": list(attrs["padding"]),
        "dilations": list(attrs["dilation"]),
        "group": attrs["groups"],
    }
