"""A streaming histogram of fixed size whose counts don't depend on how the values came."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .observer import Observer
from .scheme import Scheme

BINS = 4096  # per sign
_MIN_EXPONENT = -126  # of the bin width; its inverse is still a float32


class HistogramObserver(Observer):
    """Base of observers that read a histogram of |x|, one for each sign.

    Bin i counts the values with floor(|x| / width) = i, width a power of two. When a value does not fit, the
    width doubles and neighbouring bins are added, which gives the very counts that the wider bins would have
    had from the start. So the final state depends on the values alone, not on their order, batches or ranks:
    the width is the smallest that fits the largest |x|, and half of the 4096 bins or more reach up to it.
    """

    low: Tensor
    high: Tensor
    counts: Tensor  # int64 [2, BINS]: x >= 0, x < 0
    exponent: Tensor  # int64 [1]: width = 2**exponent

    def __init__(self, scheme: Scheme) -> None:
        super().__init__(scheme)
        self.register_buffer("low", torch.full((1,), math.inf))
        self.register_buffer("high", torch.full((1,), -math.inf))
        self.register_buffer("counts", torch.zeros(2, BINS, dtype=torch.int64))
        self.register_buffer("exponent", torch.full((1,), _MIN_EXPONENT))

    @property
    def width(self) -> float:
        """Width of a bin, in the unit of x."""
        return 2.0 ** int(self.exponent)

    def signed_histogram(self) -> tuple[Tensor, Tensor]:
        """(values, counts), float64, ascending, of the bins that are not empty.

        A value is its bin's middle, but 0 for the first bin on either side, where exact zeros are.
        """
        middles = (torch.arange(BINS, dtype=torch.float64, device=self.counts.device) + 0.5) * self.width
        middles[0] = 0.0
        values = torch.cat([-middles.flip(0), middles])
        counts = torch.cat([self.counts[1].flip(0), self.counts[0]])
        used = counts > 0
        return values[used], counts[used].double()

    def _update(self, x: Tensor) -> None:
        low, high = torch.aminmax(x)
        self._widen(low, high)
        self._coarsen(_exponent_for(max(-float(low), float(high))))
        # Scaling by a power of two and truncation are exact; of |x|, so that underflow can't cross a bin.
        index = (x.abs() * 2.0 ** -int(self.exponent)).int()
        index += (x < 0).int() * BINS
        self.counts += torch.bincount(index, minlength=2 * BINS).view(2, BINS)

    def _merge(self, other: Any) -> None:
        self._widen(other.low, other.high)
        exponent = max(int(self.exponent), int(other.exponent))
        self._coarsen(exponent)
        self.counts += _coarsened(other.counts, exponent - int(other.exponent))

    def _widen(self, low: Tensor, high: Tensor) -> None:
        self.low.copy_(torch.minimum(self.low, low))
        self.high.copy_(torch.maximum(self.high, high))

    def _coarsen(self, exponent: int) -> None:
        doublings = exponent - int(self.exponent)
        if doublings > 0:
            self.counts.copy_(_coarsened(self.counts, doublings))
            self.exponent.fill_(exponent)


def _exponent_for(bound: float) -> int:
    """The smallest exponent with bound < BINS * 2**exponent."""
    _, exponent = math.frexp(bound)
    return max(exponent - (BINS.bit_length() - 1), _MIN_EXPONENT) if bound else _MIN_EXPONENT


def _coarsened(counts: Tensor, doublings: int) -> Tensor:
    merged = min(1 << min(doublings, BINS.bit_length()), BINS)
    sums = counts.view(2, BINS // merged, merged).sum(dim=2)
    return torch.nn.functional.pad(sums, (0, BINS - sums.shape[1]))
