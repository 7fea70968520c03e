"""Passes over a captured graph that change no value: folding, fusing and merging before quantizers are
placed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .activations import ACTIVATIONS
from .capture.call import Slot
from .channel_order import channels_first, of_one_pixel
from .ir import Graph, Node
from .permutes import cancel
from .sequences import as_images

LAYERS = ("conv2d", "linear")
RESHAPES = ("reshape", "flatten")


def fuse(graph: Graph) -> None:
    """Batch norm, scale and bias into their layer, zero padding into its convolution, activations into the
    step before them; layers on [N, H, W, C] as convolutions."""
    channels_first(graph)
    as_images(graph)
    for node in graph:
        if node.op in RESHAPES:
            _merge_reshape(graph, node)
    graph.prune()
    for node in graph:
        if node.op == "unary":
            _fold_factor(graph, node)
    cancel(graph)
    for node in graph:
        if node.op == "mul":
            _multiply_before_expanding(graph, node)
    graph.prune()
    for node in graph:
        if node.op == "batch_norm":
            _fold_batch_norm(graph, node)
    for node in graph:
        if node.op == "pad":
            _merge_padding(graph, node)
        elif node.op in ("layer_scale", "layer_bias"):
            _fold_parameter(graph, node)
        elif node.op == "layer_norm":
            _keep_layer_norm(node)
    for node in graph:
        if node.op == "unary":
            _fuse_activation(graph, node)
        elif node.op == "prelu":
            _fuse_prelu(graph, node)


def fuse_residuals(graph: Graph) -> None:
    """Let an addition be the end of the convolution that computes one operand: one rounding instead of two.
    A PReLU of the sum goes with it.

    The convolution must have no other reader, no activation and no addition of its own. Of two candidates
    the larger one takes the addition over; the other is the residual, in codes of its own quantizer.
    """
    for node in graph:
        if node.op != "add":
            continue
        candidates = [i for i in node.inputs if _can_take_residual(graph, i)]
        if candidates:
            _take_residual(graph, graph.nodes[max(candidates, key=lambda name: macs(graph, name))], node)


def macs(graph: Graph, name: str) -> int:
    """Multiplications of a layer per sample, from shapes: outputs times inputs of one output."""
    node = graph.nodes[name]
    channels = graph.shape(node.inputs[0])[0]
    kernel = node.attrs.get("kernel_size", [1, 1])
    weights = node.shape[0] * (channels // node.attrs.get("groups", 1)) * math.prod(kernel)
    return weight_uses(graph, node) * weights


def weight_uses(graph: Graph, node: Node) -> int:
    """How often a layer multiplies each of its weights, per sample; not with the zeros between pixels."""
    source = graph.nodes.get(node.inputs[0])
    if source is not None and source.op == "upsample_zeros2d":
        return math.prod(graph.shape(source.inputs[0])[1:])
    return math.prod(node.shape[1:])


def _merge_reshape(graph: Graph, node: Node) -> None:
    """Of two in a row, the last; none where the shape is that of before."""
    before = graph.nodes.get(node.inputs[0])
    if before is not None and before.op in RESHAPES:
        node.inputs = list(before.inputs)
    if graph.shape(node.inputs[0]) == node.shape:
        graph.bypass(node)


def _fold_factor(graph: Graph, node: Node) -> None:
    """A positive number that multiplies a product of results of the network, or one of them, goes into the
    product."""
    function, args = node.attrs["function"], node.attrs["args"]
    if function not in ("mul_scalar", "divide_by_scalar") or not args[0] > 0:
        return
    product = _product_before(graph, node) or _product_behind(graph, node)
    if product is not None:
        product.attrs["factor"] *= args[0] if function == "mul_scalar" else 1.0 / args[0]
        graph.bypass(node)


def _product_before(graph: Graph, node: Node) -> Node | None:
    """The matmul whose result, moved perhaps, only `node` reads."""
    while True:
        before = graph.nodes.get(node.inputs[0])
        if before is None or graph.only_consumer(before.name) is not node:
            return None
        if before.op == "matmul":
            return before
        if before.op not in ("permute", *RESHAPES):
            return None
        node = before


def _product_behind(graph: Graph, node: Node) -> Node | None:
    """The matmul that alone reads what `node` gives, moved perhaps."""
    reader = graph.only_consumer(node.name)
    while reader is not None and reader.op in ("permute", *RESHAPES):
        reader = graph.only_consumer(reader.name)
    return reader if reader is not None and reader.op == "matmul" else None


def _multiply_before_expanding(graph: Graph, node: Node) -> None:
    """A factor that is one a channel need not be repeated for every pixel."""
    for factor, image in (node.inputs, node.inputs[::-1]):
        expanded = graph.nodes.get(factor)
        if expanded is not None and expanded.op == "upsample_nearest2d":
            source = expanded.inputs[0]
            if graph.shape(source)[1:] == (1, 1) and graph.shape(image) == expanded.shape:
                node.inputs = [image, source]
                return


def _fold_batch_norm(graph: Graph, node: Node) -> None:
    bn = {"bn_eps": node.attrs["bn_eps"], "bn_module": node.module}
    before = graph.nodes.get(node.inputs[0])
    if (
        before is not None
        and before.op in LAYERS
        and graph.only_consumer(before.name) is node
        and "bn_eps" not in before.attrs
        and len(before.shape) in ((3,) if before.op == "conv2d" else (1,))
    ):
        before.params.update(node.params)
        before.attrs.update(bn)
        graph.bypass(node)
    elif len(node.shape) in (1, 3):
        _as_depthwise(graph, node, bn)
    else:
        eps, roles = node.attrs["bn_eps"], [role.removeprefix("bn_") for role in node.params]
        as_float(node, "batch normalization of [N, C, L]", _batch_norm, 1, eps, roles)


def _fold_parameter(graph: Graph, node: Node) -> None:
    """A layer's scale, then its bias; one of each."""
    inverse = {f"{node.op}_inverse": node.attrs.pop("inverse", False)}
    if node.attrs.pop("channels_last", False):
        _with_constant(graph, node, inverse[f"{node.op}_inverse"])
        return
    before = _fusable(graph, node, LAYERS)
    taken = () if before is None else (*before.params, *before.attrs)
    if before is not None and not {"bn_eps", "layer_bias", node.op}.intersection(taken):
        before.params.update(node.params)
        before.attrs.update(inverse)
        graph.bypass(node)
    else:
        _as_depthwise(graph, node, inverse)


