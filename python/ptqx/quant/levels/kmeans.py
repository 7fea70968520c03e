"""A codebook found by k-means."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import PtqxError
from ..affine import check_finite, expand_to
from ..observer import observe_whole
from ..registry import register_levels
from ..scheme import Scheme
from .base import Parameters
from .codebook import Codebook, positive_scale

GRID = 127


@register_levels("kmeans")
class KMeans(Codebook):
    """2**bits levels with the least squared error for the whole tensor, by Lloyd's algorithm.

    Every value is divided by the scale (max |x| of those that share it); all of the tensor share one codebook
    of centroids. A value counts scale**2 * importance, so that what is minimised is
    sum(importance * (x - real)**2). The centroids start evenly spaced over the range, then over the mass
    (Han et al., "Deep Compression", ICLR 2016, section 3.2); the better end is taken. For importance = the
    diagonal of a Hessian see Choi, El-Khamy, Lee, "Towards the Limit of Network Quantization", ICLR 2017.

    Args:
        snapped: round the levels to a grid of 127 steps to each side, so that integer kernels compute with
            them; else they are float32, and layers with them compute in float.
        iterations: at most, from each start; it ends earlier when nothing moves.

    >>> from ptqx.quant import quantize_tensor
    >>> x = torch.tensor([0.9, 1.0, 1.1, -2.0, -2.1, 0.0, 0.1, 5.0])
    >>> quantize_tensor(x, Scheme(bits=2, levels="kmeans", levels_args={"snapped": False})).dequantize()
    tensor([ 1.0000,  1.0000,  1.0000, -2.0500, -2.0500,  0.0500,  0.0500,  5.0000])
    """

    weighs_importance = True
    learned_by = "learned_levels"

    def __init__(self, snapped: bool = True, iterations: int = 100) -> None:
        self.snapped = snapped
        self.iterations = iterations

    @classmethod
    def check(cls, scheme: Scheme) -> None:
        super().check(scheme)
        if scheme.observer != "minmax":
            raise PtqxError(
                f"levels 'kmeans' see all values: observer must be 'minmax', got {scheme.observer!r}"
            )

    @property
    def on_grid(self) -> bool:
        return self.snapped

    def table(self, bits: int) -> Tensor:
        levels = torch.linspace(-1.0, 1.0, 2**bits)
        return torch.round(levels * GRID) if self.snapped else levels

    def fit(
        self, x: Tensor, scheme: Scheme, name: str = "input", importance: Tensor | None = None
    ) -> Parameters:
        check_finite(x, name)
        count = 2**scheme.bits
        if x.numel() < count:
            raise PtqxError(
                f"{name}: k-means of {scheme.bits} bits needs at least {count} values, got {x.numel()}; "
                "use fewer bits, or levels='uniform' for this layer"
            )
        low, high = observe_whole(x, scheme, name)
        scale = positive_scale(torch.maximum(-low, high))
        column = expand_to(scale, x, scheme)
        weights = (column.double().square() * torch.ones_like(x, dtype=torch.float64)).flatten()
        if importance is not None:
            weights = weights * _checked(importance, x, name).double().flatten()
        levels = lloyd((x.detach().float() / column).flatten(), weights, count, self.iterations)
        if self.snapped:
            unit = positive_scale(levels.abs().amax() / GRID)
            levels, scale = torch.round(levels / unit), positive_scale(scale * unit)
        return {"scale": scale, "levels": levels[None]}


def lloyd(x: Tensor, weights: Tensor, count: int, iterations: int) -> Tensor:
    """Weighted 1-D k-means: float32 [count] centroids in ascending order; an empty one stays where it is.

    Sums are differences of running sums over the sorted values in float64: the same whatever the threads.

    >>> lloyd(torch.tensor([0.0, 1.0, 2.0, 9.0]), torch.ones(4), 2, 10)
    tensor([1., 9.])
    """
    x, order = x.double().sort()
    values = _Sorted(x, weights[order].double())
    share = torch.linspace(0.0, 1.0, count, dtype=torch.float64, device=x.device)
    spread = share * (x[-1] - x[0]) + x[0]
    inner = (torch.arange(count, dtype=torch.float64, device=x.device) + 0.5) / count * values.mass[-1]
    ranks = x[torch.searchsorted(values.mass, inner).clamp(1, len(x)) - 1]
    ends = [values.iterated(start, iterations) for start in (spread, ranks)]
    return min(ends, key=values.error).float()


class _Sorted:
    """Sorted values with weights, and their running sums."""

    def __init__(self, x: Tensor, weights: Tensor) -> None:
        self.x = x
        self.mass, self.moment, self.square = (
            F.pad((weights * power).cumsum(0), (1, 0)) for power in (torch.ones_like(x), x, x * x)
        )

    def iterated(self, centroids: Tensor, iterations: int) -> Tensor:
        for _ in range(iterations):
            mass, moment, _ = self.sums(centroids)
            moved = torch.where(mass > 0, moment / torch.where(mass > 0, mass, 1.0), centroids)
            if torch.equal(moved, centroids):
                break
            centroids = moved
        return centroids

    def sums(self, centroids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of weight, weight * x and weight * x**2 of the values next to each centroid."""
        middles = (centroids[1:] + centroids[:-1]) / 2
        ends = F.pad(torch.searchsorted(self.x, middles), (1, 1))
        ends[-1] = len(self.x)
        mass, moment, square = (total[ends].diff() for total in (self.mass, self.moment, self.square))
        return mass, moment, square

    def error(self, centroids: Tensor) -> float:
        """sum(weight * (x - centroid)**2)"""
        mass, moment, square = self.sums(centroids)
        return float((square - 2 * centroids * moment + centroids.square() * mass).sum())


def _checked(importance: Tensor, x: Tensor, name: str) -> Tensor:
    if importance.shape != x.shape:
        raise PtqxError(f"{name}: importance: expected shape {tuple(x.shape)}, got {tuple(importance.shape)}")
    check_finite(importance, f"{name}: importance")
    if bool((importance < 0).any()):
        raise PtqxError(f"{name}: importance: expected numbers >= 0, got {float(importance.min())}")
    return importance
