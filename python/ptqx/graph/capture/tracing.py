"""Trace of an unmodified module on an example: what only depends on shapes is known while its code runs, and
what can't be traced becomes a leaf instead of a failure."""

from __future__ import annotations

import inspect
import operator
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate

from ...errors import PtqxError
from .call import NOT_THE_USERS, target_name
from .traced_value import IN_PLACE, METHODS, BatchSize, TracedValue

IsLeaf = Callable[[nn.Module, str], bool]


@dataclass(frozen=True)
class TracedModule:
    """An fx graph over the modules of `root`. Nodes that compute have in `meta`

    - "value": what they gave for the example, tensors as their shape (on the device meta);
    - "constant": the same with its numbers, if nothing in it depends on the input;
    - "learned": whether a constant depends on parameters.

    `untraceable` maps a leaf's dotted path to (reason, source line); `constants` are attributes that tracing
    added to the root: what was computed of buffers alone.
    """

    root: nn.Module
    graph: fx.Graph
    untraceable: dict[str, tuple[str, str]]
    constants: frozenset[str]


class _DoesNotRun(Exception):
    """The model's code fails on the example."""


def trace(root: nn.Module, is_leaf: IsLeaf, example: Tensor) -> TracedModule:
    """Trace `root`; modules of torch.nn and those for which `is_leaf(module, path)` are not entered.

    A batch of one is doubled, so that no layer dimension of size one is taken for the batch.
    """
    batch = example.detach().clone()
    if batch.shape[0] == 1:
        batch = torch.cat([batch, batch])
    before, defaults = set(vars(root)), _defaults(root)
    _take_one_input(root)
    tracer = _Tracer(is_leaf, batch)
    try:
        graph = tracer.trace(root, concrete_args=defaults)
    except _DoesNotRun as failure:
        error = failure.__cause__
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PtqxError(
            f"example_inputs of shape {tuple(example.shape)} do not fit the model: {message}"
        ) from error
    except Exception as error:
        reason, source = _blame(error)
        raise PtqxError(
            f"{type(root).__name__} can't be captured: {reason} at {source}; "
            "move what depends on values into a submodule, which then stays float"
        ) from error
    return TracedModule(root, graph, tracer.untraceable, frozenset(set(vars(root)) - before))