def _with_constant(graph: Graph, node: Node, inverse: bool) -> None:
    """A sum or a product with one number a column, or a channel of [N, H, W, C]."""
    if inverse and node.op == "layer_scale":
        as_float(node, "the quotient of two tensors", torch.div, 1)
        return
    attrs: dict[str, Any] = {"values_shape": [1] * (len(node.shape) - 1) + [node.shape[-1]]}
    operand = Node(
        *(graph.unique(f"{node.name}.constant"), "constant", [graph.input], attrs),
        *({"values": node.params[node.op]}, None, node.shape),
        source=node.source,
    )
    graph.add(operand, after=node.inputs[0])
    if inverse:
        attrs = {"function": "mul_scalar", "args": [-1.0]}
        negative = graph.unique(f"{node.name}.negative")
        operand = Node(negative, "unary", [operand.name], attrs, shape=node.shape)
        graph.add(operand, after=operand.inputs[0])
    node.op, node.params = "mul" if node.op == "layer_scale" else "add", {}
    node.inputs = [*node.inputs, operand.name]


def _keep_layer_norm(node: Node) -> None:
    if node.attrs.pop("channels_last"):
        reason = "layer normalization of [N, H, W, C] outside of permutes from and to [N, C, H, W]"
        as_float(node, reason, _layer_norm, 1, node.attrs["eps"], list(node.params))


def _layer_norm(x: Tensor, eps: float, roles: list[str], *parameters: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], **dict(zip(roles, parameters, strict=True)), eps=eps)


def _batch_norm(x: Tensor, eps: float, roles: list[str], *parameters: Tensor) -> Tensor:
    named: Any = dict(zip(roles, parameters, strict=True))
    return F.batch_norm(x, **named, eps=eps)


