"""Capture of results side by side in one more dimension, [N, K, C, H, W]: paths that attention chooses from,
as in SKNet (Li et al., arXiv:1903.06586) and ResNeSt (Zhang et al., arXiv:2004.08955). Nothing is stacked:
what is computed of the tensor is computed of its K parts."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from .call import Call, Ref, Stack, Unsupported, captures, target_name


@captures(torch.stack, dim=0)
def _stack(call: Call, dim: int) -> Stack:
    parts = call.args[0] if call.args else call.kwargs["tensors"]
    images = all(isinstance(p, Ref) and len(call.input_shape(p)) == 3 for p in parts)
    summed = dim == 0 and all(_is_sum_over_first(user) for user in call.fx_node.users)
    if not images or (dim not in (1, -4) and not summed):
        raise Unsupported("only images of equal shape, at dim=1, or at dim=0 to be summed")
    return Stack(tuple(parts), 0 if summed else 1)


_OVER_FIRST = (0, [0], (0,))


def _is_sum_over_first(node: fx.Node) -> bool:
    return target_name(node.target) == "sum" and _dim(node.args, node.kwargs) in _OVER_FIRST


def _dim(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[1] if len(args) > 1 else kwargs.get("dim")


def of_stacks(call: Call) -> Any:
    """The result of a call that reads stacks.

    Raises:
        Unsupported: it can't be had of their parts.
    """
    target = call.fx_node.target
    name = target_name(target)
    handler = _OF_STACKS.get(target, _OF_STACKS.get(name))
    if handler is None:
        raise Unsupported(f"{name} of a stack")
    return handler(call)


def as_one_tensor(call: Call, stack: Stack) -> Ref:
    """[N, K, C, H, W], which is what it says it is."""
    joined = _joined(call, stack)
    channels, *size = call.input_shape(stack.parts[0])
    shape = (len(stack.parts), channels, *size)
    return call.node("reshape", [joined], shape=shape, suffix=".stack", sample_shape=list(shape))


def softmax_of_two(call: Call, a: Ref, b: Ref) -> tuple[Ref, Ref]:
    """exp(a) / (exp(a) + exp(b)) = sigmoid(a - b), and 1 less that."""
    shape = call.input_shape(a)

    def unary(source: Ref, suffix: str, function: str, *args: float) -> Ref:
        attrs: dict[str, Any] = {"function": function, "args": list(args)}
        return call.node("unary", [source], shape=shape, suffix=suffix, **attrs)

    difference = call.node(
        "add", [a, unary(b, ".negative", "mul_scalar", -1.0)], shape=shape, suffix=".difference"
    )
    first = unary(difference, "", "sigmoid")
    return first, unary(first, ".rest", "subtract_from", 1.0)


def _stack_of(call: Call) -> Stack:
    stack = call.args[0] if call.args else call.kwargs.get("input")
    if not isinstance(stack, Stack):
        raise Unsupported("its first argument is no stack")
    return stack


def _sum(call: Call) -> Ref:
    stack, dim = _stack_of(call), _dim(call.args, call.kwargs)
    dims = (1, [1], (1,), -4) if stack.dim == 1 else _OVER_FIRST
    if dim not in dims or len(call.output_shape) != 4:
        raise Unsupported(f"sum over dim={dim}; only over dim=1")
    total, *others = stack.parts
    for part in others:
        total = call.node("add", [total, part])
    return total


def _mul(call: Call) -> Stack:
    left, right = call.args
    if not isinstance(left, Stack) or not isinstance(right, Stack) or len(left.parts) != len(right.parts):
        raise Unsupported("a product with what is no stack of as many parts")
    products = []
    for pair in zip(left.parts, right.parts, strict=True):
        image, factor = sorted(pair, key=lambda ref: call.input_shape(ref)[1:] == (1, 1))
        a, b = call.input_shape(image), call.input_shape(factor)
        if a != b and b != (a[0], 1, 1):
            raise Unsupported(f"operands of shapes {list(a)} and {list(b)}")
        products.append(call.node("mul", [image, factor], shape=a))
    return Stack(tuple(products))


def _softmax(call: Call) -> Stack:
    dim = _dim(call.args, call.kwargs)
    parts = _stack_of(call).parts
    if dim not in (1, -4) or len(parts) != 2:
        raise Unsupported(f"softmax over dim={dim} of {len(parts)} parts; only over dim=1, of two")
    return Stack(softmax_of_two(call, *parts))


def _merged(call: Call) -> Ref:
    """A view that puts the parts into the channels."""
    joined = _joined(call, _stack_of(call))
    shape, after = call.input_shape(joined), call.output_shape[1:]
    if after == shape:
        return joined
    if shape[1:] != (1, 1) or after != (shape[0],):
        raise Unsupported(f"a view of a stack as {list(after)} a sample")
    return call.node("flatten", [joined], start_dim=1)


def _joined(call: Call, stack: Stack) -> Ref:
    channels, *size = call.input_shape(stack.parts[0])
    shape = (channels * len(stack.parts), *size)
    return call.node("cat", stack.parts, shape=shape, suffix=".cat", dim=1)


def _item(call: Call) -> Ref:
    index, stack = call.args[1], _stack_of(call)
    if stack.dim == 0 and isinstance(index, int):
        return stack.parts[index]
    if not isinstance(index, tuple) or len(index) != 2 or index[0] != slice(None):
        raise Unsupported(f"index {index} of a stack")
    return stack.parts[operator.index(index[1])]


def _unbind(call: Call) -> tuple[Ref, ...]:
    stack, dim = _stack_of(call), _dim(call.args, call.kwargs) or 0
    if dim != stack.dim:
        raise Unsupported(f"unbind over dim={dim} of a stack")
    return stack.parts


_OF_STACKS: dict[Any, Callable[[Call], Any]] = {
    "sum": _sum,
    "mul": _mul,
    "softmax": _softmax,
    F.softmax: _softmax,
    "view": _merged,
    "reshape": _merged,
    "flatten": _merged,
    "getitem": _item,
    "unbind": _unbind,
    "contiguous": _stack_of,
}
