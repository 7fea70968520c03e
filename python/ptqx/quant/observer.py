"""The observer interface, and the observers whose state is a range or moments."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from fractions import Fraction
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import PtqxError
from .affine import check_finite, split_rows
from .registry import OBSERVERS, register_observer
from .scheme import Scheme


class Observer(nn.Module, ABC):
    """Finds the range [low, high] that a tensor's codes should cover.

    In two ways. Streaming, for activations, one range per tensor: `update` with any number of batches, then
    `range`. The state lives in buffers of fixed shape; how the values were split into batches, or over ranks,
    makes no difference to a single bit of the result (except "moving_average", by its definition). Whole,
    for weights: `range_of_rows` looks at all values that share a scale at once.

    A new observer is one subclass: name its buffers, say how each merges in `_merge`, and decorate it with
    `@register_observer("name")`. Keyword arguments of its __init__ become `Scheme.observer_args`.
    """

    name: str  # set by register_observer
    count: Tensor  # int64 [1]: values seen

    def __init__(self, scheme: Scheme) -> None:
        super().__init__()
        self.scheme = scheme
        self.register_buffer("count", torch.zeros(1, dtype=torch.int64))

    def update(self, x: Tensor, name: str = "input") -> None:
        """Take a batch of any shape into the statistics; `name` is what an error message calls it.

        Raises:
            PtqxError: NaN or infinite values, with their count; nothing has been taken in then.
        """
        check_finite(x, name)
        if x.numel():
            self._update(x.detach().float().reshape(-1))
            self.count += x.numel()

    def range(self) -> tuple[Tensor, Tensor]:
        """Low and high, float32 [1] each.

        Raises:
            PtqxError: nothing was observed.
        """
        if int(self.count) == 0:
            raise PtqxError("nothing was observed: give at least one non-empty batch for calibration")
        return self._range()

    def range_of_rows(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Low and high, float32 [rows], of each row of a finite float32 [rows, n], n >= 1, seen at once."""
        ranges = []
        for row in rows:
            observer = make_observer(self.scheme).to(rows.device)
            observer.update(row)
            ranges.append(observer.range())
        return torch.cat([low for low, _ in ranges]), torch.cat([high for _, high in ranges])

    def merge(self, other: Observer) -> None:
        """Take in what `other`, an observer of the same kind and scheme, has seen."""
        if type(other) is not type(self) or other.scheme != self.scheme:
            raise PtqxError(f"an observer merges with its own kind and scheme, got {type(other).__name__}")
        if int(other.count):
            self._merge(other)
            self.count += other.count

    def sync(self, process_group: Any = None) -> None:
        """Merge over all ranks, in rank order; afterwards every rank holds the state of all.

        Call it once, after calibration: a second call would count everything again.
        """
        ranks = dist.get_world_size(process_group)
        gathered = {}
        for key, value in self.state_dict().items():
            gathered[key] = [torch.empty_like(value) for _ in range(ranks)]
            dist.all_gather(gathered[key], value, group=process_group)
        self.reset()
        for rank in range(ranks):
            peer = self._fresh()
            peer.load_state_dict({key: values[rank] for key, values in gathered.items()})
            self.merge(peer)

    def reset(self) -> None:
        """Forget everything."""
        self.load_state_dict(self._fresh().state_dict())

    def _fresh(self) -> Observer:
        return make_observer(self.scheme).to(self.count.device)

    @abstractmethod
    def _update(self, x: Tensor) -> None: ...

    @abstractmethod
    def _range(self) -> tuple[Tensor, Tensor]: ...

    @abstractmethod
    def _merge(self, other: Any) -> None: ...


def make_observer(scheme: Scheme) -> Observer:
    """The scheme's observer, fresh."""
    observer: Observer = OBSERVERS[scheme.observer](scheme, **dict(scheme.observer_args))
    return observer


def observe_whole(x: Tensor, scheme: Scheme, name: str = "input") -> tuple[Tensor, Tensor]:
    """Low and high of a whole tensor, one pair per scale: float32 [1], [channels], [channels, groups] or [N].

    Raises:
        PtqxError: NaN or infinite values, with their count.

    >>> low, high = observe_whole(torch.tensor([[1.0, -2.0], [0.5, 3.0]]), Scheme(granularity="channel"))
    >>> low.tolist(), high.tolist()
    ([-2.0, 0.5], [1.0, 3.0])
    """
    check_finite(x, name)
    observer = make_observer(scheme).to(x.device)
    ranges = []
    for rows in split_rows(x.detach().float(), scheme):
        empty = rows.new_zeros(rows.shape[0])
        ranges.append(observer.range_of_rows(rows) if rows.numel() else (empty, empty))
    if scheme.granularity != "group":
        return ranges[0]
    return torch.stack([low for low, _ in ranges], dim=1), torch.stack([high for _, high in ranges], dim=1)


