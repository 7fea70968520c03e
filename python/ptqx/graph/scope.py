"""What operations read of an integer model, and the arguments that they gather once and remember."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import Tensor

from .document import IntegerGraph, IntegerNode
from .formulas import QParams

if TYPE_CHECKING:
    from .operators.base import IntegerScope

T = TypeVar("T")
Make = Callable[["IntegerScope", IntegerNode], T]


Place = tuple[dict[str, Tensor], str]  # where a module keeps a tensor, and under which name


class GraphTensors(Protocol):
    """The graph's tensors by role."""

    graph: IntegerGraph

    def _place(self, path: str) -> Place: ...

    def tensor_at(self, path: str) -> Tensor:
        """The tensor of that name."""
        tensors, name = self._place(path)
        return tensors[name]

    def tensor(self, node: IntegerNode, role: str) -> Tensor | None:
        """The tensor in that role, None if the node has none."""
        return self.tensor_at(node.tensors[role]) if role in node.tensors else None

    def qparams(self, name: str) -> tuple[Tensor, Tensor]:
        """Scale float32 [1] and zero point int32 [1] of what the node `name` gives."""
        output = self.graph.nodes[name].output
        return self.tensor_at(output.scale), self.tensor_at(output.zero_point)

    def output(self, name: str) -> QParams:
        """What the codes that the node `name` gives mean."""
        output = self.graph.nodes[name].output
        scale, zero_point = self.qparams(name)
        return QParams(scale.reshape(()), zero_point.float().reshape(()), output.qmin, output.qmax)


class Memory:
    """Arguments that hold a model's tensors, one value a node, while the model has the same ones.

    Checking that takes a microsecond, gathering a dozen tensors by name ten, as long as a small layer. Copies
    and pickles of a model begin with an empty one.
    """

    def __init__(self) -> None:
        self._made: dict[str, tuple[Any, list[Source]]] = {}

    def find(self, graph: IntegerGraph, place: Callable[[str], Place], node: IntegerNode, make: Make[T]) -> T:
        """make(scope, node), or what it gave before."""
        known = self._made.get(node.name)
        if known is not None and all(tensors.get(name) is tensor for tensors, name, tensor in known[1]):
            made: T = known[0]
            return made
        reader = _Reader(graph, place)
        value = make(reader, node)  # type: ignore[arg-type]
        self._made[node.name] = value, reader.sources
        return value

    def __deepcopy__(self, memo: dict[int, Any]) -> Memory:
        return Memory()

    def __reduce__(self) -> tuple[type[Memory], tuple[()]]:
        return Memory, ()


def may_remember() -> bool:
    """Not while a compiler or a mode looks on, whose tensors are not the model's own."""
    return not torch.compiler.is_compiling() and torch._C._len_torch_dispatch_stack() == 0


Source = tuple[dict[str, Tensor], str, Tensor]  # a tensor that was read, and its place


class _Reader(GraphTensors):
    """The scope of one `make`, which writes down what is read."""

    def __init__(self, graph: IntegerGraph, place: Callable[[str], Place]) -> None:
        self.graph = graph
        self.sources: list[Source] = []
        self._find_place = place

    def _place(self, path: str) -> Place:
        tensors, name = self._find_place(path)
        self.sources.append((tensors, name, tensors[name]))
        return tensors, name
