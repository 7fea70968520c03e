"""What observers ask of a tensor, in one pass."""

from __future__ import annotations

import torch

from .compiled import operators


def min_max(input: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Minimum and maximum of the finite elements (inf and -inf if there are none), and how many are not.

    >>> min_max(torch.tensor([1.0, -2.0, float("nan")]))
    (tensor(-2.), tensor(1.), tensor(1))
    """
    return operators.min_max(input)


def moments(input: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sum and sum of squares of the finite elements in float64, and how many are not finite.

    >>> moments(torch.tensor([1.0, -2.0, 4.0]))
    (tensor(3., dtype=torch.float64), tensor(21., dtype=torch.float64), tensor(0))
    """
    return operators.moments(input)


def histogram(input: torch.Tensor, low: float, high: float, bins: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Counts over `bins` equal parts of [low, high], and how many finite elements lie outside.

    Elements that are not finite are counted nowhere.

    >>> histogram(torch.tensor([0.0, 0.1, 0.6, 1.0, 7.0]), 0.0, 1.0, 2)
    (tensor([2, 2]), tensor(1))
    """
    return operators.histogram(input, low, high, bins)
