"""Layers of signs, 64 to a word."""

from __future__ import annotations

import torch

from .compiled import Ints, operators


def pack_signs(input: torch.Tensor) -> torch.Tensor:
    """Signs as bits, eight a byte along dimension 1: 1 (for +1) where `input >= 0`, else 0 (for -1).

    `input` is real, [N, C, H, W] or [N, K]; the result is uint8 with `4 * ceil(C / 32)` bytes in place of C,
    channels_last if it has 4 dimensions. The first channel is the lowest bit of the first byte; the bits
    after the last channel are 0. NaN counts as -1. Activations and weights [O, C, kh, kw] are packed alike.

    >>> pack_signs(torch.tensor([[1.0, -1.0, 0.0, -3.0, 2.0]]))
    tensor([[21,  0,  0,  0]], dtype=torch.uint8)
    """
    return operators.pack_signs(input)


def binary_conv2d_s32(
    input: torch.Tensor,
    weight: torch.Tensor,
    channels: int,
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
) -> torch.Tensor:
    """Convolution of +1 and -1 by XNOR and popcount (Rastegari et al., XNOR-Net, 2016), as int32.

    `input` [N, bytes, H, W] and `weight` [O, bytes, kh, kw] are what `pack_signs` makes of `channels`
    channels; `padding` is one number or [top, left, bottom, right]. A tap on padding is left out of the
    sum, because there is no sign for zero: what an image of +1 and -1 padded with zeros gives, exactly. An
    output is `channels * taps - 2 * popcount(input ^ weight)` over the taps that lie on the input.

    >>> x = pack_signs(torch.ones(1, 3, 3, 3))
    >>> binary_conv2d_s32(x, pack_signs(-torch.ones(1, 3, 3, 3)), 3, padding=1)[0, 0]
    tensor([[-12, -18, -12],
            [-18, -27, -18],
            [-12, -18, -12]], dtype=torch.int32)
    """
    return operators.binary_conv2d_s32(input, weight, channels, stride, padding, dilation)


def binary_conv2d_f32(
    input: torch.Tensor,
    weight: torch.Tensor,
    channels: int,
    weight_scale: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
) -> torch.Tensor:
    """`binary_conv2d_s32(...) * weight_scale + bias` as float32, in one pass.

    `weight_scale` has 1 or O elements, `bias` O; both are float32. A batch norm that follows folds into them,
    and `pack_signs` of the result is the input of the next binary layer.

    >>> x = pack_signs(torch.ones(1, 3, 1, 1))
    >>> binary_conv2d_f32(x, x, 3, torch.tensor([0.5]), torch.tensor([1.0])).flatten()
    tensor([2.5000])
    """
    return operators.binary_conv2d_f32(input, weight, channels, weight_scale, bias, stride, padding, dilation)


def binary_linear_s32(input: torch.Tensor, weight: torch.Tensor, features: int) -> torch.Tensor:
    """Products of +1 and -1 summed: [N, bytes] and [O, bytes], packed by `pack_signs`, to int32 [N, O].

    >>> x = pack_signs(torch.tensor([[1.0, 1.0, -1.0]]))
    >>> binary_linear_s32(x, pack_signs(torch.tensor([[1.0, 1.0, 1.0], [-1.0, -1.0, 1.0]])), 3)
    tensor([[ 1, -3]], dtype=torch.int32)
    """
    return operators.binary_linear_s32(input, weight, features)


def binary_linear_f32(
    input: torch.Tensor,
    weight: torch.Tensor,
    features: int,
    weight_scale: torch.Tensor,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """`binary_linear_s32(...) * weight_scale + bias` as float32; the arguments are `binary_conv2d_f32`'s.

    >>> x = pack_signs(torch.tensor([[1.0, 1.0, -1.0]]))
    >>> binary_linear_f32(x, x, 3, torch.tensor([0.5]))
    tensor([[1.5000]])
    """
    return operators.binary_linear_f32(input, weight, features, weight_scale, bias)
