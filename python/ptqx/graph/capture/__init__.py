"""Capture: from an unmodified nn.Module to a Graph."""

from __future__ import annotations

from . import layers, movement, padding, pointwise, pooling, resampling, stacks  # noqa: F401  they fill the capture table
from .capturer import capture, example_tensor

__all__ = ["capture", "example_tensor"]
