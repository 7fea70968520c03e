"""ptqx's convolution and linear layers one at a time, as a share of what the machine can do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ... import _C
from ...graph import IntegerModel
from ...graph.document import IntegerNode
from .ours import quantized
from .registry import Network

LAYER_SECONDS, CEILING_SECONDS = 0.05, 0.25


def layer_rates(network: Network, batch: int, threads: int) -> list[dict[str, Any]]:
    """Time of each different layer of recipe int8 on random codes, weights still in the cache.

    Each entry has the keys `layer` (the first of its shape), `shape`, `kernel`, `seconds` of one run,
    `nominal_macs` and `useful_macs` of it (the latter without taps on padding), and both as a share of the
    multiply-accumulates that `threads` threads can do in that time from registers alone.
    """
    ceiling = _C.measure_machine(threads, CEILING_SECONDS)["u8s8_macs"]
    entries = []
    for name, shape in distinct_layers(quantized(network, "int8"), batch).items():
        kernel, seconds, nominal, useful = _C.time_conv2d(*shape, threads, LAYER_SECONDS)
        entries.append(
            {
                "model": network.name,
                "batch": batch,
                "threads": threads,
                "layer": name,
                "shape": describe(shape),
                "kernel": kernel,
                "seconds": seconds,
                "nominal_macs": nominal,
                "useful_macs": useful,
                "nominal_share": nominal / seconds / ceiling,
                "useful_share": useful / seconds / ceiling,
            }
        )
    return entries


# input (N, C, H, W), output channels, kernel, stride, padding (top, left, bottom, right), dilation, groups
Two = tuple[int, int]
Four = tuple[int, int, int, int]
Shape = tuple[Four, int, Two, Two, Four, Two, int]


@torch.no_grad()
def distinct_layers(model: IntegerModel, batch: int) -> dict[str, Shape]:
    """The model's layers by name; of those with one shape only the first."""
    values: dict[str, Tensor] = {}
    model.run(torch.zeros(1, *model.graph.input_shape), values)
    shapes = {node.name: _shape(node, values[node.inputs[0]].shape, batch) for node in _layers(model)}
    first = {shape: name for name, shape in reversed(shapes.items())}
    return {name: shape for name, shape in shapes.items() if first[shape] == name}


def _layers(model: IntegerModel) -> Iterator[IntegerNode]:
    return (node for node in model.graph if node.op in ("conv2d", "linear"))


def _shape(node: IntegerNode, input_shape: torch.Size, batch: int) -> Shape:
    out_channels, _, *kernel = node.attrs["weight_shape"]
    if node.op == "linear":
        return (batch, input_shape[-1], 1, 1), out_channels, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1
    attrs = node.attrs
    top, left, bottom, right = attrs["padding"]
    stride, dilation = tuple(attrs["stride"]), tuple(attrs["dilation"])
    _, channels, height, width = input_shape
    image = (batch, channels, height, width)
    padding = (top, left, bottom, right)
    return image, out_channels, (kernel[0], kernel[1]), stride, padding, dilation, attrs["groups"]


def describe(shape: Shape) -> str:
    """In short.

    >>> describe(((8, 64, 16, 16), 128, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 1))
    '64x16x16 to 128, 3x3, stride 2'
    """
    (_, channels, height, width), out_channels, kernel, stride, _, dilation, groups = shape
    parts = [f"{channels}x{height}x{width} to {out_channels}", f"{kernel[0]}x{kernel[1]}"]
    parts += [f"stride {stride[0]}"] if stride != (1, 1) else []
    parts += [f"dilation {dilation[0]}"] if dilation != (1, 1) else []
    parts += [f"{groups} groups"] if groups > 1 else []
    return ", ".join(parts)
