"""Pools of codes."""

from __future__ import annotations

import torch

from .compiled import Ints, operators


def max_pool2d(
    input: torch.Tensor,
    kernel_size: Ints,
    stride: Ints = (),
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
) -> torch.Tensor:
    """`torch.nn.functional.max_pool2d` of codes, which keep their scale and zero point.

    >>> x = torch.arange(16, dtype=torch.uint8).reshape(1, 1, 4, 4)
    >>> max_pool2d(x, 2).flatten()
    tensor([ 5,  7, 13, 15], dtype=torch.uint8)
    """
    return operators.max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode)


def avg_pool2d(
    input: torch.Tensor,
    input_scale: torch.Tensor,
    input_zero_point: torch.Tensor,
    output_scale: torch.Tensor,
    output_zero_point: torch.Tensor,
    qmin: int,
    qmax: int,
    kernel_size: Ints,
    stride: Ints = (),
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> torch.Tensor:
    """`torch.nn.functional.avg_pool2d` of codes with one rounding.

    `clamp(round(float32(sum of (q - input_zero_point)) * (input_scale / output_scale / count)) +
    output_zero_point, qmin, qmax)`, in float32; padding counts as real 0.

    >>> one, zero = torch.ones(1), torch.zeros(1, dtype=torch.int32)
    >>> x = torch.arange(16, dtype=torch.uint8).reshape(1, 1, 4, 4)
    >>> avg_pool2d(x, one, zero, 0.5 * one, zero, 0, 255, 2).flatten()
    tensor([ 5,  9, 21, 25], dtype=torch.uint8)
    """
    return operators.avg_pool2d(
        input,
        input_scale,
        input_zero_point,
        output_scale,
        output_zero_point,
        qmin,
        qmax,
        kernel_size,
        stride,
        padding,
        ceil_mode,
        count_include_pad,
        divisor_override,
    )


def adaptive_avg_pool2d(
    input: torch.Tensor,
    input_scale: torch.Tensor,
    input_zero_point: torch.Tensor,
    output_scale: torch.Tensor,
    output_zero_point: torch.Tensor,
    qmin: int,
    qmax: int,
    output_size: Ints,
) -> torch.Tensor:
    """`torch.nn.functional.adaptive_avg_pool2d` of codes, rounded as in `avg_pool2d`.

    >>> one, zero = torch.ones(1), torch.zeros(1, dtype=torch.int32)
    >>> x = torch.arange(16, dtype=torch.uint8).reshape(1, 1, 4, 4)
    >>> adaptive_avg_pool2d(x, one, zero, 0.5 * one, zero, 0, 255, 1).flatten()
    tensor([15], dtype=torch.uint8)
    """
    return operators.adaptive_avg_pool2d(
        input, input_scale, input_zero_point, output_scale, output_zero_point, qmin, qmax, output_size
    )
