"""Where values become codes: which layers compute how, and where quantizers, tables and conversions stand."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..quant import Recipe, Scheme, float_dtype, resolve
from .formulas import MOST_PRODUCT_DEPTH, product_over_channels
from .fusion import LAYERS, as_float
from .ir import Graph, Node, QuantizerSite
from .structure import mapped

TABLE_BITS = 8  # of the codes that a table takes

# They move codes, or lay others between them, and keep the scale.
MOVERS = (
    "max_pool2d",
    "flatten",
    "reshape",
    "slice",
    "channel_shuffle",
    "pad",
    "pixel_shuffle",
    "pixel_unshuffle",
    "upsample_nearest2d",
    "upsample_zeros2d",
    "upsample_bilinear2d",
    "permute",
    "dropout",
)


NORMS = ("layer_norm", "group_norm")
READS_REAL_VALUES = ("float", *NORMS, "softmax")
# Of codes where a reader wants codes, as functions of one variable: what comes behind the last layer, boxes
# above all, would lose by 8 bits what the layers have.
ELEMENTWISE = ("add", "mul", "cat")
ROUNDS_FOR_READERS = (*NORMS, "softmax", "matmul")  # where one wants codes; else they give real values


def layers(graph: Graph) -> list[Node]:
    """Convolutions and linear layers in execution order; once prepared, also those that are called
    "..._dynamic" or "..._float" because no static codes go in."""
    return [n for n in graph if n.op in LAYERS or n.kind]


def edge_layers(graph: Graph) -> set[str]:
    """The first and the last layer with a weight."""
    names = [n.name for n in layers(graph) if "weight" in n.params]
    return {names[0], names[-1]} if names else set()


def assign_kinds(graph: Graph, recipe: Recipe) -> dict[str, tuple[Scheme | None, Scheme | None]]:
    """Set every layer's kind; return the schemes of its weights and of its input."""
    recipe.check_names(n.name for n in layers(graph))
    edges = edge_layers(graph)
    schemes = {n.name: resolve(recipe, n.name, n.name in edges) for n in layers(graph)}
    for name, (weights, activations) in schemes.items():
        node = graph.nodes[name]
        if weights is None:
            dtype = float_dtype(recipe, name)
            node.kind, node.reason = "float", f"the recipe leaves its weights {dtype}"
            node.attrs["dtype"] = dtype
        elif activations is None:
            node.kind, node.reason = "weight_only", "weight-only quantization computes in float"
        else:
            node.kind = "dynamic" if activations.granularity == "sample" else "static"
    return schemes


def place_quantizers(
    graph: Graph, recipe: Recipe, schemes: dict[str, tuple[Scheme | None, Scheme | None]]
) -> None:
    """Insert quantize and dequantize nodes, give every node of codes its quantizer, share scales over
    concat."""
    _keep_products(graph, recipe)
    _Placement(graph, recipe).run()
    _binarize_inputs(graph, schemes)
    _name_execution(graph)
    _share_concat_scales(graph)
    owners: dict[str, list[str]] = {}
    for node in graph:
        if node.quantizer is not None:
            owners.setdefault(node.quantizer, []).append(node.name)
    edges = {name for name in schemes if schemes[name][1] is not None}
    for key, writers in owners.items():
        graph.quantizers[key] = QuantizerSite(_scheme_of_site(graph, recipe, schemes, writers, edges), key)
    _narrow_inputs(graph, schemes)


def _keep_products(graph: Graph, recipe: Recipe) -> None:
    """Products of results of the network are of codes of at most 8 bits on both sides, whose sums int32
    holds, and what they give is rounded with floats; else they stay real."""
    between = recipe.between_layers
    rounds = recipe.kind == "static" and recipe.requantize == "float"
    fits = rounds and between is not None and between.bits <= 8
    for node in graph:
        if node.op != "matmul":
            continue
        depth = graph.shape(node.inputs[0])[0]
        if fits and depth <= MOST_PRODUCT_DEPTH:
            continue
        why = (
            f"whose sums of {depth} terms could exceed int32"
            if fits
            else "which this recipe leaves real values"
        )
        reason = f"a product of results of the network, {why}"
        as_float(node, reason, _product, 2, node.attrs["factor"])


def _product(a: Tensor, b: Tensor, factor: float) -> Tensor:
    return product_over_channels(a, b) * factor


