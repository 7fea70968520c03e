"""What every layer loses in every width: measured alone, or by the bend of the loss along its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ...errors import unknown_name
from ...quant import make_quantizer, recipe
from ..curvature import empirical_fisher, float_network, hessian_traces, layer_weights
from ..sensitivity import sensitivity
from .widths import FP32, Width

Losses = dict[str, dict[Width, float]]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What losses are estimated from: a float model, calibration batches, and batches (x, y) with labels."""

    model: nn.Module
    calibration: list[Tensor]
    labelled: list[tuple[Tensor, Tensor]]
    activations: int = 8
    seed: int = 0
    progress: bool = False


def layer_losses(evidence: Evidence, by: str, widths: tuple[Width, ...]) -> Losses:
    """Estimated increase of the mean cross-entropy by layer and width, of one layer alone; 0 of "fp32".

    Args:
        by: "loss": measured, with the layer's input quantized to `evidence.activations` bits as well.
            "hessian": tr(H) / n * |Q(w) - w|^2 / 2, n the layer's weights (HAWQ-V2). "fisher":
            sum F * (Q(w) - w)^2 / 2, F the diagonal of the empirical Fisher information.
    """
    if by not in MEASURES:
        raise unknown_name("measure", by, MEASURES)
    found = MEASURES[by](evidence, [width for width in widths if isinstance(width, int)])
    return {layer: _monotone({**values, FP32: 0.0}, widths) for layer, values in found.items()}


def _monotone(values: Mapping[Width, float], widths: tuple[Width, ...]) -> dict[Width, float]:
    """Never less than in a wider width: what a narrow one seems to gain is chance."""
    floors = accumulate((values[width] for width in reversed(widths)), max)
    return dict(zip(reversed(widths), floors, strict=True))


def _alone(evidence: Evidence, widths: list[int]) -> Losses:
    found: Losses = {}
    for width in tqdm(widths, "widths", disable=not evidence.progress, leave=False):
        result = sensitivity(
            evidence.model,
            evidence.calibration,
            evidence.labelled,
            recipe=recipe(f"w{width}a{evidence.activations}", edge_bits=None),
            images=sum(map(len, evidence.calibration)),
            seed=evidence.seed,
            progress=evidence.progress,
        )
        for row in result.rows:
            found.setdefault(row.layer, {})[width] = row.loss_increase
    return found


def _by_trace(evidence: Evidence, widths: list[int]) -> Losses:
    network = float_network(evidence.model, evidence.calibration[0])
    traces = hessian_traces(network, evidence.labelled, seed=evidence.seed, progress=evidence.progress)
    return {
        layer: {
            width: 0.5 * traces[layer] / weight.numel() * float(error.square().sum())
            for width, error in _rounding_errors(layer, weight, widths).items()
        }
        for layer, weight in layer_weights(network).items()
    }


def _by_fisher(evidence: Evidence, widths: list[int]) -> Losses:
    network = float_network(evidence.model, evidence.calibration[0])
    information = empirical_fisher(network, evidence.labelled, evidence.progress)
    return {
        layer: {
            width: 0.5 * float((information[layer] * error.square()).sum())
            for width, error in _rounding_errors(layer, weight, widths).items()
        }
        for layer, weight in layer_weights(network).items()
    }


MEASURES: dict[str, Callable[[Evidence, list[int]], Losses]] = {
    "loss": _alone,
    "hessian": _by_trace,
    "fisher": _by_fisher,
}


@torch.no_grad()
def _rounding_errors(layer: str, weight: Tensor, widths: list[int]) -> dict[int, Tensor]:
    """Q(w) - w of a layer's weight by width."""
    errors = {}
    for width in widths:
        scheme = recipe(f"w{width}a8").weights
        assert scheme is not None
        quantizer = make_quantizer(scheme, "fixed", len(weight), name=layer)
        quantizer.fit(weight.detach())
        errors[width] = quantizer(weight.detach()) - weight.detach()
    return errors
