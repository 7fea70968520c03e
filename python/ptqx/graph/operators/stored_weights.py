"""Weights and slopes in the integer graph: packed there, unpacked for the kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ... import ops
from ...errors import PtqxError
from ..ir import Node
from ..weights import LayerCodes
from .base import IntegerScope, Lowered

if TYPE_CHECKING:
    from ..document import IntegerNode
    from ..simulated import SimulatedModel


def store_codes(lowered: Lowered, codes: LayerCodes) -> None:
    """Packed codes, scales, levels and zero points, and what to know of them."""
    lowered.attrs.update(weight_bits=codes.bits, group_size=codes.group_size)
    if codes.levels is not None:
        lowered.tensors["weight_levels"] = codes.levels.to(torch.int8) if codes.on_grid else codes.levels
    values = (codes.values if codes.codes is None else codes.codes).to(
        torch.int8 if codes.bits <= 8 else torch.int16
    )
    if codes.bits < 8:
        values = ops.pack_codes(values, codes.bits)
    lowered.tensors.update(weight=values, weight_scale=codes.scale.clone())
    if codes.zero_point is not None:
        zero_point = codes.zero_point.int() if codes.on_grid else codes.zero_point
        lowered.tensors["weight_zero_point"] = zero_point.expand(len(codes.values)).clone()


def stored_weights(scope: IntegerScope, node: IntegerNode) -> tuple[Tensor | None, ...]:
    """Weight as it is stored, weight_scale, weight_zero_point and bias: arguments of the fused operators."""
    return tuple(scope.tensor(node, role) for role in ("weight", "weight_scale", "weight_zero_point", "bias"))


def stored_form(scope: IntegerScope, node: IntegerNode) -> tuple[int, list[int] | None, Tensor | None]:
    """weight_bits, weight_shape and weight_levels, their last arguments: how to read the stored weight."""
    bits = node.attrs["weight_bits"]
    return bits, node.attrs["weight_shape"] if bits < 8 else None, scope.tensor(node, "weight_levels")


def unpacked_weights(scope: IntegerScope, node: IntegerNode) -> tuple[Tensor | None, ...]:
    """The same as `stored_weights`, the weight as int8 in its shape."""
    return unpacked_weight(scope, node), *stored_weights(scope, node)[1:]


def stored_codes(scope: IntegerScope, node: IntegerNode) -> LayerCodes:
    zero_point, scale = scope.tensor(node, "weight_zero_point"), scope.tensor(node, "weight_scale")
    assert scale is not None
    values, levels = unpacked_weight(scope, node).float(), scope.tensor(node, "weight_levels")
    on_grid = not any(t is not None and t.is_floating_point() for t in (levels, zero_point))
    zero_point = None if zero_point is None else zero_point.float()
    bits, group_size = node.attrs["weight_bits"], node.attrs["group_size"]
    return LayerCodes(values, scale, zero_point, bits, group_size, on_grid=on_grid)


def is_held_in_float(scope: IntegerScope, node: IntegerNode) -> bool:
    """Whether a layer's weights are no codes."""
    weight = scope.tensor(node, "weight")
    return weight is not None and weight.is_floating_point()


def real_weight(scope: IntegerScope, node: IntegerNode) -> Tensor:
    """A layer's weights as float32: dequantized, or as they are held."""
    weight = scope.tensor(node, "weight")
    assert weight is not None
    return weight.float() if is_held_in_float(scope, node) else stored_codes(scope, node).real()


def unpacked_weight(scope: IntegerScope, node: IntegerNode) -> Tensor:
    """A layer's stored weights as int8 in their shape: unpacked, and looked up where there is a codebook."""
    weight, bits = scope.tensor(node, "weight"), node.attrs["weight_bits"]
    assert weight is not None
    if bits < 8:
        weight = torch.ops.ptqx.unpack_codes(weight, bits, node.attrs["weight_shape"])
    levels = scope.tensor(node, "weight_levels")
    if levels is None:
        return weight
    real = node.op.endswith(("_simulated", "_float"))
    dtypes = (torch.int8, torch.float32) if real else (torch.int8,)
    if levels.dtype not in dtypes or levels.shape not in {(1, 2**bits), (len(weight), 2**bits)}:
        raise PtqxError(
            f"{node.name}: weight_levels: expected {' or '.join(map(str, dtypes)).replace('torch.', '')} "
            f"[1 or {len(weight)}, {2**bits}], "
            f"got {levels.dtype} {list(levels.shape)}"
        )
    index = weight.flatten(1).long() + 2 ** (bits - 1)
    return levels.expand(len(weight), -1).gather(1, index).reshape(weight.shape)


def layer_slopes(model: SimulatedModel, node: Node) -> Tensor | None:
    """PReLU's slopes, made to broadcast with the layer's result."""
    if "slopes" not in node.params:
        return None
    slopes = model.tensor(node.params["slopes"])
    return slopes.reshape(-1, 1, 1) if len(node.shape) == 3 else slopes


def store_slopes(lowered: Lowered, model: SimulatedModel, node: Node) -> None:
    slopes = layer_slopes(model, node)
    if slopes is not None:
        lowered.tensors["slopes"] = slopes.detach().reshape(-1).expand(node.shape[0]).clone()
