"""Linear layers of codes: sums, codes or real values."""

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
