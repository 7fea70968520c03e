"""The float and the quantized network side by side over all calibration samples, a part at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from ..graph.ir import Graph, Node
from ..graph.simulated import SimulatedModel
from ..graph.workbench import BATCH, Workbench

Values = dict[str, Tensor]


@dataclass(frozen=True)
class Segment:
    """Consecutive nodes; `outputs` are those that later segments, or the network's user, read."""

    nodes: list[Node]
    outputs: list[str]

    def run(self, model: SimulatedModel, values: Values) -> Values:
        """The outputs for one batch of what earlier segments gave. The model's own nodes run: biases that a
        method added are in one network alone."""
        known = dict(values)
        for node in self.nodes:
            own = model.graph.nodes[node.name]
            known[node.name] = model.step(own, *(known[name] for name in node.inputs))
        return {name: known[name] for name in self.outputs}


@dataclass(frozen=True)
class Stage:
    """A segment with layers, and all that comes into it.

    Attributes:
        layers: its layers with quantized weights.
        quantized: node to its values in the quantized network as it is now, [N, ...], all samples.
        floats: the same in the float network.
    """

    segment: Segment
    layers: list[Node]
    quantized: Values
    floats: Values


def by_layer(bench: Workbench) -> list[Segment]:
    """Segments of one quantized layer and what follows it."""
    starts = {node.name for node in bench.layers}
    parts: list[list[Node]] = [[]]
    for node in bench.prep.graph:
        if node.name in starts:
            parts.append([])
        parts[-1].append(node)
    return _segments(bench.prep.graph, [part for part in parts if part])


def by_block(bench: Workbench) -> list[Segment]:
    """Segments with one value in and one out: a layer, a residual block, what lies between them.

    Parts without a layer (pooling) belong to the segment before them.
    """
    graph = bench.prep.graph
    layers = {node.name for node in bench.layers}
    nodes = list(graph)
    position = {node.name: i for i, node in enumerate(nodes)}
    last_use = {name: i for i, node in enumerate(nodes) for name in node.inputs}
    parts: list[list[Node]] = [[]]
    for i, node in enumerate(nodes):
        parts[-1].append(node)
        alive = [n for n, last in last_use.items() if last > i and position.get(n, -1) <= i]
        opens = i + 1 < len(nodes) and any(n.name in layers for n in _until_cut(nodes, i + 1, last_use))
        if len(alive) <= 1 and opens and any(n.name in layers for n in parts[-1]):
            parts.append([])
    return _segments(graph, parts)


def _until_cut(nodes: list[Node], start: int, last_use: dict[str, int]) -> list[Node]:
    """The nodes from `start` to the next place where one value alone is alive."""
    made = {node.name: i for i, node in enumerate(nodes)}
    for end in range(start, len(nodes)):
        if sum(last > end and made.get(name, -1) <= end for name, last in last_use.items()) <= 1:
            return nodes[start : end + 1]
    return nodes[start:]


def walk(bench: Workbench, segments: Iterable[Segment], label: str) -> Iterator[Stage]:
    """Yield every segment with layers before it runs, so that what is changed in it counts for the next.

    Values are kept for all samples (`Workbench.spill` bounds their memory) as long as somebody reads them.
    """
    segments = list(segments)
    quantized: Values = {bench.prep.graph.input: bench.inputs}
    floats: Values = dict(quantized)
    quantized_layers = {node.name for node in bench.layers}
    for index, segment in enumerate(tqdm(segments, label, disable=not bench.progress, leave=False)):
        layers = [node for node in segment.nodes if node.name in quantized_layers]
        if layers:
            yield Stage(segment, layers, quantized, floats)
        if index + 1 == len(segments):
            return
        _advance(bench, segment, quantized, floats)
        read = {name for later in segments[index + 1 :] for node in later.nodes for name in node.inputs}
        for values in (quantized, floats):
            for name in [name for name in values if name not in read]:
                del values[name]


@torch.no_grad()
def _advance(bench: Workbench, segment: Segment, quantized: Values, floats: Values) -> None:
    quantized.update(outputs(bench, bench.prep, segment, quantized))
    with bench.reference.observe(statistics=False):
        floats.update(outputs(bench, bench.reference, segment, floats))


def outputs(bench: Workbench, model: SimulatedModel, segment: Segment, values: Values) -> Values:
    results: Values = {}
    read = {name for node in segment.nodes for name in node.inputs if name in values}
    count = len(bench.inputs)
    for start in range(0, count, BATCH):
        rows = slice(start, min(start + BATCH, count))
        for name, part in segment.run(model, {name: values[name][rows] for name in read}).items():
            if name not in results:
                results[name] = bench.spill.empty(count, *part.shape[1:])
            results[name][rows] = part
    return results


def _segments(graph: Graph, parts: list[list[Node]]) -> list[Segment]:
    segments = []
    for index, part in enumerate(parts):
        read = {name for later in parts[index + 1 :] for node in later for name in node.inputs}
        segments.append(Segment(part, [n.name for n in part if n.name in read or n.name in graph.outputs]))
    return segments
