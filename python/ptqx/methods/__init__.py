"""Post-training methods: what makes a calibrated model lose less. A recipe names them, in order.

Each is one function of a `Workbench`, entered by `@method("name")` in a file of its own.
"""

from __future__ import annotations

from .activation_equalization import activation_equalization
from .adaround import adaround
from .batch_norm_reestimation import batch_norm_reestimation
from .bias_correction import bias_correction
from .equalization import equalization
from .error_feedback import error_feedback
from .gptq import gptq
from .hessian_kmeans import hessian_kmeans
from .method import Method, method
from .nearest import nearest
from .range_search import range_search
from .reconstruction import reconstruction
from .sparse import sparse

__all__ = [
    "Method",
    "activation_equalization",
    "adaround",
    "batch_norm_reestimation",
    "bias_correction",
    "equalization",
    "error_feedback",
    "gptq",
    "hessian_kmeans",
    "method",
    "nearest",
    "range_search",
    "reconstruction",
    "sparse",
]
