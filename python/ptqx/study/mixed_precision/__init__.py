"""Bit widths chosen layer by layer, by an integer program over what each costs and what it loses."""

from .choice import Budget, Choice, MeasuredLayers, measure_layers, mixed_precision
from .format import mixed
from .pareto import ParetoRow, ParetoTable, pareto

__all__ = [
    "Budget",
    "Choice",
    "MeasuredLayers",
    "ParetoRow",
    "ParetoTable",
    "measure_layers",
    "mixed",
    "mixed_precision",
    "pareto",
]
