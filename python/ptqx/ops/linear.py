"""Linear layers of codes, and products of two matrices of codes: sums, codes or real values."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .compiled import operators


def linear_s32(
    input: torch.Tensor,
    weight: torch.Tensor,
    input_zero_point: torch.Tensor | None = None,
    weight_zero_point: torch.Tensor | None = None,
) -> torch.Tensor:
    """ONNX MatMulInteger with `weight` transposed: `conv2d_s32` of `input` [..., K] and `weight` [O, K].

    >>> x = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8)
    >>> linear_s32(x, torch.tensor([[1, -1]], dtype=torch.int8), torch.tensor([1], dtype=torch.int32))
    tensor([[-1],
            [-1]], dtype=torch.int32)
    """
    return operators.linear_s32(input, weight, input_zero_point, weight_zero_point)


def linear(
    input: torch.Tensor,
    input_scale: torch.Tensor,
    input_zero_point: torch.Tensor,
    weight: torch.Tensor,
    weight_scale: torch.Tensor,
    weight_zero_point: torch.Tensor | None,
    bias: torch.Tensor | None,
    output_scale: torch.Tensor,
    output_zero_point: torch.Tensor,
    qmin: int,
    qmax: int,
    activation: str = "none",
    activation_args: Sequence[float] = (),
    slopes: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
    residual_scale: torch.Tensor | None = None,
    residual_zero_point: torch.Tensor | None = None,
    group_size: int = 0,
    weight_bits: int = 8,
    weight_shape: Sequence[int] | None = None,
    weight_levels: torch.Tensor | None = None,
) -> torch.Tensor:
    """ONNX QLinearMatMul with `weight` transposed: `conv2d` of `input` [..., K] and `weight` [O, K].

    >>> one, zero = torch.ones(1), torch.zeros(1, dtype=torch.int32)
    >>> x = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8)
    >>> w = torch.tensor([[1, 1]], dtype=torch.int8)
    >>> linear(x, one, zero, w, one, None, None, 2 * one, zero, 0, 255)
    tensor([[2],
            [4]], dtype=torch.uint8)
    """
    return operators.linear(
        input,
        input_scale,
        input_zero_point,
        weight,
        weight_scale,
        weight_zero_point,
        bias,
        output_scale,
        output_zero_point,
        qmin,
        qmax,
        activation,
        activation_args,
        slopes,
        residual,
        residual_scale,
        residual_zero_point,
        group_size,
        weight_bits,
        weight_shape,
        weight_levels,
    )


def linear_f32(
    input: torch.Tensor,
    input_scale: torch.Tensor,
    input_zero_point: torch.Tensor,
    weight: torch.Tensor,
    weight_scale: torch.Tensor,
    weight_zero_point: torch.Tensor | None,
    bias: torch.Tensor | None,
    activation: str = "none",
    activation_args: Sequence[float] = (),
    slopes: torch.Tensor | None = None,
    group_size: int = 0,
    weight_bits: int = 8,
    weight_shape: Sequence[int] | None = None,
    weight_levels: torch.Tensor | None = None,
) -> torch.Tensor:
    """`linear` with real results, as `conv2d_f32`; samples are the entries of dimension 0.

    >>> one, zero = torch.ones(1), torch.zeros(1, dtype=torch.int32)
    >>> x = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8)
    >>> linear_f32(x, 0.5 * one, zero, torch.tensor([[1, 1]], dtype=torch.int8), one, None, None)
    tensor([[1.5000],
            [3.5000]])
    """
    return operators.linear_f32(
        input,
        input_scale,
        input_zero_point,
        weight,
        weight_scale,
        weight_zero_point,
        bias,
        activation,
        activation_args,
        slopes,
        group_size,
        weight_bits,
        weight_shape,
        weight_levels,
    )


def linear_fixed_point(
    input: torch.Tensor,
    input_zero_point: torch.Tensor,
    weight: torch.Tensor,
    weight_zero_point: torch.Tensor | None,
    bias: torch.Tensor | None,
    multiplier: torch.Tensor,
    shift: torch.Tensor,
    output_zero_point: torch.Tensor,
    qmin: int,
    qmax: int,
    weight_bits: int = 8,
    weight_shape: Sequence[int] | None = None,
    weight_levels: torch.Tensor | None = None,
) -> torch.Tensor:
    """`conv2d_fixed_point` of features: `input` [..., K], `weight` [O, K].

    >>> one, zero = (torch.tensor([value], dtype=torch.int32) for value in (1, 0))
    >>> x, w = torch.tensor([[1, 4]], dtype=torch.uint8), torch.tensor([[1, 1], [3, 0]], dtype=torch.int8)
    >>> linear_fixed_point(x, zero, w, None, None, one, one, zero, 0, 255)
    tensor([[2, 2]], dtype=torch.uint8)
    """
    return operators.linear_fixed_point(
        input,
        input_zero_point,
        weight,
        weight_zero_point,
        bias,
        multiplier,
        shift,
        output_zero_point,
        qmin,
        qmax,
        weight_bits,
        weight_shape,
        weight_levels,
    )


def linear_s64(input: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Sums of products of 16-bit codes, exact: int16 [..., K] and [O, K] to int64 [..., O].

    >>> x = torch.tensor([[30000, -20000]], dtype=torch.int16)
    >>> linear_s64(x, x)
    tensor([[1300000000]])
    """
    return operators.linear_s64(input, weight)


def matmul(
    a: torch.Tensor,
    a_scale: torch.Tensor,
    a_zero_point: torch.Tensor,
    b: torch.Tensor,
    b_scale: torch.Tensor,
    b_zero_point: torch.Tensor,
    factor: float = 1.0,
    output_scale: torch.Tensor | None = None,
    output_zero_point: torch.Tensor | None = None,
    qmin: int = 0,
    qmax: int = 255,
) -> torch.Tensor:
    """Products over channels of every pixel of `a` with every pixel of `b` in the same row: attention's
    scores, and its weighted values.

    `sum[l, r, m] = sum over k of (a[k, r, m] - a_zero_point) * (b[k, r, l] - b_zero_point)`, exact in int32;
    as matrices [R, M, K] and [R, L, K], in which order codes of images lie in memory, `a @ b.mT`. Then
    `t = float32(sum) * (a_scale * b_scale * factor / output_scale)` and
    `clamp(round(t) + output_zero_point, qmin, qmax)`; without `output_scale` and `output_zero_point` real
    values, float32, of scale 1.

    Args:
        a: codes [N, K, R, M]; K at most 33,025.
        b: codes [N, K, R, L].
        factor: positive, 1 / sqrt(K) in attention (Vaswani et al., arXiv:1706.03762).

    Returns:
        [N, L, R, M].

    >>> one, zero = torch.ones(1), torch.zeros(1, dtype=torch.int32)
    >>> a = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8).reshape(1, 2, 1, 2)  # pixels [1, 3], [2, 4]
    >>> b = torch.tensor([[1], [10]], dtype=torch.uint8).reshape(1, 2, 1, 1)
    >>> matmul(a, one, zero, b, one, zero, 0.5).flatten()
    tensor([15.5000, 21.0000])
    """
    qparams = (output_scale, output_zero_point, qmin, qmax)
    return operators.matmul(a, a_scale, a_zero_point, b, b_scale, b_zero_point, factor, *qparams)
