"""Comparing formats: accuracy, size, speed, where the error is, and reports of it."""

from . import sparse_formats  # noqa: F401  it registers formats
from .bootstrap import paired_drop_interval
from .compare import compare
from .demo import demo
from .experiment import Results, Study, page_of, read_results, read_study, run_study
from .formats import names, register_format
from .gradient_memory import MemoryTable, gradient_memory
from .gradients import GradientTable, compare_gradients
from .layers import layer_sqnr
from .mixed_precision import Budget, measure_layers, mixed_precision, pareto
from .pictures import draw_pictures
from .report import Report, read_report
from .rows import ComparedRow, Row
from .scalings import ScalingTable, scalings
from .sensitivity import LayerSensitivity, Sensitivity, sensitivity
from .statistics import (
    Distribution,
    Sqnr,
    activation_distributions,
    distribution,
    sqnr_db,
    weight_distributions,
)
from .workload import Workload, load_workload

__all__ = [
    "Budget",
    "ComparedRow",
    "Distribution",
    "GradientTable",
    "LayerSensitivity",
    "MemoryTable",
    "Report",
    "Results",
    "Row",
    "ScalingTable",
    "Sensitivity",
    "Sqnr",
    "Study",
    "Workload",
    "activation_distributions",
    "compare",
    "compare_gradients",
    "demo",
    "distribution",
    "draw_pictures",
    "gradient_memory",
    "layer_sqnr",
    "load_workload",
    "measure_layers",
    "mixed_precision",
    "names",
    "page_of",
    "paired_drop_interval",
    "pareto",
    "read_report",
    "read_results",
    "read_study",
    "register_format",
    "run_study",
    "scalings",
    "sensitivity",
    "sqnr_db",
    "weight_distributions",
]
