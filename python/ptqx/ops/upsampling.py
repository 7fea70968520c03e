"""Interpolation of codes and real values."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .compiled import operators


def upsample_bilinear2d(
    input: torch.Tensor, zero_point: torch.Tensor | None, size: Sequence[int], align_corners: bool = False
) -> torch.Tensor:
    """`torch.nn.functional.interpolate(mode="bilinear")`, of codes, which keep their scale, or of real
    values.

    An output row o of `out` lies in the input's `in` rows at `max((o + 0.5) * in / out - 0.5, 0)`, with
    `align_corners` at `o * (in - 1) / (out - 1)`, in float64, and so do columns. Between rows 0 and 1 and
    columns 0 and 1 around it, whose weights w1 = float32(place - floor(place)) and w0 = 1 - w1,

    `v = (q00 * wx0 + q01 * wx1) * wy0 + (q10 * wx0 + q11 * wx1) * wy1`

    in float32, every operation rounded; q are real values, or codes minus `zero_point`. The result is v, or
    the code `clamp(round(v) + zero_point)`.

    Args:
        input: codes, uint8 or int8, or real numbers of any float type, [N, C, H, W].
        zero_point: int32 [1], of codes; None for real numbers.
        size: height and width of the result, at least 1; they may also be smaller.

    Returns:
        [N, C, *size] in channels_last order; codes of the input's type, float32 of real numbers.

    Raises:
        ValueError: codes without a zero point, one outside of their type, or another shape.

    >>> x = torch.tensor([[[[0, 100], [200, 40]]]], dtype=torch.uint8)
    >>> upsample_bilinear2d(x, torch.zeros(1, dtype=torch.int32), (2, 4))[0, 0]
    tensor([[  0,  25,  75, 100],
            [200, 160,  80,  40]], dtype=torch.uint8)
    >>> upsample_bilinear2d(x.float() / 10, None, (3, 3), align_corners=True)[0, 0]
    tensor([[ 0.0000,  5.0000, 10.0000],
            [10.0000,  8.5000,  7.0000],
            [20.0000, 12.0000,  4.0000]])
    """
    return operators.upsample_bilinear2d(input, zero_point, size, align_corners)
