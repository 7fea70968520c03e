"""Convolution and linear layers: static, dynamic (the range of each sample) and float (weight-only)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ... import ops
from ...errors import PtqxError
from ..activations import float32
from ..formulas import (
    Codes,
    QParams,
    accumulate,
    apply_tail,
    convolve,
    dynamic_qparams,
    exact_sums,
    per_channel,
    per_sample,
    requantize_multiplier,
    round_and_clamp,
)
from ..ir import Node
from ..requantize import Requantizer, requantizer
from ..weights import (
    IntegerLayer,
    LayerCodes,
    check_accumulators,
    folded,
    integer_layer,
    layer_codes,
    raw_weight,
    training_factor,
)
from .base import (
    IntegerScope,
    Lowered,
    Operator,
    Value,
    lower_fixed_point,
    lowered_tail,
    operator,
    operator_tail,
    real_activation,
    run_tail,
    spatial,
    stored_requantizer,
    tail_of,
)

if TYPE_CHECKING:
    from ..document import IntegerNode
    from ..simulated import SimulatedModel

SHAPE_ATTRS = ("stride", "padding", "dilation", "groups")


class _Layer(Operator):
    """What the three kinds share: training, attributes and stored weights."""

    def train(self, model: SimulatedModel, node: Node, *inputs: Tensor) -> Tensor:
        x, *residual = inputs
        y = _trained(model, node, x)
        if residual:
            y = y + residual[0]
        if node.attrs.get("activation") == "relu":
            return y.relu_()  # nobody else reads y
        return real_activation(node.attrs, y, _slopes(model, node))

    def _lowered(self, node: Node, weight_shape: torch.Size, tail: dict[str, Any]) -> Lowered:
        attrs = {key: node.attrs[key] for key in SHAPE_ATTRS if key in node.attrs}
        return Lowered({**attrs, "weight_shape": list(weight_shape), **tail})

    def _store_codes(self, lowered: Lowered, codes: LayerCodes) -> None:
        lowered.attrs.update(weight_bits=codes.bits, group_size=codes.group_size)
        if codes.levels is not None:
            lowered.tensors["weight_levels"] = codes.levels.to(torch.int8) if codes.on_grid else codes.levels
        values = (codes.values if codes.codes is None else codes.codes).to(torch.int8)
        if codes.bits <= 4:
            values = getattr(ops, f"pack_int{_packed_bits(codes.bits)}")(values)
        lowered.tensors.update(weight=values, weight_scale=codes.scale.clone())
        if codes.zero_point is not None:
            zero_point = codes.zero_point.int() if codes.on_grid else codes.zero_point
            lowered.tensors["weight_zero_point"] = zero_point.expand(len(codes.values)).clone()


@operator("conv2d", "linear")
class StaticLayer(_Layer):
    """Codes in; codes out, or real values where no reader wants codes."""

    def exact(self, model: SimulatedModel, node: Node, *inputs: Any) -> Value:
        x, *residual = inputs
        out = model.qparams(node)
        tail = tail_of(node.attrs, None if out is None else out.scale)
        layer = integer_layer(model, node, x.qparams)
        if out is not None and model.recipe.requantize != "float":
            bias = layer.bias
            acc = exact_sums(x.centered(), layer.codes.centered(), bias, x.qparams.steps, node.attrs)
            fixed = layer_requantizer(model, node, x.qparams, layer, out)
            channels = (-1, 1, 1) if layer.codes.values.dim() == 4 else (-1,)
            return Codes(fixed.codes([acc.long()], channels).float(), out)
        return _static_layer(x, residual, layer, out, node.attrs, tail, _slopes(model, node))

    def lower(self, model: SimulatedModel, node: Node) -> Lowered:
        out = model.qparams(node)
        x = model.qparams_of(node.inputs[0])
        layer = integer_layer(model, node, x)
        check_accumulators(node, layer)
        lowered = self._lowered(node, layer.codes.values.shape, lowered_tail(node.attrs, out))
        self._store_codes(lowered, layer.codes)
        if layer.bias is not None:
            lowered.tensors["bias"] = layer.bias.int() if layer.bias_is_integer else layer.bias.clone()
        _store_slopes(lowered, model, node)
        if out is not None and model.recipe.requantize != "float":
            lower_fixed_point(lowered, node, layer_requantizer(model, node, x, layer, out))
        if not layer.codes.on_grid:
            lowered.op = f"{node.op}_simulated"
            lowered.reason = f"levels {model.weight_quantizer(node).scheme.levels!r} are no whole numbers"
        return lowered

    def run(self, scope: IntegerScope, node: IntegerNode, *inputs: Tensor) -> Tensor:
        x, *residual = inputs
        if node.op == "conv2d":
            x = spatial(x)
        attrs = node.attrs
        weights = _stored(scope, node)
        shape = tuple(attrs[key] for key in SHAPE_ATTRS) if node.op == "conv2d" else ()
        tail = (*operator_tail(node), scope.tensor(node, "slopes"))
        target = getattr(torch.ops.ptqx, node.op if node.output.dtype == "uint8" else f"{node.op}_f32")
        if node.output.dtype != "uint8":
            return target(x, *scope.qparams(node.inputs[0]), *weights, *shape, *tail, attrs["group_size"])
        out = (*scope.qparams(node.name), node.output.qmin, node.output.qmax)
        added = (spatial(residual[0]), *scope.qparams(node.inputs[1])) if residual else (None, None, None)
        return target(
            x, *scope.qparams(node.inputs[0]), *weights, *out, *shape, *tail, *added, attrs["group_size"]
        )


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
        weight, _, weight_zero_point, bias = _stored(scope, node)
        assert weight is not None
        zero_point = scope.qparams(node.inputs[0])[1]
        if weight.dim() == 4:
            shape = [node.attrs[key] for key in SHAPE_ATTRS]
            acc = torch.ops.ptqx.conv2d_s32(spatial(inputs[0]), weight, zero_point, weight_zero_point, *shape)
        else:
            acc = torch.ops.ptqx.linear_s32(inputs[0], weight, zero_point, weight_zero_point)
        acc = acc.long()
        if bias is not None:
            acc = acc + per_channel(bias, weight)
        channels = (-1, 1, 1) if weight.dim() == 4 else (-1,)
        return spatial(stored_requantizer(scope, node).codes([acc], channels).to(torch.uint8))


@operator("conv2d_simulated", "linear_simulated")
class SimulatedLayer(Operator):
    """A static layer whose weights are no whole numbers: its formulas on codes, in float32."""

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
        y = _static_layer(x, residual, layer, out, node.attrs, tail, slopes)
        return y.values.to(torch.uint8) if isinstance(y, Codes) else y


def _codes(scope: IntegerScope, name: str, values: Tensor) -> Codes:
    return Codes(values.float(), scope.output(name))


def _static_layer(
    x: Codes,
    residual: list[Codes],
    layer: IntegerLayer,
    out: QParams | None,
    shape: dict[str, Any],
    tail: tuple[str, list[Tensor]],
    slopes: Tensor | None,
) -> Value:
    """The written formula of a static layer: accumulate, scale, add, activate, round once."""
    t = _before_residual(shape, x, layer, out)
    if residual:
        assert out is not None
        t = t + residual[0].centered() * (residual[0].qparams.scale / out.scale)
    t = apply_tail(t, *tail, slopes)
    return t if out is None else Codes(round_and_clamp(t, out), out)


def _before_residual(shape: dict[str, Any], x: Codes, layer: IntegerLayer, out: QParams | None) -> Tensor:
    codes, bias = layer.codes, layer.bias
    integers, weight, steps = x.centered(), codes.centered(), x.qparams.steps
    scale = x.qparams.scale * codes.scale
    if out is not None:
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


@operator("conv2d_dynamic", "linear_dynamic")
class DynamicLayer(_Layer):
    """Real values in and out; each sample is quantized by its own range."""

    def train(self, model: SimulatedModel, node: Node, *inputs: Tensor) -> Tensor:
        x = inputs[0]
        return super().train(model, node, x if model.observing else dynamic_input(model, node, x))

    def exact(self, model: SimulatedModel, node: Node, *inputs: Any) -> Value:
        (x,) = inputs
        qmax = model.input_scheme(node).qmax
        scale, zero_point = (per_sample(p, x) for p in dynamic_qparams(x, qmax))
        out = QParams(scale, zero_point, 0, qmax)
        integers = round_and_clamp(x / scale, out) - zero_point
        weight, bias = folded(model, node)
        codes = layer_codes(model, node, weight)
        acc = accumulate(integers, codes.centered(), None, qmax, node.attrs)
        t = acc * (scale * per_channel(codes.scale, weight))
        if bias is not None:
            t = t + per_channel(bias, weight)
        kind, args = tail_of(node.attrs, None)
        return apply_tail(t, kind, args, _slopes(model, node))

    def lower(self, model: SimulatedModel, node: Node) -> Lowered:
        weight, bias = folded(model, node)
        lowered = self._lowered(node, weight.shape, lowered_tail(node.attrs, None))
        self._store_codes(lowered, layer_codes(model, node, weight.detach()))
        if bias is not None:
            lowered.tensors["bias"] = bias.detach().clone()
        _store_slopes(lowered, model, node)
        return lowered

    def run(self, scope: IntegerScope, node: IntegerNode, *inputs: Tensor) -> Tensor:
        x, scale, zero_point = torch.ops.ptqx.dynamic_quantize(inputs[0], 0, 255, True)
        op = node.op.removesuffix("_dynamic")
        if op == "conv2d":
            x = spatial(x)
        attrs = node.attrs
        shape = tuple(attrs[key] for key in SHAPE_ATTRS) if op == "conv2d" else ()
        weights = _stored(scope, node)
        tail = (*operator_tail(node), scope.tensor(node, "slopes"))
        target = getattr(torch.ops.ptqx, f"{op}_f32")
        return target(x, scale, zero_point, *weights, *shape, *tail, attrs["group_size"])


def dynamic_input(model: SimulatedModel, node: Node, x: Tensor) -> Tensor:
    """Each sample rounded to the codes of its own range, as real values."""
    qmax = model.input_scheme(node).qmax
    scale, zero_point = dynamic_qparams(x.detach().float(), qmax)
    return ops.fake_quantize(x, scale, zero_point, 0, qmax, 0, 0)


@operator("conv2d_float", "linear_float")
class FloatLayer(_Layer):
    """Float arithmetic: weights dequantized from their codes ("weight_only"), or kept float32."""

    def exact(self, model: SimulatedModel, node: Node, *inputs: Any) -> Value:
        weight, bias = folded(model, node)
        if node.kind == "weight_only":
            weight = layer_codes(model, node, weight).real()
        return _float_layer(
            inputs[0], weight, bias, node.attrs, lowered_tail(node.attrs, None), _slopes(model, node)
        )

    def lower(self, model: SimulatedModel, node: Node) -> Lowered:
        weight, bias = folded(model, node)
        lowered = self._lowered(node, weight.shape, lowered_tail(node.attrs, None))
        if node.kind == "weight_only":
            self._store_codes(lowered, layer_codes(model, node, weight.detach()))
        else:
            lowered.attrs.update(weight_bits=32, group_size=0)
            lowered.tensors["weight"] = weight.detach().clone()
        if bias is not None:
            lowered.tensors["bias"] = bias.detach().clone()
        _store_slopes(lowered, model, node)
        return lowered

    def run(self, scope: IntegerScope, node: IntegerNode, *inputs: Tensor) -> Tensor:
        attrs = node.attrs
        if attrs["weight_bits"] == 32:
            weight = scope.tensor(node, "weight")
        else:
            weight = stored_codes(scope, node).real()
        assert weight is not None
        slopes = scope.tensor(node, "slopes")
        slopes = None if slopes is None else per_channel(slopes, weight)
        return _float_layer(inputs[0], weight, scope.tensor(node, "bias"), attrs, attrs, slopes)


def _float_layer(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    shape: dict[str, Any],
    tail: dict[str, Any],
    slopes: Tensor | None,
) -> Tensor:
    # One memory order, because the float result depends on it.
    y = convolve(x.contiguous(), weight.contiguous(), shape)
    if bias is not None:
        y = y + per_channel(bias, weight)
    return run_tail(tail, y, slopes)


def _trained(model: SimulatedModel, node: Node, x: Tensor) -> Tensor:
    """The layer before residual and activation, on real values with fake-quantized weights.

    With its batch norm unfolded (`qat`), weight * factor is quantized and divided by the factor again, so
    that the batch norm sees the scale of its statistics (Krishnamoorthi, arXiv:1806.08342, section 3.2.2).
    """
    if model.observing or node.kind == "float":
        weight, bias = folded(model, node)
        return convolve(x, weight, node.attrs, bias)
    quantizer = model.weight_quantizer(node)
    factor = training_factor(model, node)
    if factor is None:
        weight, bias = folded(model, node)
        return _convolve_quantized(model, node, x, quantizer(weight), quantizer.scale, bias)
    weight = quantizer.forward_scaled(raw_weight(model, node), factor)
    bias = model.tensor(node.params["bias"]) if "bias" in node.params else None
    y = _convolve_quantized(model, node, x, weight, quantizer.scale / factor, bias)
    return _batch_norm(model, node, y)


def _convolve_quantized(
    model: SimulatedModel, node: Node, x: Tensor, weight: Tensor, step: Tensor, bias: Tensor | None
) -> Tensor:
    """Under autocast the convolution gets codes, exact in bfloat16, and the scales come after it.

    What is divided before and multiplied after cancels in the gradients, so that scales learn from their fake
    quantizations alone.

    Args:
        x: fake-quantized, or its codes (`SimulatedModel.passes_codes`).
        weight: fake-quantized, whole multiples of `step`, [1] or [out].
    """
    scale = model.input_scale(node)
    grouped = model.weight_quantizer(node).scheme.group_size
    if scale is None or grouped or not torch.is_autocast_enabled(x.device.type):
        return convolve(x, weight, node.attrs, bias)
    scale, step = scale.detach(), step.detach()
    unit = scale * step
    codes = weight / step.reshape(-1, *[1] * (weight.dim() - 1))
    if not model.passes_codes(model.graph.nodes[node.inputs[0]].quantizer, x):
        x = x / scale
    acc = convolve(x, codes, node.attrs, None if bias is None else bias / unit)
    return acc.mul_(per_channel(unit, weight).to(acc.dtype))  # nobody else reads acc


def _batch_norm(model: SimulatedModel, node: Node, y: Tensor) -> Tensor:
    if node.attrs["bn_module"] is not None:
        return model.get_submodule(node.attrs["bn_module"])(y)
    roles = ("bn_running_mean", "bn_running_var", "bn_weight", "bn_bias")
    mean, variance, gamma, beta = (
        model.tensor(node.params[role]) if role in node.params else None for role in roles
    )
    return F.batch_norm(y, mean, variance, gamma, beta, eps=node.attrs["bn_eps"])


def _slopes(model: SimulatedModel, node: Node) -> Tensor | None:
    """PReLU's slopes, made to broadcast with the layer's result."""
    if "slopes" not in node.params:
        return None
    slopes = model.tensor(node.params["slopes"])
    return slopes.reshape(-1, 1, 1) if len(node.shape) == 3 else slopes


def _store_slopes(lowered: Lowered, model: SimulatedModel, node: Node) -> None:
    slopes = _slopes(model, node)
    if slopes is not None:
        lowered.tensors["slopes"] = slopes.detach().reshape(-1).expand(node.shape[0]).clone()


def _stored(scope: IntegerScope, node: IntegerNode) -> tuple[Tensor | None, ...]:
    """Weight, weight_scale, weight_zero_point and bias, as the operators take them."""
    return (
        unpacked_weight(scope, node),
        *(scope.tensor(node, role) for role in ("weight_scale", "weight_zero_point", "bias")),
    )


def stored_codes(scope: IntegerScope, node: IntegerNode) -> LayerCodes:
    """A layer's stored weights, codebooks looked up, with their scales."""
    zero_point, scale = scope.tensor(node, "weight_zero_point"), scope.tensor(node, "weight_scale")
    assert scale is not None
    values, levels = unpacked_weight(scope, node).float(), scope.tensor(node, "weight_levels")
    on_grid = not any(t is not None and t.is_floating_point() for t in (levels, zero_point))
    zero_point = None if zero_point is None else zero_point.float()
    bits, group_size = node.attrs["weight_bits"], node.attrs["group_size"]
    return LayerCodes(values, scale, zero_point, bits, group_size, on_grid=on_grid)


def _packed_bits(bits: int) -> int:
    """What a code of up to 4 bits takes in a file."""
    return 4 if bits == 3 else bits


def unpacked_weight(scope: IntegerScope, node: IntegerNode) -> Tensor:
    """A layer's stored weights as int8 in their shape: unpacked, and looked up where there is a codebook."""
    weight, bits = scope.tensor(node, "weight"), node.attrs["weight_bits"]
    assert weight is not None
    if bits <= 4:
        unpack = getattr(torch.ops.ptqx, f"unpack_int{_packed_bits(bits)}")
        weight = unpack(weight, node.attrs["weight_shape"])
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
