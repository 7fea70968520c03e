"""Symbolic trace of an unmodified module, in which what can't be traced becomes a leaf instead of a
failure."""

from __future__ import annotations

import inspect
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from ...errors import PtqxError

_NOT_THE_USERS = (os.path.dirname(torch.__file__), os.path.dirname(__file__))

IsLeaf = Callable[[nn.Module, str], bool]


@dataclass(frozen=True)
class TracedModule:
    """An fx graph over the modules of `root`; `untraceable` maps a leaf's dotted path to (reason, source
    line); `constants` are attributes that tracing added to the root: what was computed of buffers alone."""

    root: nn.Module
    graph: fx.Graph
    untraceable: dict[str, tuple[str, str]]
    constants: frozenset[str]


def trace(root: nn.Module, is_leaf: IsLeaf) -> TracedModule:
    """Trace `root`; modules of torch.nn and those for which `is_leaf(module, path)` are not entered."""
    tracer = _Tracer(is_leaf)
    before, defaults = set(vars(root)), _defaults(root)
    try:
        graph = tracer.trace(root, concrete_args=defaults)
    except Exception as error:
        reason, source = _blame(error)
        raise PtqxError(
            f"{type(root).__name__} can't be captured: {reason} at {source}; "
            "move what depends on values into a submodule, which then stays float"
        ) from error
    return TracedModule(root, graph, tracer.untraceable, frozenset(set(vars(root)) - before))


def propagate(traced: TracedModule, example: Tensor) -> None:
    """Run the graph once and note in `node.meta["value"]` what every node gives: tensors as their shape.

    A batch of one is doubled, so that no layer dimension of size one is taken for the batch.
    """
    batch = example.detach().clone()
    if batch.shape[0] == 1:
        batch = torch.cat([batch, batch])
    module = fx.GraphModule(traced.root, traced.graph)
    with torch.no_grad():
        try:
            _Recorder(module).run(batch)
        except Exception as error:
            message = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise PtqxError(
                f"example_inputs of shape {tuple(example.shape)} do not fit the model: {message}"
            ) from error


class _Tracer(fx.Tracer):
    def __init__(self, is_leaf: IsLeaf) -> None:
        super().__init__()
        self.record_stack_traces = True
        self.is_leaf = is_leaf
        self.untraceable: dict[str, tuple[str, str]] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return (
            self.is_leaf(m, module_qualified_name)
            or module_qualified_name in self.untraceable
            or super().is_leaf_module(m, module_qualified_name)
        )

    def call_module(self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        last = next(iter(reversed(self.graph.nodes)))
        stack = self.module_stack.copy()
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception as error:
            name = self.path_of_module(m)
            if self.is_leaf_module(m, name):
                raise
            self.untraceable[name] = _blame(error)
            for node in _nodes_after(self.graph, last):
                self.graph.erase_node(node)
            self.module_stack = stack
            return super().call_module(m, forward, args, kwargs)


class _Recorder(fx.Interpreter):
    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        n.meta["value"] = _described(result)
        return result


def _described(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("meta")
    if isinstance(value, (tuple, list)) and not isinstance(value, torch.Size):
        return type(value)(_described(v) for v in value) if type(value) in (tuple, list) else value
    return value


def _nodes_after(graph: fx.Graph, last: fx.Node) -> list[fx.Node]:
    """Newest first, so that each can be erased."""
    added = []
    for node in reversed(graph.nodes):
        if node is last:
            break
        added.append(node)
    return added


def _defaults(root: nn.Module) -> dict[str, Any]:
    """Arguments of forward that have defaults keep them: they are no inputs of the graph."""
    parameters = list(inspect.signature(root.forward).parameters.values())
    if parameters and parameters[0].kind is inspect.Parameter.VAR_POSITIONAL:
        raise PtqxError(
            f"{type(root).__name__}.forward takes *{parameters[0].name}; ptqx captures models with one input "
            "tensor, by a name"
        )
    return {p.name: p.default for p in parameters[1:] if p.default is not p.empty}


def _blame(error: BaseException) -> tuple[str, str]:
    """What went wrong, and the innermost line of the user's code."""
    frames = traceback.extract_tb(error.__traceback__)
    users = [
        f for f in frames if not f.filename.startswith(_NOT_THE_USERS) and not f.filename.startswith("<")
    ]
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return reason, source_line(users[-1]) if users else "unknown line"


def source_line(frame: traceback.FrameSummary) -> str:
    line = f": {frame.line}" if frame.line else ""
    return f"{os.path.basename(frame.filename)}:{frame.lineno}{line}"
