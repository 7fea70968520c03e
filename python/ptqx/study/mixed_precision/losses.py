"""What every layer loses in every width: measured alone, or by the bend of the loss along its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from ...errors import unknown_name
from ...quant import FLOAT_DTYPES, make_quantizer, recipe
from ..curvature import empirical_fisher, float_network, hessian_traces, layer_weights
from ..sensitivity import sensitivity
from .widths import Width

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

    A layer in 16 bits of float computes with unrounded inputs.

    Args:
        by: "loss": measured, with the layer's input quantized to `evidence.activations` bits as well.
            "hessian": tr(H) / n * |Q(w) - w|^2 / 2, n the layer's weights (HAWQ-V2). "fisher":
            sum F * (Q(w) - w)^2 / 2, F the diagonal of the empirical Fisher information.
    """
    if by not in MEASURES:
        raise unknown_name("measure", by, MEASURES)
    found = MEASURES[by](evidence, [width for width in widths if width != "fp32"])
    return {layer: _monotone({**values, "fp32": 0.0}, widths) for layer, values in found.items()}


def _monotone(values: Mapping[Width, float], widths: tuple[Width, ...]) -> dict[Width, float]:
    """Never less than in a wider width: what a narrow one seems to gain is chance."""
    floors = accumulate((values[width] for width in reversed(widths)), max)
    return dict(zip(reversed(widths), floors, strict=True))


def _alone(evidence: Evidence, widths: list[Width]) -> Losses:
    found = _float_alone(evidence, [width for width in widths if isinstance(width, str)])
    integer = [width for width in widths if isinstance(width, int)]
    for width in tqdm(integer, "widths", disable=not evidence.progress, leave=False):
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


@torch.no_grad()
def _float_alone(evidence: Evidence, widths: list[str]) -> Losses:
    """Of layers whose weights alone are rounded."""
    network = float_network(evidence.model, evidence.calibration[0])

    def loss() -> float:
        sums = (F.cross_entropy(network.float_output(x), y, reduction="sum") for x, y in evidence.labelled)
        return float(torch.stack(list(sums)).sum(dtype=torch.float64)) / images

    images = sum(len(y) for _, y in evidence.labelled)
    whole, found = loss() if widths else 0.0, Losses()
    for layer, weight in layer_weights(network).items():
        real = weight.clone()
        for width in widths:
            weight.copy_(real.to(FLOAT_DTYPES[width]))
            found.setdefault(layer, {})[width] = loss() - whole
        weight.copy_(real)
    return found


def _by_trace(evidence: Evidence, widths: list[Width]) -> Losses:
    network = float_network(evidence.model, evidence.calibration[0])
    traces = hessian_traces(network, evidence.labelled, seed=evidence.seed, progress=evidence.progress)
    return {
        layer: {
            width: 0.5 * traces[layer] / weight.numel() * float(error.square().sum())
            for width, error in _rounding_errors(layer, weight, widths).items()
        }
        for layer, weight in layer_weights(network).items()
    }


def _by_fisher(evidence: Evidence, widths: list[Width]) -> Losses:
    network = float_network(evidence.model, evidence.calibration[0])
    information = empirical_fisher(network, evidence.labelled, evidence.progress)
    return {
        layer: {
            width: 0.5 * float((information[layer] * error.square()).sum())
            for width, error in _rounding_errors(layer, weight, widths).items()
        }
        for layer, weight in layer_weights(network).items()
    }


MEASURES: dict[str, Callable[[Evidence, list[Width]], Losses]] = {
    "loss": _alone,
    "hessian": _by_trace,
    "fisher": _by_fisher,
}


@torch.no_grad()
def _rounding_errors(layer: str, weight: Tensor, widths: list[Width]) -> dict[Width, Tensor]:
    """Q(w) - w of a layer's weight by width."""
    errors: dict[Width, Tensor] = {}
    for width in widths:
        if isinstance(width, str):
            errors[width] = weight.detach().to(FLOAT_DTYPES[width]) - weight.detach()
            continue
        scheme = recipe(f"w{width}a8").weights
        assert scheme is not None
        quantizer = make_quantizer(scheme, "fixed", len(weight), name=layer)
        quantizer.fit(weight.detach())
        errors[width] = quantizer(weight.detach()) - weight.detach()
    return errors
