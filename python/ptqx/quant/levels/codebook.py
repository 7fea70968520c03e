"""Levels that are listed: a code is an index into a table, real = scale * table[code]."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from ...errors import PtqxError
from ..affine import MIN_SCALE, check_finite, expand_to, split_rows
from ..observer import observe_whole
from ..scheme import Scheme
from .base import Levels, Parameters

SCALE_CANDIDATES = 64  # of observer "mse": the largest value times 1/64, 2/64, ... 1


class Codebook(Levels):
    """real = scale * levels[code + 2**(bits - 1)], the levels in ascending order.

    Parameters: "scale" float32 > 0 (see Scheme), "levels" float32 [1 or channels, 2**bits]. A value takes
    the nearest level; halfway, the one nearer to 0. A level may be there twice where there are not 2**bits.

    The scale of a new subclass with a fixed `table` is what the observer says: the largest level stands for
    the largest of |low| and |high|; observer "mse" takes the scale with the least squared error.
    """

    granularities: tuple[str, ...] = ("tensor", "channel", "group")
    learned_by = "learned_scale"

    @classmethod
    def check(cls, scheme: Scheme) -> None:
        if not scheme.signed or not scheme.symmetric:
            raise PtqxError(f"levels {cls.name!r} need signed=True, symmetric=True: they have both signs")
        if scheme.narrow is not None:
            raise PtqxError(f"levels {cls.name!r} are a list: narrow must be None, got {scheme.narrow}")
        if scheme.rounding != "nearest":
            raise PtqxError(
                f"levels {cls.name!r} round to the nearest; rounding='stochastic' needs levels='uniform'"
            )

    @abstractmethod
    def table(self, bits: int) -> Tensor:
        """The levels in units of scale, float32 [2**bits], ascending."""

    def blank(self, shape: tuple[int, ...], scheme: Scheme) -> Parameters:
        return {"scale": torch.ones(shape), "levels": self.table(scheme.bits)[None]}

    def fit(self, x: Tensor, scheme: Scheme, name: str = "input") -> Parameters:
        levels = self.table(scheme.bits).to(x.device)
        if scheme.observer == "mse":
            check_finite(x, name)
            return {"scale": _least_squares_scale(x, levels, scheme), "levels": levels[None]}
        low, high = observe_whole(x, scheme, name)
        return {"scale": positive_scale(torch.maximum(-low, high) / levels[-1]), "levels": levels[None]}

    def codes(self, x: Tensor, parameters: Parameters, scheme: Scheme) -> Tensor:
        steps = x.float() / expand_to(parameters["scale"], x, scheme)
        return nearest(steps, parameters["levels"][0]) - 2 ** (scheme.bits - 1)

    def values(self, codes: Tensor, parameters: Parameters, scheme: Scheme) -> Tensor:
        levels = level_of(codes, parameters["levels"])
        return levels * expand_to(parameters["scale"], codes, scheme)


def nearest(steps: Tensor, levels: Tensor) -> Tensor:
    """Index of the level next to each value, as float32; halfway, of the one nearer to 0.

    >>> nearest(torch.tensor([-9.0, -1.5, 0.4, 1.5, 1.6]), torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]))
    tensor([0., 1., 2., 3., 4.])
    """
    middles = (levels[1:] + levels[:-1]) / 2
    steps = steps.clamp(levels[0], levels[-1]).contiguous()
    up, down = (torch.bucketize(steps, middles, right=right) for right in (True, False))
    return torch.where(steps < 0, up, down).float()


def level_of(codes: Tensor, levels: Tensor) -> Tensor:
    """levels[code + 2**(bits - 1)], of the code's output channel where every channel has its own.

    >>> level_of(torch.tensor([[-2, 1], [0, 1]]), torch.tensor([[-2.0, -1.0, 0.0, 4.0]]))
    tensor([[-2.,  4.],
            [ 0.,  4.]])
    """
    index = codes.long() + levels.shape[1] // 2
    if len(levels) == 1:
        return levels[0][index]
    return levels.gather(1, index.flatten(1)).reshape(codes.shape)


def positive_scale(scale: Tensor) -> Tensor:
    """scale >= 2**-64; 1 where it is 0, because all values are."""
    return torch.where(scale == 0, torch.ones_like(scale), scale.clamp(min=MIN_SCALE))


def shared_mean(x: Tensor, scheme: Scheme, weight: Tensor | None = None) -> Tensor:
    """The mean of the values that share a scale, weighted if asked; float32, 0 where there are none."""
    means = []
    weights = torch.ones_like(x) if weight is None else weight.to(x.dtype)
    for rows, counts in zip(split_rows(x, scheme), split_rows(weights, scheme), strict=True):
        total = counts.double().sum(1)
        means.append((rows.double() * counts).sum(1) / torch.where(total == 0, 1.0, total))
    return (means[0] if scheme.granularity != "group" else torch.stack(means, dim=1)).float()


def _least_squares_scale(x: Tensor, levels: Tensor, scheme: Scheme) -> Tensor:
    scales = []
    for rows in split_rows(x.detach().float(), scheme):
        largest = rows.abs().amax(1) / levels[-1] if rows.numel() else rows.new_zeros(len(rows))
        best, least = largest, torch.full_like(largest, torch.inf, dtype=torch.float64)
        for step in range(SCALE_CANDIDATES, 0, -1):
            scale = positive_scale(largest * (step / SCALE_CANDIDATES))
            quantized = levels[nearest(rows / scale[:, None], levels).long()] * scale[:, None]
            error = (quantized.double() - rows).square().sum(1)
            best = torch.where(error < least, scale, best)
            least = torch.minimum(error, least)
        scales.append(positive_scale(best))
    return scales[0] if scheme.granularity != "group" else torch.stack(scales, dim=1)
