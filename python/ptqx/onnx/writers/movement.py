"""Operations that move values and keep their scale: the same ONNX node on codes and on real values.

In style "qdq" such a node stands between DequantizeLinear and QuantizeLinear, as readers of the format
expect; that gives the same codes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...graph import IntegerNode
from ..builder import Builder
from .base import same_codes, writer

Mover = Callable[[Builder, IntegerNode, str], str]


def mover(*ops: str) -> Callable[[Mover], Mover]:
    """Enter a function that adds the ONNX nodes which move the tensor that it is given."""

    def enter(function: Mover) -> Mover:
        @writer(*ops)
        def write(b: Builder, node: IntegerNode) -> str:
            x = node.inputs[0]
            if b.style == "qdq" and b.is_codes(node.name):
                return same_codes(b, node, function(b, node, b.real(x)))
            return function(b, node, x)

        return function

    return enter


@mover("flatten", "reshape")
def reshape(b: Builder, node: IntegerNode, x: str) -> str:
    return to_shape(b, x, b.shapes[node.name])


@mover("slice")
def slice_channels(b: Builder, node: IntegerNode, x: str) -> str:
    size = b.shapes[node.inputs[0]][0]
    start, end, _ = slice(node.attrs["start"], node.attrs["end"]).indices(size)
    return b.op("Slice", x, *(integers(b, [value]) for value in (start, end, 1)))


@mover("permute")
def permute(b: Builder, node: IntegerNode, x: str) -> str:
    return b.op("Transpose", x, perm=list(node.attrs["dims"]))


@mover("channel_shuffle")
def channel_shuffle(b: Builder, node: IntegerNode, x: str) -> str:
    (c, h, w), groups = b.shapes[node.name], node.attrs["groups"]
    return _transposed_channels(b, x, (groups, c // groups, h, w))


def _transposed_channels(b: Builder, x: str, shape: tuple[int, int, int, int]) -> str:
    """Channels [a, b] as [b, a]."""
    first, second, h, w = shape
    return to_shape(b, b.op("Transpose", to_shape(b, x, shape), perm=[0, 2, 1, 3, 4]), (first * second, h, w))


ONNX_PAD_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@mover("pad")
def pad(b: Builder, node: IntegerNode, x: str) -> str:
    x = _crop(b, node, x)
    top, left, bottom, right = (max(size, 0) for size in node.attrs["padding"])
    if not any((top, left, bottom, right)):
        return x
    pads = integers(b, [0, 0, top, left, 0, 0, bottom, right])
    mode = node.attrs.get("mode", "constant")
    if mode == "constant":
        return b.op("Pad", x, pads, _zero(b, node))
    return b.op("Pad", x, pads, mode=ONNX_PAD_MODES[mode])


@mover("upsample_zeros2d")
def upsample_zeros(b: Builder, node: IntegerNode, x: str) -> str:
    c, h, w = b.shapes[node.inputs[0]]
    by_height, by_width = node.attrs["scale_factor"]
    pads = integers(b, [0, 0, 0, 0, 0, 0, 0, 0, 0, by_height - 1, 0, by_width - 1])
    spread = b.op("Pad", to_shape(b, x, (c, h, 1, w, 1)), pads, _zero(b, node))
    whole = to_shape(b, spread, (c, h * by_height, w * by_width))
    ends = integers(b, b.shapes[node.name][1:])
    return b.op("Slice", whole, integers(b, [0, 0]), ends, integers(b, [2, 3]), integers(b, [1, 1]))


def _zero(b: Builder, node: IntegerNode) -> str:
    """What stands for 0 among the values that the node moves."""
    on_codes = b.style == "integer" and b.is_codes(node.name)
    return b.scalar(b.qparams(node.name).zero_point, np.uint8) if on_codes else b.scalar(0.0)


def _crop(b: Builder, node: IntegerNode, x: str) -> str:
    """What negative padding leaves: runtimes agree on Slice more than on Pad with negative numbers."""
    _, height, width = b.shapes[node.inputs[0]]
    top, left, bottom, right = (min(size, 0) for size in node.attrs["padding"])
    if not any((top, left, bottom, right)):
        return x
    starts, ends = integers(b, [-top, -left]), integers(b, [height + bottom, width + right])
    return b.op("Slice", x, starts, ends, integers(b, [2, 3]))


@mover("pixel_shuffle")
def pixel_shuffle(b: Builder, node: IntegerNode, x: str) -> str:
    return b.op("DepthToSpace", x, blocksize=node.attrs["upscale_factor"], mode="CRD")


@mover("pixel_unshuffle")
def pixel_unshuffle(b: Builder, node: IntegerNode, x: str) -> str:
    """SpaceToDepth gives [r * r, C] channels, PyTorch [C, r * r]."""
    r, (c, h, w) = node.attrs["downscale_factor"], b.shapes[node.name]
    return _transposed_channels(b, b.op("SpaceToDepth", x, blocksize=r), (r * r, c // (r * r), h, w))


@mover("upsample_nearest2d")
def upsample(b: Builder, node: IntegerNode, x: str) -> str:
    scales = b.constant(np.asarray([1.0, 1.0, *node.attrs["scale_factor"]], np.float32))
    floor = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor", "mode": "nearest"}
    return b.op("Resize", x, "", scales, **floor)


@mover("max_pool2d")
def max_pool(b: Builder, node: IntegerNode, x: str) -> str:
    attrs = node.attrs
    return b.op(
        "MaxPool",
        x,
        kernel_shape=list(attrs["kernel_size"]),
        strides=list(attrs["stride"]),
        dilations=list(attrs["dilation"]),
        pads=window_pads(b, node, attrs["dilation"]),
    )


@writer("cat")
def cat(b: Builder, node: IntegerNode) -> str:
    if b.style == "qdq" and b.is_codes(node.name):
        parts = b.op("Concat", *(b.real(name) for name in node.inputs), axis=node.attrs["dim"])
        return same_codes(b, node, parts)
    return b.op("Concat", *node.inputs, axis=node.attrs["dim"])


def integers(b: Builder, values: Sequence[int]) -> str:
    return b.constant(np.asarray(values, np.int64))


def to_shape(b: Builder, x: str, sample_shape: Sequence[int]) -> str:
    """Reshape to [N, *sample_shape]."""
    return b.op("Reshape", x, integers(b, [0, *sample_shape]))


def window_pads(b: Builder, node: IntegerNode, dilation: Sequence[int] = (1, 1)) -> list[int]:
    """[top, left, bottom, right]; bottom and right reach to the end of the last window (`ceil_mode`)."""
    attrs: dict[str, Any] = node.attrs
    before, after = list(attrs["padding"]), []
    sizes, outputs = b.shapes[node.inputs[0]][1:], b.shapes[node.name][1:]
    for axis in (0, 1):
        kernel = dilation[axis] * (attrs["kernel_size"][axis] - 1) + 1
        reach = (outputs[axis] - 1) * attrs["stride"][axis] + kernel
        after.append(max(0, reach - sizes[axis] - before[axis]))
    return [*before, *after]
