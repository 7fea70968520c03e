"""Capture: from an unmodified nn.Module to a Graph."""

from __future__ import annotations

from . import (  # noqa: F401  they fill the capture table
    layers,
    movement,
    padding,
    pointwise,
    pooling,
    products,
    resampling,
    stacks,
)
from .capturer import capture, example_tensor

__all__ = ["capture", "example_tensor"]
