"""Bilinear upsampling: the written formula in style "integer", ONNX's Resize in style "qdq"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...graph import IntegerNode
from ...graph.formulas import bilinear_taps
from ..builder import Builder
from .base import round_to_codes, same_codes, writer
from .movement import integers


@writer("upsample_bilinear2d")
def upsample_bilinear(b: Builder, node: IntegerNode) -> str:
    (x,), on_codes = node.inputs, b.is_codes(node.name)
    if b.style == "qdq":
        y = _resize(b, node, b.real(x))
        return same_codes(b, node, y) if on_codes else y
    v = b.centered(x) if on_codes else x
    for axis in (3, 2):
        v = _along(b, node, v, axis)
    return round_to_codes(b, node, v) if on_codes else v


def _along(b: Builder, node: IntegerNode, x: str, axis: int) -> str:
    """x[first] * (1 - weight) + x[second] * weight of columns (axis 3) or rows."""
    size, outputs = (b.shapes[name][axis - 1] for name in (node.inputs[0], node.name))
    first, second, weight = bilinear_taps(size, outputs, node.attrs["align_corners"])
    weight = weight.reshape(-1, 1) if axis == 2 else weight
    parts = (
        b.op("Mul", b.op("Gather", x, b.constant(indices), axis=axis), b.constant(factor, "weight"))
        for indices, factor in ((first, 1.0 - weight), (second, weight))
    )
    return b.op("Add", *parts)


def _resize(b: Builder, node: IntegerNode, x: str) -> str:
    before, after = b.shapes[node.inputs[0]][1:], b.shapes[node.name][1:]
    corners = "align_corners" if node.attrs["align_corners"] else "half_pixel"
    how: dict[str, Any] = {"mode": "linear", "coordinate_transformation_mode": corners}
    scales = np.asarray(after, np.float32) / np.asarray(before, np.float32)
    if all(float(scale) * size == out for scale, size, out in zip(scales, before, after, strict=True)):
        return b.op("Resize", x, "", b.constant(np.asarray([1.0, 1.0, *scales], np.float32)), **how)
    return b.op("Resize", x, "", "", _sizes(b, x, after), **how)


def _sizes(b: Builder, x: str, size: Sequence[int]) -> str:
    """[N, C, *size]"""
    images = b.op("Slice", b.op("Shape", x), integers(b, [0]), integers(b, [2]))
    return b.op("Concat", images, integers(b, size), axis=0)
