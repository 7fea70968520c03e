"""Error and distribution of tensors: SQNR, moments, histograms."""

from __future__ import annotations

import copy
import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PtqxError

BINS = 96
WEIGHT_LAYERS = (nn.Conv2d, nn.Linear)


def sqnr_db(signal: Tensor, approximation: Tensor) -> float:
    """Signal to quantization noise ratio, 10 log10(sum x^2 / sum (x - x_q)^2) in dB, summed in float64.

    inf if the two are equal. About 6 dB are one bit.

    >>> round(sqnr_db(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5])), 2)
    20.0
    """
    if signal.shape != approximation.shape:
        raise PtqxError(f"shapes differ: {tuple(signal.shape)} and {tuple(approximation.shape)}")
    return Sqnr().update(signal, approximation).db


@dataclass
class Sqnr:
    """SQNR over several batches."""

    signal: float = 0.0
    noise: float = 0.0

    def update(self, signal: Tensor, approximation: Tensor) -> Sqnr:
        x = signal.detach().double()
        self.signal += float(x.square().sum())
        self.noise += float((x - approximation.detach().double()).square().sum())
        return self

    @property
    def db(self) -> float:
        if self.noise == 0.0:
            return math.inf
        return 10.0 * math.log10(self.signal / self.noise) if self.signal else -math.inf


@dataclass(frozen=True)
class Distribution:
    """Moments and histogram of one tensor: `counts` over equal bins of [low, high].

    skewness and kurtosis (excess: 0 for a normal distribution) are those of the population; `max_over_std` is
    max|x| / std, how far the largest value lies out.
    """

    layer: str
    what: str  # "weight" or "activation"
    count: int
    mean: float
    std: float
    skewness: float
    kurtosis: float
    max_over_std: float
    low: float
    high: float
    counts: list[int]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def distribution(x: Tensor, layer: str = "", what: str = "weight", bins: int = BINS) -> Distribution:
    """Describe the values of a non-empty finite tensor.

    >>> d = distribution(torch.tensor([-1.0, 0.0, 1.0]), bins=2)
    >>> d.mean, round(d.std, 3), d.skewness, d.counts
    (0.0, 0.816, 0.0, [1, 2])
    """
    values = x.detach().double().flatten()
    if not values.numel() or not torch.isfinite(values).all():
        raise PtqxError(f"{layer or 'input'}: expected finite values, at least one")
    low, high = (float(v) for v in torch.aminmax(values))
    mean = float(values.mean())
    centred = values - mean
    std = float(centred.square().mean().sqrt())
    standard = centred / std if std else centred
    counts = torch.histc(values, bins, low, high) if high > low else torch.tensor([values.numel()])
    return Distribution(
        layer=layer,
        what=what,
        count=values.numel(),
        mean=mean,
        std=std,
        skewness=float(standard.pow(3).mean()),
        kurtosis=float(standard.pow(4).mean()) - 3.0 if std else 0.0,
        max_over_std=max(-low, high) / std if std else 0.0,
        low=low,
        high=high,
        counts=[int(c) for c in counts],
    )


def weight_distributions(model: nn.Module, bins: int = BINS) -> list[Distribution]:
    """Of every convolution and linear layer's weights, in the model's order.

    >>> model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2, 2))
    >>> [d.layer for d in weight_distributions(model)]
    ['0', '2']
    """
    return [distribution(m.weight, name, "weight", bins) for name, m in weight_layers(model)]


def activation_distributions(model: nn.Module, x: Tensor, bins: int = BINS) -> list[Distribution]:
    """Of what enters every convolution and linear layer, for one batch `x` in eval() mode.

    >>> model = nn.Sequential(nn.ReLU(), nn.Linear(2, 2))
    >>> [d.low for d in activation_distributions(model, torch.tensor([[-1.0, 2.0]]))]
    [0.0]
    """
    # Hooks go on a copy: the caller's model stays as it is, also when it fails.
    model = copy.deepcopy(model).eval()
    seen: dict[str, Distribution] = {}

    def record(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen[name] = distribution(inputs[0], name, "activation", bins)

        return hook

    for name, module in weight_layers(model):
        module.register_forward_pre_hook(record(name))
    with torch.no_grad():
        model(x)
    return list(seen.values())


def weight_layers(model: nn.Module) -> list[tuple[str, Any]]:
    """(name, module) of the convolutions and linear layers."""
    return [(name, m) for name, m in model.named_modules() if isinstance(m, WEIGHT_LAYERS)]
