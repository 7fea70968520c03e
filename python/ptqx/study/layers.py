"""How much of each layer's signal quantization leaves, in dB."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..graph import SimulatedModel
from ..graph.formulas import Codes
from ..graph.placement import layers
from ..graph.weights import folded, layer_codes
from .statistics import sqnr_db


@torch.no_grad()
def layer_sqnr(prep: SimulatedModel, x: Tensor) -> list[dict[str, Any]]:
    """SQNR of every convolution and linear layer of a calibrated model, against the same network in float.

    Args:
        prep: the simulated model; its eval() arithmetic is that of the integer model, bit by bit.
        x: one batch, (N, C, H, W).

    Returns:
        One entry per layer, in order: layer; weight_db, of the folded weights alone (None where they stay
        float); output_db, of what the layer gives inside the whole network (after its activation), with the
        errors of all layers before it.
    """
    prep = prep.eval()
    quantized: dict[str, Tensor | Codes] = {}
    prep.exact(x, keep=quantized)
    real: dict[str, Tensor] = {}
    prep.float_output(x, keep=real)
    entries = []
    for node in layers(prep.graph):
        scheme = prep.schemes[node.name][0]
        weight = folded(prep, node)[0]
        output = quantized[node.name]
        entries.append(
            {
                "layer": node.name,
                "weight_db": None
                if scheme is None
                else sqnr_db(weight, layer_codes(prep, node, weight).real()),
                "output_db": sqnr_db(real[node.name], output.real() if isinstance(output, Codes) else output),
            }
        )
    return entries
