"""Bit widths chosen layer by layer, by an integer program over what each costs and what it loses."""

from .choice import Budget, Choice, MeasuredLayers, measure_layers, mixed_precision
from .format import mixed
from .pareto import ParetoRow, ParetoTable, pareto
from .tolerance import Tolerated, fewest_bits

__all__ = [
    "Budget",
    "Choice",
    "MeasuredLayers",
    "ParetoRow",
    "ParetoTable",
    "Tolerated",
    "fewest_bits",
    "measure_layers",
    "mixed",
    "mixed_precision",
    "pareto",
]
