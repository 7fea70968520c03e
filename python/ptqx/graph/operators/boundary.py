"""Between real values and codes, and the parts that stay float."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...quant import check_finite
from ..capture.call import Slot, part
from ..formulas import Codes, quantize
from ..ir import Node
from .base import IntegerScope, Lowered, Operator, Value, as_codes, operator

if TYPE_CHECKING:
    from ..document import IntegerNode
    from ..simulated import SimulatedModel


@operator("quantize")
class Quantize(Operator):
    """Real values become codes."""

    def real(self, attrs: dict[str, Any], *inputs: Tensor) -> Tensor:
        return inputs[0]

    def exact(self, model: SimulatedModel, node: Node, *inputs: Any) -> Value:
        out = model.qparams(node)
        assert out is not None
        if not torch.compiler.is_compiling():
            check_finite(inputs[0], node.name)
        return quantize(inputs[0], out)

    def run(self, scope: IntegerScope, node: IntegerNode, *inputs: Tensor) -> Tensor:
        if node.output.dtype == "int16":
            return as_codes(node, quantize(inputs[0], scope.output(node.name)).values)
        scale, zero_point = scope.qparams(node.name)
        return torch.ops.ptqx.quantize(inputs[0], scale, zero_point, node.output.qmin, node.output.qmax)


@operator("binarize")
class Binarize(Operator):
    """Codes become signs, as codes 0 and 2 around the zero point 1: by a table in the integer graph."""

    def real(self, attrs: dict[str, Any], *inputs: Tensor) -> Tensor:
        return inputs[0]

    def exact(self, model: SimulatedModel, node: Node, *inputs: Any) -> Value:
        out = model.qparams(node)
        assert out is not None
        return Codes(self._table(model, node)[inputs[0].values.long()], out)

    def lower(self, model: SimulatedModel, node: Node) -> Lowered:
        return Lowered({}, {"table": self._table(model, node).to(torch.uint8)}, op="lookup")

    def _table(self, model: SimulatedModel, node: Node) -> Tensor:
        """For q = 0..255: 2 where the real value of q is not below the threshold, else 0."""
        x = model.qparams_of(node.inputs[0])
        codes = torch.arange(256, dtype=torch.float32, device=x.scale.device).clamp(x.qmin, x.qmax)
        assert node.quantizer is not None
        return 2 * model.activation_quantizer(node.quantizer).codes_f32(Codes(codes, x).real())


@operator("dequantize")
class Dequantize(Operator):
    """Codes become real values."""

    def real(self, attrs: dict[str, Any], *inputs: Tensor) -> Tensor:
        return inputs[0]

    def exact(self, model: SimulatedModel, node: Node, *inputs: Any) -> Value:
        return inputs[0].real()

    def run(self, scope: IntegerScope, node: IntegerNode, *inputs: Tensor) -> Tensor:
        if inputs[0].dtype == torch.int16:
            return Codes(inputs[0].float(), scope.output(node.inputs[0])).real()
        return torch.ops.ptqx.dequantize(inputs[0], *scope.qparams(node.inputs[0]))


@operator("constant")
class Constant(Operator):
    """Real numbers that are the same for every sample: of parameters, or of shapes. The network's input says
    how many samples there are. `values_shape` is what the captured parameter is seen as, before a permute by
    `dims` if there are any."""

    def train(self, model: SimulatedModel, node: Node, *inputs: Tensor) -> Tensor:
        return self._values(model, node).expand(len(inputs[0]), *node.shape)

    def exact(self, model: SimulatedModel, node: Node, *inputs: Any) -> Value:
        return self.train(model, node, *inputs).detach()

    def lower(self, model: SimulatedModel, node: Node) -> Lowered:
        return Lowered({}, {"values": self._values(model, node).detach().expand(node.shape).clone()})

    def run(self, scope: IntegerScope, node: IntegerNode, *inputs: Tensor) -> Tensor:
        values = scope.tensor(node, "values")
        assert values is not None
        return values.expand(len(inputs[0]), *values.shape)

    @staticmethod
    def _values(model: SimulatedModel, node: Node) -> Tensor:
        values = model.tensor(node.params["values"]).float().reshape(node.attrs["values_shape"])
        dims = node.attrs.get("dims")
        return values if dims is None else values.permute([d - 1 for d in dims[1:]])


@operator("float")
class Float(Operator):
    """A module or function as it stands in the float model."""

    def train(self, model: SimulatedModel, node: Node, *inputs: Tensor) -> Tensor:
        module = None if node.module is None else model.get_submodule(node.module)
        return call_float(node.attrs, module, model.tensor, inputs)

    def exact(self, model: SimulatedModel, node: Node, *inputs: Any) -> Value:
        return self.train(model, node, *inputs)

    def lower(self, model: SimulatedModel, node: Node) -> Lowered:
        attrs = {
            **node.attrs,
            "module": node.module,
            "params": list(node.params.values()),
            "reason": node.reason,
        }
        return Lowered(attrs)

    def run(self, scope: IntegerScope, node: IntegerNode, *inputs: Tensor) -> Tensor:
        return scope.run_module(node, list(inputs))


def call_float(attrs: dict[str, Any], module: Any, tensor: Callable[[str], Tensor], inputs: Any) -> Tensor:
    """Call the captured module, function or method with its inputs and parameters in their places."""

    # One memory order, because PyTorch's float results depend on it; equal inputs stay one tensor, and
    # parameters have no gradient where nobody asks for one, because attention's do on that.
    dense = {id(x): x.contiguous() for x in inputs}

    def filled(argument: Any) -> Any:
        if isinstance(argument, Slot):
            if argument.kind == "input":
                return dense[id(inputs[int(argument.key)])]
            values = tensor(argument.key)
            values = values if torch.is_grad_enabled() else values.detach()
            return values if argument.shape is None else values.reshape(argument.shape)
        if isinstance(argument, (tuple, list)):
            return type(argument)(filled(a) for a in argument)
        return argument

    args = tuple(filled(a) for a in attrs["args"])
    kwargs = {key: filled(value) for key, value in attrs["kwargs"].items()}
    target = attrs["target"]
    if module is not None:
        result = module(*args, **kwargs)
    elif isinstance(target, str):
        result = getattr(args[0], target)(*args[1:], **kwargs)
    else:
        result = target(*args, **kwargs)
    return part(result, attrs.get("items", ()))