@register_observer("minmax")
class MinMax(Observer):
    """The smallest and the largest value: low = min(x), high = max(x)."""

    low: Tensor
    high: Tensor

    def __init__(self, scheme: Scheme) -> None:
        super().__init__(scheme)
        self.register_buffer("low", torch.full((1,), math.inf))
        self.register_buffer("high", torch.full((1,), -math.inf))

    def range_of_rows(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        low, high = torch.aminmax(rows, dim=1)
        return low, high

    def _update(self, x: Tensor) -> None:
        self._widen(*torch.aminmax(x))

    def _range(self) -> tuple[Tensor, Tensor]:
        return self.low.clone(), self.high.clone()

    def _merge(self, other: MinMax) -> None:
        self._widen(other.low, other.high)

    def _widen(self, low: Tensor, high: Tensor) -> None:
        self.low.copy_(torch.minimum(self.low, low))
        self.high.copy_(torch.maximum(self.high, high))


@register_observer("moving_average")
class MovingAverageMinMax(Observer):
    """An exponential moving average of each batch's smallest and largest value.

    The first batch sets the range; then low += momentum * (min(x) - low), and high likewise. So the result
    depends, by definition, on how the values come in batches and in which order. Merging takes the mean
    weighted by the numbers of batches. On a whole tensor it is min-max.
    """

    low: Tensor
    high: Tensor
    batches: Tensor

    def __init__(self, scheme: Scheme, momentum: float = 0.1) -> None:
        super().__init__(scheme)
        if not 0.0 < momentum <= 1.0:
            raise PtqxError(f"momentum: expected a number in (0, 1], got {momentum}")
        self.momentum = momentum
        self.register_buffer("low", torch.zeros(1))
        self.register_buffer("high", torch.zeros(1))
        self.register_buffer("batches", torch.zeros(1, dtype=torch.int64))

    def range_of_rows(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        low, high = torch.aminmax(rows, dim=1)
        return low, high

    def _update(self, x: Tensor) -> None:
        low, high = torch.aminmax(x)
        share = self.momentum if int(self.batches) else 1.0
        self.low.lerp_(low, share)
        self.high.lerp_(high, share)
        self.batches += 1

    def _range(self) -> tuple[Tensor, Tensor]:
        return self.low.clone(), self.high.clone()

    def _merge(self, other: MovingAverageMinMax) -> None:
        self.batches += other.batches
        share = float(other.batches) / float(self.batches)
        self.low.lerp_(other.low, share)
        self.high.lerp_(other.high, share)


_EXPONENTS = 288  # of float32, subnormals included: -148 .. 128, shifted by _OFFSET to be an index
_OFFSET = 150


@register_observer("ksigma")
class KSigma(MinMax):
    """k standard deviations (population): [-k*std, k*std], or [mean - k*std, mean + k*std] if asymmetric.

    The symmetric range is the "3-sigma scaling" scale = 3 * std / qmax, wider than the data where k*std is.
    The asymmetric range is cut to the data's own [min, max]. The moments are exact: mantissas of x and x**2
    are summed as integers, one sum per binary exponent, so no order of addition changes the result.
    """

    sums: Tensor  # int64 [3, exponents]: of mantissas m, and of the high and low 24 bits of m**2

    def __init__(self, scheme: Scheme, k: float = 3.0) -> None:
        super().__init__(scheme)
        if not (k > 0.0 and math.isfinite(k)):
            raise PtqxError(f"k: expected a positive number, got {k}")
        self.k = k
        self.register_buffer("sums", torch.zeros(3, _EXPONENTS, dtype=torch.int64))

    def range_of_rows(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        reach = self.k * rows.double().std(dim=1, correction=0)
        if self.scheme.symmetric:
            return -reach.float(), reach.float()
        mean = rows.double().mean(dim=1)
        low, high = torch.aminmax(rows, dim=1)
        return torch.maximum(low, (mean - reach).float()), torch.minimum(high, (mean + reach).float())

    def _update(self, x: Tensor) -> None:
        super()._update(x)
        for part in x.split(2**26):  # float64 sums of 24-bit integers are exact up to 2**29 of them
            mantissa, exponent = torch.frexp(part)
            m = mantissa.double() * 2**24
            square = m * m
            square_high = torch.floor(square * 2.0**-24)
            index = exponent.long() + _OFFSET
            for total, terms in zip(self.sums, (m, square_high, square - square_high * 2**24), strict=True):
                total += torch.bincount(index, weights=terms, minlength=_EXPONENTS).long()

    def _merge(self, other: Any) -> None:
        super()._merge(other)
        self.sums += other.sums

    def moments(self) -> tuple[float, float]:
        """Mean and population standard deviation of all values seen, correctly rounded from exact sums."""
        m, square_high, square_low = self.sums.tolist()
        unit = Fraction(1, 2 ** (24 + _OFFSET))  # a mantissa of index i stands for m * 2**i of these
        total = unit * sum(value << i for i, value in enumerate(m))
        squares = ((high << 24) + low for high, low in zip(square_high, square_low, strict=True))
        total_of_squares = unit**2 * sum(value << (2 * i) for i, value in enumerate(squares))
        n = int(self.count)
        mean = total / n
        return float(mean), math.sqrt(total_of_squares / n - mean**2)

    def _range(self) -> tuple[Tensor, Tensor]:
        mean, std = self.moments()
        reach = torch.full_like(self.low, min(self.k * std, torch.finfo(torch.float32).max))
        if self.scheme.symmetric:
            return -reach, reach
        return torch.maximum(self.low, mean - reach), torch.minimum(self.high, mean + reach)
