"""Convolutions of codes: sums, codes or real values."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .compiled import Ints, operators


def conv2d_s32(
    input: torch.Tensor,
    weight: torch.Tensor,
    input_zero_point: torch.Tensor | None = None,
    weight_zero_point: torch.Tensor | None = None,
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> torch.Tensor:
    """ONNX ConvInteger: the sums of `(input - input_zero_point) * (weight - weight_zero_point)` as int32.

    `input` [N, C, H, W] and `weight` [O, C / groups, kh, kw] are uint8 or int8; `weight_zero_point` has 1 or
    O elements; `padding` is one number or [top, left, bottom, right]. Weights whose sums could leave int32
    are refused.

    >>> ones = torch.ones(1, 2, 3, 3, dtype=torch.uint8)
    >>> conv2d_s32(ones, ones.to(torch.int8), padding=1)[0, 0]
    tensor([[ 8, 12,  8],
            [12, 18, 12],
            [ 8, 12,  8]], dtype=torch.int32)
    """
    return operators.conv2d_s32(
        input, weight, input_zero_point, weight_zero_point, stride, padding, dilation, groups
    )


def conv2d(
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
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
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
    """ONNX QLinearConv with its neighbours fused: bias, residual, activation and one rounding.

    With `acc` as in `conv2d_s32` plus an int32 `bias` [O] in units of `input_scale * weight_scale`::

        t = float32(acc) * ((input_scale * weight_scale) / output_scale)
        t = t + bias / output_scale                                          (a float32 bias)
        t = t + float32(residual - residual_zero_point) * (residual_scale / output_scale)
        y = clamp(round(activation(t)) + output_zero_point, qmin, qmax)

    all in float32. `weight_scale` has 1 or O elements; with `group_size` (a multiple of 4, groups 1) it has
    the shape [O, ceil(C / group_size)], `t` is the sum over groups of input channels in ascending order, and
    a bias is float32. `activation` and its arguments, in units of `output_scale`: none []; clip [low, high];
    leaky_relu [slope]; prelu [] with `slopes` [1] or [O]; hardsigmoid [1/6, 0.5 / scale, 1 / scale];
    hardswish [scale / 6].

    `weight` is int8 or uint8; or, with `weight_bits` below 8, what `pack_codes` makes of int8 codes of the
    shape `weight_shape`. With `weight_levels` (int8, [1 or O, 2**weight_bits]) int8 codes stand for the
    levels of their channel, the lowest code for the first. Weights are unpacked once and remembered.

    >>> one, zero = torch.ones(1), torch.zeros(1, dtype=torch.int32)
    >>> x = torch.arange(4, dtype=torch.uint8).reshape(1, 1, 2, 2)
    >>> w = torch.full((1, 1, 1, 1), -3, dtype=torch.int8)
    >>> conv2d(x, one, zero, w, one, None, None, 2 * one, zero, -128, 127).flatten()
    tensor([ 0, -2, -3, -4], dtype=torch.int8)
    """
    return operators.conv2d(
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
        stride,
        padding,
        dilation,
        groups,
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


def conv2d_f32(
    input: torch.Tensor,
    input_scale: torch.Tensor,
    input_zero_point: torch.Tensor,
    weight: torch.Tensor,
    weight_scale: torch.Tensor,
    weight_zero_point: torch.Tensor | None,
    bias: torch.Tensor | None,
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
    activation: str = "none",
    activation_args: Sequence[float] = (),
    slopes: torch.Tensor | None = None,
    group_size: int = 0,
    weight_bits: int = 8,
    weight_shape: Sequence[int] | None = None,
    weight_levels: torch.Tensor | None = None,
) -> torch.Tensor:
    """`conv2d` with real results: `activation(float32(acc) * (input_scale * weight_scale) + bias)`.

    For last layers, and for inputs quantized per sample: `input_scale` and `input_zero_point` have one
    element or one per sample. An int32 bias is added to the accumulator, a float32 one after the scale.

    >>> one, zero = torch.ones(1), torch.zeros(1, dtype=torch.int32)
    >>> x = torch.arange(4, dtype=torch.uint8).reshape(1, 1, 2, 2)
    >>> w = torch.full((1, 1, 1, 1), -3, dtype=torch.int8)
    >>> conv2d_f32(x, 0.5 * one, zero, w, one, None, one).flatten()
    tensor([ 1.0000, -0.5000, -2.0000, -3.5000])
    """
    return operators.conv2d_f32(
        input,
        input_scale,
        input_zero_point,
        weight,
        weight_scale,
        weight_zero_point,
        bias,
        stride,
        padding,
        dilation,
        groups,
        activation,
        activation_args,
        slopes,
        group_size,
        weight_bits,
        weight_shape,
        weight_levels,
    )


def conv2d_fixed_point(
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
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
    weight_bits: int = 8,
    weight_shape: Sequence[int] | None = None,
    weight_levels: torch.Tensor | None = None,
) -> torch.Tensor:
    """`conv2d` without floats: `clamp(round(acc * multiplier / 2**shift) + output_zero_point, qmin, qmax)`.

    `acc` is that of `conv2d_s32` plus the int32 `bias` [O]; the rounding is half to even, and the product has
    64 bits (`requantize`). `multiplier` and `shift`, 0 to 62, are int32 of 1 or O elements. `weight`,
    `weight_bits`, `weight_shape` and `weight_levels` are those of `conv2d`.

    >>> one, zero = (torch.tensor([value], dtype=torch.int32) for value in (1, 0))
    >>> x = torch.arange(4, dtype=torch.uint8).reshape(1, 1, 2, 2)
    >>> w = torch.full((1, 1, 1, 1), -3, dtype=torch.int8)
    >>> conv2d_fixed_point(x, zero, w, None, None, one, one, zero, -128, 127).flatten()
    tensor([ 0, -2, -3, -4], dtype=torch.int8)
    """
    return operators.conv2d_fixed_point(
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
        stride,
        padding,
        dilation,
        groups,
        weight_bits,
        weight_shape,
        weight_levels,
    )


def conv2d_s64(
    input: torch.Tensor,
    weight: torch.Tensor,
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> torch.Tensor:
    """Sums of products of 16-bit codes, exact: int16 [N, C, H, W] and [O, C / groups, kh, kw] to int64.

    `padding` is one number or [top, left, bottom, right]; codes have no zero point, and padding is 0.

    >>> x = torch.full((1, 1, 2, 2), -32768, dtype=torch.int16)
    >>> conv2d_s64(x, x).item() == 4 * 2**30
    True
    """
    return operators.conv2d_s64(input, weight, stride, padding, dilation, groups)
