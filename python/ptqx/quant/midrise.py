"""The four levels of symmetric 2-bit weights: {-2, -1, 0, 1} or, without a 0, {-3, -1, 1, 3} halves."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from .affine import codes_f32, dequantize_codes, expand_to, midrise_offset, qparams_from_range
from .observer import observe_whole
from .scheme import Scheme


class ObservedLevels(NamedTuple):
    """low and high as `observe_whole` gives them; midrise, uint8 [1] or [channels], None where there is no
    such choice."""

    low: Tensor
    high: Tensor
    midrise: Tensor | None


def observe_levels(x: Tensor, scheme: Scheme, name: str = "input") -> ObservedLevels:
    """The range of a whole weight and, for four levels, which ones: those with the lesser squared error.

    The error is summed in float64 over everything of an output channel; equal errors keep the levels with 0.

    >>> weights = torch.tensor([[0.9, -1.1, 1.0, -1.0], [0.0, 0.0, 1.0, -2.0]])
    >>> observe_levels(weights, Scheme(bits=2, granularity="channel", observer="mse")).midrise
    tensor([1, 0], dtype=torch.uint8)
    """
    if not scheme.chooses_levels:
        return ObservedLevels(*observe_whole(x, scheme, name), None)
    choices = (False, True) if scheme.midrise is None else (scheme.midrise,)
    schemes = [replace(scheme, midrise=choice) for choice in choices]
    ranges = [observe_whole(x, candidate, name) for candidate in schemes]
    shape = ranges[0][0].shape[:1]
    if scheme.midrise is not None:
        midrise = torch.full(shape, int(scheme.midrise), dtype=torch.uint8, device=x.device)
        return ObservedLevels(*ranges[0], midrise)
    errors = [_squared_error(x, *ends, s) for ends, s in zip(ranges, schemes, strict=True)]
    better = errors[1] < errors[0]
    column = better.reshape(-1, *[1] * (ranges[0][0].dim() - 1))
    low, high = (torch.where(column, mid, full) for full, mid in zip(*ranges, strict=True))
    return ObservedLevels(low, high, better.to(torch.uint8))


def qparams_of_levels(observed: ObservedLevels, scheme: Scheme) -> tuple[Tensor, Tensor]:
    """Scale and zero point as `qparams_from_range` gives them, every channel with its own levels."""
    low, high, midrise = observed
    if midrise is None:
        return qparams_from_range(low, high, scheme)
    full, mid = (qparams_from_range(low, high, replace(scheme, midrise=m))[0] for m in (False, True))
    column = midrise.reshape(-1, *[1] * (low.dim() - 1))
    scale = torch.where(column.bool(), mid, full)
    return scale, torch.zeros_like(scale, dtype=torch.int32)


def level_offset(scale: Tensor, midrise: Tensor | None, x: Tensor, scheme: Scheme) -> Tensor | float:
    """The real value of code 0, made to broadcast with x: scale / 2 where midrise is 1, else 0."""
    if midrise is None:
        return 0.0
    column = midrise.reshape(-1, *[1] * (scale.dim() - 1))
    return expand_to(midrise_offset(scale, column), x, scheme)


def _squared_error(x: Tensor, low: Tensor, high: Tensor, scheme: Scheme) -> Tensor:
    """Summed over everything of an output channel, or over all: float64 [channels] or [1]."""
    scale, zero_point = (expand_to(p, x, scheme) for p in qparams_from_range(low, high, scheme))
    shifted = x.detach().float() - midrise_offset(scale, int(bool(scheme.midrise)))
    codes = codes_f32(shifted, scale, zero_point, scheme.qmin, scheme.qmax)
    squared = (dequantize_codes(codes, scale, zero_point).double() - shifted.double()).square()
    return squared.sum().reshape(1) if scheme.granularity == "tensor" else squared.flatten(1).sum(1)
