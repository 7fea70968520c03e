"""Schemes and recipes; observers, levels and quantizers, each a registry that a decorator extends."""

from __future__ import annotations

from .affine import (
    MIN_SCALE,
    check_finite,
    codes_f32,
    dequantize_codes,
    expand_to,
    next_power_of_two,
    qparams_from_range,
)
from .calibrated import Dynamic, Fixed, MovingAverage
from .clipping import KullbackLeibler, MeanSquaredError, Percentile
from .histogram import HistogramObserver
from .learned import LSQ, PACT, LSQPlus
from .level_quantizer import LearnedLevels, LearnedScale, LearnedSides, LevelQuantizer, RefittedLevels
from .levels import (
    AdditivePowersOfTwo,
    Binary,
    Codebook,
    FixedPoint,
    KMeans,
    Levels,
    PowersOfTwo,
    QuantizedTensor,
    Shift,
    Ternary,
    TrainedTernary,
    Uniform,
    level_of,
    make_levels,
    quantize_tensor,
)
from .method_entry import named_options, parse_methods
from .midrise import level_offset, observe_levels
from .observer import KSigma, MinMax, MovingAverageMinMax, Observer, make_observer, observe_whole
from .plain_rounding import (
    FixedPointFixed,
    FixedPointMovingAverage,
    StochasticFixed,
    StochasticLSQ,
    StochasticMovingAverage,
    StochasticRounding,
)
from .presets import presets, recipe, register_recipe
from .quantizer import Quantizer, make_quantizer
from .recipe import FLOAT_DTYPES, Recipe, float_dtype, resolve
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
from .sign_quantizer import LearnedSign, SignFixed
from .targets import TARGETS, Unmet, fitted, unmet

__all__ = [
    "FLOAT_DTYPES",
    "LEVELS",
    "LSQ",
    "METHODS",
    "MIN_SCALE",
    "OBSERVERS",
    "PACT",
    "QUANTIZERS",
    "TARGETS",
    "AdditivePowersOfTwo",
    "Binary",
    "Codebook",
    "Dynamic",
    "Fixed",
    "FixedPoint",
    "FixedPointFixed",
    "FixedPointMovingAverage",
    "HistogramObserver",
    "KMeans",
    "KSigma",
    "KullbackLeibler",
    "LSQPlus",
    "LearnedLevels",
    "LearnedScale",
    "LearnedSides",
    "LearnedSign",
    "LevelQuantizer",
    "Levels",
    "MeanSquaredError",
    "MinMax",
    "MovingAverage",
    "MovingAverageMinMax",
    "Observer",
    "Percentile",
    "PowersOfTwo",
    "QuantizedTensor",
    "Quantizer",
    "Recipe",
    "RefittedLevels",
    "Registry",
    "Scheme",
    "Shift",
    "SignFixed",
    "StochasticFixed",
    "StochasticLSQ",
    "StochasticMovingAverage",
    "StochasticRounding",
    "Ternary",
    "TrainedTernary",
    "Uniform",
    "Unmet",
    "check_finite",
    "codes_f32",
    "dequantize_codes",
    "expand_to",
    "fitted",
    "float_dtype",
    "level_of",
    "level_offset",
    "make_levels",
    "make_observer",
    "make_quantizer",
    "named_options",
    "next_power_of_two",
    "observe_levels",
    "observe_whole",
    "parse_methods",
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
    "unmet",
]
