"""The change of a layer's weights that makes up for what came before it, as far as it generalizes."""

from __future__ import annotations

import torch
from torch import Tensor

from ..graph.ir import Node
from ..graph.workbench import Workbench
from .moments import Moments, layer_sums
from .walk import Stage

DAMPINGS = (1.0, 10.0, 100.0)  # multiples that are tried


def fit_layer(bench: Workbench, stage: Stage, node: Node, damping: float) -> tuple[Moments, Tensor]:
    """The layer's moments, and the change of its weights [G, O, K] that makes the output lack least.

    change = cross (gram + damping)^-1. How much damping is found by fitting on the first half of the samples
    and looking at the error on the second; no change where none helps there.
    """
    middle = len(bench.inputs) // 2
    if not middle:
        moments = layer_sums(bench, stage, node, slice(0, 1)).moments()
        return moments, torch.zeros_like(moments.cross)
    first = layer_sums(bench, stage, node, slice(0, middle))
    second = layer_sums(bench, stage, node, slice(middle, len(bench.inputs)), first.origin)
    moments, fitted, unseen = (first + second).moments(), first.moments(), second.moments()
    gains = {multiple: _gain(change(fitted, damping * multiple), unseen) for multiple in DAMPINGS}
    best = max(gains, key=lambda multiple: gains[multiple])
    if gains[best] <= 0:
        return moments, torch.zeros_like(moments.cross)
    return moments, change(moments, damping * best)


def change(moments: Moments, damping: float) -> Tensor:
    factor = torch.linalg.cholesky(moments.damped(damping))
    return torch.cholesky_solve(moments.cross.transpose(1, 2), factor).transpose(1, 2)


def _gain(change: Tensor, moments: Moments) -> float:
    """By how much the squared error falls."""
    return float((change * (2 * moments.cross - change @ moments.gram)).sum())