class _Placement:
    def __init__(self, graph: Graph, recipe: Recipe) -> None:
        self.graph = graph
        self.integer_between = recipe.kind == "static"  # additions, pools, … on codes
        self.floats_round = self.integer_between and recipe.requantize == "float"
        self.wanted: dict[str, bool] = {}  # does a reader want codes?

    def run(self) -> None:
        graph = self.graph
        for name in [*reversed(graph.nodes), graph.input]:
            self.wanted[name] = any(self._takes_codes(graph.nodes[c]) for c in graph.consumers(name))
        for node in graph:
            for position, name in enumerate(node.inputs):
                node.inputs[position] = self._converted(name, self._takes_codes(node), node)
            node.quantizer = self._quantizer(node)
        graph.output = mapped(graph.output, lambda name: self._converted(name, False, None))

    def _takes_codes(self, node: Node) -> bool:
        if node.op in LAYERS:
            return node.kind == "static"
        if node.op in (*READS_REAL_VALUES, "constant"):
            return False
        if node.op in MOVERS:
            return self.wanted[node.name]
        if node.op == "unary":
            return self.integer_between and self.wanted[node.name]
        if node.op in ELEMENTWISE and self.floats_round:
            return self.wanted[node.name] or self._is_normalized(node.name)
        return self.integer_between

    def _is_normalized(self, name: str) -> bool:
        """Whether a normalization reads it: real values of its inputs would be more to bring."""
        return any(self.graph.nodes[reader].op in NORMS for reader in self.graph.consumers(name))

    def _quantizer(self, node: Node) -> str | None:
        """The key of the quantizer whose codes the node gives: its own name, its input's, or None."""
        if node.op in MOVERS:
            return self._codes_of(node.inputs[0])
        if node.op in ROUNDS_FOR_READERS:
            rounds = self.floats_round and self.wanted[node.name] and not node.attrs.get("log", False)
            return node.name if rounds else None
        if node.op in LAYERS:
            rounds = node.kind == "static" and (self.wanted[node.name] or len(node.inputs) > 1)
            return node.name if rounds else None
        return node.name if self._takes_codes(node) else None

    def _codes_of(self, name: str) -> str | None:
        return None if name == self.graph.input else self.graph.nodes[name].quantizer

    def _converted(self, name: str, to_codes: bool, reader: Node | None) -> str:
        """`name`, or the quantize or dequantize node that makes of it what its reader takes."""
        codes = self._codes_of(name)
        if (codes is not None) == to_codes or (reader is not None and reader.op in MOVERS and not to_codes):
            return name
        op = "quantize" if to_codes else "dequantize"
        converter = f"{name}.{op}"
        if converter not in self.graph.nodes:
            node = Node(converter, op, [name], shape=self.graph.shape(name))
            node.quantizer = converter if to_codes else None
            self.graph.add(node, after=name)
        return converter


def _binarize_inputs(graph: Graph, schemes: dict[str, tuple[Scheme | None, Scheme | None]]) -> None:
    """Layers of binary activations read signs, which a table makes of the value's codes."""
    for node in layers(graph):
        scheme = schemes[node.name][1]
        if node.kind != "static" or scheme is None or not scheme.of_activations:
            continue
        _read_table(graph, node, f"{node.inputs[0]}.binarize", "binarize", {})


def _narrow_inputs(graph: Graph, schemes: dict[str, tuple[Scheme | None, Scheme | None]]) -> None:
    """Layers whose inputs have fewer bits than the value has for its other readers, a residual addition
    above all, read codes of their own, which a table makes."""
    for node in layers(graph):
        scheme = schemes[node.name][1]
        if node.kind != "static" or scheme is None:
            continue
        value = node.inputs[0]
        site = graph.quantizers[graph.nodes[value].quantizer or ""]
        if scheme.bits < site.scheme.bits <= TABLE_BITS:
            narrow = f"{value}.requantize{scheme.bits}"
            known = graph.quantizers.get(narrow)
            if known is not None and known.scheme != scheme:  # as many bits, but other codes
                narrow = graph.unique(narrow)
            _read_table(graph, node, narrow, "lookup", {"function": "identity", "args": []})
            graph.quantizers[narrow] = QuantizerSite(scheme, narrow)


def _read_table(graph: Graph, layer: Node, name: str, op: str, attrs: dict[str, Any]) -> None:
    """Let a layer read its value through a table, whose codes are its own; layers share tables of a name."""
    value = layer.inputs[0]
    if name not in graph.nodes:
        graph.add(Node(name, op, [value], attrs, shape=graph.shape(value), quantizer=name), after=value)
    layer.inputs[0] = name


def _name_execution(graph: Graph) -> None:
    """Name the operation that each node is in the integer graph."""
    for node in graph:
        if node.op in LAYERS and node.kind != "static":
            node.op += "_dynamic" if node.kind == "dynamic" else "_float"
        elif node.op == "unary":
            node.op = "activation" if node.quantizer is None else "lookup"


def _share_concat_scales(graph: Graph) -> None:
    """All inputs of a concatenation come in its own codes.

    A producer that only it reads (through nodes that move codes) writes them directly; other inputs go
    through a table.
    """
    for cat in graph:
        if cat.op != "cat" or cat.quantizer is None:
            continue
        for name in dict.fromkeys(cat.inputs):
            producer = _sole_producer(graph, name, cat)
            if producer is None:
                table = Node(f"{name}.rescale", "lookup", [name], {"function": "identity", "args": []})
                table.name, table.shape, table.quantizer = (
                    graph.unique(table.name),
                    graph.shape(name),
                    cat.quantizer,
                )
                graph.add(table, after=name)
                cat.inputs = [table.name if i == name else i for i in cat.inputs]
                continue
            replaced = graph.nodes[producer].quantizer
            for node in graph:
                if node.quantizer == replaced:
                    node.quantizer = cat.quantizer


def _sole_producer(graph: Graph, name: str, cat: Node) -> str | None:
    """The node that rounds to the codes of `name`, if all that it writes ends in `cat`."""
    reader = cat.name
    while graph.consumers(name) == [reader] and name not in graph.outputs:
        node = graph.nodes[name]
        if node.op not in MOVERS:
            return name
        reader, name = name, node.inputs[0]
    return None


def _scheme_of_site(
    graph: Graph,
    recipe: Recipe,
    schemes: dict[str, tuple[Scheme | None, Scheme | None]],
    writers: list[str],
    static: set[str],
) -> Scheme:
    """What the reading layers ask for; the widest if they differ, the recipe's own where none reads."""
    asked = []
    for name in writers:
        for reader in graph.consumers(name):
            if (
                reader in static
                and graph.nodes[reader].kind == "static"
                and graph.nodes[reader].inputs[0] == name
            ):
                asked.append(schemes[reader][1])
            elif graph.nodes[reader].quantizer not in (None, graph.nodes[name].quantizer):
                asked.append(recipe.between_layers)
    known = [s for s in asked if s is not None and s.granularity == "tensor"]
    if known:
        return max(known, key=lambda s: s.bits)
    assert recipe.between_layers is not None
    return recipe.between_layers
