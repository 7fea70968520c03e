"""Requantization without floats: whole multipliers and an arithmetic shift that rounds half to even.

With v_i the exact sums (accumulators, centered codes) and m_i the real factors that bring them to units of
the output scale, the result is clamp(round(sum(v_i * M_i) / 2**n) + zero_point, qmin, qmax), where M_i / 2**n
stands for m_i and everything is a whole number of 64 bits. Jacob et al., "Quantization and Training of Neural
Networks", CVPR 2018, section 2.2, with one rounding, half to even.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import PtqxError
from .formulas import QParams

MULTIPLIER_BITS = 31
MAX_SHIFT = 62


class Requantizer(NamedTuple):
    """What brings sums to codes.

    multipliers: int64 [terms, channels or 1]. shift: int64 [channels or 1], 0 to 62. low, high: bounds of the
    codes, those of the activation among them.
    """

    multipliers: Tensor
    shift: Tensor
    zero_point: Tensor | int
    low: int
    high: int

    def codes(self, terms: list[Tensor], channels: tuple[int, ...] = (-1,)) -> Tensor:
        """int64 codes of int64 terms that broadcast; `channels` is the shape in which the channels do."""
        products = [term * m.reshape(channels) for term, m in zip(terms, self.multipliers, strict=True)]
        total = products[0] if len(products) == 1 else products[0] + products[1]
        rounded = shift_half_to_even(total, self.shift.reshape(channels))
        return (rounded + self.zero_point).clamp(self.low, self.high)


def shift_half_to_even(x: Tensor, places: Tensor) -> Tensor:
    """round(x / 2**places), half to even, of int64 and places 0 to 62, by shifts alone.

    >>> shift_half_to_even(torch.tensor([1, 2, 3, 6, -2, -6, -7]), torch.tensor(2))
    tensor([ 0,  0,  1,  2,  0, -2, -2])
    """
    floor = x >> places
    rest = x - (floor << places)
    twice = rest << 1  # rest < 2**62
    unit = torch.ones_like(places) << places
    up = (twice > unit) | ((twice == unit) & ((floor & 1) == 1))
    return floor + up.long()


def requantizer(
    factors: list[Tensor], out: QParams, mode: str, tail: tuple[str, list[Tensor]], name: str
) -> Requantizer:
    """Whole numbers for the real factors, float64 [channels or 1] each.

    "multiplier": the largest of a channel's factors gets 31 bits, 30 where there are two terms. "shift":
    every factor is a power of two and so is its multiplier, 1 for the smallest.

    Raises:
        PtqxError: an activation that is no clamp; a factor that is no power of two ("shift") or too large.
    """
    low, high = _bounds(out, tail, name)
    stacked = torch.stack([f.double().expand(max(len(g) for g in factors)) for f in factors])
    mantissa, exponent = torch.frexp(stacked)
    exponent = exponent.long()
    if mode == "shift":
        if bool((mantissa != 0.5).any()):
            raise PtqxError(f"{name}: requantize='shift' needs scales that are powers of two")
        shift = (1 - exponent).amax(0).clamp(min=0)
    else:
        bits = MULTIPLIER_BITS - (len(factors) - 1)
        shift = bits - exponent.amax(0)
    if bool((shift < 0).any()):
        raise PtqxError(f"{name}: the scales of input and weights are too large beside that of the output")
    shift = shift.clamp(max=MAX_SHIFT)
    multipliers = torch.round(torch.ldexp(stacked, shift)).long().clamp(max=2**MULTIPLIER_BITS - 1)
    return Requantizer(multipliers, shift, int(out.zero_point), low, high)


def _bounds(out: QParams, tail: tuple[str, list[Tensor]], name: str) -> tuple[int, int]:
    kind, args = tail
    if kind not in ("none", "clip"):
        raise PtqxError(
            f"{name}: without floats an activation is a clamp, not {kind}; use requantize='float'"
        )
    low, high = out.qmin, out.qmax
    if kind == "clip":
        low = max(low, _rounded(args[0]) + int(out.zero_point))
        high = min(high, _rounded(args[1]) + int(out.zero_point))
    return low, max(low, high)


def _rounded(bound: Tensor) -> int:
    value = float(bound)
    return round(value) if math.isfinite(value) else int(math.copysign(2**31, value))


def stored(fixed: Requantizer) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Attributes and tensors of a step in the integer graph."""
    tensors = {"multiplier": fixed.multipliers.int(), "shift": fixed.shift.int()}
    return {"low": fixed.low, "high": fixed.high}, tensors
