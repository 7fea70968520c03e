"""The levels that a layer's weights may take, as whole numbers times a step."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import PtqxError
from ..graph.ir import Node
from ..graph.workbench import Workbench
from ..quant import expand_to
from .moments import grouped


@dataclass(frozen=True)
class Grid:
    """Levels step * (q + shift), q from low to high; tensors broadcast with a weight as [G, O, K].

    Values made by `nearest` give the same codes again when the quantizer rounds them.
    """

    step: Tensor
    shift: Tensor
    low: Tensor
    high: Tensor

    def nearest(self, w: Tensor) -> Tensor:
        return (self.codes(w) + self.shift) * self.step

    def codes(self, w: Tensor) -> Tensor:
        return torch.clamp(torch.round(w / self.step - self.shift), self.low, self.high)

    def column(self, j: int) -> Grid:
        """The levels of column j, [G, O]."""
        return Grid(
            *(t[:, :, j if t.shape[2] > 1 else 0] for t in (self.step, self.shift, self.low, self.high))
        )

    def ordered(self, order: Tensor) -> Grid:
        """Columns as `order` [G, K] has them."""
        return Grid(*(in_order(t, order) for t in (self.step, self.shift, self.low, self.high)))

    def scaled(self, factor: Tensor | float) -> Grid:
        return replace(self, step=self.step * factor)


def in_order(t: Tensor, order: Tensor) -> Tensor:
    """[G, O, K] with the columns of every group in the order [G, K]; [G, O, 1] stays."""
    if t.shape[2] == 1:
        return t
    return t.gather(2, order[:, None, :].expand(-1, t.shape[1], -1))


def layer_grid(bench: Workbench, node: Node) -> Grid:
    """The grid of a layer's quantizer as it is now."""
    quantizer, weight = bench.quantizer(node), bench.weight(node)
    scheme = quantizer.scheme
    if scheme.levels != "uniform" or scheme.rounding != "nearest":
        raise PtqxError(
            f"{node.name}: methods that choose codes need levels='uniform' and rounding='nearest', "
            f"got {scheme.levels!r} and {scheme.rounding!r}"
        )

    def rows(parameter: Tensor) -> Tensor:
        shaped = expand_to(parameter, weight, scheme)
        if scheme.group_size:
            return grouped(node, shaped.expand_as(weight))
        return grouped(node, shaped.expand(len(weight), *[1] * (weight.dim() - 1)))

    scale = quantizer.scale.detach()
    zero_point = rows(quantizer.zero_point.to(scale.dtype))
    shift = torch.zeros_like(zero_point)
    if quantizer.midrise is not None:
        column = quantizer.midrise.reshape(-1, *[1] * (scale.dim() - 1))
        shift = rows((0.5 * column).expand_as(scale))
    return Grid(rows(scale), shift, scheme.qmin - zero_point, scheme.qmax - zero_point)
