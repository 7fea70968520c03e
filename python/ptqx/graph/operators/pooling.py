"""Average pooling: an exact sum of (q - zero_point), one rounding with (s_x / s_y) / count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import PtqxError
from ..formulas import Codes, round_and_clamp
from ..ir import Node
from ..requantize import Requantizer, requantizer
from .base import (
    OPERATORS,
    IntegerScope,
    Lowered,
    Operator,
    Value,
    lower_fixed_point,
    operator,
    requantized,
    spatial,
)

if TYPE_CHECKING:
    from ..document import IntegerNode
    from ..simulated import SimulatedModel


MAX_TAPS = 2**20  # of a window on real values: they are added one by one


def _require_at_most(limit: int, taps: int, name: str) -> None:
    if taps > limit:
        raise PtqxError(f"{name}: {taps} values to add one by one are more than {limit}")


class _AveragePool(Operator):
    def sums(self, attrs: dict[str, Any], x: Tensor) -> tuple[Tensor, Tensor]:
        """Sums over the windows of whole numbers, exact, and the float32 numbers to divide by (they
        broadcast)."""
        raise NotImplementedError

    def exact(self, model: SimulatedModel, node: Node, *inputs: Any) -> Value:
        (x,) = inputs
        out = model.qparams(node)
        if out is None:
            return self._in_order(node.attrs, x)
        if model.recipe.requantize != "float":
            sums, counts = self.sums(node.attrs, x.centered().double())
            fixed = self._requantizer(model, node, counts)
            return Codes(fixed.codes([sums.long()]).float(), out)
        sums, counts = self.sums(node.attrs, x.centered())
        return Codes(round_and_clamp(sums * ((x.qparams.scale / out.scale) / counts), out), out)

    def lower(self, model: SimulatedModel, node: Node) -> Lowered:
        lowered = Lowered(dict(node.attrs))
        if node.quantizer is not None and model.recipe.requantize != "float":
            counts = self.sums(node.attrs, torch.zeros(1, *model.graph.shape(node.inputs[0])))[1]
            lower_fixed_point(lowered, node, self._requantizer(model, node, counts))
        return lowered

    def _requantizer(self, model: SimulatedModel, node: Node, counts: Tensor) -> Requantizer:
        out, x = model.qparams(node), model.qparams_of(node.inputs[0])
        assert out is not None
        if bool((counts != counts.flatten()[0]).any()):
            raise PtqxError(f"{node.name}: without floats all windows of a pool must count as many values")
        factor = x.scale.double() / out.scale.double() / counts.double().flatten()[:1]
        return requantizer([factor], out, "multiplier", ("none", []), node.name)  # 1 / count is no shift

    def run(self, scope: IntegerScope, node: IntegerNode, *inputs: Tensor) -> Tensor:
        if node.output.dtype == "float32":
            return self._in_order(node.attrs, *inputs)
        out = (*scope.qparams(node.name), node.output.qmin, node.output.qmax)
        target = getattr(torch.ops.ptqx, node.op)
        return target(spatial(inputs[0]), *scope.qparams(node.inputs[0]), *out, *self._arguments(node.attrs))

    def _arguments(self, attrs: dict[str, Any]) -> tuple[Any, ...]:
        raise NotImplementedError

    def _in_order(self, attrs: dict[str, Any], x: Tensor) -> Tensor:
        """On real values in a defined order: float32 sums over the taps row by row, then one division."""
        raise NotImplementedError


@operator("avg_pool2d_fixed_point", "adaptive_avg_pool2d_fixed_point")
class FixedPointPool(Operator):
    """An average that requantizes without floats."""

    def run(self, scope: IntegerScope, node: IntegerNode, *inputs: Tensor) -> Tensor:
        operation = OPERATORS[node.op.removesuffix("_fixed_point")]
        assert isinstance(operation, _AveragePool)
        sums, _ = operation.sums(node.attrs, inputs[0].double() - scope.qparams(node.inputs[0])[1])
        return requantized(scope, node, [sums.long()], [])


@operator("avg_pool2d")
class AvgPool2d(_AveragePool):
    def real(self, attrs: dict[str, Any], *inputs: Tensor) -> Tensor:
        return F.avg_pool2d(inputs[0], *self._arguments(attrs))

    def _arguments(self, attrs: dict[str, Any]) -> tuple[Any, ...]:
        keys = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
        return (*(attrs[key] for key in keys), attrs["divisor"] or None)

    def sums(self, attrs: dict[str, Any], x: Tensor) -> tuple[Tensor, Tensor]:
        shape = (attrs["kernel_size"], attrs["stride"], attrs["padding"], attrs["ceil_mode"])
        sums = F.avg_pool2d(x, *shape, divisor_override=1)
        if attrs["divisor"]:
            return sums, torch.full((), float(attrs["divisor"]), device=x.device)
        rows, columns = (
            self._counted(attrs, axis, x.shape[2 + axis], sums.shape[2 + axis]) for axis in (0, 1)
        )
        return sums, torch.outer(rows, columns).to(x.device)

    def _in_order(self, attrs: dict[str, Any], x: Tensor) -> Tensor:
        (kh, kw), (sh, sw), (ph, pw) = attrs["kernel_size"], attrs["stride"], attrs["padding"]
        _require_at_most(MAX_TAPS, kh * kw, "kernel_size")
        sums, counts = self.sums(attrs, x)
        padded = F.pad(x, (pw, pw + kw + sw, ph, ph + kh + sh))
        rows, columns = sh * (sums.shape[2] - 1) + 1, sw * (sums.shape[3] - 1) + 1
        total = torch.zeros_like(sums)
        for ky in range(kh):
            for kx in range(kw):
                total = total + padded[:, :, ky : ky + rows : sh, kx : kx + columns : sw]
        return total / counts

    @staticmethod
    def _counted(attrs: dict[str, Any], axis: int, size: int, outputs: int) -> Tensor:
        """How many rows (columns) each window counts."""
        kernel, stride, padding = (attrs[key][axis] for key in ("kernel_size", "stride", "padding"))
        start = torch.arange(outputs, dtype=torch.float32) * stride - padding
        if attrs["count_include_pad"]:
            return torch.clamp_max(start + kernel, size + padding) - start
        return torch.clamp_max(start + kernel, size) - torch.clamp_min(start, 0)


@operator("adaptive_avg_pool2d")
class AdaptiveAvgPool2d(_AveragePool):
    def real(self, attrs: dict[str, Any], *inputs: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(inputs[0], attrs["output_size"])

    def _arguments(self, attrs: dict[str, Any]) -> tuple[Any, ...]:
        return (attrs["output_size"],)

    def sums(self, attrs: dict[str, Any], x: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns = (
            self.windows(x.shape[2 + axis], attrs["output_size"][axis]).to(x.device) for axis in (0, 1)
        )
        sums = (rows @ x.double() @ columns.T).to(x.dtype)
        return sums, torch.outer(rows.sum(1), columns.sum(1)).float()

    def _in_order(self, attrs: dict[str, Any], x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        rows, columns = attrs["output_size"]
        _require_at_most(MAX_TAPS, rows * columns + height * width, "output_size")
        pooled = []
        for oy in range(rows):
            for ox in range(columns):
                window = x[
                    :,
                    :,
                    oy * height // rows : -(-(oy + 1) * height // rows),
                    ox * width // columns : -(-(ox + 1) * width // columns),
                ].flatten(2)
                total = x.new_zeros(x.shape[:2])
                for tap in window.unbind(2):
                    total = total + tap
                pooled.append(total / window.shape[2])
        return torch.stack(pooled, 2).unflatten(2, (rows, columns))

    @staticmethod
    def windows(size: int, outputs: int) -> Tensor:
        """[outputs, size], 1 where row o counts: from floor(o * size / outputs) to ceil((o + 1) * size /
        outputs)."""
        o, position = torch.arange(outputs).unsqueeze(1), torch.arange(size)
        start, end = o * size // outputs, -(-(o + 1) * size // outputs)
        return ((position >= start) & (position < end)).double()
