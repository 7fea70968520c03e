"""The steps of one output value, from products to code, as numbers and as text."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from ..tables import aligned
from .accumulators import DYNAMIC, bits_of
from .formulas import QParams

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
class FixedPoint:
    """Requantization without floats: rounded = accumulator * multiplier / 2**shift, half to even, and
    code = clamp(rounded + zero point, low, high), the activation's bounds among them."""

    multiplier: int
    shift: int
    rounded: int
    low: int
    high: int
    code: int


@dataclass(frozen=True)
class GroupSum:
    """A group of input channels with a weight scale of its own: scaled = float32(products) * multiplier, in
    units of the output scale."""

    products: int
    weight_scale: float
    multiplier: float
    scaled: float


@dataclass(frozen=True)
class ValueTrace:
    """One output value; printed, it is a text.

    Attributes:
        layer, kind: of the layer and its operation.
        place: sample, channel, y, x of the output; sample, channel of a linear layer.
        reads: the node that gives the input.
        taps: all products, the largest first; those on padding, which are 0, are left out.
        padding: how many those are.
        input, weight_scale, output: what codes mean. `input` is what was found in this sample in a dynamic
            layer, `weight_scale` None where groups have their own, `output` None where the layer gives real
            values.
        products: sum of all products.
        bias: int32, in units of the sums; None without, or where it is float32 (`float_bias`).
        accumulator: products + bias.
        bound: the largest |accumulator| that any input codes could give; of one group, where there are
            several.
        multiplier: float32, (s_x * s_w) / s_y, or s_x * s_w without an output scale; what stands for it
            where there are no floats (`fixed`); None where groups have their own.
        scaled: float32(accumulator) * multiplier, in units of the output scale; the sum of those of `groups`.
        residual: what is added to it, in the same units; None without.
        activation: and what it makes of the sum: `activated`.
        code: clamp(round(activated) + zero point), what the model gives; None without output scale.
        clipped: whether the clamp changed it.
        real: what the code stands for, or what the layer gives.
        fixed: the whole numbers of a layer that requantizes without floats; None elsewhere.
        groups: the sums of a layer with a weight scale for every group of input channels; () elsewhere.
    """

    layer: str
    kind: str
    place: tuple[int, ...]
    reads: str
    taps: tuple[Tap, ...]
    padding: int
    input: QParams
    weight_scale: float | None
    output: QParams | None
    products: int
    bias: int | None
    float_bias: float | None
    accumulator: int
    bound: int
    multiplier: float | None
    scaled: float
    residual: float | None
    activation: str
    activated: float
    code: int | None
    clipped: bool
    real: float
    fixed: FixedPoint | None = None
    groups: tuple[GroupSum, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """All attributes as plain values, ready for JSON."""
        return {**asdict(self), "input": _plain(self.input), "output": _plain(self.output)}

    def __str__(self) -> str:
        names = ("sample", "channel", "y", "x")
        place = ", ".join(f"{name} {i}" for name, i in zip(names, self.place, strict=False))
        scale = f"s * q, an s for each of {len(self.groups)} groups of input channels,"
        if self.weight_scale is not None:
            scale = f"{self.weight_scale:.6g} * q"
        found = ", as found in this sample" if self.kind in DYNAMIC else ""
        lines = [
            f"{self.layer} ({self.kind}), {place}; it reads {self.reads}",
            f"input   real = {_meaning(self.input)}{found}",
            f"weights real = {scale} in this output channel",
            f"output  real = {'as it is' if self.output is None else _meaning(self.output)}",
            "",
            f"{len(self.taps)} products, and {self.padding} on padding, which are 0",
            self._taps(),
            "",
        ]
        steps = self._scaling()
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
            low, high = self.output.qmin, self.output.qmax
            kind = "uint8" if low >= 0 and high <= 255 else "int16"
            if self.fixed is not None:
                low, high = self.fixed.low, self.fixed.high
            limits = f"clamped to {low}..{high}"
            steps.append((limits, f"{self.code}", kind + (", clipped" if self.clipped else "")))
        steps.append(("stands for", f"{self.real:.6g}", "the same as the model gives"))
        return "\n".join([*lines, aligned(("step", "value", ""), steps, ("value",))])

    def _scaling(self) -> list[tuple[str, str, str]]:
        """The steps from the products to their scaled sum."""
        bits = bits_of(self.bound)
        kind = "int32" if bits <= 32 else "int64"
        limit = f"|.| <= {self.bound}: {bits} bits"
        factor = "s_x * s_w" if self.output is None else "(s_x * s_w) / s_y"
        steps = []
        if self.weight_scale is None or self.multiplier is None:
            for number, group in enumerate(self.groups):
                steps.append((f"sum of products of group {number}, {kind}", f"{group.products}", limit))
                factored = f"* {factor} = {group.multiplier:.6g}"
                steps.append((factored, f"{group.scaled:.6g}", "float32, one rounding"))
            return [*steps, ("sum of the groups, float32", f"{self.scaled:.6g}", "in this order")]
        unit = float(self.input.scale) * self.weight_scale
        steps.append(("sum of products", f"{self.products}", f"{self.products * unit:.6g}"))
        if self.bias is not None:
            steps.append((f"+ bias, {kind}", f"{self.bias}", f"{self.bias * unit:.6g}"))
        bound = f"{self.accumulator * unit:.6g}; {limit}"
        steps.append((f"= accumulator, {kind}", f"{self.accumulator}", bound))
        how = "float32, one rounding"
        if self.fixed is not None:
            factor = f"{self.fixed.multiplier} / 2**{self.fixed.shift}"
            how = "whole numbers: a product, a shift"
        return [*steps, (f"* {factor} = {self.multiplier:.6g}", f"{self.scaled:.6g}", how)]

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


def _plain(codes: QParams | None) -> dict[str, float] | None:
    if codes is None:
        return None
    return {
        "scale": float(codes.scale),
        "zero_point": int(codes.zero_point),
        "qmin": codes.qmin,
        "qmax": codes.qmax,
    }


def _meaning(codes: QParams) -> str:
    zero_point = int(codes.zero_point)
    return f"{float(codes.scale):.6g} * (q - {zero_point}), q in {codes.qmin}..{codes.qmax}"
