"""How weights and layer inputs are distributed, in float and as codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ....graph import SimulatedModel, calibrate, prepare
from ....graph.formulas import Codes
from ....graph.placement import layers
from ....graph.weights import folded, layer_codes
from ....quant import recipe
from ...statistics import BINS, activation_distributions, weight_distributions
from ..config import Study
from ..part import Unit, Values, part
from ..subject import Subject


@dataclass(frozen=True)
class DistributionOptions:
    """recipes: whose codes are shown beside the float values."""

    recipes: tuple[str, ...] = ("int8", "w4a4")


@part("distributions", DistributionOptions)
def distributions(study: Study, options: DistributionOptions) -> Iterator[Unit]:
    yield Unit("distributions", "float", _float)
    for name in options.recipes:
        depends = {"recipe": recipe(name).to_dict(), "images": study.calibration.images}
        yield Unit("distributions", name, _codes(name), depends)


def _float(subject: Subject) -> Values:
    weights = weight_distributions(subject.model)
    inputs = activation_distributions(subject.model, subject.analysed)
    operations = {name: type(m).__name__ for name, m in subject.model.named_modules()}
    return {
        "recipe": None,
        "layers": [{**d.to_dict(), "op": operations[d.layer]} for d in (*weights, *inputs)],
    }


def _codes(name: str) -> Callable[[Subject], Values]:
    def run(subject: Subject) -> Values:
        prepared = prepare(subject.model, name, subject.example)
        calibrate(prepared, subject.calibration(subject.study.seed)).eval()
        return {"recipe": name, "layers": before_and_after(prepared, subject.analysed)}

    return run


@torch.no_grad()
def before_and_after(prep: SimulatedModel, x: Tensor) -> list[dict[str, Any]]:
    """Histograms of every layer's folded weights and of its output, in float and quantized, on equal bins."""
    quantized: dict[str, Tensor | Codes] = {}
    prep.exact(x, keep=quantized)
    real: dict[str, Tensor] = {}
    prep.float_output(x, keep=real)
    found = []
    for node in layers(prep.graph):
        weight = folded(prep, node)[0]
        codes = layer_codes(prep, node, weight)
        found.append({"layer": node.name, "what": "weight", **_histograms(weight, codes.real())})
        output = quantized[node.name]
        values = output.real() if isinstance(output, Codes) else output
        found.append({"layer": node.name, "what": "output", **_histograms(real[node.name], values)})
    return found


def _histograms(before: Tensor, after: Tensor) -> dict[str, Any]:
    low = float(torch.minimum(before.min(), after.min()))
    high = float(torch.maximum(before.max(), after.max()))
    if low == high:
        high = low + 1.0
    counts = [torch.histc(t.float(), BINS, low, high).int().tolist() for t in (before, after)]
    return {"low": low, "high": high, "float_counts": counts[0], "counts": counts[1]}
