"""Capture of functions of one variable, sums, products and concatenation."""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..activations import ACTIVATIONS, Activation
from .call import REQUIRED, Attr, Call, Ref, Unsupported, captures, parameter_paths


def _enter_activation(entry: Activation) -> None:
    @captures(*entry.targets, **dict(entry.arguments))
    def build(call: Call, **arguments: Any) -> Ref:
        if any(isinstance(value, (Ref, Attr)) for value in arguments.values()):
            raise Unsupported("an argument is a tensor")
        return call.node("unary", function=entry.name, args=list(arguments.values()))


for _entry in ACTIVATIONS.values():
    _enter_activation(_entry)


@captures(nn.Threshold, F.threshold, threshold=REQUIRED, value=REQUIRED)
def _threshold(call: Call, threshold: float, value: float) -> Ref:
    if threshold != value:
        raise Unsupported("threshold and value differ")
    return call.node("unary", function="clip", args=[threshold, None])


@captures(nn.PReLU)
def _prelu_module(call: Call) -> Ref:
    return call.node("prelu", params={"slopes": f"{call.path}.weight"})


@captures(F.prelu, torch.prelu, "prelu", weight=REQUIRED)
def _prelu_function(call: Call, weight: Any) -> Ref:
    return call.node("prelu", params=parameter_paths(slopes=weight))


@captures(nn.Dropout, nn.Dropout2d, F.dropout, F.dropout2d, "StochasticDepth", "DropPath", "stochastic_depth")
def _dropout(call: Call) -> Ref:
    return call.node("dropout", [call.input])


@captures(nn.Identity, "contiguous", "clone", "detach", torch.clone, "float")
def _identity(call: Call) -> Ref:
    return call.input


@captures(torch.add, operator.add, operator.iadd, "add", "add_", alpha=1)
def _add(call: Call, alpha: Any = 1) -> Ref:
    return _binary(call, "add", "add_scalar")


@captures(torch.mul, operator.mul, operator.imul, "mul", "mul_")
def _mul(call: Call) -> Ref:
    scale = _layer_scale(call)
    return scale if scale is not None else _binary(call, "mul", "mul_scalar")


def _layer_scale(call: Call) -> Ref | None:
    """A product with a parameter of one number, or of one a channel (LayerScale: Touvron et al.,
    arXiv:2103.17239)."""
    values = [a for a in call.args if isinstance(a, Ref)]
    factors = [a for a in call.args if isinstance(a, Attr)]
    if len(values) != 1 or len(factors) != 1 or call.kwargs:
        return None
    shape = call.input_shape(values[0])
    params = {"layer_scale": factors[0].path}
    factor = list(factors[0].value.shape)
    while factor and factor[0] == 1:
        del factor[0]
    first = [shape[0], 1, 1] if len(shape) == 3 else [shape[0]]
    if len(shape) not in (1, 3) or list(call.output_shape[1:]) != list(shape):
        return None
    if not factor:
        return call.node("layer_scale", values, params)
    if factor not in (first, [shape[-1]]):
        return None
    return call.node("layer_scale", values, params, channels_last=factor != first)


@captures(torch.sub, operator.sub, operator.isub, "sub", "sub_")
def _sub(call: Call) -> Ref:
    left, right = _operands(call)
    if isinstance(right, (int, float)):
        return call.node("unary", [left], function="add_scalar", args=[-right])
    if isinstance(left, (int, float)):
        return call.node("unary", [right], function="subtract_from", args=[left])
    raise Unsupported("the difference of two tensors")


@captures(torch.div, torch.true_divide, operator.truediv, operator.itruediv, "div", "div_")
def _div(call: Call) -> Ref:
    left, right = _operands(call)
    if isinstance(left, Ref) and isinstance(right, (int, float)):
        return call.node("unary", [left], function="divide_by_scalar", args=[right])
    raise Unsupported("the quotient of two tensors")


@captures(nn.quantized.FloatFunctional)
def _float_functional(call: Call) -> Ref:
    raise Unsupported("FloatFunctional belongs to torch.ao.quantization; use + and torch.cat")


def _operands(call: Call) -> tuple[Any, Any]:
    if call.kwargs.get("alpha", 1) != 1 or call.kwargs.get("rounding_mode") is not None:
        raise Unsupported("alpha or rounding_mode")
    operands = (*call.args, *(call.kwargs[k] for k in ("input", "other") if k in call.kwargs))
    if len(operands) != 2 or any(isinstance(o, Attr) for o in operands):
        raise Unsupported("an operand is a parameter, not a result of the network")
    return operands[0], operands[1]


def _binary(call: Call, op: str, with_scalar: str) -> Ref:
    left, right = _operands(call)
    if isinstance(left, (int, float)):
        left, right = right, left
    if isinstance(right, (int, float)):
        return call.node("unary", [left], function=with_scalar, args=[right])
    a, b = call.input_shape(left), call.input_shape(right)
    if a == b:
        return call.node(op, [left, right])
    if op == "mul" and len(a) == len(b) == 3 and (1, 1) in (a[1:], b[1:]) and a[0] == b[0]:
        return call.node(op, [left, right] if b[1:] == (1, 1) else [right, left])
    raise Unsupported(f"operands of shapes {list(a)} and {list(b)}")


@captures(torch.cat, torch.concat, torch.concatenate, dim=0)
def _cat(call: Call, dim: int) -> Ref:
    tensors = call.args[0] if call.args else call.kwargs["tensors"]
    if not all(isinstance(t, Ref) for t in tensors):
        raise Unsupported("a part is not a result of the network")
    rank = len(call.output_shape)
    if dim % rank != 1:
        raise Unsupported(f"dim={dim}; only channels (dim=1) can be concatenated")
    return call.node("cat", tensors, dim=1) if len(tensors) > 1 else tensors[0]
