"""The table of operations."""

from __future__ import annotations

from . import (  # noqa: F401  they fill the table
    boundary,
    layers,
    matmul,
    movement,
    normalization,
    pointwise,
    pooling,
    static_layers,
)
from .base import OPERATORS, Operator, operator

__all__ = ["OPERATORS", "Operator", "operator"]
