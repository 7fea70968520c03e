"""Convolution and linear layers: static, dynamic (the range of each sample) and float (weight-only)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ... import ops
from ...quant import FLOAT_DTYPES
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
    round_and_clamp,
)
from ..ir import Graph, Node
from ..placement import MOVERS
from ..weights import (
    MAX_INPUT,
    check_accumulators,
    folded,
    in_float_dtype,
    integer_layer,
    layer_codes,
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
    tail_of,
)
from .layer_training import trained
from .static_layers import SHAPE_ATTRS, layer_requantizer, static_formula
from .stored_weights import (
    layer_slopes,
    real_weight,
    store_codes,
    store_slopes,
    stored_form,
    stored_weights,
)

if TYPE_CHECKING:
    from ..document import IntegerNode
    from ..simulated import SimulatedModel


class _Layer(Operator):
    """What the three kinds share: training, attributes and stored weights."""

    def train(self, model: SimulatedModel, node: Node, *inputs: Tensor) -> Tensor:
        x, *residual = inputs
        y = trained(model, node, x)
        if residual:
            y = y + residual[0]
        if node.attrs.get("activation") == "relu":
            return y.relu_()  # nobody else reads y
        return real_activation(node.attrs, y, layer_slopes(model, node))

    def _lowered(self, node: Node, weight_shape: torch.Size, tail: dict[str, Any]) -> Lowered:
        attrs = {key: node.attrs[key] for key in SHAPE_ATTRS if key in node.attrs}
        return Lowered({**attrs, "weight_shape": list(weight_shape), **tail})


@operator("conv2d", "linear", "binary_conv2d", "binary_linear")
class StaticLayer(_Layer):
    """Codes in; codes out, or real values where no reader wants codes.

    Where inputs and weights are signs ("binary_") the engine counts bits, 64 at a time; here they are bytes.
    """

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
        return static_formula(x, residual, layer, out, node.attrs, tail, layer_slopes(model, node))

    def lower(self, model: SimulatedModel, node: Node) -> Lowered:
        out = model.qparams(node)
        x = model.qparams_of(node.inputs[0])
        layer = integer_layer(model, node, x)
        wide = x.steps > MAX_INPUT or layer.codes.bits > 8 or (out is not None and out.steps > MAX_INPUT)
        if not wide:
            check_accumulators(node, layer)
        lowered = self._lowered(node, layer.codes.values.shape, lowered_tail(node.attrs, out))
        store_codes(lowered, layer.codes)
        if layer.bias is not None:
            whole = torch.int64 if wide else torch.int32
            lowered.tensors["bias"] = layer.bias.to(whole) if layer.bias_is_integer else layer.bias.clone()
        store_slopes(lowered, model, node)
        if out is not None and model.recipe.requantize != "float":
            lower_fixed_point(lowered, node, layer_requantizer(model, node, x, layer, out))
        if wide:
            lowered.op = f"{node.op}_wide"
        if not layer.codes.on_grid:
            lowered.op = f"{node.op}_simulated"
            lowered.reason = f"levels {model.weight_quantizer(node).scheme.levels!r} are no whole numbers"
        if not lowered.op and self._multiplies_signs(model, node):
            lowered.op = f"binary_{node.op}"
        return lowered

    @staticmethod
    def _multiplies_signs(model: SimulatedModel, node: Node) -> bool:
        """Whether inputs and weights are all +1 or -1, and every output channel sees all of the inputs."""
        weights = model.weight_quantizer(node).scheme
        signs = weights.levels == "binary" and model.input_scheme(node).of_activations
        if _holds_zeros(model.graph, node.inputs[0]):
            return False
        return signs and not weights.group_size and node.attrs.get("groups", 1) == 1

    def run(self, scope: IntegerScope, node: IntegerNode, *inputs: Tensor) -> Tensor:
        target, before_residual, after_residual = scope.remembered(node, self._call)
        x, *residual = (spatial(values) for values in inputs)
        if node.output.dtype != "uint8":
            return target(x, *before_residual, *after_residual)
        return target(x, *before_residual, residual[0] if residual else None, *after_residual)

    def _call(self, scope: IntegerScope, node: IntegerNode) -> tuple[Any, tuple[Any, ...], tuple[Any, ...]]:
        """The operator and its arguments but input and residual."""
        attrs, op = node.attrs, node.op.removeprefix("binary_")
        shape = tuple(attrs[key] for key in SHAPE_ATTRS) if op == "conv2d" else ()
        tail = (*operator_tail(node), scope.tensor(node, "slopes"))
        fixed = (*scope.qparams(node.inputs[0]), *stored_weights(scope, node))
        form = (attrs["group_size"], *stored_form(scope, node))
        if node.output.dtype != "uint8":
            return _kernel(f"{op}_f32"), (*fixed, *shape, *tail), form
        out = (*scope.qparams(node.name), node.output.qmin, node.output.qmax)
        added = scope.qparams(node.inputs[1]) if len(node.inputs) > 1 else (None, None)
        return _kernel(op), (*fixed, *out, *shape, *tail), (*added, *form)


def _holds_zeros(graph: Graph, name: str) -> bool:
    """Whether padding, zeros between pixels or means, which are no signs, are among the codes that a node
    gives."""
    if name not in graph.nodes:
        return False
    node = graph.nodes[name]
    if node.op in ("upsample_zeros2d", "upsample_bilinear2d"):
        return True
    if node.op == "pad" and node.attrs.get("mode", "constant") == "constant":
        return True
    return node.op in (*MOVERS, "cat") and any(_holds_zeros(graph, source) for source in node.inputs)


def _kernel(name: str) -> Any:
    return getattr(torch.ops.ptqx, name).default


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
        return apply_tail(t, kind, args, layer_slopes(model, node))

    def lower(self, model: SimulatedModel, node: Node) -> Lowered:
        weight, bias = folded(model, node)
        lowered = self._lowered(node, weight.shape, lowered_tail(node.attrs, None))
        store_codes(lowered, layer_codes(model, node, weight.detach()))
        if bias is not None:
            lowered.tensors["bias"] = bias.detach().clone()
        store_slopes(lowered, model, node)
        return lowered

    def run(self, scope: IntegerScope, node: IntegerNode, *inputs: Tensor) -> Tensor:
        target, fixed = scope.remembered(node, self._call)
        x, scale, zero_point = torch.ops.ptqx.dynamic_quantize(inputs[0], 0, 255, True)
        return target(spatial(x), scale, zero_point, *fixed)

    def _call(self, scope: IntegerScope, node: IntegerNode) -> tuple[Any, tuple[Any, ...]]:
        """The operator and its arguments but the input and its scale."""
        attrs, op = node.attrs, node.op.removesuffix("_dynamic")
        shape = tuple(attrs[key] for key in SHAPE_ATTRS) if op == "conv2d" else ()
        tail = (*operator_tail(node), scope.tensor(node, "slopes"))
        form = (attrs["group_size"], *stored_form(scope, node))
        return _kernel(f"{op}_f32"), (*stored_weights(scope, node), *shape, *tail, *form)


def dynamic_input(model: SimulatedModel, node: Node, x: Tensor) -> Tensor:
    """Each sample rounded to the codes of its own range, as real values."""
    qmax = model.input_scheme(node).qmax
    scale, zero_point = dynamic_qparams(x.detach().float(), qmax)
    return ops.fake_quantize(x, scale, zero_point, 0, qmax, 0, 0)


@operator("conv2d_float", "linear_float")
class FloatLayer(_Layer):
    """Float arithmetic: weights dequantized from their codes ("weight_only"), or held in a float type."""

    def exact(self, model: SimulatedModel, node: Node, *inputs: Any) -> Value:
        weight, bias = folded(model, node)
        if node.kind == "weight_only":
            weight = layer_codes(model, node, weight).real()
        else:
            weight = in_float_dtype(weight, node)
        return _float_layer(
            inputs[0], weight, bias, node.attrs, lowered_tail(node.attrs, None), layer_slopes(model, node)
        )

    def lower(self, model: SimulatedModel, node: Node) -> Lowered:
        weight, bias = folded(model, node)
        lowered = self._lowered(node, weight.shape, lowered_tail(node.attrs, None))
        if node.kind == "weight_only":
            store_codes(lowered, layer_codes(model, node, weight.detach()))
        else:
            held = weight.detach().to(FLOAT_DTYPES[node.attrs["dtype"]])
            lowered.attrs.update(weight_bits=8 * held.element_size(), group_size=0)
            lowered.tensors["weight"] = held.clone()
        if bias is not None:
            lowered.tensors["bias"] = bias.detach().clone()
        store_slopes(lowered, model, node)
        return lowered

    def run(self, scope: IntegerScope, node: IntegerNode, *inputs: Tensor) -> Tensor:
        attrs = node.attrs
        weight = real_weight(scope, node)
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
