"""Sequences [C, L] as images [C, 1, L] of one row, from one layer to the next."""

from __future__ import annotations

from dataclasses import replace

from .ir import Graph, Node

TRANSPOSED = [0, 3, 2, 1]  # of the image of one row: [C, L] becomes [L, C]

ELEMENTWISE = (
    "unary",
    "prelu",
    "dropout",
    "batch_norm",
    "layer_scale",
    "layer_bias",
    "add",
    "mul",
    "cat",
    "slice",
)


def as_images(graph: Graph) -> None:
    """Let what computes on single values, between layers that `capture` made layers on images, read and give
    images, too: the reshapes behind one layer and before the next then meet, and cancel each other."""
    for node in graph:
        images = [_image(graph, name) for name in node.inputs]
        others = [name for name, image in zip(node.inputs, images, strict=True) if image is None]
        of_constants = all(name in graph.nodes and graph.nodes[name].op == "constant" for name in others)
        if node.op not in ELEMENTWISE or len(node.shape) != 2 or not any(images) or not of_constants:
            continue
        channels, length = node.shape
        node.inputs = [
            _constant_image(graph, name) if image is None else image
            for name, image in zip(node.inputs, images, strict=True)
        ]
        node.shape = (channels, 1, length)
        if node.op == "cat" and node.attrs["dim"] == 2:
            node.attrs["dim"] = 3
        sequence = graph.unique(f"{node.name}.sequence")
        graph.replace_uses(node.name, sequence)
        attrs = {"sample_shape": [channels, length]}
        graph.add(Node(sequence, "reshape", [node.name], attrs, shape=(channels, length)), after=node.name)


def _image(graph: Graph, name: str) -> str | None:
    """What a reshape from [C, 1, L] to [C, L] reads."""
    node = graph.nodes.get(name)
    if node is None or node.op != "reshape" or len(node.shape) != 2:
        return None
    channels, length = node.shape
    return node.inputs[0] if graph.shape(node.inputs[0]) == (channels, 1, length) else None


def _constant_image(graph: Graph, name: str) -> str:
    constant = graph.nodes[name]
    (channels, length), (of_channels, of_length) = constant.shape, constant.attrs["values_shape"]
    image = replace(
        constant,
        name=graph.unique(f"{name}.image"),
        attrs={"values_shape": [of_channels, 1, of_length]},
        shape=(channels, 1, length),
    )
    return graph.add(image, after=name)
