"""The command line: one file a command, listed in the order of `ptqx --help`.

Commands import what they need when they run, so that help and errors come at once.
"""

# isort: off
from . import demo, train, targets, quantize, qat, prune, export, import_onnx, explain, coverage  # noqa: F401
from . import compare, study, scalings, sensitivity, mixed, gradients, gradient_memory, bench  # noqa: F401
from . import report, levels, info  # noqa: F401
from .app import app, main

__all__ = ["app", "main"]
