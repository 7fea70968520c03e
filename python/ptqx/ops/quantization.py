"""Codes of tensors, and what they stand for."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .compiled import operators


def quantize(
    input: torch.Tensor,
    scale: torch.Tensor,
    zero_point: torch.Tensor,
    qmin: int,
    qmax: int,
    axis: int = 0,
    group_size: int = 0,
) -> torch.Tensor:
    """ONNX QuantizeLinear: `clamp(round(input / scale) + zero_point, qmin, qmax)`.

    `input` is float32 (float16, bfloat16 and float64 are converted to it) and finite. `scale` and
    `zero_point` have one element, or one per entry of `axis`, or with `group_size` the shape `[size 0,
    ceil(size 1 / group_size)]`: groups along dimension 1, of which the last may be shorter.

    >>> x = torch.tensor([-1.0, 0.0, 0.25, 0.75, 9.0])
    >>> quantize(x, torch.tensor([0.5]), torch.tensor([3], dtype=torch.int32), 0, 15)
    tensor([ 1,  3,  3,  5, 15], dtype=torch.uint8)
    """
    return operators.quantize(input, scale, zero_point, qmin, qmax, axis, group_size)


def dequantize(
    input: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, axis: int = 0, group_size: int = 0
) -> torch.Tensor:
    """ONNX DequantizeLinear: `(input - zero_point) * scale` as float32, of uint8, int8 or int32.

    `scale` and `zero_point` are as in `quantize`.

    >>> codes = torch.tensor([1, 3, 15], dtype=torch.uint8)
    >>> dequantize(codes, torch.tensor([0.5]), torch.tensor([3], dtype=torch.int32))
    tensor([-1.,  0.,  6.])
    """
    return operators.dequantize(input, scale, zero_point, axis, group_size)


def dynamic_quantize(
    input: torch.Tensor, qmin: int = 0, qmax: int = 255, per_sample: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """ONNX DynamicQuantizeLinear: codes, scale and zero point from the range of `input` itself.

    The range is extended to contain 0, so `scale = (max - min) / (qmax - qmin)` and `zero_point =
    clamp(round(qmin - min / scale), qmin, qmax)`; all-zero inputs get scale 1. With `per_sample` each entry
    of dimension 0 has its own, and scale and zero point the shape `[N]`, else `[1]`.

    >>> dynamic_quantize(torch.tensor([0.0, 51.0, 102.0, 255.0]))
    (tensor([  0,  51, 102, 255], dtype=torch.uint8), tensor([1.]), tensor([0], dtype=torch.int32))
    """
    return operators.dynamic_quantize(input, qmin, qmax, per_sample)


def requantize(
    terms: Sequence[torch.Tensor],
    offsets: Sequence[torch.Tensor],
    multiplier: torch.Tensor,
    shift: torch.Tensor,
    zero_point: torch.Tensor,
    qmin: int,
    qmax: int,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Whole numbers to codes without floats:

        clamp(round(sum of (terms[i] + offsets[i]) * multiplier[i] / 2**shift) + zero_point, qmin, qmax)

    The one rounding is half to even; the sum is of 64 bits, modulo 2**64. Terms are integers of one shape,
    accumulators or codes; `offsets`, one for each or none, are int32 or int64, [1] or [C]: biases, or zero
    points with a minus. `multiplier` is int32 [terms, 1 or C], `shift` int32 [1] or [C], 0 to 62.
    C is dimension 1 of images, else the last one. The result is uint8, int8 or int16. Jacob et al.,
    "Quantization and Training of Neural Networks", CVPR 2018, section 2.2.

    >>> accumulators, multiplier, shift, zero_point = (
    ...     torch.tensor(values, dtype=torch.int32) for values in ([[-70, 5, 30, 99]], [[1]], [2], [3])
    ... )
    >>> requantize([accumulators], [], multiplier, shift, zero_point, 0, 20, torch.uint8)
    tensor([[ 0,  4, 11, 20]], dtype=torch.uint8)
    """
    return operators.requantize(terms, offsets, multiplier, shift, zero_point, qmin, qmax, dtype)
