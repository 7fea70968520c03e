"""What stands between a permute to [N, H, W, C] and one back, as operations on [N, C, H, W]."""

from __future__ import annotations

from typing import Any

from .ir import Graph, Node
from .structure import mapped

TO_LAST, TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
ROWS_FIRST = [0, 2, 1, 3]  # of [N, C, H, W]: rows become the channels
PIXELWISE = ("linear", "layer_norm", "layer_scale", "layer_bias", "unary", "dropout", "add", "mul")


def channels_first(graph: Graph) -> None:
    """Linear layers on the last dimension of [N, H, W, C] become convolutions of one pixel.

    ConvNeXt (Liu et al., arXiv:2201.03545) is written so. Codes of [N, C, H, W] lie in memory as
    [N, H, W, C] anyway: the permutes, which moved every value, are no longer needed. What reads [N, H, W, C]
    and can't be turned gets a permute of its own.
    """
    turned = _turned(graph)
    same: dict[str, str] = {}  # permutes that are no longer read to what they permute
    for node in graph:
        inside = [name in turned for name in node.inputs]
        back = node.op == "permute" and inside == [True] and node.attrs["dims"] == TO_FIRST
        if back or (node.op == "permute" and node.name in turned):
            source = same.get(node.inputs[0], node.inputs[0])
            node.inputs, same[node.name] = [source], source
        elif node.name in turned:
            node.inputs = [same.get(name, name) for name in node.inputs]
            _turn(node)
        else:
            node.inputs = [
                _last(graph, name, same) if is_turned else same.get(name, name)
                for name, is_turned in zip(node.inputs, inside, strict=True)
            ]
    graph.output = mapped(
        graph.output, lambda name: _last(graph, name, same) if name in turned else same.get(name, name)
    )
    graph.prune()


def _turned(graph: Graph) -> set[str]:
    """Names of the values in [N, H, W, C] that can be had as [N, C, H, W]."""
    turned: set[str] = set()
    for node in graph:
        begins = node.op == "permute" and node.attrs["dims"] == TO_LAST and node.inputs[0] not in turned
        one_shape = len({graph.shape(name) for name in node.inputs}) == 1
        pixelwise = node.op in PIXELWISE and node.attrs.get("channels_last", True) and one_shape
        if begins or (turned.issuperset(node.inputs) and (pixelwise or _moves_channels(node))):
            turned.add(node.name)
    return turned


def _moves_channels(node: Node) -> bool:
    """Slices and concatenation of channels, which are a crop of columns and a concatenation of them where
    channels are not last."""
    if node.op == "pad" and "mode" not in node.attrs:
        top, left, bottom, right = node.attrs["padding"]
        return top == bottom == 0 and max(left, right) <= 0
    return node.op == "cat" and node.attrs["dim"] == 3


def _turn(node: Node) -> None:
    height, width, channels = node.shape
    node.shape = (channels, height, width)
    if "channels_last" in node.attrs:
        node.attrs["channels_last"] = False
    if node.op == "linear":
        node.op = "conv2d"
        node.attrs |= of_one_pixel(groups=1)
    elif node.op == "pad":
        start = -node.attrs["padding"][1]
        node.op, node.attrs = "slice", {"dim": 1, "start": start, "end": start + channels}
    elif node.op == "cat":
        node.attrs["dim"] = 1


def of_one_pixel(groups: int) -> dict[str, Any]:
    """Attributes of a 1x1 convolution."""
    return {
        "kernel_size": [1, 1],
        "stride": [1, 1],
        "padding": [0, 0, 0, 0],
        "dilation": [1, 1],
        "groups": groups,
    }


def _last(graph: Graph, name: str, same: dict[str, str]) -> str:
    """A turned value as [N, H, W, C] again."""
    if name in same:
        return name  # the permute that was there
    permute = f"{name}.channels_last"
    if permute not in graph.nodes:
        channels, height, width = graph.shape(name)
        shape = (height, width, channels)
        graph.add(Node(permute, "permute", [name], {"dims": TO_LAST}, shape=shape), after=name)
    return permute
