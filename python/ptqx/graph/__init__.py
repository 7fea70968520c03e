"""From a float module to an integer one: capture, prepare, calibrate, convert, compile; save and load."""

from __future__ import annotations

from .calibrate import calibrate
from .capture import capture
from .compilation import compile
from .convert import ConversionReport, convert
from .coverage import Coverage, CoverageRow, coverage
from .document import IntegerGraph, IntegerNode
from .engine import Engine
from .explain import ExplainRow, Explanation, explain
from .export import export
from .fusion import weight_uses
from .image import ImageOptions
from .integer import IntegerModel
from .io import load, save
from .ir import Graph, Node
from .partial import PartialEngine
from .prepare import prepare
from .quantize import apply_methods, check_methods, quantize
from .simulated import SimulatedModel
from .usage import LevelUsage, LevelUsages, level_usage
from .value import explain_value
from .value_trace import ValueTrace

__all__ = [
    "ConversionReport",
    "Coverage",
    "CoverageRow",
    "Engine",
    "ExplainRow",
    "Explanation",
    "Graph",
    "ImageOptions",
    "IntegerGraph",
    "IntegerModel",
    "IntegerNode",
    "LevelUsage",
    "LevelUsages",
    "Node",
    "PartialEngine",
    "SimulatedModel",
    "ValueTrace",
    "apply_methods",
    "calibrate",
    "capture",
    "check_methods",
    "compile",
    "convert",
    "coverage",
    "explain",
    "explain_value",
    "export",
    "level_usage",
    "load",
    "prepare",
    "quantize",
    "save",
    "weight_uses",
]
