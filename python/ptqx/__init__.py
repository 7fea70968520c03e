"""Quantized convolutional networks on CPUs, inside PyTorch.

The library of operators is loaded at import; everything else on first use, so that `import ptqx`
costs little over `import torch`.

>>> import ptqx, torch
>>> model = ptqx.models.cnn(in_channels=1, num_classes=10).eval()
>>> batches = [torch.randn(32, 1, 8, 8) for _ in range(4)]
>>> qmodel = ptqx.quantize(model, batches, "int8")
>>> engine = ptqx.compile(qmodel, batches[0])
>>> bool((engine(batches[0]) == qmodel(batches[0])).all())
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import ops
from .errors import PtqxError

if TYPE_CHECKING:
    from . import data, files, graph, methods, models, onnx, qat, quant, sparsity, study, train
    from .graph.calibrate import calibrate
    from .graph.capture import capture
    from .graph.compilation import compile
    from .graph.convert import convert
    from .graph.coverage import coverage
    from .graph.engine import Engine
    from .graph.explain import explain
    from .graph.export import export
    from .graph.image import ImageOptions
    from .graph.integer import IntegerModel
    from .graph.io import load, save
    from .graph.prepare import prepare
    from .graph.quantize import quantize
    from .graph.simulated import SimulatedModel
    from .quant import Recipe, Scheme
    from .quant.presets import recipe
    from .study.compare import compare
    from .study.sensitivity import sensitivity

    __version__: str

_HOMES = {
    "graph": (
        *("Engine", "ImageOptions", "IntegerModel", "SimulatedModel", "calibrate", "capture", "compile"),
        *("convert", "coverage", "explain", "export", "load", "prepare", "quantize", "save"),
    ),
    "quant": ("Recipe", "Scheme", "recipe"),
    "study": ("compare", "sensitivity"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}
_MODULES = (
    "data",
    "files",
    "graph",
    "methods",
    "models",
    "onnx",
    "qat",
    "quant",
    "sparsity",
    "study",
    "train",
)

__all__ = [
    "Engine",
    "ImageOptions",
    "IntegerModel",
    "PtqxError",
    "Recipe",
    "Scheme",
    "SimulatedModel",
    "__version__",
    "calibrate",
    "capture",
    "cmake_prefix_path",
    "compare",
    "compile",
    "convert",
    "coverage",
    "data",
    "explain",
    "export",
    "files",
    "graph",
    "load",
    "methods",
    "models",
    "onnx",
    "ops",
    "prepare",
    "qat",
    "quant",
    "quantize",
    "recipe",
    "save",
    "sensitivity",
    "sparsity",
    "study",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    if name == "__version__":
        from . import _C

        return _C.build_info()["version"]
    if name == "cmake_prefix_path":
        return _cmake_prefix_path()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


def _cmake_prefix_path() -> str:
    """Where CMake's find_package(ptqx) finds the C++ libraries; pass it as CMAKE_PREFIX_PATH."""
    from pathlib import Path

    from . import _C

    return str(Path(_C.__file__).resolve().parent / "lib" / "cmake")
