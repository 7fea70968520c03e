"""Comparing formats: accuracy, size, speed, where the error is, and reports of it."""

from .bootstrap import paired_drop_interval
from .compare import compare
from .demo import demo
from .formats import names, register_format
from .layers import layer_sqnr
from .report import Report, read_report
from .rows import Row
from .scalings import ScalingTable, scalings
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
    "Distribution",
    "Report",
    "Row",
    "ScalingTable",
    "Sqnr",
    "Workload",
    "activation_distributions",
    "compare",
    "demo",
    "distribution",
    "layer_sqnr",
    "load_workload",
    "names",
    "paired_drop_interval",
    "read_report",
    "register_format",
    "scalings",
    "sqnr_db",
    "weight_distributions",
]
