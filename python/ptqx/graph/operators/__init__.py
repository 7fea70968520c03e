"""The table of operations."""

from __future__ import annotations

from . import boundary, layers, movement, normalization, pointwise, pooling, static_layers  # noqa: F401  the table
from .base import OPERATORS, Operator, operator

__all__ = ["OPERATORS", "Operator", "operator"]
