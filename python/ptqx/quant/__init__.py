"""Schemes and recipes; observers, levels and quantizers, each a registry that a decorator extends."""

from __future__ import annotations

from .affine import MIN_SCALE, check_finite, codes_f32, dequantize_codes, expand_to, qparams_from_range
from .calibrated import Dynamic, Fixed, MovingAverage
from .clipping import KullbackLeibler, MeanSquaredError, Percentile
from .histogram import HistogramObserver
from .learned import LSQ, PACT, LSQPlus
from .levels import Levels, QuantizedTensor, Shift, Uniform, quantize_tensor
from .midrise import level_offset, observe_levels
from .observer import KSigma, MinMax, MovingAverageMinMax, Observer, make_observer, observe_whole
from .quantizer import Quantizer, make_quantizer
from .recipe import Recipe, presets, recipe, register_recipe, resolve
from .registry import (
    LEVELS,
    METHODS,
    OBSERVERS,
    QUANTIZERS,
    Registry,
    register_levels,
    register_method,
    register_observer,
    register_quantizer,
)
from .scheme import Scheme

__all__ = [
    "LEVELS",
    "LSQ",
    "METHODS",
    "MIN_SCALE",
    "OBSERVERS",
    "PACT",
    "QUANTIZERS",
    "Dynamic",
    "Fixed",
    "HistogramObserver",
    "KSigma",
    "KullbackLeibler",
    "LSQPlus",
    "Levels",
    "MeanSquaredError",
    "MinMax",
    "MovingAverage",
    "MovingAverageMinMax",
    "Observer",
    "Percentile",
    "QuantizedTensor",
    "Quantizer",
    "Recipe",
    "Registry",
    "Scheme",
    "Shift",
    "Uniform",
    "check_finite",
    "codes_f32",
    "dequantize_codes",
    "expand_to",
    "level_offset",
    "make_observer",
    "make_quantizer",
    "observe_levels",
    "observe_whole",
    "presets",
    "qparams_from_range",
    "quantize_tensor",
    "recipe",
    "register_levels",
    "register_method",
    "register_observer",
    "register_quantizer",
    "register_recipe",
    "resolve",
]
