"""Consecutive layers between which every channel may be scaled without a change of the network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

from ..graph.ir import Graph, Node
from ..graph.workbench import Workbench

# f(s x) = s f(x) for s > 0, channel by channel.
HOMOGENEOUS = ("none", "relu", "leaky_relu", "prelu")
BETWEEN = (
    *("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "flatten", "dropout", "pad"),
    *("upsample_nearest2d", "upsample_zeros2d", "upsample_bilinear2d", "quantize", "dequantize"),
)


class Pair(NamedTuple):
    """`second` alone reads what `first` gives, each channel of it as `positions` features in a row."""

    first: Node
    second: Node
    positions: int

    def columns(self, channels: Tensor, weight: Tensor) -> Tensor:
        """[channels of first], made to broadcast with the second weight as [G, O, channels in, taps]."""
        groups = self.second.attrs.get("groups", 1)
        features = channels.repeat_interleave(self.positions)
        return features.reshape(groups, 1, -1, 1)

    def split(self, weight: Tensor) -> Tensor:
        """The second layer's weight as [G, O, channels in, taps]."""
        groups = self.second.attrs.get("groups", 1)
        return weight.reshape(groups, len(weight) // groups, weight.shape[1], -1)


def pairs(bench: Workbench) -> Iterator[Pair]:
    """All pairs in execution order."""
    graph, layers = bench.prep.graph, {node.name for node in bench.layers}
    for first in bench.layers:
        if len(first.inputs) > 1 or first.attrs.get("activation", "none") not in HOMOGENEOUS:
            continue
        second = _sole_layer(graph, first, layers)
        if second is not None:
            features = graph.shape(second.inputs[0])[0]
            yield Pair(first, second, features // first.shape[0])


def _sole_layer(graph: Graph, node: Node, layers: set[str]) -> Node | None:
    """The layer whose input, and nothing else, is made of what the node gives."""
    before, reader = node, graph.only_consumer(node.name)
    while reader is not None and reader.op in BETWEEN:
        before, reader = reader, graph.only_consumer(reader.name)
    if reader is None or reader.name not in layers or reader.inputs[0] != before.name:
        return None
    features = before.shape
    return reader if len(features) == (3 if reader.op.startswith("conv2d") else 1) else None


def scale_channels(bench: Workbench, pair: Pair, factor: Tensor) -> None:
    """Divide the channels between the two by `factor` [channels] > 0, multiply them in the second layer."""
    first, second, _ = pair
    weight, bias = bench.weight(first), bench.bias(first)
    column = factor.reshape(-1, *[1] * (weight.dim() - 1))
    bench.set_float(first, weight / column, bias / factor if "bias" in first.params else None)
    weight = bench.weight(second)
    scaled = pair.split(weight) * pair.columns(factor, weight)
    bench.set_float(second, scaled.reshape(weight.shape), None)
