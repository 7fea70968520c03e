"""Quantization-aware training: schedule, stages, distillation, freezing, and the guard that watches it."""

from .config import SHARE, QATConfig
from .distillation import Distillation
from .run import train_control, train_quantized

__all__ = ["SHARE", "Distillation", "QATConfig", "train_control", "train_quantized"]
