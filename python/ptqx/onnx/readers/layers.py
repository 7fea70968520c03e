"""Weights and biases of a layer as the integer graph stores them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ... import ops
from ...errors import PtqxError
from ...graph.formulas import MAX_ACCUMULATOR
from ...graph.operators.base import Lowered
from ...graph.weights import MAX_INPUT
from .operations import Layer, array_of
from .values import Constant, Dequantized, QuantizedConstant

BITS = {"int8": 8, "uint8": 8, "int4": 4, "uint4": 4, "int2": 2, "uint2": 2}
SAME_SCALE = 1e-5  # relative: writers round s_x * s_w in more than one way


def runs_in_integers(layer: Layer) -> bool:
    return isinstance(layer.x, Dequantized) and isinstance(layer.weight, QuantizedConstant)


def lowered_layer(layer: Layer, input_scale: np.float32, integer: bool, name: str) -> Lowered:
    """Attributes and tensors of the node; `input_scale` counts if it computes in integers."""
    weight = layer.weight
    if isinstance(weight, Constant):
        lowered = Lowered({**layer.attrs, "weight_shape": list(weight.array.shape)})
        lowered.attrs.update(weight_bits=32, group_size=0)
        lowered.tensors["weight"] = torch.from_numpy(np.array(weight.array, np.float32))
    else:
        lowered = Lowered({**layer.attrs, "weight_shape": list(weight.codes.shape)})
        _store_weight(lowered, weight, name)
    bias = _bias(layer, input_scale, integer)
    if bias is not None:
        lowered.tensors["bias"] = bias
    if integer:
        _check_accumulators(weight, bias, name)
    return lowered


def _store_weight(lowered: Lowered, weight: QuantizedConstant, name: str) -> None:
    bits, scale = BITS[weight.dtype], weight.scale
    offset = 2 ** (bits - 1) if weight.dtype.startswith("u") else 0  # codes are stored signed
    codes = torch.from_numpy((weight.codes - offset).astype(np.int8))
    group_size = 0
    if weight.block_size:
        scale, group_size = _groups(weight, name), weight.block_size
    elif scale.size > 1 and weight.axis != 0:
        raise PtqxError(
            f"{name}: weights have scales along axis {weight.axis}; only output channels can be read"
        )
    zero_point = weight.zero_point - offset
    if zero_point.any():
        if group_size:
            raise PtqxError(f"{name}: weights in blocks have zero points; only symmetric ones can be read")
        points = np.broadcast_to(zero_point.reshape(-1), len(codes)).astype(np.int32)
        lowered.tensors["weight_zero_point"] = torch.from_numpy(points.copy())
    if bits < 8:
        codes = ops.pack_codes(codes, bits)
    lowered.attrs.update(weight_bits=bits, group_size=group_size)
    lowered.tensors["weight"] = codes
    lowered.tensors["weight_scale"] = torch.tensor(scale if group_size else scale.reshape(-1))


def _groups(weight: QuantizedConstant, name: str) -> np.ndarray:
    """[out, groups] of scales that are alike for all taps."""
    scale = weight.scale.reshape(*weight.scale.shape[:2], -1)
    if weight.axis != 1 or weight.block_size % 4 or (scale != scale[..., :1]).any():
        raise PtqxError(
            f"{name}: weights in blocks of {weight.block_size} along axis {weight.axis}; only blocks of a "
            "multiple of 4 input channels can be read, with one scale for all taps"
        )
    return scale[..., 0]


def _bias(layer: Layer, input_scale: np.float32, integer: bool) -> Tensor | None:
    """int32 in units of the accumulator where it is stored so, else float32."""
    bias = layer.bias
    if bias is None:
        return None
    if (
        integer
        and isinstance(bias, QuantizedConstant)
        and bias.dtype == "int32"
        and not bias.zero_point.any()
    ):
        assert isinstance(layer.weight, QuantizedConstant)
        unit = input_scale * layer.weight.scale
        if not layer.weight.block_size and np.allclose(bias.scale, unit, rtol=SAME_SCALE, atol=0.0):
            return torch.from_numpy(bias.codes.reshape(-1).copy())
    values = array_of(bias)
    assert values is not None
    return torch.tensor(values.reshape(-1), dtype=torch.float32)


def _check_accumulators(weight: Constant | QuantizedConstant, bias: Tensor | None, name: str) -> None:
    assert isinstance(weight, QuantizedConstant)
    zero_point = (
        np.broadcast_to(weight.zero_point.reshape(-1), len(weight.codes)) if not weight.block_size else 0
    )
    centered = weight.codes.reshape(len(weight.codes), -1).T - zero_point
    sums = MAX_INPUT * np.abs(centered.astype(np.int64)).sum(0)
    if bias is not None and bias.dtype == torch.int32:
        sums = sums + np.abs(bias.numpy().astype(np.int64))
    if (sums > MAX_ACCUMULATOR).any():
        raise PtqxError(f"{name}: the accumulator of output channel {int(sums.argmax())} may overflow int32")
