"""Sparsity: channels removed for good, weights held at zero."""

from .channels import Channels
from .importance import IMPORTANCES, importance
from .masks import Pattern, apply_masks, layer_weights, parse_pattern, sparsify, zero_masks, zero_share
from .removal import Cost, Removal, Width, cost, remove_channels, save
from .widths import OWN_WIDTHS, WIDTHS, take_widths

__all__ = [
    "IMPORTANCES",
    "OWN_WIDTHS",
    "WIDTHS",
    "Channels",
    "Cost",
    "Pattern",
    "Removal",
    "Width",
    "apply_masks",
    "cost",
    "importance",
    "layer_weights",
    "parse_pattern",
    "remove_channels",
    "save",
    "sparsify",
    "take_widths",
    "zero_masks",
    "zero_share",
]
