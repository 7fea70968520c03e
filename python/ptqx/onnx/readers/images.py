"""Values of any layout as images whose channels are multiplied or shared out, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ...graph import IntegerNode
from ...graph.channel_order import ROWS_FIRST, TO_FIRST, TO_LAST
from ...graph.sequences import TRANSPOSED
from ..tables import Function
from .nodes import Nodes
from .values import Quantization

AS_IT_IS = [0, 1, 2, 3]
# By a sample's number of dimensions, of which two are an image of one row, and the one that becomes channels.
TO_IMAGE = {2: (AS_IT_IS, TRANSPOSED), 3: (AS_IT_IS, ROWS_FIRST, TO_FIRST)}
FROM_IMAGE = {2: (AS_IT_IS, TRANSPOSED), 3: (AS_IT_IS, ROWS_FIRST, TO_LAST)}


class Images(Nodes):
    """Adds reshapes and permutes; those that undo others are left out."""

    def _image(self, x: str, axis: int, name: str) -> str:
        """What the node `x` gives, with its dimension `axis` of a sample as channels."""
        if len(self._shapes[x]) == 1:
            return x
        dims = TO_IMAGE[len(self._shapes[x])][axis]
        return self._permuted(self._row(x, name), dims, f"{name}/image")

    def _row(self, x: str, name: str) -> str:
        """[A, B] as [A, 1, B]; three dimensions are an image."""
        if len(self._shapes[x]) == 3:
            return x
        node = self.nodes.get(x)
        if node is not None and node.op == "permute":
            return self._permuted(self._row(node.inputs[0], name), TRANSPOSED, f"{name}/turned")
        first, second = self._shapes[x]
        return self._reshaped(x, (first, 1, second), f"{name}/row")

    def _from_image(
        self,
        make: Callable[[str], str],
        axis: int,
        dims: list[int] | None,
        shape: tuple[int, ...],
        name: str,
    ) -> str:
        """The inverse, for an image that `make` gives under a name; then in the order `dims`."""
        if len(shape) == 1:
            return make(name)
        flat, back = len(shape) == 2, FROM_IMAGE[len(shape)][axis]
        if dims is not None:
            order = [AS_IT_IS, TRANSPOSED][dims != [0, 1, 2]] if flat else dims
            back = [back[d] for d in order]
        image = make(name if back == AS_IT_IS and not flat else f"{name}/image")
        if not flat:
            return self._permuted(image, back, name)
        return self._reshaped(self._permuted(image, back, f"{name}/row"), shape, name)

    def _rescaled(
        self, node: str, meaning: Quantization, name: str, functions: tuple[Function, ...] = ()
    ) -> str:
        """A table comes before a permute, which another behind it may then undo."""
        before = self.nodes[node]
        if not self._is_permuted(node) or (not functions and self.quantization(node) == meaning):
            return super()._rescaled(node, meaning, name, functions)
        codes = self._rescaled(before.inputs[0], meaning, f"{name}/unmoved", functions)
        if before.op == "reshape":
            return self._reshaped(codes, self._shapes[node], name)
        return self._permuted(codes, before.attrs["dims"], name)

    def _is_permuted(self, x: str) -> bool:
        node = self.nodes.get(x)
        if node is not None and node.op == "reshape":
            node = self.nodes.get(node.inputs[0])
        return node is not None and node.op == "permute"

    def _permuted(self, x: str, dims: list[int], name: str) -> str:
        node = self.nodes.get(x)
        if dims == sorted(dims):
            return x
        if node is not None and node.op == "permute":
            x, dims = node.inputs[0], [node.attrs["dims"][d] for d in dims]
            return self._permuted(x, dims, name)
        shape = tuple(self._shapes[x][d - 1] for d in dims[1:])
        return self._moved(x, "permute", {"dims": dims}, shape, name)

    def _reshaped(self, x: str, shape: tuple[int, ...], name: str) -> str:
        node = self.nodes.get(x)
        if node is not None and node.op == "reshape":
            x = node.inputs[0]
        if self._shapes[x] == shape:
            return x
        return self._moved(x, "reshape", {"sample_shape": list(shape)}, shape, name)

    def _moved(self, x: str, op: str, attrs: dict[str, list[int]], shape: tuple[int, ...], name: str) -> str:
        output = self.nodes[x].output if x in self.nodes else None
        return self._add(name, op, [x], attrs, {}, output, shape)


def with_merged_permutes(nodes: dict[str, IntegerNode]) -> dict[str, IntegerNode]:
    """Permutes of permutes read what those do, in nodes that are in order."""
    merged: dict[str, IntegerNode] = {}
    for name, node in nodes.items():
        before = merged.get(node.inputs[0]) if node.op == "permute" else None
        if before is not None and before.op == "permute":
            dims = [before.attrs["dims"][d] for d in node.attrs["dims"]]
            node = replace(node, inputs=before.inputs, attrs={"dims": dims})
        merged[name] = node
    return merged