class _Tracer(fx.Tracer):
    """Runs every node on the example as soon as it is made."""

    def __init__(self, is_leaf: IsLeaf, batch: Tensor) -> None:
        super().__init__()
        self.record_stack_traces = True
        self.is_leaf = is_leaf
        self.batch = batch
        self.untraceable: dict[str, tuple[str, str]] = {}
        self._running = False

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return (
            self.is_leaf(m, module_qualified_name)
            or isinstance(m, torch.jit.ScriptModule)
            or module_qualified_name in self.untraceable
            or super().is_leaf_module(m, module_qualified_name)
        )

    def call_module(self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._running:
            return forward(*args, **kwargs)
        last = next(iter(reversed(self.graph.nodes)))
        stack = self.module_stack.copy()
        attributes = {part: dict(vars(part)) for part in m.modules()}
        try:
            return super().call_module(m, forward, args, kwargs)
        except _DoesNotRun:
            raise
        except Exception as error:
            name = self.path_of_module(m)
            if self.is_leaf_module(m, name):
                raise
            self.untraceable[name] = _blame(error)
            for node in _nodes_after(self.graph, last):
                self.graph.erase_node(node)
            self.module_stack = stack
            for part, before in attributes.items():  # what its code keeps is no longer of this trace
                vars(part).clear()
                vars(part).update(before)
            return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        if self._running:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def proxy(self, node: fx.Node) -> TracedValue:
        return TracedValue(node, self)

    def create_proxy(
        self,
        kind: str,
        target: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        name: str | None = None,
        type_expr: Any | None = None,
        proxy_factory_fn: Any = None,
    ) -> Any:
        called = target_name(target) if kind in ("call_function", "call_method") else ""
        if called in METHODS and isinstance(args[0], TracedValue):
            return args[0].fact(called, *args[1:], **kwargs)
        proxy = super().create_proxy(kind, target, args, kwargs, name, type_expr)
        assert isinstance(proxy, TracedValue)
        operands = _proxies((args, kwargs))
        is_input = kind == "placeholder" and not args
        reads_input = any(p.depends_on_input for p in operands) and not _reads_facts_alone(
            called, args, kwargs
        )
        proxy.depends_on_input = is_input or reads_input
        if proxy.depends_on_input:
            _require_recordable(called, args)
        with self._run():
            value = self.batch if is_input else self._value(kind, target, args, kwargs)
        proxy.value = value
        learned = kind == "get_attr" and isinstance(value, nn.Parameter) and value.requires_grad
        meta = proxy.node.meta
        meta["value"] = _described(value)
        meta["learned"] = learned or any(p.node.meta.get("learned", False) for p in operands)
        if not proxy.depends_on_input:
            meta["constant"] = value
        return proxy

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """Of what a call gives, if that is several tensors."""
        if isinstance(obj, TracedValue) and isinstance(obj.value, (tuple, list)):
            return iter([operator.getitem(obj, index) for index in range(len(obj.value))])
        return super().iter(obj)

    def to_bool(self, obj: fx.Proxy) -> bool:
        if isinstance(obj, TracedValue) and not obj.depends_on_input:
            return bool(obj.value)
        return super().to_bool(obj)

    def _value(self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if kind == "placeholder":
            return args[0]
        if kind == "get_attr":
            return attribute(self.root, target)
        known_args, known_kwargs = map_aggregate((args, kwargs), _known)
        try:
            if kind == "call_function":
                return target(*known_args, **known_kwargs)
            if kind == "call_method":
                return getattr(known_args[0], target)(*known_args[1:], **known_kwargs)
            return self.root.get_submodule(target)(*known_args, **known_kwargs)
        except Exception as error:
            raise _DoesNotRun from error

    @contextmanager
    def _run(self) -> Iterator[None]:
        """Inside, modules compute instead of being traced."""
        self._running = True
        try:
            with torch.no_grad():
                yield
        finally:
            self._running = False


def attribute(root: nn.Module, path: str) -> Any:
    owner, _, name = path.rpartition(".")
    return getattr(root.get_submodule(owner), name)


def _proxies(arguments: Any) -> list[TracedValue]:
    found: list[TracedValue] = []
    map_aggregate(arguments, lambda a: found.append(a) if isinstance(a, TracedValue) else None)
    return found


def _known(argument: Any) -> Any:
    return argument.value if isinstance(argument, TracedValue) else argument


def _reads_facts_alone(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call asks a result of the network for its type and device alone."""
    sizes: list[Any] = []
    map_aggregate((args[1:], kwargs), sizes.append)
    if name in _NEW:
        return not any(isinstance(a, BatchSize) or _depends(a) for a in sizes)
    return name in ("type_as", "to") and not _depends(args[0])


def _depends(argument: Any) -> bool:
    return isinstance(argument, TracedValue) and argument.depends_on_input


_NEW = ("new_full", "new_zeros", "new_ones", "new_tensor")
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_WRITES = (*IN_PLACE, "setitem", "__setitem__")
_READS = ("item", "tolist", "nonzero", "numpy")


def _require_recordable(name: str, args: tuple[Any, ...]) -> None:
    """
    Raises:
        RuntimeError: the call makes Python see values of the network, or writes where no later node reads.
    """
    if name in _READS:
        raise RuntimeError(f"{name} reads the values of a tensor")
    in_place = name in _WRITES or (name.endswith("_") and not name.endswith("__"))
    written = args[0] if in_place else None
    if isinstance(written, Tensor) or (isinstance(written, TracedValue) and not written.depends_on_input):
        raise RuntimeError(f"{name} writes results of the network into a constant")


def _described(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("meta")
    if isinstance(value, dict):
        return {key: _described(v) for key, v in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_described(v) for v in value)
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
    inputs = [p for p in parameters if p.default is p.empty and p.kind not in _VARIADIC]
    if len(inputs) > 1:
        names = ", ".join(p.name for p in inputs)
        raise PtqxError(
            f"the model takes {len(inputs)} inputs ({names}); ptqx captures models with one input tensor"
        )
    return {p.name: p.default for p in parameters[1:] if p.default is not p.empty}


def _take_one_input(root: nn.Module) -> None:
    """Let a forward that takes further *arguments and **keywords be called without any."""
    kind = type(root)
    if not any(p.kind in _VARIADIC for p in inspect.signature(kind.forward).parameters.values()):
        return

    def forward(self: nn.Module, x: Tensor) -> Any:
        return kind.forward(self, x)

    root.__class__ = type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})


def _blame(error: BaseException) -> tuple[str, str]:
    """What went wrong, and the innermost line of the user's code."""
    frames = traceback.extract_tb(error.__traceback__)
    users = [f for f in frames if not f.filename.startswith(NOT_THE_USERS) and not f.filename.startswith("<")]
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return reason, source_line(users[-1]) if users else "unknown line"


def source_line(frame: traceback.FrameSummary) -> str:
    line = f": {frame.line}" if frame.line else ""
    return f"{os.path.basename(frame.filename)}:{frame.lineno}{line}"
