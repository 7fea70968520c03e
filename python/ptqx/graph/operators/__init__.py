"""The table of operations."""

from __future__ import annotations

from . import boundary, layers, movement, pointwise, pooling, static_layers  # noqa: F401  they fill the table
from .base import OPERATORS, Operator, operator

__all__ = ["OPERATORS", "Operator", "operator"]
