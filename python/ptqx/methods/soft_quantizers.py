"""Quantizers that stand in for a model's own while a method learns: soft weight codes, activation scales."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .. import ops
from ..graph.ir import Node
from ..graph.workbench import Workbench
from ..quant import Quantizer
from .grid import layer_grid
from .moments import grouped

STRETCH = 1.2  # the rectified sigmoid: clamp(sigmoid(v) * 1.2 - 0.1, 0, 1)


class SoftRounding(nn.Module):
    """A layer's weight between the level below and the level above, by a learned v.

    forward gives step * (floor(w / step) + h(v)), h = clamp(1.2 sigmoid(v) - 0.1, 0, 1), which is w itself at
    the start. Nagel et al., "Up or Down? Adaptive Rounding", ICML 2020.
    """

    def __init__(self, bench: Workbench, node: Node) -> None:
        super().__init__()
        self.quantizer = [bench.quantizer(node)]  # not a submodule: its parameters rest
        weight = bench.weight(node)
        self.grid, self.shape = layer_grid(bench, node), weight.shape
        position = grouped(node, weight) / self.grid.step - self.grid.shift
        position = torch.clamp(position, self.grid.low, self.grid.high)
        self.below = torch.minimum(torch.floor(position), self.grid.high - 1)
        share = (position - self.below).clamp(0.01, 0.99)
        self.v = nn.Parameter(-torch.log(STRETCH / (share + (STRETCH - 1) / 2) - 1))

    @property
    def scheme(self) -> object:
        return self.quantizer[0].scheme

    @property
    def scale(self) -> Tensor:
        return self.quantizer[0].scale.detach()

    def share(self) -> Tensor:
        return torch.clamp(torch.sigmoid(self.v) * STRETCH - (STRETCH - 1) / 2, 0.0, 1.0)

    def forward(self, weight: Tensor) -> Tensor:
        return self._at(self.share())

    def undecided(self, sharpness: float) -> Tensor:
        """Sum of 1 - |2 h - 1|^sharpness: 0 once every weight has chosen its level."""
        return (1 - (2 * self.share() - 1).abs().pow(sharpness)).sum()

    @torch.no_grad()
    def hard(self) -> Tensor:
        """The weight at the levels chosen."""
        return self._at((self.share() >= 0.5).float())

    def _at(self, share: Tensor) -> Tensor:
        return ((self.below + share + self.grid.shift) * self.grid.step).reshape(self.shape)


class LearnedScale(nn.Module):
    """An activation quantizer with a learned scale that lets a random share of the values through unrounded.

    Dropping: Wei et al., "QDrop", ICLR 2022.
    """

    def __init__(self, quantizer: Quantizer, drop: float, generator: torch.Generator) -> None:
        super().__init__()
        self.quantizer = [quantizer]
        self.drop, self.generator = drop, generator
        self.start = quantizer.scale.detach().clone()
        self.log_factor = nn.Parameter(torch.zeros_like(self.start))
        self.enabled = True

    @property
    def scale(self) -> Tensor:
        return self.start * self.log_factor.exp()

    @property
    def scheme(self) -> object:
        return self.quantizer[0].scheme

    def forward(self, x: Tensor) -> Tensor:
        scheme = self.quantizer[0].scheme
        zero_point = self.quantizer[0].zero_point.detach()
        rounded = ops.lsq(x, self.scale, zero_point, scheme.qmin, scheme.qmax)
        if not self.drop:
            return rounded
        dropped = torch.rand(x.shape, generator=self.generator) < self.drop
        return torch.where(dropped, x, rounded)

    @torch.no_grad()
    def finish(self) -> None:
        """Give the scale to the quantizer it stands for."""
        self.quantizer[0].set_qparams(self.scale.detach(), self.quantizer[0].zero_point.detach())


def sharpness(progress: float, warmup: float, start: float = 20.0, end: float = 2.0) -> float:
    """The regularizer's exponent: from `start` to `end` along a half cosine after the warm-up."""
    done = max(0.0, (progress - warmup) / (1.0 - warmup))
    return end + 0.5 * (start - end) * (1.0 + math.cos(math.pi * done))
