"""One tensor of gradients as a scale and packed codes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ... import ops
from ...errors import PtqxError, unknown_name
from ...quant import Scheme, qparams_from_range
from ...quant.levels import stochastic_codes

BITS = (8, 4, 1)
ROUNDINGS = ("nearest", "stochastic")


@dataclass(frozen=True)
class GradientFormat:
    """How a tensor of n gradients g is written in `bits` bits each and one float32 scale s.

    8 and 4 bits: codes round(g / s) in -q..q, q = 2**(bits - 1) - 1 and s = max|g| / q; two codes a byte at 4
    bits. Rounding is half to even or stochastic, floor(g / s + u) with u uniform in [0, 1), whose mean is
    g / s: QSGD (Alistarh et al., NeurIPS 2017) scaled by the largest value.

    1 bit: the sign, eight a byte, and s = mean|g|: 1-bit SGD (Seide et al., Interspeech 2014) with the scale
    of EF-SGD (Karimireddy et al., ICML 2019). A gradient of 0 counts as positive.

    Attributes:
        bits: 8, 4 or 1.
        rounding: "nearest" or "stochastic"; signs have no other than "nearest".

    Raises:
        PtqxError: another width, another rounding, or 1 bit with stochastic rounding.

    >>> GradientFormat(1).packed_bytes(61_706)
    7714
    >>> gradient = torch.tensor([0.6, -0.1, 1.0])
    >>> scale, packed = GradientFormat(4).encode(gradient)
    >>> GradientFormat(4).decode(scale, packed, 3)
    tensor([ 0.5714, -0.1429,  1.0000])
    """

    bits: int = 8
    rounding: str = "nearest"

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise PtqxError(f"bits of gradients must be 8, 4 or 1, got {self.bits}")
        if self.rounding not in ROUNDINGS:
            raise unknown_name("rounding of gradients", self.rounding, ROUNDINGS)
        if self.bits == 1 and self.rounding == "stochastic":
            raise PtqxError("gradients of 1 bit are signs: their rounding must be nearest, got stochastic")

    @property
    def error_feedback(self) -> bool:
        """Whether what a step loses is added to the next one: stochastic rounding is right on average."""
        return self.rounding == "nearest"

    def packed_bytes(self, count: int) -> int:
        """Bytes of `count` codes, without the scale's four."""
        return math.ceil(count * self.bits / 8)

    def encode(self, gradient: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scale, float32 [1], and codes, uint8 [packed_bytes(n)], of a float32 [n].

        A gradient that is not finite gives the scale NaN.

        Args:
            noise: uniform in [0, 1), of the gradient's shape; of stochastic rounding.
        """
        if self.bits == 1:
            return self._encode_signs(gradient)
        largest = gradient.abs().max().reshape(1)
        if not largest.isfinite():
            return self._not_finite(gradient)
        scale, zero_point = qparams_from_range(-largest, largest, self._scheme)
        qmin, qmax = self._scheme.qmin, self._scheme.qmax
        if noise is None:
            codes = ops.quantize(gradient, scale, zero_point, qmin, qmax)
        else:
            codes = stochastic_codes(gradient, scale, zero_point, self._scheme, noise).to(torch.int8)
        return scale, codes.view(torch.uint8) if self.bits == 8 else ops.pack_codes(codes[None], self.bits)[0]

    def decode(self, scale: Tensor, packed: Tensor, count: int) -> Tensor:
        """The float32 [count] that scale and codes stand for."""
        if self.bits == 1:
            negative = ops.unpack_codes(packed[None], 1, [1, count])[0]
            return torch.where(negative.bool(), -scale, scale)
        codes = (
            packed.view(torch.int8)
            if self.bits == 8
            else ops.unpack_codes(packed[None], self.bits, [1, count])[0]
        )
        return codes * scale

    @cached_property
    def _scheme(self) -> Scheme:
        return Scheme(bits=self.bits, rounding=self.rounding, narrow=True)

    def _encode_signs(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        # Summed in chunks of fixed size: the same bits on any number of threads.
        total, _, not_finite = ops.moments(gradient.abs())
        if not_finite:
            return self._not_finite(gradient)
        scale = (total / gradient.numel()).float().reshape(1)
        return scale, ops.pack_codes(-(gradient < 0).to(torch.int8)[None], 1)[0]

    def _not_finite(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        return torch.full((1,), math.nan), torch.zeros(self.packed_bytes(gradient.numel()), dtype=torch.uint8)
