"""What an operation must know: its real arithmetic, its exact codes, its place in the integer graph, its
kernel."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..activations import ACTIVATIONS, float32
from ..formulas import TAIL_KINDS, Codes, QParams, apply_tail
from ..ir import Node
from ..requantize import Requantizer, stored

if TYPE_CHECKING:
    from ..document import IntegerNode
    from ..simulated import SimulatedModel

Value = Tensor | Codes
Made = TypeVar("Made")


@dataclass
class Lowered:
    """A node of the integer graph in the making: attributes for JSON, its tensors by role; its operation
    where that is not the captured node's, and why."""

    attrs: dict[str, Any]
    tensors: dict[str, Tensor] = field(default_factory=dict)
    op: str = ""
    reason: str = ""


class IntegerScope(Protocol):
    """What an operation may ask of the integer model that runs it."""

    def tensor(self, node: IntegerNode, role: str) -> Tensor | None:
        """The tensor in that role, None if the node has none."""

    def qparams(self, name: str) -> tuple[Tensor, Tensor]:
        """Scale float32 [1] and zero point int32 [1] of what the node `name` gives."""

    def output(self, name: str) -> QParams:
        """What the codes that the node `name` gives mean."""

    def remembered(self, node: IntegerNode, make: Callable[[IntegerScope, IntegerNode], Made]) -> Made:
        """make(scope, node), which gathers tensors and attributes of the node; one value a node is kept while
        the tensors are the same."""

    def run_module(self, node: IntegerNode, inputs: list[Tensor]) -> Tensor:
        """The float part that the node stands for."""


class Operator:
    """One operation. A new one is a subclass entered with `@operator("name")`.

    An operation that only computes on real values needs `real`; one that moves codes overrides `move`; one
    that rounds overrides `exact` and `run`.
    """

    def real(self, attrs: dict[str, Any], *inputs: Tensor) -> Tensor:
        """On real values. `attrs` are the captured node's, or the integer graph's."""
        raise NotImplementedError

    def train(self, model: SimulatedModel, node: Node, *inputs: Tensor) -> Tensor:
        """On real values inside the simulated model, where weights are fake-quantized."""
        return self.real(node.attrs, *inputs)

    def exact(self, model: SimulatedModel, node: Node, *inputs: Any) -> Value:
        """On codes where the inputs are codes, else on real values, by the written formulas."""
        raise NotImplementedError

    def lower(self, model: SimulatedModel, node: Node) -> Lowered:
        """Attributes and tensors in the integer graph."""
        return Lowered(dict(node.attrs))

    def run(self, scope: IntegerScope, node: IntegerNode, *inputs: Tensor) -> Tensor:
        """In the integer graph."""
        raise NotImplementedError


class Mover(Operator):
    """An operation that moves codes and keeps their scale; the same function moves real values."""

    def move(self, attrs: dict[str, Any], x: Tensor, zero: Tensor | None) -> Tensor:
        """`zero` is the value that stands for 0 (the zero point, of x's dtype), None for real values."""
        raise NotImplementedError

    def real(self, attrs: dict[str, Any], *inputs: Tensor) -> Tensor:
        return self.move(attrs, inputs[0], None)

    def exact(self, model: SimulatedModel, node: Node, *inputs: Any) -> Value:
        (x,) = inputs
        if isinstance(x, Codes):
            return Codes(self.move(node.attrs, x.values, x.qparams.zero_point), x.qparams)
        return self.move(node.attrs, x, None)

    def run(self, scope: IntegerScope, node: IntegerNode, *inputs: Tensor) -> Tensor:
        zero = None if node.output.dtype == "float32" else scope.qparams(node.name)[1]
        return self.move(node.attrs, inputs[0], zero)


OPERATORS: dict[str, Operator] = {}
T = TypeVar("T", bound=type[Operator])


def operator(*names: str) -> Callable[[T], T]:
    """Enter an Operator class under its names in the graphs."""

    def enter(cls: T) -> T:
        for name in names:
            OPERATORS[name] = cls()
        return cls

    return enter


