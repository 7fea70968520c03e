"""Gradients in few bits: sent between processes, and summed up over micro-batches."""

from .accumulation import Accumulation, Int8Gradients
from .exchange import GradientExchange, float32_bytes, quantized_all_gather
from .format import BITS, ROUNDINGS, GradientFormat
from .path import GradientPath

__all__ = [
    "BITS",
    "ROUNDINGS",
    "Accumulation",
    "GradientExchange",
    "GradientFormat",
    "GradientPath",
    "Int8Gradients",
    "float32_bytes",
    "quantized_all_gather",
]
