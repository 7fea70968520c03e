"""Sums, products, concatenation, and functions of one variable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ... import ops
from ..activations import ACTIVATIONS
from ..formulas import REAL_FUNCTIONS, Codes, QParams, apply_tail, real_function, round_and_clamp
from ..ir import Node
from ..requantize import Requantizer, requantizer
from .base import (
    IntegerScope,
    Lowered,
    Operator,
    Value,
    in_float64,
    lower_fixed_point,
    lowered_tail,
    operator,
    operator_tail,
    real_activation,
    requantized,
    run_tail,
    spatial,
    tail_of,
)

if TYPE_CHECKING:
    from ..document import IntegerNode
    from ..simulated import SimulatedModel


class _Binary(Operator):
    """Two operands, one rounding, then an activation."""

    def _real(self, a: Tensor, b: Tensor) -> Tensor:
        raise NotImplementedError

    def _codes(self, a: Codes, b: Codes, out: QParams) -> Tensor:
        """In units of the output scale, before the activation."""
        raise NotImplementedError

    def real(self, attrs: dict[str, Any], *inputs: Tensor) -> Tensor:
        return real_activation(attrs, self._real(*inputs))

    def exact(self, model: SimulatedModel, node: Node, *inputs: Any) -> Value:
        out = model.qparams(node)
        if out is None:
            return run_tail(lowered_tail(node.attrs, None), self._real(*inputs))
        kind, args = tail_of(node.attrs, out.scale)
        if model.recipe.requantize != "float":
            terms = self.terms(*(x.centered().long() for x in inputs))
            return Codes(self._requantizer(model, node, out).codes(terms).float(), out)
        return Codes(
            round_and_clamp(apply_tail(self._codes(inputs[0], inputs[1], out), kind, args), out), out
        )

    def terms(self, a: Tensor, b: Tensor) -> list[Tensor]:
        """Whole numbers whose weighted sum is the result."""
        raise NotImplementedError

    def _factors(self, a: QParams, b: QParams, out: QParams) -> list[Tensor]:
        """Their real weights, float64 [1]."""
        raise NotImplementedError

    def _requantizer(self, model: SimulatedModel, node: Node, out: QParams) -> Requantizer:
        a, b = (model.qparams_of(name) for name in node.inputs)
        factors = self._factors(a, b, out)
        return requantizer(factors, out, model.recipe.requantize, tail_of(node.attrs, out.scale), node.name)

    def lower(self, model: SimulatedModel, node: Node) -> Lowered:
        out = model.qparams(node)
        lowered = Lowered(lowered_tail(node.attrs, out))
        if out is not None and model.recipe.requantize != "float":
            lower_fixed_point(lowered, node, self._requantizer(model, node, out))
        return lowered

    def run(self, scope: IntegerScope, node: IntegerNode, *inputs: Tensor) -> Tensor:
        if node.output.dtype == "float32":
            return run_tail(node.attrs, self._real(*inputs))
        operands = [
            v for x, name in zip(inputs, node.inputs, strict=True) for v in (spatial(x), *scope.qparams(name))
        ]
        out = (*scope.qparams(node.name), node.output.qmin, node.output.qmax)
        return getattr(torch.ops.ptqx, node.op)(*operands, *out, *operator_tail(node))


@operator("add")
class Add(_Binary):
    def _real(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b

    def _codes(self, a: Codes, b: Codes, out: QParams) -> Tensor:
        first = a.centered() * (a.qparams.scale / out.scale)
        return first + b.centered() * (b.qparams.scale / out.scale)

    def terms(self, a: Tensor, b: Tensor) -> list[Tensor]:
        return [a, b]

    def _factors(self, a: QParams, b: QParams, out: QParams) -> list[Tensor]:
        return [(x.scale.double() / out.scale.double()).reshape(1) for x in (a, b)]


@operator("mul")
class Mul(_Binary):
    """Operands of one shape, or the second [N, C, 1, 1] or [N, 1, H, W]."""

    def _real(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b

    def _codes(self, a: Codes, b: Codes, out: QParams) -> Tensor:
        return (a.centered() * b.centered()) * ((a.qparams.scale * b.qparams.scale) / out.scale)

    def terms(self, a: Tensor, b: Tensor) -> list[Tensor]:
        return [a * b]

    def _factors(self, a: QParams, b: QParams, out: QParams) -> list[Tensor]:
        return [(a.scale.double() * b.scale.double() / out.scale.double()).reshape(1)]


@operator("add_fixed_point", "mul_fixed_point")
class FixedPointBinary(Operator):
    """A sum or a product that requantizes without floats."""

    def run(self, scope: IntegerScope, node: IntegerNode, *inputs: Tensor) -> Tensor:
        zero_points = [scope.qparams(name)[1] for name in node.inputs]
        if node.op == "add_fixed_point":
            return requantized(scope, node, [spatial(x) for x in inputs], [-z for z in zero_points])
        a, b = (x.int() - z for x, z in zip(inputs, zero_points, strict=True))
        return requantized(scope, node, [a * b], [])


@operator("cat")
class Cat(Operator):
    """All inputs come in the output's codes."""

    def real(self, attrs: dict[str, Any], *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, attrs["dim"])

    def exact(self, model: SimulatedModel, node: Node, *inputs: Any) -> Value:
        out = model.qparams(node)
        if out is None:
            return self.real(node.attrs, *inputs)
        return Codes(torch.cat([x.values for x in inputs], node.attrs["dim"]), out)

    def run(self, scope: IntegerScope, node: IntegerNode, *inputs: Tensor) -> Tensor:
        if node.output.dtype == "float32":
            return self.real(node.attrs, *inputs)
        return torch.ops.ptqx.cat([spatial(x) for x in inputs], node.attrs["dim"])


