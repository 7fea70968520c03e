"""The captured network: an ordered list of nodes, before anything is an integer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from ..errors import PtqxError
from ..quant import Scheme
from .structure import Structure, leaves, mapped

INPUT = "input"


@dataclass
class Node:
    """One operation. Its values are read from the nodes in `inputs`.

    Attributes:
        name: unique; the module's dotted path where there is a module, else the owner's path and the
            operation.
        op: a key of `ptqx.graph.operators.OPERATORS`.
        inputs: names of nodes, or the graph's input.
        attrs: numbers, strings and lists that the operation needs.
        params: role to the dotted path of a parameter or buffer of the float model: "weight", "bias",
            "bn_weight", …
        module: dotted path of the module, for operations that call it.
        shape: of the result, without the batch dimension.
        source: "file.py:12", where the operation was written, if known.
        reason: why it stays float; "" if it need not.
        kind: of a layer: "static", "dynamic", "weight_only" or "float".
        quantizer: whose codes the result is in; None for real values.
    """

    name: str
    op: str
    inputs: list[str]
    attrs: dict[str, Any] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    module: str | None = None
    shape: tuple[int, ...] = ()
    source: str = ""
    reason: str = ""
    kind: str = ""
    quantizer: str | None = None


@dataclass(frozen=True)
class QuantizerSite:
    """A quantizer of activations: its scheme, and the node after which it observes and rounds."""

    scheme: Scheme
    owner: str


@dataclass
class Graph:
    """Nodes in execution order, with one input. `output` is what the network returns: a node's name, or a
    structure of names. `constants` were made while tracing; the model needs them as further buffers.

    >>> graph = Graph("input", (3, 4, 4))
    >>> graph.add(Node("pool", "max_pool2d", ["input"], shape=(3, 2, 2)))
    'pool'
    >>> graph.output = "pool"
    >>> graph.consumers("input")
    ['pool']
    """

    input: str
    input_shape: tuple[int, ...]
    nodes: dict[str, Node] = field(default_factory=dict)
    output: Structure = ""
    quantizers: dict[str, QuantizerSite] = field(default_factory=dict)
    constants: dict[str, Tensor] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Node]:
        return iter(list(self.nodes.values()))

    def __str__(self) -> str:
        lines = [f"{self.input}: input {list(self.input_shape)}"]
        lines += [
            f"{n.name}: {n.op}({', '.join(n.inputs)}) {list(n.shape)}"
            + (f"  # float: {n.reason}" if n.reason else "")
            for n in self
        ]
        return "\n".join([*lines, f"output: {self.output}"])

    def add(self, node: Node, after: str | None = None) -> str:
        """Insert a node at the end, or right after another (or the input); return its name."""
        if node.name in self.nodes or node.name == self.input:
            raise PtqxError(f"the graph already has a node {node.name!r}")
        if after is None:
            self.nodes[node.name] = node
            return node.name
        ordered = list(self.nodes.values())
        position = 0 if after == self.input else list(self.nodes).index(after) + 1
        ordered.insert(position, node)
        self.nodes = {n.name: n for n in ordered}
        return node.name

    def unique(self, name: str) -> str:
        """`name`, or the first free of `name_1`, `name_2`, …"""
        candidate, count = name, 0
        while candidate in self.nodes or candidate == self.input:
            count += 1
            candidate = f"{name}_{count}"
        return candidate

    @property
    def outputs(self) -> list[str]:
        """Names of the nodes whose values the network returns."""
        return leaves(self.output)

    def consumers(self, name: str) -> list[str]:
        """Names of the nodes that read `name`, each once; the graph's outputs are not among them."""
        return [n.name for n in self.nodes.values() if name in n.inputs]

    def only_consumer(self, name: str) -> Node | None:
        """The node that alone reads `name`, and reads it once; None if there are more, or it is an output."""
        readers = [n for n in self.nodes.values() for i in n.inputs if i == name]
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def shape(self, name: str) -> tuple[int, ...]:
        return self.input_shape if name == self.input else self.nodes[name].shape

    def replace_uses(self, old: str, new: str) -> None:
        """Let everything that read `old` read `new`."""
        for node in self.nodes.values():
            node.inputs = [new if i == old else i for i in node.inputs]
        self.output = mapped(self.output, lambda name: new if name == old else name)

    def bypass(self, node: Node) -> None:
        """Remove a node with one input; its readers read that input."""
        del self.nodes[node.name]
        self.replace_uses(node.name, node.inputs[0])

    def prune(self) -> None:
        """Remove the nodes that no output depends on."""
        live = set(self.outputs)
        for node in reversed(list(self.nodes.values())):
            if node.name in live:
                live.update(node.inputs)
        self.nodes = {name: node for name, node in self.nodes.items() if name in live}


class Step(Protocol):
    """A node of either graph."""

    @property
    def name(self) -> str: ...
    @property
    def inputs(self) -> Sequence[str]: ...


def last_uses(steps: Iterable[Step], outputs: Collection[str]) -> dict[str, list[str]]:
    """Step to the values that nobody reads after it; outputs are never among them."""
    last = {name: step.name for step in steps for name in step.inputs}
    finished: dict[str, list[str]] = {}
    for name, reader in last.items():
        if name not in outputs:
            finished.setdefault(reader, []).append(name)
    return finished
