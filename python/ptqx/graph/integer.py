"""The integer model: interprets the integer graph with the operators of torch.ops.ptqx."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..errors import PtqxError, unknown_name
from .document import IntegerGraph, IntegerNode
from .ir import last_uses
from .operators import OPERATORS
from .operators.boundary import call_float
from .scope import GraphTensors, Make, Memory, Place, may_remember
from .structure import mapped

T = TypeVar("T")


class IntegerModel(nn.Module, GraphTensors):
    """A network of integer operators, run one by one. Made by `ptqx.convert` or `ptqx.load`.

    Input [N] + graph.input_shape float32, output float32: one tensor, or the tuples, lists and dicts of
    tensors that the float model returns. The state dict holds codes, scales and biases under
    the names of the graph: `features.0.weight`, `features.0.weight_scale`, `features.0.output_scale`, … It
    compiles as one graph, exports, and copies; it stays on the CPU in its own types.

    Attributes:
        graph: the steps.
        report: what `convert` compared, if it made the model.
    """

    def __init__(
        self,
        graph: IntegerGraph,
        tensors: Mapping[str, Tensor],
        modules: Mapping[str, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.graph = graph
        self.report: Any = None
        self._finished_with = last_uses(graph, graph.outputs)
        self._memory = Memory()
        for node in graph:
            if node.op not in OPERATORS:
                raise unknown_name(f"operation of node {node.name!r}:", node.op, OPERATORS)
        missing = graph.tensor_names() - set(tensors)
        if missing:
            raise PtqxError(f"the graph's tensor {min(missing)!r} is missing")
        for path, module in (modules or {}).items():
            owner, _, name = path.rpartition(".")
            self._container(owner)._modules[name] = module
        for path, tensor in tensors.items():
            owner, _, name = path.rpartition(".")
            self._container(owner)._buffers[name] = tensor
        self.eval()

    def forward(self, x: Tensor) -> Any:
        return self.run(x)

    def run(self, x: Tensor, keep: dict[str, Tensor] | None = None) -> Any:
        """forward; `keep` receives what every node gives (codes or float32)."""
        shape = self.graph.input_shape
        if not isinstance(x, Tensor):
            raise PtqxError(f"input: expected a tensor, got {type(x).__name__}")
        if x.dim() != len(shape) + 1 or x.shape[1] != shape[0] or not x.is_floating_point():
            raise PtqxError(
                f"input: expected float32 of shape {['N', *shape]}, got {x.dtype} {list(x.shape)}"
            )
        return self.run_steps({self.graph.input: x.float()}, keep)

    def run_steps(self, values: dict[str, Tensor], keep: dict[str, Tensor] | None = None) -> Any:
        """All steps, given the values that they begin with."""
        for node in self.graph.nodes.values():
            values[node.name] = OPERATORS[node.op].run(self, node, *[values[name] for name in node.inputs])
            if keep is not None:
                keep[node.name] = values[node.name]
            for name in self._finished_with.get(node.name, ()):
                del values[name]
        return mapped(self.graph.output, values.__getitem__)

    def remembered(self, node: IntegerNode, make: Make[T]) -> T:
        """make(scope, node) of a node's tensors: made once, and again when one of them is another."""
        if not may_remember():
            return make(self, node)
        return self._memory.find(self.graph, self._place, node, make)

    def run_module(self, node: IntegerNode, inputs: list[Tensor]) -> Tensor:
        """The float part that the node stands for."""
        module = None if node.attrs["module"] is None else self.submodule(node.attrs["module"])
        return call_float(node.attrs, module, self.tensor_at, inputs)

    def tensors(self) -> dict[str, Tensor]:
        """The graph's tensors by name."""
        return {name: self.tensor_at(name) for name in sorted(self.graph.tensor_names())}

    def extra_repr(self) -> str:
        return f"{len(self.graph.nodes)} steps, input {list(self.graph.input_shape)}"

    def _place(self, path: str) -> Place:
        owner, _, name = path.rpartition(".")
        module = self.submodule(owner)
        tensors: Any = module._buffers if name in module._buffers else module._parameters
        return tensors, name

    def submodule(self, path: str) -> nn.Module:
        """The module at a dotted path, whose names may be those of nn.Module's own methods."""
        module: Any = self
        for name in path.split(".") if path else ():
            module = module._modules[name]
        return module

    def _container(self, path: str) -> nn.Module:
        """The module at `path`, made on the way if need be. Names may be those of nn.Module's own methods."""
        module: nn.Module = self
        for name in path.split(".") if path else ():
            if name not in module._modules:
                module._modules[name] = nn.Module()
            module = module._modules[name]  # type: ignore[assignment]
        return module

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> IntegerModel:
        probe = fn(torch.zeros(1))
        if probe.dtype != torch.float32 or probe.device.type != "cpu":
            raise PtqxError(
                f"an integer model can't become {probe.dtype} on {probe.device}: its codes and scales "
                "are what was verified, and its kernels run on the CPU; change the float model instead"
            )
        return super()._apply(fn, recurse)
