"""Sparsity: channels removed for good, weights held at zero."""

from .channels import Channels
from .importance import IMPORTANCES, importance
from .removal import Cost, Removal, Width, cost, remove_channels, save
from .widths import OWN_WIDTHS, WIDTHS, take_widths

__all__ = [
    "IMPORTANCES",
    "OWN_WIDTHS",
    "WIDTHS",
    "Channels",
    "Cost",
    "Removal",
    "Width",
    "cost",
    "importance",
    "remove_channels",
    "save",
    "take_widths",
]
