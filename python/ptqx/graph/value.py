"""explain_value: one output value of a layer, from the float input to its code, step by step."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import PtqxError, unknown_name
from .accumulators import DYNAMIC, WITHOUT_FLOATS, accumulator_bound, summing_layers
from .activations import float32
from .document import IntegerNode
from .engine import Engine
from .formulas import QParams, apply_tail, requantize_multiplier, round_and_clamp
from .integer import IntegerModel
from .operators.base import stored_requantizer
from .operators.stored_weights import stored_codes
from .requantize import shift_half_to_even
from .value_trace import FixedPoint, GroupSum, Tap, ValueTrace


@torch.no_grad()
def explain_value(
    model: nn.Module, inputs: Tensor, layer: str, channel: int, y: int = 0, x: int = 0, sample: int = 0
) -> ValueTrace:
    """Follow one output value of a convolution or linear layer from float input to code.

    Args:
        model: an integer model or an engine.
        inputs: float32, a batch of the model's input.
        layer: its name in the graph, as `explain` lists it.
        channel, y, x: of the layer's output (of the convolution, before any pooling); y and x are left at 0
            for linear layers.
        sample: which of the batch.

    Raises:
        PtqxError: no such layer or place, or a layer that computes in float: with what to use instead.

    >>> import ptqx, torch
    >>> x = torch.randn(4, 1, 8, 8)
    >>> qmodel = ptqx.quantize(ptqx.models.cnn(in_channels=1, num_classes=10).eval(), [x], "int8")
    >>> trace = explain_value(qmodel, x, "features.0", channel=3, y=2, x=5)
    >>> trace.accumulator == trace.products + trace.bias
    True
    """
    integer = model.to_integer_model() if isinstance(model, Engine) else model
    if not isinstance(integer, IntegerModel):
        raise PtqxError(f"model: expected an integer model or an engine, got {type(model).__name__}")
    node = _layer(integer, layer)
    if not 0 <= sample < len(inputs):
        raise PtqxError(f"sample: expected 0 to {len(inputs) - 1}, got {sample}")
    values: dict[str, Tensor] = {integer.graph.input: inputs[sample : sample + 1]}
    integer.run(inputs[sample : sample + 1], values)
    result = values[layer][0]
    if result.dim() not in (1, 3):
        raise PtqxError(f"{layer}: expected an output of one or three dimensions, got {list(result.shape)}")
    place = (channel, y, x) if result.dim() == 3 else (channel,)
    for name, index, size in zip(("channel", "y", "x"), (channel, y, x), (*result.shape, 1, 1), strict=False):
        if not 0 <= index < size:
            raise PtqxError(f"{name}: expected 0 to {size - 1} in {layer}, got {index}")
    return _traced(integer, node, values, place, sample)


# Why a layer has no sums of products of codes, by the end of its operation's name.
NO_SUMS = {
    "_float": "it computes in float; quantize its inputs too, as 'int8' and 'int8-dynamic' do",
    "_simulated": "its weights are no whole numbers; use levels on the int8 grid, such as 'uniform'",
}


def _layer(model: IntegerModel, layer: str) -> IntegerNode:
    known = [node.name for node in summing_layers(model)]
    node = model.graph.nodes.get(layer)
    reason = next((why for end, why in NO_SUMS.items() if node is not None and node.op.endswith(end)), None)
    if node is not None and reason is not None:
        raise PtqxError(
            f"{layer} ({node.op}) has no sums of whole numbers to follow: {reason}; layers that have: "
            f"{', '.join(known) or 'none'}"
        )
    if layer not in known:
        raise unknown_name("layer", layer, known)
    assert node is not None
    return node


class _Input(NamedTuple):
    """What a layer reads for one sample: codes, what they mean, and the real values behind them."""

    codes: Tensor
    qparams: QParams
    real: Tensor


def _input(model: IntegerModel, node: IntegerNode, values: dict[str, Tensor]) -> _Input:
    given = values[node.inputs[0]]
    if node.op in DYNAMIC:
        codes, scale, zero_point = torch.ops.ptqx.dynamic_quantize(given, 0, 255, True)
        return _Input(codes[0].float(), QParams(scale[0], zero_point[0].float(), 0, 255), given[0])
    qparams, codes = model.output(node.inputs[0]), given[0].float()
    reader = model.graph.nodes[node.inputs[0]]
    if reader.op == "quantize":
        return _Input(codes, qparams, values[reader.inputs[0]][0])
    return _Input(codes, qparams, (codes - qparams.zero_point) * qparams.scale)


def _traced(
    model: IntegerModel, node: IntegerNode, values: dict[str, Tensor], place: tuple[int, ...], sample: int
) -> ValueTrace:
    channel = place[0]
    read = _input(model, node, values)
    source = read.qparams
    codes = stored_codes(model, node)
    weight = codes.centered()[channel]
    scales = codes.scale.expand(len(codes.values), *codes.scale.shape[1:])[channel].reshape(-1)
    taps, padding = _taps(node, read, weight, place)
    group_of = [tap.channel // codes.group_size if codes.group_size else 0 for tap in taps]
    products = [
        sum(tap.product for tap, g in zip(taps, group_of, strict=True) if g == group)
        for group in range(len(scales))
    ]
    bias = model.tensor(node, "bias")
    integer_bias = int(bias[channel]) if bias is not None and not bias.is_floating_point() else None
    accumulator = sum(products) + (integer_bias or 0)
    out = model.output(node.name) if node.output.dtype != "float32" else None
    multipliers = source.scale * scales
    if out is not None:
        multipliers = requantize_multiplier(source.scale, scales, out.scale)
    fixed = None
    if out is not None and node.op in WITHOUT_FLOATS:
        fixed = _fixed_point(model, node, accumulator, channel)
        multipliers = torch.tensor([fixed.multiplier / 2**fixed.shift], dtype=torch.float64)
    groups: tuple[GroupSum, ...] = ()
    if codes.group_size:
        terms = torch.tensor(products).to(multipliers.dtype) * multipliers
        each = zip(products, scales.tolist(), multipliers.tolist(), terms.tolist(), strict=True)
        groups = tuple(GroupSum(*numbers) for numbers in each)
    else:
        terms = torch.tensor([accumulator]).to(multipliers.dtype) * multipliers
    scaled = terms[0]
    for term in terms[1:]:  # float32, in this order
        scaled = scaled + term
    t, float_bias = scaled, None
    if bias is not None and bias.is_floating_point():
        float_bias = bias[channel] if out is None else bias[channel] / out.scale
        t = t + float_bias
    residual = None
    if len(node.inputs) > 1:
        assert out is not None
        added = model.output(node.inputs[1])
        centered = values[node.inputs[1]][(0, *place)].float() - added.zero_point
        residual = centered * (added.scale / out.scale)
        t = t + residual
    slopes = model.tensor(node, "slopes")
    arguments = [float32(a) for a in node.attrs["activation_args"]]
    kind = node.attrs["activation"]
    slope = None if slopes is None else slopes[channel]
    t = apply_tail(t, kind, arguments, slope)
    code = None if out is None else int(round_and_clamp(t, out))
    if fixed is not None:
        kind, t, code = "none", torch.tensor(float(fixed.rounded)), fixed.code
    given = values[node.name][(0, *place)]
    real = t if out is None or code is None else (code - out.zero_point) * out.scale
    if bool(given != t) if code is None else int(given) != code:
        raise PtqxError(
            f"{node.name}: the model gives {given.item()}, its formula {t.item()}: a defect of ptqx"
        )
    return ValueTrace(
        layer=node.name,
        kind=node.op,
        place=(sample, *place),
        reads=node.inputs[0],
        taps=taps,
        padding=padding,
        input=source,
        weight_scale=None if groups else float(scales[0]),
        output=out,
        products=sum(products),
        bias=integer_bias,
        float_bias=None if float_bias is None else float(float_bias),
        accumulator=accumulator,
        bound=accumulator_bound(model, node, source),
        multiplier=None if groups else float(multipliers[0]),
        scaled=float(scaled),
        residual=None if residual is None else float(residual),
        activation=_written(kind, arguments if slope is None else [slope]),
        activated=float(t),
        code=code,
        clipped=_clipped(node, int(torch.round(t.double()) + out.zero_point), out) if out else False,
        fixed=fixed,
        groups=groups,
        real=float(real),
    )


def _written(kind: str, arguments: list[Tensor]) -> str:
    return kind if kind == "none" else f"{kind}({', '.join(f'{float(a):.4g}' for a in arguments)})"


def _fixed_point(model: IntegerModel, node: IntegerNode, accumulator: int, channel: int) -> FixedPoint:
    stored = stored_requantizer(model, node)
    of_channel = [t.flatten() for t in (stored.multipliers, stored.shift)]
    multiplier, shift = (t[channel if len(t) > 1 else 0] for t in of_channel)
    rounded = int(shift_half_to_even(accumulator * multiplier, shift))
    code = min(max(rounded + int(stored.zero_point), stored.low), stored.high)
    return FixedPoint(int(multiplier), int(shift), rounded, stored.low, stored.high, code)


def _clipped(node: IntegerNode, wanted: int, out: QParams) -> bool:
    """Whether the range cuts the code off. Without floats the activation is part of the clamp, and what a
    ReLU makes 0 is not cut off."""
    activated = node.op in WITHOUT_FLOATS and node.attrs["activation"] != "none"
    return wanted > out.qmax or (wanted < out.qmin and not activated)


def _taps(
    node: IntegerNode, read: _Input, weight: Tensor, place: tuple[int, ...]
) -> tuple[tuple[Tap, ...], int]:
    """All products that are not on padding, the largest first, and how many are."""
    codes, source, real = read
    if codes.dim() == 1:
        codes, real, weight = (t.reshape(-1, 1, 1) for t in (codes, real, weight))
        window: Any = [(c, 0, 0, c, 0, 0) for c in range(len(codes))]
    else:
        window = _window(node, weight, place)
    taps, padding = [], 0
    for c, y, x, *at in window:
        if not (0 <= y < codes.shape[1] and 0 <= x < codes.shape[2]):
            padding += 1
            continue
        code, value = int(codes[c, y, x]), int(weight[tuple(at)])
        product = (code - int(source.zero_point)) * value
        taps.append(Tap(c, y, x, float(real[c, y, x]), code, value, product))
    return tuple(sorted(taps, key=lambda tap: -abs(tap.product))), padding


def _window(node: IntegerNode, weight: Tensor, place: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Of each weight [C, KH, KW]: channel, y, x of the input, and its own place."""
    attrs, (channel, row, column) = node.attrs, place
    inputs, height, width = weight.shape
    top, left = attrs["padding"][:2]
    first = channel // (attrs["weight_shape"][0] // attrs["groups"]) * inputs
    return [
        (
            first + c,
            row * attrs["stride"][0] + i * attrs["dilation"][0] - top,
            column * attrs["stride"][1] + j * attrs["dilation"][1] - left,
            *(c, i, j),
        )
        for c in range(inputs)
        for i in range(height)
        for j in range(width)
    ]
