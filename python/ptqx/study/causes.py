"""Why a layer loses much: properties of its weights and of the tensor it reads, measured."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..graph import Node, SimulatedModel
from ..graph.weights import folded
from ..quant import Quantizer
from .statistics import sqnr_db

OUTLIER_RATIO = 4.0  # a channel reaches so many times as far as the median channel
CLIPPED_NOISE = 0.5  # of the error's energy comes from values beyond the range
SATURATED_SHARE = 0.01  # of the values lie beyond the largest code
DEAD_RATIO = 1e-3  # a channel reaches no farther than this share of the farthest


@dataclass(frozen=True)
class LayerCauses:
    """What was measured of one layer.

    Attributes:
        weight_db, input_db: SQNR of the weights and of the input by themselves.
        weight_outlier, input_outlier: how far the farthest channel reaches, over the median channel. Of
            weights only where channels share a scale.
        clipped_noise: share of the input's squared error that lies in values beyond the range.
        saturated: share of the input's values that lie more than half a step beyond the largest code, which
        they all get. Values that lie at it, white pixels or the 6 of a ReLU6, lose nothing.
        dead_channels: output channels whose weights are nearly nothing.
        causes: in words, the likeliest first; empty where nothing stands out.
    """

    weight_db: float
    input_db: float
    weight_outlier: float
    input_outlier: float
    clipped_noise: float
    saturated: float
    dead_channels: int
    causes: list[str]


@torch.no_grad()
def layer_causes(prep: SimulatedModel, node: Node, x: Tensor) -> LayerCauses:
    """Measure one static layer of a calibrated model.

    Args:
        x: what the layer reads in the float network, (N, C, ...).
    """
    weight = folded(prep, node)[0]
    weights = prep.weight_quantizer(node)
    key = prep.graph.nodes[node.inputs[0]].quantizer
    inputs = prep.activation_quantizer(key) if key is not None else None
    reach = weight.abs().flatten(1).amax(1)
    shared = weights.scheme.granularity == "tensor"
    clipped, saturated = _beyond_range(x, inputs) if inputs is not None else (0.0, 0.0)
    measured = LayerCauses(
        weight_db=sqnr_db(weight, _quantized(weights, weight)),
        input_db=sqnr_db(x, _quantized(inputs, x)) if inputs is not None else float("inf"),
        weight_outlier=_farthest_over_median(reach) if shared else 1.0,
        input_outlier=_farthest_over_median(x.abs().transpose(0, 1).flatten(1).amax(1)),
        clipped_noise=clipped,
        saturated=saturated,
        dead_channels=int((reach <= DEAD_RATIO * reach.max()).sum()),
        causes=[],
    )
    measured.causes.extend(_in_words(measured))
    return measured


def _in_words(m: LayerCauses) -> list[str]:
    words = []
    if m.clipped_noise > CLIPPED_NOISE:
        words.append(f"clipped range: {100 * m.clipped_noise:.0f} % of the input's error is beyond it")
    if m.saturated > SATURATED_SHARE:
        words.append(f"saturated activation: {100 * m.saturated:.1f} % of the input beyond the largest code")
    if m.input_outlier > OUTLIER_RATIO:
        words.append(f"outlier channel in the input: {m.input_outlier:.1f} times the median channel")
    if m.weight_outlier > OUTLIER_RATIO:
        words.append(f"outlier channel in the weights: {m.weight_outlier:.1f} times the median channel")
    if m.dead_channels:
        words.append(f"dead channels: {m.dead_channels}")
    return words


def _quantized(quantizer: Quantizer, x: Tensor) -> Tensor:
    enabled, quantizer.enabled = quantizer.enabled, True
    try:
        return quantizer(x)
    finally:
        quantizer.enabled = enabled


def _beyond_range(x: Tensor, quantizer: Quantizer) -> tuple[float, float]:
    """Share of the squared error in values beyond the range, and share of values above its top."""
    scheme, scale, zero_point = quantizer.scheme, quantizer.scale, quantizer.zero_point
    low, high = ((bound - zero_point) * scale for bound in (scheme.qmin, scheme.qmax))
    error = (x - _quantized(quantizer, x)).double().square()
    beyond = (x < low - scale / 2) | (x > high + scale / 2)
    noise = float(error.sum())
    above = float((x > high + scale / 2).double().mean())
    return float(error[beyond].sum()) / noise if noise else 0.0, above


def _farthest_over_median(reach: Tensor) -> float:
    alive = reach[reach > 0]
    return float(alive.max() / alive.median()) if len(alive) else 1.0
