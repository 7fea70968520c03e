"""How each operation of the integer graph is written in ONNX, in either style."""

from __future__ import annotations

from . import (
    fixed_point,
    integer_layers,
    movement,
    normalization,
    pointwise,
    pooling,
    products,
    qdq_layers,
    real,
    upsampling,
)
from .base import STYLES, WRITERS, write

__all__ = [
    "STYLES",
    "WRITERS",
    "fixed_point",
    "integer_layers",
    "movement",
    "normalization",
    "pointwise",
    "pooling",
    "products",
    "qdq_layers",
    "real",
    "upsampling",
    "write",
]
