"""Quantization-aware training: schedule, stages, distillation, freezing, sparsity, and the guard over it."""

from .config import SHARE, QATConfig
from .distillation import Distillation
from .run import train_control, train_quantized
from .sparsity import GradualSparsity, KeepZeros

__all__ = [
    "SHARE",
    "Distillation",
    "GradualSparsity",
    "KeepZeros",
    "QATConfig",
    "train_control",
    "train_quantized",
]
