"""Static layers: their formula, and what runs it where the fused kernels do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..activations import float32
from ..formulas import (
    Codes,
    QParams,
    accumulate,
    apply_tail,
    per_channel,
    requantize_multiplier,
    round_and_clamp,
)
from ..ir import Node
from ..requantize import Requantizer, requantizer
from ..weights import IntegerLayer
from .base import (
    IntegerScope,
    Operator,
    Value,
    operator,
    requantized,
    run_tail,
    spatial,
    tail_of,
)
from .stored_weights import stored_codes, stored_form, stored_weights, unpacked_weights

SHAPE_ATTRS = ("stride", "padding", "dilation", "groups")

if TYPE_CHECKING:
    from ..document import IntegerNode
    from ..simulated import SimulatedModel


def layer_requantizer(
    model: SimulatedModel, node: Node, x: QParams, layer: IntegerLayer, out: QParams
) -> Requantizer:
    """For (s_x * s_w) / s_y, in float64."""
    factor = x.scale.double() * layer.codes.scale.double() / out.scale.double()
    return requantizer([factor], out, model.recipe.requantize, tail_of(node.attrs, out.scale), node.name)


@operator("conv2d_fixed_point", "linear_fixed_point")
class FixedPointLayer(Operator):
    """A static layer that requantizes without floats."""

    def run(self, scope: IntegerScope, node: IntegerNode, *inputs: Tensor) -> Tensor:
        target, arguments = scope.remembered(node, self._call)
        return target(spatial(inputs[0]), *arguments)

    def _call(self, scope: IntegerScope, node: IntegerNode) -> tuple[Any, tuple[Any, ...]]:
        """The operator and its arguments but the input."""
        attrs = node.attrs
        weight, _, weight_zero_point, bias = stored_weights(scope, node)
        shape = tuple(attrs[key] for key in SHAPE_ATTRS) if node.op == "conv2d_fixed_point" else ()
        return getattr(torch.ops.ptqx, node.op).default, (
            *(scope.qparams(node.inputs[0])[1], weight, weight_zero_point, bias),
            *(scope.tensor(node, "multiplier"), scope.tensor(node, "shift")),
            *(scope.qparams(node.name)[1], attrs["low"], attrs["high"]),
            *(*shape, *stored_form(scope, node)),
        )


@operator("conv2d_wide", "linear_wide")
class WideLayer(Operator):
    """A static layer of 16-bit codes, which requantizes without floats; the network's last gives real
    values."""

    def run(self, scope: IntegerScope, node: IntegerNode, *inputs: Tensor) -> Tensor:
        weight, weight_scale, _, bias = unpacked_weights(scope, node)  # fixed point has no zero points
        assert weight is not None and weight_scale is not None
        acc = self._sums(node, (inputs[0].int() - scope.qparams(node.inputs[0])[1]).short(), weight.short())
        if node.output.dtype != "float32":
            return requantized(scope, node, [acc], [] if bias is None else [bias])
        if bias is not None:
            acc = acc + per_channel(bias, weight)
        unit = scope.output(node.inputs[0]).scale * weight_scale
        slopes = scope.tensor(node, "slopes")
        slopes = None if slopes is None else per_channel(slopes, weight)
        return run_tail(node.attrs, acc.double().float() * per_channel(unit, weight), slopes)

    def _sums(self, node: IntegerNode, x: Tensor, weight: Tensor) -> Tensor:
        if weight.dim() == 2:
            return torch.ops.ptqx.linear_s64(x, weight)
        return torch.ops.ptqx.conv2d_s64(x, weight, *(node.attrs[key] for key in SHAPE_ATTRS))


@operator("conv2d_simulated", "linear_simulated")
class SimulatedLayer(Operator):
    """A static layer whose weights are no whole numbers: by its written formula, in float32."""

    def run(self, scope: IntegerScope, node: IntegerNode, *inputs: Tensor) -> Tensor:
        x, *residual = (
            _codes(scope, node.inputs[position], values) for position, values in enumerate(inputs)
        )
        out = None if node.output.dtype == "float32" else scope.output(node.name)
        tail = node.attrs["activation"], [float32(a) for a in node.attrs["activation_args"]]
        codes, bias = stored_codes(scope, node), scope.tensor(node, "bias")
        layer = IntegerLayer(codes, bias, False)
        if bias is not None and not bias.is_floating_point():
            layer = IntegerLayer(codes, bias.double(), True)
        slopes = scope.tensor(node, "slopes")
        slopes = None if slopes is None else per_channel(slopes, codes.values)
        y = static_formula(x, residual, layer, out, node.attrs, tail, slopes)
        return spatial(y.values.to(torch.uint8)) if isinstance(y, Codes) else y


def _codes(scope: IntegerScope, name: str, values: Tensor) -> Codes:
    return Codes(values.float(), scope.output(name))


def static_formula(
    x: Codes,
    residual: list[Codes],
    layer: IntegerLayer,
    out: QParams | None,
    shape: dict[str, Any],
    tail: tuple[str, list[Tensor]],
    slopes: Tensor | None,
) -> Value:
    """The written formula of a static layer: accumulate, scale, add, activate, round once."""
    t = _scaled_sums(shape, x, layer, out)
    if residual:
        assert out is not None
        t = t + residual[0].centered() * (residual[0].qparams.scale / out.scale)
    t = apply_tail(t, *tail, slopes)
    return t if out is None else Codes(round_and_clamp(t, out), out)


def _scaled_sums(shape: dict[str, Any], x: Codes, layer: IntegerLayer, out: QParams | None) -> Tensor:
    """Sums and bias in units of the output scale, or in real units."""
    codes, bias = layer.codes, layer.bias
    integers, weight, steps = x.centered(), codes.centered(), x.qparams.steps
    if out is None:
        scale = x.qparams.scale * codes.scale
    else:
        scale = requantize_multiplier(x.qparams.scale, codes.scale, out.scale)
    if not codes.on_grid:  # one memory order, because the float result depends on it
        integers, weight = integers.contiguous(), weight.contiguous()
    if not codes.group_size:
        acc = accumulate(integers, weight, bias if layer.bias_is_integer else None, steps, shape)
        t = acc * per_channel(scale, weight)
    else:
        parts = zip(integers.split(codes.group_size, 1), weight.split(codes.group_size, 1), strict=True)
        accs = [accumulate(xs, ws.contiguous(), None, steps, shape) for xs, ws in parts]
        t = accs[0] * per_channel(scale[:, 0], weight)
        for group, acc in enumerate(accs[1:], start=1):
            t = t + acc * per_channel(scale[:, group], weight)
    if bias is not None and not layer.bias_is_integer:
        t = t + per_channel(bias if out is None else bias / out.scale, weight)
    return t
