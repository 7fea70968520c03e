"""From an unmodified nn.Module to a Graph: every fx node goes through one handler of the capture table."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.parametrize import is_parametrized

from ...errors import PtqxError
from ..ir import INPUT, Graph
from ..structure import Structure, leaves
from .call import (
    HANDLERS,
    REQUIRED,
    Attr,
    Call,
    Handler,
    Ref,
    Several,
    Slot,
    Stack,
    Unsupported,
    part,
    target_name,
)
from .parameters import constant
from .stacks import as_one_tensor, of_stacks
from .traced_value import BatchSize
from .tracing import TracedModule, attribute, trace


class Capturer:
    """Walks a traced module and builds its Graph."""

    def __init__(
        self, traced: TracedModule, float_leaves: dict[str, str], input_shape: tuple[int, ...]
    ) -> None:
        self.traced = traced
        self.float_leaves = float_leaves
        self.graph = Graph(INPUT, input_shape)
        self.values: dict[fx.Node, Any] = {}
        self.expanded: dict[str, Attr] = {}  # constants that repeat a parameter for every sample, by path
        self.mixing: dict[str, tuple[str, str]] = {}
        self.batch = 0

    def run(self) -> Graph:
        """`mixing` then has the float parts that read or change the number of samples, with the module that
        must be a leaf for that, and why they are float."""
        for node in self.traced.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = node.meta["value"] if node.args else Ref(INPUT)
                self.batch = self.batch if node.args else node.meta["value"].shape[0]
            elif node.op == "output":
                self.graph.output = self._output(self._resolve(node.args[0]))
            elif node.op != "get_attr" and "constant" not in node.meta:
                self.values[node] = self._call(node)
        if not leaves(self.graph.output):
            raise PtqxError("the model returns no tensor")
        self.graph.prune()
        read = {path for node in self.graph for path in node.params.values()}
        self.graph.constants = {path: v for path, v in self.graph.constants.items() if path in read}
        self.mixing = {name: found for name, found in self.mixing.items() if name in self.graph.nodes}
        return self.graph

    def _constant(self, node: fx.Node) -> Any:
        """What is computed of parameters, buffers and shapes alone: one of them, perhaps in another shape, or
        a new one."""
        if node.op == "get_attr":
            return self._attr(str(node.target))
        reshaped = self._reshaped_attr(node)
        value = node.meta["constant"]
        if reshaped is not None or not isinstance(value, Tensor):
            return value if reshaped is None else reshaped
        made = self._new_attr(node.name, value, node.meta["learned"])
        if target_name(node.target) == "expand" and value.dim() > 0:
            source = self._value(node.all_input_nodes[0])
            if isinstance(source, Attr) and source.value.numel() == value[:1].numel():
                self.expanded[made.path] = source
        return made

    def _attr(self, path: str) -> Attr:
        value = attribute(self.traced.root, path)
        if path in self.traced.constants:
            self.graph.constants[path] = value
        return Attr(path, value)

    def _new_attr(self, wanted: str, value: Tensor, learned: bool) -> Attr:
        name = f"{wanted}_constant"
        while hasattr(self.traced.root, name) or name in self.graph.constants:
            name += "_"
        value = value.detach().clone()
        self.graph.constants[name] = nn.Parameter(value) if learned and value.is_floating_point() else value
        return Attr(name, value)

    def _of_one_sample(self, argument: Any, result: Tensor) -> Any:
        """A constant that repeats itself for every sample, as made of the shape of a batch."""
        if not isinstance(argument, Attr):
            return argument
        value = argument.value
        repeats = (
            value.dim() == result.dim() and len(value) == len(result) and bool((value == value[:1]).all())
        )
        if not repeats:
            return argument
        if argument.path in self.expanded:  # the parameter itself, which learns
            source = self.expanded[argument.path]
            return Attr(source.path, source.value.reshape(value[:1].shape))
        return self._new_attr(argument.path.replace(".", "_"), value[:1], False)

    def _for_every_sample(self, call: Call, parts: Any) -> Any:
        """Parts of a concatenation: what repeats itself for every sample becomes a result of the network."""
        refs = [a for a in parts if isinstance(a, Ref)] if isinstance(parts, (tuple, list)) else []
        if not refs:
            return parts
        samples = call.fx_node.meta["value"]

        def result(argument: Any) -> Any:
            if not isinstance(argument, Attr):
                return argument
            one = self._of_one_sample(argument, samples)
            if one is argument or not one.value.is_floating_point():
                return argument
            return constant(call, one, tuple(one.value.shape[1:]))

        return [result(a) for a in parts]

    def _own_shape(self, path: str) -> tuple[int, ...]:
        made = self.graph.constants.get(path)
        return tuple((attribute(self.traced.root, path) if made is None else made).shape)

    def _reshaped_attr(self, node: fx.Node) -> Attr | None:
        """A parameter whose values all stay, in their order."""
        if node.op == "call_module" or target_name(node.target) not in _SHAPES or not node.all_input_nodes:
            return None
        source, value = self._value(node.all_input_nodes[0]), node.meta["value"]
        if not isinstance(source, Attr) or value.numel() != source.value.numel():
            return None
        return Attr(source.path, source.value.reshape(value.shape))

    def _call(self, node: fx.Node) -> Any:
        args, kwargs = self._resolve(node.args), self._resolve(dict(node.kwargs))
        if target_name(node.target) not in ("getitem", "getattr"):
            args = tuple(a.all() if isinstance(a, Several) else a for a in args)
        if target_name(node.target) in _ELEMENTWISE:
            args = tuple(self._of_one_sample(a, node.meta["value"]) for a in args)
        path = str(node.target) if node.op == "call_module" else ""
        module = self.traced.root.get_submodule(path) if path else None
        call = Call(self.graph, self.values, node, args, kwargs, module, path)
        if target_name(node.target) in _CONCATENATIONS:
            call.args = tuple(self._for_every_sample(call, a) for a in call.args)
        reason = self.float_leaves.get(path) if path else None
        if any(isinstance(a, Stack) for a in args):
            try:
                return of_stacks(call)
            except Unsupported as unsupported:
                reason = str(unsupported)
                call.args = tuple(as_one_tensor(call, a) if isinstance(a, Stack) else a for a in args)
        if reason is None:
            handler = HANDLERS.get(_key(node, module))
            if handler is None:
                reason = _without_handler(node, module)
            else:
                try:
                    result = handler.build(call, **_arguments(call, handler))
                    _note_in_place(self.values, node, call, result)
                    return result
                except Unsupported as unsupported:
                    reason = f"{_described(node, module)}: {unsupported}"
        return self._float(call, reason)

    def _float(self, call: Call, reason: str, items: tuple[int | str, ...] = ()) -> Ref | Several:
        """What runs as it stands in the float model, on real values. `items` lead to a part of what it
        gives."""
        value = part(call.fx_node.meta["value"], items)
        if not isinstance(value, (tuple, list, dict)):
            return self._float_node(call, reason, value, items)
        kind = next(kind for kind in (dict, list, tuple) if isinstance(value, kind))
        keys = tuple(value) if kind is dict else tuple(range(len(value)))
        return Several(lambda item: self._float(call, reason, (*items, item)), kind, keys)

    def _float_node(self, call: Call, reason: str, value: Any, items: tuple[int | str, ...]) -> Ref:
        if not isinstance(value, Tensor):
            given = type(value).__name__
            raise PtqxError(f"{call.name}: {reason}, and it gives {given} instead of one tensor")
        inputs: list[Ref] = []
        params: dict[str, str] = {}
        reads_batch = False

        def template(argument: Any) -> Any:
            nonlocal reads_batch
            if isinstance(argument, Ref):
                inputs.append(argument)
                return Slot("input", str(len(inputs) - 1))
            if isinstance(argument, Attr):
                params[argument.path] = argument.path
                shape = tuple(argument.value.shape)
                return Slot(
                    "param", argument.path, None if shape == self._own_shape(argument.path) else shape
                )
            if isinstance(argument, (tuple, list)):
                return type(argument)(template(a) for a in argument)
            reads_batch |= isinstance(argument, BatchSize)
            return argument

        args = tuple(template(a) for a in call.args)
        kwargs = {k: template(v) for k, v in call.kwargs.items()}
        target = None if call.module is not None else call.fx_node.target
        attrs: dict[str, Any] = {"target": target, "args": args, "kwargs": kwargs}
        suffix = "".join(f".{item}" for item in items)
        if items:
            attrs["items"] = items
        result = call.node("float", inputs, params, tuple(value.shape[1:]), suffix, **attrs)
        node = self.graph.nodes[result.name]
        node.reason = reason
        leaf_source = self.traced.untraceable.get(call.path)
        node.source = leaf_source[1] if leaf_source else node.source
        owner = _owner(call)
        if owner and (reads_batch or value.dim() == 0 or value.shape[0] != self.batch):
            self.mixing[result.name] = owner, reason
        return result

    def _value(self, node: fx.Node) -> Any:
        if node not in self.values:
            self.values[node] = self._constant(node)
        return self.values[node]

    def _resolve(self, argument: Any) -> Any:
        if isinstance(argument, fx.Node):
            return self._value(argument)
        if isinstance(argument, (tuple, list)):
            return type(argument)(self._resolve(a) for a in argument)
        if isinstance(argument, dict):
            return {k: self._resolve(v) for k, v in argument.items()}
        if isinstance(argument, slice):
            return slice(*(self._resolve(a) for a in (argument.start, argument.stop, argument.step)))
        return argument

    def _output(self, value: Any, path: str = "") -> Structure:
        """The names of what the model returns, in its tuples, lists and dicts."""
        if isinstance(value, Several):
            value = value.all()
        if isinstance(value, dict):
            if any(not isinstance(key, str) or "." in key for key in value):
                raise PtqxError(f"the model returns a dict with the keys {list(value)}; only names will do")
            return {key: self._output(item, f"{path}[{key!r}]") for key, item in value.items()}
        if isinstance(value, (tuple, list)):
            parts = [self._output(item, f"{path}[{index}]") for index, item in enumerate(value)]
            return parts if isinstance(value, list) else tuple(parts)
        if value is None or isinstance(value, Ref):
            return None if value is None else value.name
        where = f"in {path} " if path else ""
        kind = "a constant" if isinstance(value, Attr) else type(value).__name__
        raise PtqxError(f"the model returns {where}{kind}, where a tensor computed of its input is expected")


def capture(model: nn.Module, example_inputs: Any, float_modules: Iterable[str] = ()) -> Graph:
    """Capture an unmodified model as a Graph of operations.

    A copy of the model in eval() is traced on the example. A submodule that can't be traced (control flow
    that depends on values) becomes one float node, with the reason and the line; so do calls without an
    integer form, and modules that compute in float across samples.

    Args:
        model: takes one float32 tensor whose first dimension is the batch, returns a tensor, or tuples, lists
            and dicts of tensors.
        example_inputs: such a tensor, or a tuple with one.
        float_modules: dotted paths of modules that are to stay float.

    Raises:
        PtqxError: the root's own forward can't be traced, the example does not fit, it takes more than
            one tensor, or returns anything but tensors.

    >>> import torch
    >>> print(capture(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), torch.zeros(1, 1, 4, 4)))
    input: input [1, 4, 4]
    0: conv2d(input) [2, 2, 2]
    1: unary(0) [2, 2, 2]
    output: 1
    """
    example = example_tensor(example_inputs)
    leaves = dict.fromkeys(float_modules, "the recipe leaves it float")

    def is_leaf(module: nn.Module, path: str) -> bool:
        return path in leaves or _module_key(module) in HANDLERS

    while True:
        traced = trace(copy.deepcopy(model).eval(), is_leaf, example)
        untraceable = {path: f"can't be traced: {reason}" for path, (reason, _) in traced.untraceable.items()}
        capturer = Capturer(traced, leaves | untraceable, tuple(example.shape[1:]))
        graph = capturer.run()
        if not capturer.mixing:
            return graph
        leaves.update(capturer.mixing.values())


def example_tensor(example_inputs: Any) -> Tensor:
    """The one example tensor of `example_inputs`."""
    if isinstance(example_inputs, (tuple, list)) and len(example_inputs) == 1:
        example_inputs = example_inputs[0]
    if not isinstance(example_inputs, Tensor):
        raise PtqxError(
            f"example_inputs: expected a tensor or a tuple with one, got {type(example_inputs).__name__}"
        )
    if not example_inputs.is_floating_point() or example_inputs.dim() < 2 or example_inputs.shape[0] == 0:
        raise PtqxError(
            "example_inputs: expected a floating-point batch of at least one sample, "
            f"got {example_inputs.dtype} of shape {tuple(example_inputs.shape)}"
        )
    return example_inputs.float()


def _arguments(call: Call, handler: Handler) -> dict[str, Any]:
    """Bind the call's arguments, or the module's attributes of the same names, to the handler's
    parameters."""
    if call.module is not None:
        return {name: getattr(call.module, name, default) for name, default in handler.parameters.items()}
    bound = dict(handler.parameters)
    bound.update(zip(handler.parameters, call.args[1:], strict=False))
    bound.update({k: v for k, v in call.kwargs.items() if k in handler.parameters})
    missing = [name for name, value in bound.items() if value is REQUIRED]
    if missing:
        raise Unsupported(f"argument {missing[0]!r} is missing")
    return bound


def _note_in_place(values: dict[fx.Node, Any], node: fx.Node, call: Call, result: Any) -> None:
    """After an in-place operation everything that reads its input reads the result."""
    name = target_name(node.target)
    in_place = (
        getattr(call.module, "inplace", False)
        or call.kwargs.get("inplace") is True
        or (node.op != "call_module" and name.endswith("_") and not name.startswith("_"))
        or name in ("iadd", "imul", "isub", "itruediv")
    )
    if in_place and node.args and isinstance(node.args[0], fx.Node):
        changed = values[node.args[0]]
        for other, value in values.items():
            if value == changed:
                values[other] = result


_SHAPES = ("view", "reshape", "unsqueeze", "squeeze", "flatten", "getitem")
_CONCATENATIONS = ("cat", "concat", "concatenate")
_ELEMENTWISE = ("add", "sub", "mul", "truediv", "div")


def _owner(call: Call) -> str:
    """The innermost module whose own code makes the call; "" for the whole model."""
    stack = call.fx_node.meta.get("nn_module_stack") or {}
    owners = [path for path, _ in stack.values() if path and path != call.path]
    return owners[-1] if owners else ""


def _key(node: fx.Node, module: nn.Module | None) -> Any:
    if module is not None:
        return _module_key(module)
    if node.target in HANDLERS:
        return node.target
    return getattr(node.target, "__name__", None)


def _module_key(module: nn.Module) -> Any:
    return type(module) if type(module) in HANDLERS else type(module).__name__


def _described(node: fx.Node, module: nn.Module | None) -> str:
    return type(module).__name__ if module is not None else str(getattr(node.target, "__name__", node.target))


def _without_handler(node: fx.Node, module: nn.Module | None) -> str:
    described = _described(node, module)
    if isinstance(module, torch.jit.ScriptModule):
        return f"{described} is TorchScript, which holds no Python code to capture"
    if module is not None and is_parametrized(module):
        return f"{described}: torch.nn.utils.parametrize.remove_parametrizations makes it a plain layer"
    return f"{described} has no integer form"
