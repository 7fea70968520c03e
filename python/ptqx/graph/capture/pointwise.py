"""Capture of functions of one variable, sums, products and concatenation."""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..activations import ACTIVATIONS, Activation
from .call import REQUIRED, Attr, Call, Ref, Unsupported, captures, parameter_paths
from .parameters import constant, with_parameter


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
        return call.node("unary", function="threshold", args=[threshold, value])
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


@captures(nn.Identity, "contiguous", "clone", "detach", torch.clone)
def _identity(call: Call) -> Ref:
    return call.input


@captures("float", "double", "half", "bfloat16", "to", "type", "type_as")
def _cast(call: Call) -> Ref:
    """Everything here is computed in float32 or in codes."""
    source = call.input
    before, after = call.fx_node.all_input_nodes[0].meta["value"], call.fx_node.meta["value"]
    if not (before.is_floating_point() and after.is_floating_point()):
        raise Unsupported("a change to whole numbers or from them")
    return source


@captures(torch.add, operator.add, operator.iadd, "add", "add_", alpha=1)
def _add(call: Call, alpha: Any = 1) -> Ref:
    return with_parameter(call, "layer_bias") or _binary(call, "add", "add_scalar")


@captures(torch.zeros_like)
def _zeros_like(call: Call) -> Ref:
    if not call.fx_node.meta["value"].is_floating_point():
        raise Unsupported("whole numbers")
    return call.node("unary", function="mul_scalar", args=[0.0])


@captures(torch.mul, operator.mul, operator.imul, "mul", "mul_")
def _mul(call: Call) -> Ref:
    return with_parameter(call, "layer_scale") or _binary(call, "mul", "mul_scalar")


@captures(torch.sub, operator.sub, operator.isub, "sub", "sub_")
def _sub(call: Call) -> Ref:
    shifted = with_parameter(call, "layer_bias", inverse=True)
    if shifted is not None:
        return shifted
    left, right = _operands(call)
    if isinstance(right, (int, float)):
        return call.node("unary", [left], function="add_scalar", args=[-right])
    if isinstance(left, (int, float)):
        return call.node("unary", [right], function="subtract_from", args=[left])
    shape = call.input_shape(right)
    if shape != call.input_shape(left):
        raise Unsupported(f"operands of shapes {list(call.input_shape(left))} and {list(shape)}")
    negative = call.node(
        "unary", [right], shape=shape, suffix=".negative", function="mul_scalar", args=[-1.0]
    )
    return call.node("add", [left, negative])


@captures(torch.div, torch.true_divide, operator.truediv, operator.itruediv, "div", "div_")
def _div(call: Call) -> Ref:
    scaled = with_parameter(call, "layer_scale", inverse=True)
    if scaled is not None:
        return scaled
    left, right = _operands(call)
    if isinstance(left, Ref) and isinstance(right, (int, float)):
        return call.node("unary", [left], function="divide_by_scalar", args=[right])
    raise Unsupported("the quotient of two tensors")


@captures(torch.pow, operator.pow, "pow", "pow_")
def _power(call: Call) -> Ref:
    base, exponent = _operands(call)
    if not isinstance(base, Ref) or not isinstance(exponent, (int, float)):
        raise Unsupported("a power of two tensors")
    if exponent != int(exponent) or exponent < 1:
        raise Unsupported(f"exponent {exponent}; only positive whole numbers have an integer form")
    return call.node("unary", [base], function="power", args=[int(exponent)])


@captures(nn.quantized.FloatFunctional)
def _float_functional(call: Call) -> Ref:
    raise Unsupported("FloatFunctional belongs to torch.ao.quantization; use + and torch.cat")


def _operands(call: Call) -> tuple[Any, Any]:
    if call.kwargs.get("alpha", 1) != 1 or call.kwargs.get("rounding_mode") is not None:
        raise Unsupported("alpha or rounding_mode")
    operands = (*call.args, *(call.kwargs[k] for k in ("input", "other") if k in call.kwargs))
    shapes = [call.input_shape(o) for o in operands if isinstance(o, Ref)]
    if len(operands) != 2 or not shapes:
        raise Unsupported("an operand is a parameter, not a result of the network")
    left, right = (constant(call, o, shapes[0]) if isinstance(o, Attr) else o for o in operands)
    return left, right


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
    if op == "mul" and len(a) == len(b) == 3 and 1 in (a[0], b[0]) and a[1:] == b[1:]:
        return call.node(op, [left, right] if b[0] == 1 else [right, left])
    if op == "add" and len(a) == len(b) == 3 and (1, 1) in (a[1:], b[1:]) and a[0] == b[0]:
        image, value = (left, right) if b[1:] == (1, 1) else (right, left)
        shape = call.input_shape(image)
        factors = list(shape[1:])
        spread = call.node("upsample_nearest2d", [value], shape=shape, suffix=".spread", scale_factor=factors)
        return call.node(op, [image, spread])
    raise Unsupported(f"operands of shapes {list(a)} and {list(b)}")


@captures(torch.cat, torch.concat, torch.concatenate, dim=0)
def _cat(call: Call, dim: int) -> Ref:
    tensors = call.args[0] if call.args else call.kwargs["tensors"]
    if not all(isinstance(t, Ref) for t in tensors):
        raise Unsupported("a part is not a result of the network")
    rank = len(call.output_shape)
    if dim % rank == 0 or rank > 4:
        raise Unsupported(f"dim={dim} of {list(call.output_shape[1:])} a sample")
    return call.node("cat", tensors, dim=dim % rank) if len(tensors) > 1 else tensors[0]
