"""Networks that the engine runs up to a part that computes in float."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from .document import IntegerGraph, IntegerNode, Output
from .engine import Engine
from .integer import IntegerModel


class PartialEngine(nn.Module):
    """An integer network whose first steps are an `Engine`; the others run one by one, as in the integer
    model. Made by `ptqx.compile(..., partial=True)`; equal bit by bit to the integer model.

    Attributes:
        engine: what comes before the first step that the engine does not run, and does not depend on one.
        rest: the other steps.
        given: the names by which `rest` reads what `engine` gives, in order.
    """

    def __init__(self, engine: Engine, rest: IntegerModel, given: Sequence[str]) -> None:
        super().__init__()
        self.engine, self.rest, self.given = engine, rest, list(given)
        self.eval()

    def forward(self, x: Tensor) -> Any:
        values = dict(zip(self.given, self.engine(x), strict=True))
        return self.rest.run_steps({self.rest.graph.input: x.float(), **values})

    def extra_repr(self) -> str:
        return f"{len(self.rest.graph.nodes)} steps after the engine"


def split(qmodel: IntegerModel, refused: Collection[str]) -> tuple[IntegerModel, IntegerModel, list[str]]:
    """What does not depend on the steps `refused`, the rest, and what the rest reads of it.

    Codes pass between both as the real values that they stand for, of which quantization makes the same codes
    again.
    """
    graph = qmodel.graph
    after = set(refused)
    for node in graph:
        if after.intersection(node.inputs):
            after.add(node.name)
    first = {node.name: node for node in graph if node.name not in after}
    rest = {node.name: node for node in graph if node.name in after}
    read = {name for node in rest.values() for name in node.inputs}.union(graph.outputs)
    given, codes = [], {}
    for name in [name for name in first if name in read]:
        if first[name].output.dtype == "float32":
            given.append(name)
            continue
        real = _unused(f"{name}.real", graph)
        given.append(real)
        first[real] = IntegerNode(real, "dequantize", (name,), {}, {}, Output())
        codes[name] = IntegerNode(name, "quantize", (real,), {}, {}, graph.nodes[name].output)
    head = replace(graph, output=given, nodes=first)
    tail = replace(graph, nodes={**codes, **rest})
    return _with_nodes_of(qmodel, head), _with_nodes_of(qmodel, tail), given


def _with_nodes_of(qmodel: IntegerModel, graph: IntegerGraph) -> IntegerModel:
    in_float = [node.attrs for node in graph if node.op == "float"]
    names = graph.tensor_names().union(*(attrs["params"] for attrs in in_float))
    modules = {attrs["module"] for attrs in in_float} - {None}
    return IntegerModel(
        graph,
        {name: qmodel.tensor_at(name) for name in sorted(names)},
        {path: qmodel.submodule(path) for path in sorted(modules)},
    )


def _unused(name: str, graph: IntegerGraph) -> str:
    while name in graph.nodes:
        name += "_"
    return name
