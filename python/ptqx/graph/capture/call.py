"""One call in the traced code as a handler sees it, and the table of handlers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..ir import Graph, Node

REQUIRED = object()

# Folders whose lines are no part of the model's code.
NOT_THE_USERS = (os.path.dirname(torch.__file__), os.path.dirname(__file__))


class Unsupported(Exception):
    """Raised by a handler: this call stays float, and why."""


@dataclass(frozen=True)
class Ref:
    """The result of a node, among the arguments of a call."""

    name: str


@dataclass(frozen=True)
class Attr:
    """A parameter or buffer of the model, by its dotted path, and its values, in another shape perhaps."""

    path: str
    value: Tensor


@dataclass(frozen=True)
class Several:
    """The result of a float call that gives a tuple, list or dict of tensors, or of further such. `item`, of
    an index, key or name, is what it has there: a tensor is a node from then on. `keys` of a dict."""

    item: Callable[[int | str], Any]
    kind: type
    keys: tuple[int | str, ...]

    def all(self) -> Any:
        items = [self.item(key) for key in self.keys]
        items = [item.all() if isinstance(item, Several) else item for item in items]
        return dict(zip(self.keys, items, strict=True)) if self.kind is dict else self.kind(items)


@dataclass(frozen=True)
class Stack:
    """Results of one shape [C, H, W] a sample that the model's code has as one tensor [N, K, C, H, W], or
    [K, N, C, H, W] if `dim` is 0."""

    parts: tuple[Ref, ...]
    dim: int = 1


@dataclass(frozen=True)
class Slot:
    """Where an input or a parameter goes among the arguments of a float call; the parameter in another shape
    than its own, if there is one."""

    kind: str
    key: str
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Handler:
    """Builds the nodes of one kind of call. `parameters`: what follows the input, in PyTorch's order, with
    defaults."""

    build: Callable[..., Any]
    parameters: dict[str, Any]


HANDLERS: dict[Any, Handler] = {}


def captures(*targets: Any, **parameters: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a handler under module types, functions, and names of tensor methods."""

    def enter(build: Callable[..., Any]) -> Callable[..., Any]:
        for target in targets:
            HANDLERS[target] = Handler(build, parameters)
        return build

    return enter


@dataclass
class Call:
    """One call in the traced code, seen by a handler."""

    graph: Graph
    values: dict[fx.Node, Any]
    fx_node: fx.Node
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    module: nn.Module | None = None
    path: str = ""

    @property
    def input(self) -> Ref:
        first = self.args[0] if self.args else self.kwargs.get("input")
        if not isinstance(first, Ref):
            raise Unsupported("its first argument is no tensor of the network")
        return first

    @property
    def output_shape(self) -> tuple[int, ...]:
        """With the batch dimension, as the example gave it."""
        value = self.fx_node.meta["value"]
        return tuple(value.shape) if isinstance(value, Tensor) else ()

    def input_shape(self, ref: Ref | None = None) -> tuple[int, ...]:
        """Of one sample."""
        return self.graph.shape((ref or self.input).name)

    @property
    def batch_first(self) -> bool:
        """Whether the first dimension of all that it reads is the batch."""
        samples = next(iter(self.values)).meta["value"].shape[0]
        results = [n for n in self.fx_node.all_input_nodes if isinstance(self.values.get(n), Ref)]
        return all(node.meta["value"].shape[:1] == (samples,) for node in results)

    def require_images(self) -> None:
        """
        Raises:
            Unsupported: what goes in is not [N, C, H, W].
        """
        if len(self.input_shape()) != 3:
            raise Unsupported(f"of {list(self.input_shape())} a sample; only of [C, H, W]")

    def as_image(self) -> Ref:
        """The input; a sequence, [C, L] a sample, as an image of one row, [C, 1, L].

        Raises:
            Unsupported: it is neither.
        """
        if len(self.input_shape()) == 3:
            return self.input
        if len(self.input_shape()) != 2:
            raise Unsupported(f"of {list(self.input_shape())} a sample; only of [C, H, W] or [C, L]")
        channels, length = self.input_shape()
        shape = (channels, 1, length)
        return self.node("reshape", shape=shape, suffix=".image", sample_shape=list(shape))

    def on_image(
        self,
        op: str,
        source: Ref | None = None,
        params: dict[str, str] | None = None,
        suffix: str = "",
        **attrs: Any,
    ) -> Ref:
        """A node on `source` (the input as an image), and its result as the call gives it: a sequence where
        the input is one."""
        sources = [self.as_image() if source is None else source]
        if len(self.input_shape()) == 3:
            return self.node(op, sources, params, suffix=suffix, **attrs)
        channels, length = self.output_shape[1:]
        result = self.node(op, sources, params, (channels, 1, length), suffix, **attrs)
        return self.node("reshape", [result], suffix=".sequence", sample_shape=[channels, length])

    def pair(self, value: Any, of_row: int) -> list[int]:
        """[h, w] from a number or a pair; of a sequence [of_row, w]."""
        if len(self.input_shape()) == 3:
            return pair(value)
        return [of_row, int(value) if isinstance(value, int) else int(value[0])]

    def node(
        self,
        op: str,
        inputs: Iterable[Ref] | None = None,
        params: dict[str, str] | None = None,
        shape: tuple[int, ...] | None = None,
        suffix: str = "",
        **attrs: Any,
    ) -> Ref:
        """Add a node and return its result. `shape` of one sample, if it is not the call's own."""
        sources = [self.input] if inputs is None else list(inputs)
        name = self.graph.add(
            Node(
                self.graph.unique(self.name + suffix),
                op,
                [ref.name for ref in sources],
                attrs,
                params or {},
                self.path or None,
                self.output_shape[1:] if shape is None else shape,
                source=self.source,
            )
        )
        return Ref(name)

    @property
    def name(self) -> str:
        if self.path:
            return self.path
        stack = self.fx_node.meta.get("nn_module_stack") or {}
        owner = next(reversed(stack.values()))[0] if stack else ""
        target = self.fx_node.target
        own = target if isinstance(target, str) else getattr(target, "__name__", "function")
        own = "max_pool2d" if own == "fn" else own.strip("_")
        return f"{owner}.{own}" if owner else own

    @property
    def source(self) -> str:
        trace_text = self.fx_node.stack_trace or ""
        lines = [line.strip() for line in trace_text.splitlines() if line.strip().startswith('File "')]
        users = [line for line in lines if not any(folder in line for folder in NOT_THE_USERS)]
        if not users:
            return ""
        _, path, rest = users[-1].split('"', 2)
        return f"{os.path.basename(path)}:{rest.split('line ')[1].split(',')[0]}"


def target_name(target: Any) -> str:
    """Of what a node calls: a method's name, or a function's."""
    return target if isinstance(target, str) else str(getattr(target, "__name__", ""))


def part(value: Any, items: Iterable[int | str]) -> Any:
    """What a nested result has at the end of `items`: indices, keys, and names of named tuples."""
    for item in items:
        named = isinstance(item, str) and not isinstance(value, dict)
        value = getattr(value, item) if named else value[item]  # type: ignore[arg-type]
    return value


def pair(value: Any) -> list[int]:
    """[h, w] from a number or a pair."""
    return [int(value)] * 2 if isinstance(value, int) else [int(v) for v in value]


def parameter_paths(**roles: Any) -> dict[str, str]:
    params = {}
    for role, value in roles.items():
        if isinstance(value, Attr):
            params[role] = value.path
        elif value is not None:
            raise Unsupported(f"its {role} is computed, not a parameter")
    return params
