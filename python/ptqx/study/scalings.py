"""How to choose a weight's scale: the largest value, three standard deviations, or a percentile."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..data import ImageDataset
from ..errors import PtqxError
from ..quant import Scheme, quantize_tensor
from ..train import evaluate
from .rows import accuracy_columns, markdown_table, signed
from .statistics import Sqnr, weight_layers

# name: observer and its arguments
SCALINGS: dict[str, tuple[str, dict[str, float]]] = {
    "max-abs": ("minmax", {}),
    "3-sigma": ("ksigma", {"k": 3.0}),
    "percentile 99.9": ("percentile", {"percentile": 99.9}),
}
GRANULARITIES = ("tensor", "channel")
HEADER = (
    "scaling",
    "granularity",
    "bits",
    "SQNR dB",
    "worst layer",
    "its SQNR dB",
    "top-1 %",
    "drop",
    "95 % interval",
)


@dataclass(frozen=True)
class ScalingRow:
    """One way to scale all weights: SQNR over all of them and in the worst layer; top-1 of the float network
    that computes with the rounded weights, against the original one's (percent points)."""

    scaling: str
    granularity: str
    bits: int
    sqnr_db: float
    worst_layer: str
    worst_sqnr_db: float
    top1: float
    drop: float
    drop_ci95: list[float]
    agreement: float


@dataclass(frozen=True)
class ScalingTable:
    """Result of `scalings`."""

    rows: list[ScalingRow]
    float_top1: float

    def to_dicts(self) -> list[dict[str, Any]]:
        """Plain values, ready for JSON."""
        return [asdict(row) for row in self.rows]

    def to_markdown(self) -> str:
        lines = [
            [
                row.scaling,
                row.granularity,
                str(row.bits),
                f"{row.sqnr_db:.1f}",
                row.worst_layer,
                f"{row.worst_sqnr_db:.1f}",
                f"{row.top1:.2f}",
                signed(row.drop),
                f"[{signed(row.drop_ci95[0])}, {signed(row.drop_ci95[1])}]",
            ]
            for row in self.rows
        ]
        text = frozenset({"scaling", "granularity", "worst layer"})
        return markdown_table(HEADER, lines, frozenset(HEADER) - text)

    def __repr__(self) -> str:
        return self.to_markdown()


def scalings(
    model: nn.Module,
    test: ImageDataset | Iterable[tuple[Tensor, Tensor]],
    *,
    bits: Sequence[int] = (8, 4),
    granularities: Sequence[str] = GRANULARITIES,
    seed: int = 0,
) -> ScalingTable:
    """Round the weights of every convolution and linear layer in each way and measure what it costs.

    scale = max|w| / qmax, 3 * std(w) / qmax, or percentile_99.9(|w|) / qmax; symmetric, round half to even,
    values beyond the range are clipped. Activations and biases stay float: only the scaling differs.

    >>> from ptqx.data import load
    >>> from ptqx.models import cnn
    >>> table = scalings(cnn(width=4), load("digits", split="test"), bits=[8], granularities=["tensor"])
    >>> [row.scaling for row in table.rows]
    ['max-abs', '3-sigma', 'percentile 99.9']
    """
    if not weight_layers(model):
        raise PtqxError(f"{type(model).__name__} has no convolution or linear layer")
    reference = evaluate(model, test)
    rows = []
    for width in bits:
        for granularity in granularities:
            for name, (observer, arguments) in SCALINGS.items():
                scheme = Scheme(
                    bits=width,
                    granularity=granularity,
                    observer=observer,
                    observer_args=tuple(arguments.items()),
                )
                rounded, ratios = with_rounded_weights(model, scheme)
                total = Sqnr(sum(r.signal for r in ratios.values()), sum(r.noise for r in ratios.values()))
                worst = min(ratios, key=lambda layer: ratios[layer].db)
                accuracy = accuracy_columns(reference, evaluate(rounded, test), seed)
                rows.append(
                    ScalingRow(
                        scaling=name,
                        granularity=granularity,
                        bits=width,
                        sqnr_db=total.db,
                        worst_layer=worst,
                        worst_sqnr_db=ratios[worst].db,
                        **accuracy,
                    )
                )
    return ScalingTable(rows, reference.top1)


@torch.no_grad()
def with_rounded_weights(model: nn.Module, scheme: Scheme) -> tuple[nn.Module, dict[str, Sqnr]]:
    """A copy of `model` whose layers' weights are quantized and dequantized, and the SQNR of each."""
    rounded = copy.deepcopy(model)
    ratios = {}
    for name, module in weight_layers(rounded):
        values = quantize_tensor(module.weight, scheme, f"{name}.weight").dequantize()
        ratios[name] = Sqnr().update(module.weight, values)
        module.weight.copy_(values)
    return rounded, ratios
