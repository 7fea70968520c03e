"""Quantization-aware training: schedule, stages, freezing, sparsity, and the guard over it."""

from .config import QATConfig
from .run import train_control, train_quantized
from .sparsity import GradualSparsity, KeepZeros

__all__ = [
    "GradualSparsity",
    "KeepZeros",
    "QATConfig",
    "train_control",
    "train_quantized",
]