@operator("lookup")
class Lookup(Operator):
    """A function of one variable on codes: a table of 256 codes."""

    def real(self, attrs: dict[str, Any], *inputs: Tensor) -> Tensor:
        return ACTIVATIONS[attrs["function"]].real(inputs[0], *attrs["args"])

    def exact(self, model: SimulatedModel, node: Node, *inputs: Any) -> Value:
        out = model.qparams(node)
        assert out is not None
        return Codes(self._table(node, inputs[0].qparams, out)[inputs[0].values.long()], out)

    def lower(self, model: SimulatedModel, node: Node) -> Lowered:
        out = model.qparams(node)
        assert out is not None
        table = self._table(node, model.qparams_of(node.inputs[0]), out)
        return Lowered({}, {"table": table.to(torch.uint8)})

    def run(self, scope: IntegerScope, node: IntegerNode, *inputs: Tensor) -> Tensor:
        return torch.ops.ptqx.lookup(spatial(inputs[0]), scope.tensor(node, "table"))

    def _table(self, node: Node, x: QParams, out: QParams) -> Tensor:
        """quantize(f(dequantize(q))) for q = 0..255; f in float64, rounded to float32. Codes held in
        float32."""
        codes = torch.arange(256, dtype=torch.float32, device=x.scale.device).clamp(x.qmin, x.qmax)
        real = in_float64(node.attrs["function"], Codes(codes, x).real(), node.attrs["args"])
        return round_and_clamp(torch.nan_to_num(real, posinf=torch.inf, neginf=-torch.inf) / out.scale, out)


def _real_name(function: str, args: Any) -> str:
    """Of REAL_FUNCTIONS, if it is one."""
    return "gelu_tanh" if function == "gelu" and list(args) == ["tanh"] else function


@operator("activation")
class Activate(Operator):
    """A function of one variable on real values."""

    def real(self, attrs: dict[str, Any], *inputs: Tensor) -> Tensor:
        return ACTIVATIONS[attrs["function"]].real(inputs[0], *attrs["args"])

    def exact(self, model: SimulatedModel, node: Node, *inputs: Any) -> Value:
        name = _real_name(node.attrs["function"], node.attrs["args"])
        if name in REAL_FUNCTIONS:
            return real_function(name, inputs[0])
        return run_tail(self.lower(model, node).attrs, inputs[0])

    def lower(self, model: SimulatedModel, node: Node) -> Lowered:
        entry = ACTIVATIONS[node.attrs["function"]]
        name = _real_name(entry.name, node.attrs["args"])
        if name in REAL_FUNCTIONS:
            return Lowered({"activation": name, "activation_args": []})
        if entry.tail is None:
            return Lowered({"activation": entry.name, "activation_args": list(node.attrs["args"])})
        return Lowered(lowered_tail({"activation": entry.name, "activation_args": node.attrs["args"]}, None))

    def run(self, scope: IntegerScope, node: IntegerNode, *inputs: Tensor) -> Tensor:
        name = _real_name(node.attrs["activation"], node.attrs["activation_args"])
        if name in REAL_FUNCTIONS:
            return ops.activation(inputs[0], name)
        return run_tail(node.attrs, inputs[0])
