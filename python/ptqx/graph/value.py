"""explain_value: one output value of a layer, from the float input to its code, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PtqxError, unknown_name
from ..tables import aligned
from .accumulators import accumulating_layers, accumulator_bound, bits_of
from .activations import float32
from .document import IntegerNode
from .engine import Engine
from .formulas import QParams, apply_tail, requantize_multiplier, round_and_clamp
from .integer import IntegerModel
from .operators.stored_weights import stored_codes

SHOWN_TAPS = 9


@dataclass(frozen=True)
class Tap:
    """One product: where its input lies, the real value there and its code, the weight's code.

    product = (code - zero point of the input) * (weight - zero point of the weights).
    """

    channel: int
    y: int
    x: int
    real: float
    code: int
    weight: int
    product: int


@dataclass(frozen=True)
class ValueTrace:
    """One output value; printed, it is a text.

    Attributes:
        layer, kind: of the layer and its operation.
        place: sample, channel, y, x of the output; sample, channel of a linear layer.
        reads: the node that gives the input.
        taps: all products, the largest first; those on padding, which are 0, are left out.
        padding: how many those are.
        input, weight_scale, output: what codes mean; `output` is None where the layer gives real values.
        products: sum of all products.
        bias: int32, in units of the sums; None without, or where it is float32 (`float_bias`).
        accumulator: products + bias.
        bound: the largest |accumulator| that any input could give.
        multiplier: float32, (s_x * s_w) / s_y, or s_x * s_w without an output scale.
        scaled: float32(accumulator) * multiplier, in units of the output scale.
        residual: what is added to it, in the same units; None without.
        activation: and what it makes of the sum: `activated`.
        code: clamp(round(activated) + zero point), what the model gives; None without output scale.
        clipped: whether the clamp changed it.
        real: what the code stands for, or what the layer gives.
    """

    layer: str
    kind: str
    place: tuple[int, ...]
    reads: str
    taps: tuple[Tap, ...]
    padding: int
    input: QParams
    weight_scale: float
    output: QParams | None
    products: int
    bias: int | None
    float_bias: float | None
    accumulator: int
    bound: int
    multiplier: float
    scaled: float
    residual: float | None
    activation: str
    activated: float
    code: int | None
    clipped: bool
    real: float

    def __str__(self) -> str:
        names = ("sample", "channel", "y", "x")
        place = ", ".join(f"{name} {i}" for name, i in zip(names, self.place, strict=False))
        unit = float(self.input.scale) * self.weight_scale
        lines = [
            f"{self.layer} ({self.kind}), {place}; it reads {self.reads}",
            f"input   real = {_meaning(self.input)}",
            f"weights real = {self.weight_scale:.6g} * q in this output channel",
            f"output  real = {'as it is' if self.output is None else _meaning(self.output)}",
            "",
            f"{len(self.taps)} products, and {self.padding} on padding, which are 0",
            self._taps(),
            "",
        ]
        steps = [("sum of products", f"{self.products}", f"{self.products * unit:.6g}")]
        if self.bias is not None:
            steps.append(("+ bias, int32", f"{self.bias}", f"{self.bias * unit:.6g}"))
        bits = bits_of(self.bound)
        bound = f"{self.accumulator * unit:.6g}; |.| <= {self.bound}: {bits} bits"
        steps.append(("= accumulator, int32", f"{self.accumulator}", bound))
        factor = "s_x * s_w" if self.output is None else "(s_x * s_w) / s_y"
        steps.append((f"* {factor} = {self.multiplier:.6g}", f"{self.scaled:.6g}", "float32, one rounding"))
        if self.float_bias is not None:
            steps.append(("+ bias, float32", f"{self.float_bias:.6g}", ""))
        if self.residual is not None:
            steps.append(("+ residual", f"{self.residual:.6g}", ""))
        if self.activation != "none":
            steps.append((f"{self.activation}", f"{self.activated:.6g}", ""))
        if self.output is not None:
            zero_point = int(self.output.zero_point)
            rounded = int(torch.tensor(self.activated).round()) if abs(self.activated) < 2**31 else 0
            steps.append(("rounded, half to even", f"{rounded}", ""))
            steps.append((f"+ zero point {zero_point}", f"{rounded + zero_point}", ""))
            limits = f"clamped to {self.output.qmin}..{self.output.qmax}"
            steps.append((limits, f"{self.code}", "uint8" + (", clipped" if self.clipped else "")))
        steps.append(("stands for", f"{self.real:.6g}", "the same as the model gives"))
        return "\n".join([*lines, aligned(("step", "value", ""), steps, ("value",))])

    def _taps(self) -> str:
        shown = self.taps[:SHOWN_TAPS]
        header = ("channel", "y", "x", "real", "code", "code - zero", "weight", "product")
        zero_point = int(self.input.zero_point)
        rows = [
            [
                *(str(value) for value in (tap.channel, tap.y, tap.x)),
                f"{tap.real:.6g}",
                *(str(value) for value in (tap.code, tap.code - zero_point, tap.weight, tap.product)),
            ]
            for tap in shown
        ]
        rest = self.taps[SHOWN_TAPS:]
        if rest:
            rows.append([f"{len(rest)} more", *[""] * 6, str(sum(tap.product for tap in rest))])
        return aligned(header, rows, header[1:])


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
        PtqxError: no such layer or place, or a layer that has no int32 accumulators: dynamic, float,
            per-group, off-grid, or requantized without floats.

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


def _layer(model: IntegerModel, layer: str) -> IntegerNode:
    known = [node.name for node in accumulating_layers(model)]
    node = model.graph.nodes.get(layer)
    if node is not None and "weight_shape" in node.attrs and layer not in known:
        raise PtqxError(
            f"{layer} ({node.op}) has no int32 accumulators that one multiplication turns into codes; layers "
            f"that have: {', '.join(known) or 'none'}"
        )
    if layer not in known:
        raise unknown_name("layer", layer, known)
    assert node is not None
    return node


def _traced(
    model: IntegerModel, node: IntegerNode, values: dict[str, Tensor], place: tuple[int, ...], sample: int
) -> ValueTrace:
    channel = place[0]
    source = model.output(node.inputs[0])
    codes = stored_codes(model, node)
    weight = codes.centered()[channel]
    scale = codes.scale.expand(len(codes.values))[channel]
    taps, padding = _taps(model, node, values, weight, place)
    products = sum(tap.product for tap in taps)
    bias = model.tensor(node, "bias")
    integer_bias = int(bias[channel]) if bias is not None and not bias.is_floating_point() else None
    accumulator = products + (integer_bias or 0)
    out = model.output(node.name) if node.output.dtype == "uint8" else None
    multiplier = source.scale * scale
    if out is not None:
        multiplier = requantize_multiplier(source.scale, scale, out.scale)
    scaled = torch.tensor(accumulator, dtype=torch.int64).float() * multiplier
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
    t = apply_tail(t, kind, arguments, None if slopes is None else slopes[channel])
    code = None if out is None else int(round_and_clamp(t, out))
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
        weight_scale=float(scale),
        output=out,
        products=products,
        bias=integer_bias,
        float_bias=None if float_bias is None else float(float_bias),
        accumulator=accumulator,
        bound=accumulator_bound(model, node),
        multiplier=float(multiplier),
        scaled=float(scaled),
        residual=None if residual is None else float(residual),
        activation=f"{kind}({', '.join(f'{float(a):.4g}' for a in arguments)})" if kind != "none" else kind,
        activated=float(t),
        code=code,
        clipped=out is not None and code != int(torch.round(t.double()) + out.zero_point),
        real=float(real),
    )


def _taps(
    model: IntegerModel, node: IntegerNode, values: dict[str, Tensor], weight: Tensor, place: tuple[int, ...]
) -> tuple[tuple[Tap, ...], int]:
    """All products that are not on padding, the largest first, and how many are."""
    source = model.output(node.inputs[0])
    codes = values[node.inputs[0]][0].float()
    reader = model.graph.nodes[node.inputs[0]]
    real = (codes - source.zero_point) * source.scale
    if reader.op == "quantize":
        real = values[reader.inputs[0]][0]
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


def _meaning(codes: QParams) -> str:
    zero_point = int(codes.zero_point)
    return f"{float(codes.scale):.6g} * (q - {zero_point}), q in {codes.qmin}..{codes.qmax}"
