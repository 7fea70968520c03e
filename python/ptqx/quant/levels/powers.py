"""Powers of two and their sums: levels whose products are shifts and additions."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from ..registry import register_levels
from .codebook import Codebook


@register_levels("pow2")
class PowersOfTwo(Codebook):
    """Logarithmic levels: real = scale * {0, ±1, ±2, ±4, ..., ±2**(2**(bits - 1) - 2)}.

    Between the smallest and the largest level the relative error is at most 1/3. 3 bits have ±4, 4 bits
    ±64 as their largest; 5 bits would need ±2**14, beyond a whole number of 8 bits.
    Miyashita, Lee, Murmann, "Convolutional Neural Networks using Logarithmic Data Representation", 2016;
    Zhou et al., "Incremental Network Quantization", ICLR 2017 (nearest level).

    >>> PowersOfTwo().table(3)
    tensor([-4., -4., -2., -1.,  0.,  1.,  2.,  4.])
    """

    allowed_bits = range(3, 5)

    def table(self, bits: int) -> Tensor:
        return _both_signs([0, *(2**exponent for exponent in range(2 ** (bits - 1) - 1))])


# The terms of a magnitude: one is chosen from each set. In units of the smallest power.
APOT_TERMS: dict[int, list[tuple[int, ...]]] = {
    3: [(0, 4, 2, 1)],
    4: [(0, 8, 4, 1), (0, 2)],
    5: [(0, 32, 8, 2), (0, 16, 4, 1)],
    6: [(0, 64, 16, 2), (0, 32, 8, 1), (0, 4)],
}


@register_levels("apot")
class AdditivePowersOfTwo(Codebook):
    """Sums of powers of two: real = scale * ±(p_1 + ... + p_n), each p from a set of its own.

    The sets are interleaved, so that the levels are dense near 0 and, unlike single powers of two, not sparse
    near the largest. 4 bits: {0, 8, 4, 1} + {0, 2}, that is 0, 1, 2, 3, 4, 6, 8, 10 with both signs.
    Li, Dong, Wang, "Additive Powers-of-Two Quantization", ICLR 2020, equation 5 with its base bits k = 2. The
    paper's weight normalization is left to batch norm and the scale.

    >>> AdditivePowersOfTwo().table(4)[8:]
    tensor([ 0.,  1.,  2.,  3.,  4.,  6.,  8., 10.])
    """

    allowed_bits = range(3, 7)

    def table(self, bits: int) -> Tensor:
        return _both_signs([sum(terms) for terms in itertools.product(*APOT_TERMS[bits])])


def _both_signs(magnitudes: list[int]) -> Tensor:
    """Ascending, the smallest level twice: the most negative code has none of its own to stand for."""
    ascending = sorted(magnitudes)
    levels = [-m for m in reversed(ascending[1:])] + ascending
    return torch.tensor([levels[0], *levels], dtype=torch.float32)
