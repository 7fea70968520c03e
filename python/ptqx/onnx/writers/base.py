"""The registry of writers, and what they share: rounding to codes, activations."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import numpy as np
import torch
from torch import Tensor

from ...errors import PtqxError
from ...graph import IntegerNode
from ...graph.formulas import QParams
from ..builder import Builder

STYLES = ("qdq", "integer")
Writer = Callable[[Builder, IntegerNode], str]
WRITERS: dict[tuple[str, str], Writer] = {}


def writer(*ops: str, styles: tuple[str, ...] = STYLES) -> Callable[[Writer], Writer]:
    """Enter a function that adds the ONNX nodes of an operation and returns the name of its result."""

    def enter(function: Writer) -> Writer:
        for op in ops:
            for style in styles:
                WRITERS[op, style] = function
        return function

    return enter


def write(b: Builder, node: IntegerNode) -> None:
    """Add the node of the integer graph.

    Raises:
        PtqxError: an operation that ONNX can't hold; it names the node and what would help.
    """
    if node.op == "float":
        raise PtqxError(
            f"{node.name} stayed a Python module ({node.reason}), which ONNX can't hold; replace it in the "
            "float model by operations that are captured, or leave the part with it out of the export"
        )
    if (node.op, b.style) not in WRITERS:
        other = next((style for op, style in WRITERS if op == node.op), None)
        remedy = f"use style={other!r}" if other else "run it with ptqx.compile or ptqx.export"
        raise PtqxError(f"{node.name}: style {b.style!r} has no form for the operation {node.op!r}; {remedy}")
    b.begin(node)
    b.finish(node, WRITERS[node.op, b.style](b, node))


def to_codes(b: Builder, node: IntegerNode, real: str) -> str:
    """QuantizeLinear of real values by the node's scale, within its range of codes."""
    q = b.qparams(node.name)
    return _rounded(b, real, q, q.scale)


def same_codes(b: Builder, node: IntegerNode, real: str) -> str:
    """The same of values that were dequantized from the node's own codes."""
    q = b.qparams(node.name)
    return b.op("QuantizeLinear", real, b.scalar(q.scale), b.scalar(q.zero_point, np.uint8))


def round_to_codes(b: Builder, node: IntegerNode, t: str) -> str:
    """clamp(round_half_even(t) + zero_point, qmin, qmax) of a t in units of the output scale.

    QuantizeLinear with scale 1: its division is exact.
    """
    return _rounded(b, t, b.qparams(node.name), torch.tensor(1.0))


def _rounded(b: Builder, values: str, q: QParams, scale: Tensor) -> str:
    codes = b.op("QuantizeLinear", values, b.scalar(scale), b.scalar(q.zero_point, np.uint8))
    if (q.qmin, q.qmax) == (0, 255):
        return codes
    # On codes, not before: so that runtimes see an operation and QuantizeLinear side by side.
    return b.op("Clip", codes, b.scalar(q.qmin, np.uint8), b.scalar(q.qmax, np.uint8))


def add_tail(b: Builder, node: IntegerNode, t: str) -> str:
    """The node's activation by the written formulas, in the units of t; float32, operation by operation."""
    kind, args = node.attrs["activation"], node.attrs["activation_args"]
    if kind == "none":
        return t
    if kind == "clip":
        return clip(b, t, *args)
    if kind in ("leaky_relu", "prelu"):
        slope = b.scalar(args[0]) if kind == "leaky_relu" else slopes(b, node)
        return b.op("Where", b.op("Less", t, b.scalar(0.0)), b.op("Mul", t, slope), t)
    scaled = b.op("Mul", t, b.scalar(args[0]))
    if kind == "hardsigmoid":
        return clip(b, b.op("Add", scaled, b.scalar(args[1])), 0.0, args[2])
    if kind == "hardswish":
        return b.op("Mul", t, clip(b, b.op("Add", scaled, b.scalar(0.5)), 0.0, 1.0))
    raise PtqxError(f"{node.name}: the activation {kind!r} has no form in ONNX here")


def add_named_tail(b: Builder, node: IntegerNode, y: str, unit: float = 1.0) -> str:
    """The node's activation of real values by ONNX's own operation; its arguments are multiples of `unit`."""
    kind, args = node.attrs["activation"], node.attrs["activation_args"]
    if kind == "none":
        return y
    if kind == "clip":
        return clip(b, y, args[0] * unit, args[1] * unit)
    if kind == "leaky_relu":
        return b.op("LeakyRelu", y, alpha=args[0])
    if kind == "prelu":
        return b.op("PRelu", y, slopes(b, node))
    if kind == "hardsigmoid":
        return b.op("HardSigmoid", y, alpha=args[0], beta=0.5)
    if kind == "hardswish":
        return b.op("HardSwish", y)
    raise PtqxError(f"{node.name}: the activation {kind!r} has no form in ONNX here")


def clip(b: Builder, t: str, low: float, high: float) -> str:
    if (low, high) == (0.0, inf):
        return b.op("Relu", t)
    if (low, high) == (-inf, inf):
        return t
    return b.op("Clip", t, b.scalar(low) if low > -inf else "", *([b.scalar(high)] if high < inf else []))


def slopes(b: Builder, node: IntegerNode) -> str:
    """PReLU's slopes, made to broadcast with what the layer gives."""
    values = b.tensor(node, "slopes")
    assert values is not None
    return b.constant(values.reshape(-1, 1, 1) if len(b.shapes[node.name]) == 3 else values, "slopes")
