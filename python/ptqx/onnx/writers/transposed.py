"""A convolution of an image with zeros between its pixels is ONNX's ConvTranspose of the image."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...graph import IntegerNode
from ..builder import Builder


def image_without_zeros(b: Builder, node: IntegerNode) -> str | None:
    """The step whose image is the layer's with zeros between the pixels, if ConvTranspose can say so; it
    has no form for scales of channels in groups, and takes no more padding than the kernel reaches."""
    source = b.graph.nodes.get(node.inputs[0])
    if source is None or source.op != "upsample_zeros2d" or list(node.attrs["stride"]) != [1, 1]:
        return None
    if node.attrs["groups"] > 1 or node.attrs["group_size"]:
        return None
    before, _, output_padding = _padding(node)
    factor = source.attrs["scale_factor"]
    fits = min(before) >= 0 and all(p < f for p, f in zip(output_padding, factor, strict=True))
    return source.inputs[0] if fits else None


def transposed_attributes(b: Builder, node: IntegerNode) -> dict[str, Any]:
    before, after, output_padding = _padding(node)
    return {
        "kernel_shape": list(node.attrs["weight_shape"][2:]),
        "strides": list(b.graph.nodes[node.inputs[0]].attrs["scale_factor"]),
        "pads": before + after,
        "output_padding": output_padding,
        "dilations": list(node.attrs["dilation"]),
    }


def transposed_weight(weight: Tensor) -> Tensor:
    """[in, out, KH, KW] as ConvTranspose has it."""
    return weight.transpose(0, 1).flip(2, 3)


def _padding(node: IntegerNode) -> tuple[list[int], list[int], list[int]]:
    """Of ConvTranspose, before and after the image, and what its output is longer by."""
    attrs = node.attrs
    reach = [d * (k - 1) for d, k in zip(attrs["dilation"], attrs["weight_shape"][2:], strict=True)]
    before = [r - p for r, p in zip(reach, attrs["padding"][:2], strict=True)]
    after = [r - p for r, p in zip(reach, attrs["padding"][2:], strict=True)]
    return before, [max(p, 0) for p in after], [max(-p, 0) for p in after]
