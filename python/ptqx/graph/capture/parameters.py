"""Sums and products of a result of the network with a parameter of it."""

from __future__ import annotations

from typing import Any

import torch

from .call import Attr, Call, Ref, Unsupported
from .tokens import gives_tokens, on_tokens


def with_parameter(call: Call, op: str, inverse: bool = False) -> Ref | None:
    """A node "layer_scale" (LayerScale: Touvron et al., arXiv:2103.17239) or "layer_bias", whose parameter or
    buffer is one number, or one a channel; None if the call is not of that kind.

    Args:
        inverse: divide or subtract instead; the parameter must be the second operand.
    """
    operands = call.args
    values = [a for a in operands if isinstance(a, Ref)]
    parameters = [a for a in operands if isinstance(a, Attr)]
    if len(operands) != 2 or len(values) != 1 or len(parameters) != 1 or call.kwargs:
        return None
    shape = list(call.input_shape(values[0]))
    if (inverse and operands[0] is not values[0]) or not 1 <= len(shape) <= 3:
        return None
    if list(call.output_shape[1:]) != shape or not parameters[0].value.is_floating_point():
        return None
    attrs: dict[str, Any] = {"inverse": True} if inverse else {}
    numbers = list(parameters[0].value.shape)
    while numbers and numbers[0] == 1:
        del numbers[0]
    if len(shape) == 2:  # tokens, with the channels last
        if numbers not in ([], shape[-1:]) or not gives_tokens(call, values[0]):
            return None
        attrs["channels_last"] = False
        return on_tokens(call, op, values[0], {op: parameters[0].path}, shape[-1], **attrs)
    of_channels = [shape[0], 1, 1] if len(shape) == 3 else shape
    if numbers not in ([], of_channels):
        if numbers != shape[-1:]:
            return None
        attrs["channels_last"] = True
    elif numbers:
        attrs["channels_last"] = False
    return call.node(op, values, {op: parameters[0].path}, **attrs)


def constant(call: Call, parameter: Attr, shape: tuple[int, ...]) -> Ref:
    """A node "constant" of that shape a sample.

    Raises:
        Unsupported: the parameter's values have no such shape, even repeated, or are no real numbers.
    """
    values = parameter.value
    of_sample = values.shape[1:] if values.dim() == len(shape) + 1 and len(values) == 1 else values.shape
    try:
        fits = torch.broadcast_shapes(of_sample, shape) == shape
    except RuntimeError:
        fits = False
    if not fits or not values.is_floating_point():
        raise Unsupported(f"a parameter of shape {list(values.shape)} with {list(shape)} a sample")
    numbers = [1] * (len(shape) - len(of_sample)) + list(of_sample)
    return call.node(
        "constant",
        [Ref(call.graph.input)],
        {"values": parameter.path},
        shape,
        ".constant",
        values_shape=numbers,
    )