def spatial(x: Tensor) -> Tensor:
    """Codes of [N, C, H, W] lie in channels_last order."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x.contiguous()


def tail_of(attrs: dict[str, Any], scale: Tensor | None) -> tuple[str, list[Tensor]]:
    """Kind and arguments of a captured node's activation in units of `scale`; None stands for real units."""
    name = attrs.get("activation", "none")
    if name in ("none", "prelu"):
        return name, []
    tail = ACTIVATIONS[name].tail
    assert tail is not None, name
    return tail(float32(1.0) if scale is None else scale, *attrs["activation_args"])


def lowered_tail(attrs: dict[str, Any], out: QParams | None) -> dict[str, Any]:
    """The same as attributes of the integer graph."""
    kind, args = tail_of(attrs, None if out is None else out.scale)
    return {"activation": kind, "activation_args": [float(a) for a in args]}


def operator_tail(node: IntegerNode) -> tuple[str, list[float]]:
    """Kind and arguments as the operators take them. They read the largest doubles as infinite; AOTInductor's
    packages can't hold infinities."""
    largest = sys.float_info.max
    args = [min(max(a, -largest), largest) for a in node.attrs["activation_args"]]
    return node.attrs["activation"], args


def output_codes(scope: IntegerScope, node: IntegerNode) -> tuple[Any, ...]:
    """Qparams and range of the codes that the node gives; nothing if it gives real values."""
    if node.output.dtype == "float32":
        return ()
    return (*scope.qparams(node.name), node.output.qmin, node.output.qmax)


def as_codes(node: IntegerNode, values: Tensor) -> Tensor:
    """Whole numbers as the codes that the node gives."""
    return values.to(torch.int16 if node.output.dtype == "int16" else torch.uint8)


def lower_fixed_point(lowered: Lowered, node: Node, fixed: Requantizer) -> None:
    """The same step without floats."""
    attrs, tensors = stored(fixed)
    lowered.op = f"{node.op}_fixed_point"
    lowered.attrs.update(attrs)
    lowered.tensors.update(tensors)


def stored_requantizer(scope: IntegerScope, node: IntegerNode) -> Requantizer:
    """What `lower_fixed_point` stored."""
    multiplier, shift = scope.tensor(node, "multiplier"), scope.tensor(node, "shift")
    assert multiplier is not None and shift is not None
    zero_point = scope.qparams(node.name)[1].long()
    return Requantizer(multiplier.long(), shift.long(), zero_point, node.attrs["low"], node.attrs["high"])


def requantized(scope: IntegerScope, node: IntegerNode, terms: list[Tensor], offsets: list[Tensor]) -> Tensor:
    """The codes of whole numbers, to each of which its offset is added first, if there are any."""
    multiplier, shift = scope.tensor(node, "multiplier"), scope.tensor(node, "shift")
    zero_point, bounds = scope.qparams(node.name)[1], (node.attrs["low"], node.attrs["high"])
    dtype = torch.int16 if node.output.dtype == "int16" else torch.uint8
    return torch.ops.ptqx.requantize(terms, offsets, multiplier, shift, zero_point, *bounds, dtype)


def real_activation(attrs: dict[str, Any], x: Tensor, slopes: Tensor | None = None) -> Tensor:
    """The activation of a captured node on real values, differentiable."""
    name = attrs.get("activation", "none")
    if name == "none":
        return x
    if name == "prelu":
        assert slopes is not None
        return F.relu(x) - slopes * F.relu(-x)  # torch.where and F.prelu branch at every value
    return ACTIVATIONS[name].real(x, *attrs["activation_args"])


def run_tail(attrs: dict[str, Any], x: Tensor, slopes: Tensor | None = None) -> Tensor:
    """The activation of an integer graph's node on real values."""
    kind, args = attrs["activation"], attrs["activation_args"]
    if kind in TAIL_KINDS:
        return apply_tail(x, kind, [float32(a) for a in args], slopes)
    return in_float64(kind, x, args)


def in_float64(function: str, x: Tensor, args: list[Any]) -> Tensor:
    """float32(f(x)), f in float64 and in one memory order: PyTorch's float32 results depend on the order."""
    return ACTIVATIONS[function].real(x.contiguous().double(), *args).float()
