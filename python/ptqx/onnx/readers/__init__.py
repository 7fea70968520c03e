"""ONNX models in QDQ form, read into the integer graph."""

from __future__ import annotations

from .source import Source
from .translation import translated

__all__ = ["Source", "translated"]
