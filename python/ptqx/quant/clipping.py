"""Observers that cut the tails: percentile, least squared error, least divergence."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import PtqxError
from .affine import codes_f32, dequantize_codes, midrise_offset, qparams_from_range
from .histogram import BINS, HistogramObserver
from .registry import register_observer
from .scheme import Scheme


@register_observer("percentile")
class Percentile(HistogramObserver):
    """A percentile instead of the extremes: the p-th of |x|, or the (100-p)-th and p-th of x if asymmetric.

    On a whole tensor it is exact (linear interpolation, as numpy.percentile); streaming, it is interpolated
    inside a histogram bin, at most max|x| / 2048 off.
    """

    def __init__(self, scheme: Scheme, percentile: float = 99.9) -> None:
        super().__init__(scheme)
        if not 50.0 < percentile <= 100.0:
            raise PtqxError(f"percentile: expected a number in (50, 100], got {percentile}")
        self.percentile = percentile

    def range_of_rows(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        if self.scheme.symmetric:
            bound = _percentile_of_rows(rows.abs(), self.percentile)
            return -bound, bound
        return _percentile_of_rows(rows, 100.0 - self.percentile), _percentile_of_rows(rows, self.percentile)

    def _range(self) -> tuple[Tensor, Tensor]:
        fraction = self.percentile / 100.0
        edges = torch.arange(BINS, dtype=torch.float64, device=self.counts.device) * self.width
        if self.scheme.symmetric:
            largest = torch.maximum(-self.low, self.high)
            bound = _quantile(edges, self.counts.sum(0), self.width, fraction).clamp(max=largest)
            return -bound, bound
        edges = torch.cat([-edges.flip(0) - self.width, edges])
        counts = torch.cat([self.counts[1].flip(0), self.counts[0]])
        low = _quantile(edges, counts, self.width, 1.0 - fraction)
        high = _quantile(edges, counts, self.width, fraction)
        return low.clamp(self.low, self.high), high.clamp(self.low, self.high)


def _percentile_of_rows(rows: Tensor, percentile: float) -> Tensor:
    ordered = rows.sort(dim=1).values
    position = percentile / 100.0 * (rows.shape[1] - 1)
    below = min(int(position), rows.shape[1] - 1)
    above = min(below + 1, rows.shape[1] - 1)
    return torch.lerp(ordered[:, below].double(), ordered[:, above].double(), position - below).float()


def _quantile(edges: Tensor, counts: Tensor, width: float, fraction: float) -> Tensor:
    """The value, float32 [1], with `fraction` of the counts below; bin i is [edges[i], edges[i] + width)."""
    cumulative = counts.cumsum(0)
    target = fraction * float(cumulative[-1])
    reached = torch.nonzero((cumulative >= target) & (counts > 0))
    i = int(reached[0]) if len(reached) else int(torch.nonzero(counts)[-1])
    inside = (target - float(cumulative[i] - counts[i])) / float(counts[i])
    return (edges[i] + min(max(inside, 0.0), 1.0) * width).float().reshape(1)


@register_observer("mse")
class MeanSquaredError(HistogramObserver):
    """The range whose quantization has the least mean squared error: min over clips of E[(x - x_q)**2].

    Searched between 1/32 of the data's range and all of it: a geometric grid, then a finer one around its
    best. An asymmetric range moves its two ends in turn.
    """

    def range_of_rows(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        low, high = torch.aminmax(rows, dim=1)
        return least_error_range(rows, None, low, high, self.scheme)

    def _range(self) -> tuple[Tensor, Tensor]:
        values, counts = self.signed_histogram()
        return least_error_range(values[None], counts[None], self.low, self.high, self.scheme)


_COARSE = [2.0 ** (-step / 5) for step in range(26)]
_FINE = [2.0 ** (step / 40) for step in range(-7, 8) if step]


def least_error_range(
    values: Tensor, weights: Tensor | None, low: Tensor, high: Tensor, scheme: Scheme
) -> tuple[Tensor, Tensor]:
    """Range inside [low, high], [rows] each, with the least squared error of values [rows, n]."""

    def error(low: Tensor, high: Tensor) -> Tensor:
        scale, zero_point = (parameter[:, None] for parameter in qparams_from_range(low, high, scheme))
        shifted = values - midrise_offset(scale, 1) if scheme.midrise else values
        codes = codes_f32(shifted, scale, zero_point, scheme.qmin, scheme.qmax)
        squared = (dequantize_codes(codes, scale, zero_point) - shifted).square_()
        return (squared if weights is None else squared * weights).sum(dim=1)

    low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    if scheme.symmetric:
        bound = torch.maximum(-low, high)
        bound = bound * _least(lambda f: error(-bound * f, bound * f), bound)
        return -bound, bound
    one_sided = not bool((low < 0).any()) or not bool((high > 0).any())
    lowest, highest = low, high

    def best_low(high: Tensor) -> Tensor:
        return lowest * _least(lambda f: error(lowest * f, high), lowest)

    def best_high(low: Tensor) -> Tensor:
        return highest * _least(lambda f: error(low, highest * f), highest)

    for _ in range(1 if one_sided else 2):
        high = best_high(low)
        low = best_low(high)
    return low, high


def _least(error: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """The fraction in [1/32, 1], per row, that makes `error(fraction)` least; the largest of equals."""
    best = torch.ones_like(like)
    if not bool(like.any()):
        return best
    least = error(best)
    for steps in (_COARSE[1:], _FINE):
        center = best
        for step in steps:
            fraction = (center * step).clamp(max=1.0)
            candidate = error(fraction)
            better = candidate < least
            best, least = torch.where(better, fraction, best), torch.where(better, candidate, least)
    return best


@register_observer("kl")
class KullbackLeibler(HistogramObserver):
    """The clip whose quantized histogram diverges least from the clipped one: entropy calibration.

    For 128 clips up to the data's range: P is the histogram with what lies outside added to the end bins, Q
    the histogram inside merged into as many runs as there are codes and spread again over the bins of each
    run that are not empty; the clip with the least sum P*log(P/Q) is taken. Bins at 0 take their neighbours'
    counts, since exact zeros are always represented. Migacz, "8-bit inference with TensorRT", GTC 2017.
    """

    def _range(self) -> tuple[Tensor, Tensor]:
        positive, negative = self.counts.double()
        symmetric = self.scheme.symmetric
        sides = [positive + negative] if symmetric else [negative.flip(0), positive]
        origin = 0 if symmetric else BINS
        histogram = torch.cat(sides)
        if symmetric:
            histogram[0] = histogram[1]
            codes = self.scheme.qmax + 1
        else:
            histogram[BINS] = histogram[BINS + 1]
            histogram[BINS - 1] = histogram[BINS - 2]
            codes = self.scheme.qmax - self.scheme.qmin + 1
        used = torch.nonzero(histogram)
        if len(used) == 0:
            return self.low.clone(), self.high.clone()
        first, last = min(int(used[0]), origin), max(int(used[-1]) + 1, origin)
        best = (float("inf"), 1.0)
        for step in range(128, 0, -1):
            start = origin - round((origin - first) * step / 128)
            stop = origin + round((last - origin) * step / 128)
            if stop - start >= codes:
                best = min(best, (_divergence(histogram, start, stop, codes), -step / 128))
        fraction = abs(best[1])
        bound = torch.maximum(-self.low, self.high)
        low, high = (-bound, bound) if symmetric else (self.low.clamp(max=0.0), self.high.clamp(min=0.0))
        return low * fraction, high * fraction


def _divergence(histogram: Tensor, start: int, stop: int, codes: int) -> float:
    inside = histogram[start:stop]
    p = inside.clone()
    p[0] += histogram[:start].sum()
    p[-1] += histogram[stop:].sum()
    run = torch.arange(len(inside), device=inside.device) * codes // len(inside)
    filled = (inside > 0).double()
    per_run = torch.bincount(run, weights=inside, minlength=codes)
    filled_per_run = torch.bincount(run, weights=filled, minlength=codes)
    q = (per_run / filled_per_run.clamp(min=1.0))[run] * filled
    present = p > 0
    # An end bin that only outliers fill has no mass in Q: the smallest count keeps the divergence finite.
    p, q = p[present] / p.sum(), q[present].clamp(min=1e-3) / q.sum().clamp(min=1e-3)
    return float((p * torch.log(p / q)).sum())