def as_float(node: Node, reason: str, target: Callable[..., Tensor], inputs: int, *args: Any) -> None:
    """A function of so many inputs of the node, `args` and the node's parameters."""
    paths = list(node.params.values())
    node.op, node.reason, node.module = "float", reason, None
    read = [Slot("input", str(index)) for index in range(inputs)]
    node.attrs = {"target": target, "args": (*read, *args, *(Slot("param", p) for p in paths)), "kwargs": {}}
    node.params = {path: path for path in paths}


def _as_depthwise(graph: Graph, node: Node, attrs: dict[str, object]) -> None:
    """A 1x1 convolution of each channel with 1, which carries a batch norm, a layer's scale or bias, or a
    PReLU."""
    if len(node.shape) == 1:
        _as_one_pixel(graph, node)
    node.op, node.module = "conv2d", None
    node.attrs = {**of_one_pixel(groups=node.shape[0]), **attrs}


def _as_one_pixel(graph: Graph, node: Node) -> None:
    """Let an operation on features read and give images of one pixel."""
    source, shape = node.inputs[0], (*node.shape, 1, 1)
    image, features = graph.unique(f"{node.name}.image"), graph.unique(f"{node.name}.features")
    graph.add(Node(image, "reshape", [source], {"sample_shape": list(shape)}, shape=shape), after=source)
    graph.replace_uses(node.name, features)
    graph.add(Node(features, "flatten", [node.name], {"start_dim": 1}, shape=node.shape), after=node.name)
    node.inputs, node.shape = [image], shape


def _merge_padding(graph: Graph, node: Node) -> None:
    """A convolution pads, but crops nothing."""
    reader = graph.only_consumer(node.name)
    of_zeros = node.attrs.get("mode", "constant") == "constant"
    if reader is not None and reader.op == "conv2d" and of_zeros and min(node.attrs["padding"]) >= 0:
        padding = zip(reader.attrs["padding"], node.attrs["padding"], strict=True)
        reader.attrs["padding"] = [a + b for a, b in padding]
        graph.bypass(node)


def _fuse_activation(graph: Graph, node: Node) -> None:
    before = _fusable(graph, node, (*LAYERS, "add", "mul"))
    if before is not None and ACTIVATIONS[node.attrs["function"]].tail is not None:
        before.attrs.update(activation=node.attrs["function"], activation_args=node.attrs["args"])
        graph.bypass(node)


def _fuse_prelu(graph: Graph, node: Node) -> None:
    before = _fusable(graph, node, LAYERS)
    if before is not None:
        _take_prelu(graph, before, node)
    elif len(node.shape) in (1, 3):
        _as_depthwise(graph, node, {"activation": "prelu", "activation_args": []})
    else:
        as_float(node, f"PReLU of {list(node.shape)} a sample", F.prelu, 1)


def _take_prelu(graph: Graph, layer: Node, prelu: Node) -> None:
    layer.attrs.update(activation="prelu", activation_args=[])
    layer.params["slopes"] = prelu.params["slopes"]
    graph.bypass(prelu)


def _is_prelu(node: Node) -> bool:
    """Whether this is PReLU alone, made a layer."""
    return node.op in LAYERS and node.kind == "static" and set(node.params) == {"slopes"}


def _fusable(graph: Graph, node: Node, ops: tuple[str, ...]) -> Node | None:
    before = graph.nodes.get(node.inputs[0])
    if before is None or before.op not in ops or "activation" in before.attrs:
        return None
    return before if graph.only_consumer(before.name) is node else None


def _can_take_residual(graph: Graph, name: str) -> bool:
    node = graph.nodes.get(name)
    return (
        node is not None
        and node.op in LAYERS
        and node.kind == "static"
        and len(node.inputs) == 1
        and "activation" not in node.attrs
        and graph.only_consumer(name) is not None
    )


def _take_residual(graph: Graph, layer: Node, add: Node) -> None:
    other = next(i for i in add.inputs if i != layer.name)
    layer.inputs = [layer.inputs[0], other]
    for key in ("activation", "activation_args"):
        if key in add.attrs:
            layer.attrs[key] = add.attrs[key]
    del graph.nodes[layer.name]
    graph.nodes = {(layer if n is add else n).name: layer if n is add else n for n in graph.nodes.values()}
    graph.replace_uses(add.name, layer.name)
    after = graph.only_consumer(layer.name)
    if after is not None and "activation" not in layer.attrs and _is_prelu(after):
        _take_prelu(graph, layer, after)
