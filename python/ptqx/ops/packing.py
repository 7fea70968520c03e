"""Codes of fewer than 8 bits without gaps, as files and layers hold them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .compiled import operators


def pack_codes(input: torch.Tensor, bits: int) -> torch.Tensor:
    """int8 codes of 1 to 7 bits, [rows, ...], as uint8 [rows, ceil(K * bits / 8)], without gaps; K is the
    product of the other sizes.

    Code i lies in bits [i * bits, (i + 1) * bits) of its row, the lowest bit of the first byte being bit 0.

    >>> pack_codes(torch.tensor([[1, -1, -2, 0, 1]], dtype=torch.int8), 2)
    tensor([[45,  1]], dtype=torch.uint8)
    >>> pack_codes(torch.tensor([[3, -4, 1]], dtype=torch.int8), 3)
    tensor([[99,  0]], dtype=torch.uint8)
    """
    return operators.pack_codes(input, bits)


def unpack_codes(packed: torch.Tensor, bits: int, sizes: Sequence[int]) -> torch.Tensor:
    """The int8 codes of shape `sizes` that `pack_codes` packed.

    >>> unpack_codes(torch.tensor([[45, 1]], dtype=torch.uint8), 2, [1, 5])
    tensor([[ 1, -1, -2,  0,  1]], dtype=torch.int8)
    """
    return operators.unpack_codes(packed, bits, sizes)


def pack_int4(input: torch.Tensor) -> torch.Tensor:
    """int8 codes in -8..7, [rows, ...], as uint8 [rows, ceil(K / 2)]; K is the product of the other sizes.

    The code with the even index lies in the low half of its byte.

    >>> pack_int4(torch.tensor([[1, -1, 7]], dtype=torch.int8))
    tensor([[241,   7]], dtype=torch.uint8)
    """
    return operators.pack_int4(input)


def unpack_int4(packed: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    """The int8 codes of shape `sizes` that `pack_int4` packed.

    >>> unpack_int4(torch.tensor([[241, 7]], dtype=torch.uint8), [1, 3])
    tensor([[ 1, -1,  7]], dtype=torch.int8)
    """
    return operators.unpack_int4(packed, sizes)
