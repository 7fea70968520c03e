"""Gradients in few bits: sent between processes, and summed up over micro-batches."""

from .exchange import GradientExchange, float32_bytes, quantized_all_gather
from .format import BITS, ROUNDINGS, GradientFormat

__all__ = [
    "BITS",
    "ROUNDINGS",
    "GradientExchange",
    "GradientFormat",
    "float32_bytes",
    "quantized_all_gather",
]
