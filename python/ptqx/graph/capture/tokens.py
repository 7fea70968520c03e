"""Tokens, [N, L, C] with the channels last, as images of one row, [N, C, 1, L]: what layers do with them is
what they do with pixels."""

from __future__ import annotations

from typing import Any

from ..sequences import TRANSPOSED
from .call import Call, Ref, Unsupported


def as_row(call: Call, ref: Ref) -> Ref:
    """[L, C] a sample as an image [C, 1, L].

    Raises:
        Unsupported: the batch is not the first dimension.
    """
    if not call.batch_first:
        raise Unsupported("the batch dimension is not the first")
    length, channels = call.input_shape(ref)
    columns, row = (length, 1, channels), (channels, 1, length)
    image = call.node("reshape", [ref], shape=columns, suffix=".columns", sample_shape=list(columns))
    return call.node("permute", [image], shape=row, suffix=".row", dims=TRANSPOSED)


def from_row(call: Call, image: Ref) -> Ref:
    """An image [C, 1, L] as [L, C]."""
    channels, _, length = call.input_shape(image)
    columns, tokens = (length, 1, channels), (length, channels)
    turned = call.node("permute", [image], shape=columns, suffix=".turned", dims=TRANSPOSED)
    return call.node("reshape", [turned], shape=tokens, suffix=".tokens", sample_shape=list(tokens))


def on_tokens(call: Call, op: str, ref: Ref, params: dict[str, str], channels: int, **attrs: Any) -> Ref:
    """A node on tokens, of which it gives as many, with so many channels."""
    length = call.input_shape(ref)[0]
    return from_row(call, call.node(op, [as_row(call, ref)], params, (channels, 1, length), **attrs))


def gives_tokens(call: Call, ref: Ref) -> bool:
    """Whether a layer on tokens gives it, into which a scale or a bias can be folded."""
    node = call.graph.nodes.get(ref.name)
    for op in ("reshape", "permute"):
        if node is None or node.op != op:
            return False
        node = call.graph.nodes.get(node.inputs[0])
    return node is not None and node.op == "conv2d"
