"""The accumulators of layers, int32, or int64 beyond 8 bits: who has them, how large they can be, how large
they are."""

from __future__ import annotations

import torch
from torch import Tensor

from .document import IntegerNode
from .formulas import QParams, convolve, per_channel
from .integer import IntegerModel
from .operators.stored_weights import stored_codes

WITHOUT_FLOATS = ("conv2d_fixed_point", "linear_fixed_point", "conv2d_wide", "linear_wide")
ACCUMULATING = ("conv2d", "linear", "binary_conv2d", "binary_linear", *WITHOUT_FLOATS)
DYNAMIC = ("conv2d_dynamic", "linear_dynamic")


def accumulating_layers(model: IntegerModel) -> list[IntegerNode]:
    """Static layers whose accumulators become codes by one multiplication (and a shift), in order."""
    return [node for node in model.graph if node.op in ACCUMULATING and not node.attrs["group_size"]]


def summing_layers(model: IntegerModel) -> list[IntegerNode]:
    """All layers that add up products of codes: those, dynamic ones, and those with a sum for every group of
    input channels."""
    return [node for node in model.graph if node.op in (*ACCUMULATING, *DYNAMIC)]


def bits_of(bound: int) -> int:
    """Bits of a signed integer that holds -bound..bound.

    >>> bits_of(127), bits_of(128)
    (8, 9)
    """
    return bound.bit_length() + 1


def accumulator_bound(model: IntegerModel, node: IntegerNode, source: QParams | None = None) -> int:
    """The largest |accumulator| of a layer, its integer bias included, that any input codes can give; of any
    of its groups, where each has its own. `source` is what a dynamic layer's input codes mean."""
    source = source or model.output(node.inputs[0])
    reach = max(abs(source.qmin - int(source.zero_point)), abs(source.qmax - int(source.zero_point)))
    codes = stored_codes(model, node)
    weight = codes.centered().abs()
    groups = weight.split(codes.group_size or weight.shape[1], 1)
    sums = reach * torch.stack([group.flatten(1).sum(1, dtype=torch.float64) for group in groups]).amax(0)
    bias = model.tensor(node, "bias")
    if bias is not None and not bias.is_floating_point():
        sums = sums + bias.double().abs()
    return int(sums.max())


def largest_accumulator(model: IntegerModel, node: IntegerNode, x: Tensor) -> int:
    """The largest |accumulator|, its integer bias included, that the input codes `x` give."""
    weight = stored_codes(model, node).centered()
    centered = x.double() - model.output(node.inputs[0]).zero_point.double()
    sums = convolve(centered, weight.double(), node.attrs)
    bias = model.tensor(node, "bias")
    if bias is not None and not bias.is_floating_point():
        sums = sums + per_channel(bias.double(), weight)
    return int(sums.abs().max())
