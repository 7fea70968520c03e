"""Convolutions of small images as matrix products, in bfloat16 training on the CPU.

oneDNN's bfloat16 convolutions are made for large images. At the 4x4 and 2x2 pixels where a network for 32x32
images ends, copying the inputs of each output into a row and multiplying matrices takes half of the time to a
ninth of it (forward and backward together; 256 to 512 channels, batches of 128, AMX).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

PIXELS = 16  # of an output image: where there are more, oneDNN is as fast or faster
CHANNELS = 128  # input channels: a row of fewer is too short to copy fast


class SmallConvolutions(TorchFunctionMode):
    """Within it, `conv2d` under bfloat16 autocast on the CPU is a matrix product where that is faster.

    The same sums in another order: results differ by the rounding of bfloat16 alone.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (torch.conv2d, F.conv2d) and _suits(*args, **kwargs):
            return _product(*args, **kwargs)
        return func(*args, **kwargs)


def _suits(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> bool:
    if not torch.is_autocast_enabled("cpu") or torch.get_autocast_dtype("cpu") != torch.bfloat16:
        return False
    if input.device.type != "cpu" or input.dim() != 4 or groups != 1 or isinstance(padding, str):
        return False
    if _pair(stride) != (1, 1) or _pair(dilation) != (1, 1) or weight.shape[1] < CHANNELS:
        return False
    rows, columns = _output_size(input, weight, _pair(padding))
    kernel = weight.shape[2:]
    inside = all(p < k for p, k in zip(_pair(padding), kernel, strict=True))
    return 0 < rows * columns <= PIXELS and kernel.numel() > 1 and inside and input.dtype.is_floating_point


def _product(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    *_: Any,
    **__: Any,
) -> Tensor:
    half = torch.bfloat16
    given = None if bias is None else bias.to(half)
    result: Tensor = _Convolution.apply(input.to(half), weight.to(half), given, _pair(padding))
    return result


class _Convolution(torch.autograd.Function):
    """Of stride 1; all tensors channels_last."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
        size = _output_size(x, weight, padding)
        rows = _patches(x.permute(0, 2, 3, 1), weight.shape[2:], padding)
        ctx.save_for_backward(x, weight)  # not the rows, which are as large as the kernel times x
        ctx.padding, ctx.bias = padding, bias is not None
        matrix = weight.permute(0, 2, 3, 1).reshape(len(weight), -1).t()
        # No view, which autograd would not let others change in place.
        y = torch.empty((len(x), len(weight), *size), dtype=x.dtype, memory_format=torch.channels_last)
        flat = y.permute(0, 2, 3, 1).view(len(rows), -1)
        if bias is None:
            torch.mm(rows, matrix, out=flat)
        else:
            torch.addmm(bias, rows, matrix, out=flat)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        outputs, channels, *kernel = weight.shape
        images, _, height, width = x.shape
        last = gradient.permute(0, 2, 3, 1).contiguous()
        matrix = last.reshape(-1, outputs)
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            # The transposed convolution of stride 1 is one with the kernel turned round.
            around = tuple(k - 1 - p for k, p in zip(kernel, ctx.padding, strict=True))
            turned = weight.permute(2, 3, 0, 1).flip(0, 1).reshape(-1, channels)
            product = _patches(last, kernel, around) @ turned
            of_x = product.reshape(images, height, width, channels).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[1]:
            rows = _patches(x.permute(0, 2, 3, 1), kernel, ctx.padding)
            of_weight = (matrix.t() @ rows).reshape(outputs, *kernel, channels).permute(0, 3, 1, 2)
        if ctx.bias and ctx.needs_input_grad[2]:
            of_bias = matrix.sum(0)
        return of_x, of_weight, of_bias, None


def _patches(x: Tensor, kernel: Any, padding: Any) -> Tensor:
    """The inputs of every output pixel as a row of kernel rows, kernel columns and channels; x is
    (images, rows, columns, channels)."""
    (high, wide), (down, right) = kernel, padding
    x = F.pad(x, (0, 0, right, right, down, down)).contiguous()
    images, height, width, channels = x.shape
    image, row, column, channel = x.stride()
    shape = (images, height - high + 1, width - wide + 1, high, wide, channels)
    views = x.as_strided(shape, (image, row, column, row, column, channel))
    return views.reshape(-1, high * wide * channels)


def _output_size(x: Tensor, weight: Tensor, padding: tuple[int, int]) -> tuple[int, int]:
    height, width = (
        n + 2 * p - k + 1 for n, p, k in zip(x.shape[2:], padding, weight.shape[2:], strict=True)
    )
    return height, width


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])
