"""ONNX: integer networks written for other runtimes, compared in ONNX Runtime, and those of others read.

Needs the extra `onnx` (packages onnx and onnxruntime).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ..errors import PtqxError

if TYPE_CHECKING:
    from .exporter import export
    from .importer import load
    from .verifier import Verdict, verify

_HOMES = {"export": "exporter", "load": "importer", "verify": "verifier", "Verdict": "verifier"}

__all__ = ["Verdict", "export", "load", "verify"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    except ModuleNotFoundError as error:
        if error.name not in ("onnx", "onnxruntime"):
            raise
        raise PtqxError(f"ptqx.onnx.{name} needs {error.name}: pip install 'ptqx[onnx]'") from error
