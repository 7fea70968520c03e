"""Activation equalization: large activation channels become smaller, the weights that read them larger."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import PtqxError
from ..graph.workbench import BATCH, Workbench
from .equalization import weight_ranges
from .method import method
from .pairs import pairs, scale_channels


@method("activation_equalization", levels=None, kinds=("static", "dynamic"), moves_weights=True)
def activation_equalization(bench: Workbench, *, strength: float = 0.5) -> None:
    """Scale the channels between two layers by what they hold, so that one scale fits all; recalibrate.

    s = max|x|^strength / max|W2|^(1 - strength) for every channel x that a layer reads: the layer before it
    is divided by s, its own weights are multiplied, which the float network does not notice. Applies where
    one layer alone reads the other's output through positively homogeneous functions.
    Xiao et al., "SmoothQuant", ICML 2023.

    Args:
        strength: 0 evens out the weights alone, 1 the activations alone.
    """
    if not 0.0 <= strength <= 1.0:
        raise PtqxError(f"activation_equalization: strength: expected 0 to 1, got {strength}")
    with torch.no_grad():
        found = list(pairs(bench))
        largest = _largest_inputs(bench, {pair.second.inputs[0] for pair in found})
        for pair in found:
            values = largest[pair.second.inputs[0]].reshape(-1, pair.positions).amax(1)
            weights = weight_ranges(bench, pair)
            factor = values.pow(strength) / weights.pow(1.0 - strength)
            alive = (values > 0) & (weights > 0)
            scale_channels(bench, pair, torch.where(alive, factor, torch.ones_like(factor)))
        bench.recalibrate()


def _largest_inputs(bench: Workbench, names: set[str]) -> dict[str, Tensor]:
    """Largest magnitude of every channel in the float network, [channels]."""
    largest: dict[str, Tensor] = {}
    for x in bench.inputs.split(BATCH):
        values: dict[str, Tensor] = {}
        bench.reference.float_output(x, values)
        for name in names:
            peaks = values[name].abs().transpose(0, 1).flatten(1).amax(1)
            largest[name] = torch.maximum(largest.get(name, peaks), peaks)
    return largest
