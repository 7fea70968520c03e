"""Sets of levels, one file a family: what the codes of a scheme stand for."""

from __future__ import annotations

from .base import Levels, Parameters, QuantizedTensor, fit_levels, make_levels, quantize_tensor
from .codebook import Codebook, level_of
from .kmeans import KMeans
from .powers import AdditivePowersOfTwo, PowersOfTwo
from .sign import Sign
from .signs import Binary, Ternary, TrainedTernary
from .uniform import FixedPoint, Shift, Uniform, stochastic_codes

__all__ = [
    "AdditivePowersOfTwo",
    "Binary",
    "Codebook",
    "FixedPoint",
    "KMeans",
    "Levels",
    "Parameters",
    "PowersOfTwo",
    "QuantizedTensor",
    "Shift",
    "Sign",
    "Ternary",
    "TrainedTernary",
    "Uniform",
    "fit_levels",
    "level_of",
    "make_levels",
    "quantize_tensor",
    "stochastic_codes",
]
