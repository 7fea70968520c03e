"""Permutes that cancel: models turn their values from one order of dimensions to another and back."""

from __future__ import annotations

from dataclasses import replace

from .ir import Graph, Node

PASSED = ("unary", "dropout", "add", "mul", "cat")  # the same before a permute as behind it


def cancel(graph: Graph) -> None:
    """Two permutes in a row become one, or none. What computes on single values computes on them as they lie
    before a permute, which comes behind it then and may meet the next one."""
    changed = True
    while changed:
        changed = False
        for node in list(graph):
            if node.op == "permute":
                changed |= _merge(graph, node)
        graph.prune()
        for node in list(graph):
            if node.op in PASSED:
                changed |= _pass(graph, node)


def _merge(graph: Graph, node: Node) -> bool:
    before = graph.nodes.get(node.inputs[0])
    merged = before is not None and before.op == "permute" and len(before.shape) == len(node.shape)
    if before is not None and merged:
        node.inputs = list(before.inputs)
        node.attrs["dims"] = [before.attrs["dims"][dim] for dim in node.attrs["dims"]]
    if node.attrs["dims"] == sorted(node.attrs["dims"]):
        graph.bypass(node)
        return True
    return merged


def _pass(graph: Graph, node: Node) -> bool:
    """If all operands are permuted alike for this node alone, or are constants."""
    operands = [graph.nodes.get(name) for name in node.inputs]
    permutes = [o for o in operands if o is not None and o.op == "permute"]
    constants = [o for o in operands if o is not None and o.op == "constant"]
    if not permutes or len(permutes) + len(constants) != len(operands):
        return False
    dims: list[int] = permutes[0].attrs["dims"]
    alike = all(p.attrs["dims"] == dims and len(p.shape) == len(node.shape) for p in permutes)
    alone = all(set(graph.consumers(p.name)) == {node.name} and p.name not in graph.outputs for p in permutes)
    if not alike or not alone:
        return False
    back = [dims.index(d) for d in range(len(dims))]
    sources = {p.name: p.inputs[0] for p in permutes}
    sources |= {c.name: _permuted_constant(graph, c, back) for c in constants}
    name, shape = graph.unique(f"{node.name}.permute"), node.shape
    node.inputs = [sources[i] for i in node.inputs]
    node.shape = tuple(shape[d - 1] for d in back[1:])
    if node.op == "cat":
        node.attrs["dim"] = dims[node.attrs["dim"]]
    graph.replace_uses(node.name, name)
    graph.add(Node(name, "permute", [node.name], {"dims": list(dims)}, shape=shape), after=node.name)
    graph.prune()
    return True


def _permuted_constant(graph: Graph, constant: Node, dims: list[int]) -> str:
    first = constant.attrs.get("dims", list(range(len(dims))))
    permuted = replace(
        constant,
        name=graph.unique(f"{constant.name}.permuted"),
        attrs={**constant.attrs, "dims": [first[d] for d in dims]},
        shape=tuple(constant.shape[d - 1] for d in dims[1:]),
    )
    return graph.add(permuted, after=constant.name)
