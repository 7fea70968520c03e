"""The operators of `torch.ops.ptqx`: quantized codes in, quantized codes out, on the CPU.

Codes are plain uint8 or int8 tensors; `real = scale * (code - zero_point)`. Scales are float32 and zero
points int32 tensors, of one element unless said otherwise. `qmin` and `qmax` choose the codes' type: uint8
if `qmin >= 0`, else int8. Rounding is half to even, everywhere, and results are the same bits on every
instruction set and number of threads.

Inputs may have any strides. Images are NCHW, and images that come out lie in memory as channels_last.
Bad arguments raise ValueError with the argument's name. Every operator works under `torch.compile` and
`torch.export`, batch size included; only `fake_quantize` and `lsq` have derivatives.

The file is long because each operator is here once, with its formula and an example, and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

try:
    from ptqx import _C  # registers torch.ops.ptqx
except ImportError as error:
    raise ImportError(
        f"ptqx's compiled part cannot be loaded by torch {torch.__version__} ({error}); "
        "rebuild it with `pip install --no-build-isolation .`"
    ) from None

_built_for = _C.build_info()["torch_version"]
if _built_for != torch.__version__:
    raise ImportError(
        f"ptqx was compiled for torch {_built_for}, this is torch {torch.__version__}; "
        "rebuild it with `pip install --no-build-isolation .`"
    )

__all__ = [
    "adaptive_avg_pool2d",
    "add",
    "avg_pool2d",
    "binary_conv2d_f32",
    "binary_conv2d_s32",
    "binary_linear_f32",
    "binary_linear_s32",
    "cat",
    "conv2d",
    "conv2d_f32",
    "conv2d_s32",
    "conv2d_s64",
    "dequantize",
    "dynamic_quantize",
    "engine_describe",
    "engine_run",
    "fake_quantize",
    "fake_quantize_backward",
    "histogram",
    "linear",
    "linear_f32",
    "linear_s32",
    "linear_s64",
    "lookup",
    "lsq",
    "lsq_backward",
    "lsq_codes",
    "max_pool2d",
    "min_max",
    "moments",
    "mul",
    "pack_codes",
    "pack_int4",
    "pack_signs",
    "quantize",
    "sign_codes",
    "sign_codes_backward",
    "unpack_codes",
    "unpack_int4",
]

_ops = torch.ops.ptqx
_Ints = int | Sequence[int]


# ---- real numbers and codes ----


def quantize(
    input: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    qmin: int,
    qmax: int,
    axis: int = 0,
    group_size: int = 0,
) -> Tensor:
    """ONNX QuantizeLinear: `clamp(round(input / scale) + zero_point, qmin, qmax)`.

    `input` is float32 (float16, bfloat16 and float64 are converted to it) and finite. `scale` and
    `zero_point` have one element, or one per entry of `axis`, or with `group_size` the shape `[size 0,
    ceil(size 1 / group_size)]`: groups along dimension 1, of which the last may be shorter.

    >>> x = torch.tensor([-1.0, 0.0, 0.25, 0.75, 9.0])
    >>> quantize(x, torch.tensor([0.5]), torch.tensor([3], dtype=torch.int32), 0, 15)
    tensor([ 1,  3,  3,  5, 15], dtype=torch.uint8)
    """
    return _ops.quantize(input, scale, zero_point, qmin, qmax, axis, group_size)


def dequantize(
    input: Tensor, scale: Tensor, zero_point: Tensor, axis: int = 0, group_size: int = 0
) -> Tensor:
    """ONNX DequantizeLinear: `(input - zero_point) * scale` as float32, of uint8, int8 or int32.

    `scale` and `zero_point` are as in `quantize`.

    >>> codes = torch.tensor([1, 3, 15], dtype=torch.uint8)
    >>> dequantize(codes, torch.tensor([0.5]), torch.tensor([3], dtype=torch.int32))
    tensor([-1.,  0.,  6.])
    """
    return _ops.dequantize(input, scale, zero_point, axis, group_size)


def dynamic_quantize(
    input: Tensor, qmin: int = 0, qmax: int = 255, per_sample: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """ONNX DynamicQuantizeLinear: codes, scale and zero point from the range of `input` itself.

    The range is extended to contain 0, so `scale = (max - min) / (qmax - qmin)` and `zero_point =
    clamp(round(qmin - min / scale), qmin, qmax)`; all-zero inputs get scale 1. With `per_sample` each entry
    of dimension 0 has its own, and scale and zero point the shape `[N]`, else `[1]`.

    >>> dynamic_quantize(torch.tensor([0.0, 51.0, 102.0, 255.0]))
    (tensor([  0,  51, 102, 255], dtype=torch.uint8), tensor([1.]), tensor([0], dtype=torch.int32))
    """
    return _ops.dynamic_quantize(input, qmin, qmax, per_sample)


# ---- training ----


def fake_quantize(
    input: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    qmin: int,
    qmax: int,
    axis: int = 0,
    group_size: int = 0,
) -> Tensor:
    """Quantize and dequantize in float32; the result has the dtype and strides of `input`.

    NaN passes through and infinities saturate. Scales are as in `quantize`; `zero_point` may be float32: it
    is rounded, and gets a gradient. Gradients are straight-through (Bengio et al., 2013): the input's is
    passed where the code is within qmin..qmax; the scale's is `(q - zero_point) - input / scale` there and
    `bound - zero_point` elsewhere; the zero point's is `-scale` elsewhere. On devices other than the CPU it
    runs as a composition of PyTorch's own operations.

    >>> x = torch.tensor([-1.0, 0.3, 9.0], requires_grad=True)
    >>> y = fake_quantize(x, torch.tensor([0.5]), torch.tensor([0], dtype=torch.int32), 0, 15)
    >>> y.detach()
    tensor([0.0000, 0.5000, 7.5000])
    >>> y.sum().backward(); x.grad
    tensor([0., 1., 0.])
    """
    return _ops.fake_quantize(input, scale, zero_point, qmin, qmax, axis, group_size)


def fake_quantize_backward(
    grad: Tensor,
    input: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    qmin: int,
    qmax: int,
    axis: int = 0,
    group_size: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `fake_quantize` with respect to input, scale and zero point. It has none of its own.

    Sums are taken in chunks of fixed size, so they do not depend on the number of threads.

    >>> x = torch.tensor([-1.0, 0.3, 9.0])
    >>> zero = torch.tensor([0], dtype=torch.int32)
    >>> fake_quantize_backward(torch.ones(3), x, torch.tensor([0.5]), zero, 0, 15)
    (tensor([0., 1., 0.]), tensor([15.4000]), tensor([-1.]))
    """
    return _ops.fake_quantize_backward(grad, input, scale, zero_point, qmin, qmax, axis, group_size)


def lsq(
    input: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    qmin: int,
    qmax: int,
    grad_factor: float = 0.0,
    axis: int = 0,
    group_size: int = 0,
) -> Tensor:
    """`fake_quantize` whose gradients of scale and zero point are multiplied by `grad_factor`.

    0 stands for `1 / sqrt(elements per scale * qmax)`: learned step size quantization, Esser et al., ICLR
    2020.

    >>> scale = torch.tensor([0.5], requires_grad=True)
    >>> x = torch.tensor([-1.0, 0.3, 9.0, 0.0])
    >>> lsq(x, scale, torch.tensor([0], dtype=torch.int32), 0, 16, grad_factor=0.25).sum().backward()
    >>> scale.grad
    tensor([4.1000])
    """
    return _ops.lsq(input, scale, zero_point, qmin, qmax, grad_factor, axis, group_size)


def lsq_backward(
    grad: Tensor,
    input: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    qmin: int,
    qmax: int,
    grad_factor: float = 0.0,
    axis: int = 0,
    group_size: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `lsq` with respect to input, scale and zero point. It has none of its own.

    >>> zero = torch.tensor([0], dtype=torch.int32)
    >>> lsq_backward(torch.ones(1), torch.tensor([9.0]), torch.tensor([0.5]), zero, 0, 15, grad_factor=0.1)[1]
    tensor([1.5000])
    """
    return _ops.lsq_backward(grad, input, scale, zero_point, qmin, qmax, grad_factor, axis, group_size)


def lsq_codes(
    input: Tensor, scale: Tensor, zero_point: Tensor, qmin: int, qmax: int, grad_factor: float = 0.0
) -> Tensor:
    """`lsq(...) / scale` per tensor: `clamp(round(input / scale) + zero_point, qmin, qmax) - zero_point`.

    Whole numbers in the dtype of `input`; bfloat16 holds them exactly up to 256. Gradients are those of `lsq`
    for `grad / scale`, so a network learns as with `lsq` if it multiplies by `scale.detach()` later, after a
    convolution for instance.

    >>> lsq_codes(torch.tensor([-1.0, 0.3, 9.0]), torch.tensor([0.5]), torch.zeros(1).int(), 0, 15)
    tensor([ 0.,  1., 15.])
    """
    return _ops.lsq_codes(input, scale, zero_point, qmin, qmax, grad_factor)


def sign_codes(input: Tensor, scale: Tensor, threshold: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """`sign(input - threshold)`, 1 at the threshold, per tensor; NaN stays NaN.

    The result is of `dtype`, by default that of `input`: every floating type holds it exactly.

    Gradients are those of `scale * sign(input - threshold)` for `grad / scale`, through the clipped identity:
    with u = (input - threshold) / scale, 1 for `input` where |u| <= 1 and 0 beyond; sign(u) - u for `scale`
    there, sign(u) beyond; the opposite of that of `input` for `threshold`. A network learns by them if it
    multiplies by `scale.detach()` later. Hubara et al., NeurIPS 2016; Liu et al., "ReActNet", ECCV 2020.

    >>> x = torch.tensor([-3.0, 0.25, 2.0], requires_grad=True)
    >>> signs = sign_codes(x, torch.tensor([0.5]), torch.tensor([0.25]))
    >>> signs.sum().backward()
    >>> signs.tolist(), x.grad.tolist()
    ([-1.0, 1.0, 1.0], [0.0, 2.0, 0.0])
    """
    return _ops.sign_codes(input, scale, threshold, dtype)


def sign_codes_backward(
    grad: Tensor, input: Tensor, scale: Tensor, threshold: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `sign_codes` with respect to input, scale and threshold. It has none of its own.

    `grad` may be of another dtype than `input`, whose gradient has the dtype of `input`.

    >>> one = torch.ones(1)
    >>> sign_codes_backward(one, torch.tensor([0.25]), one, torch.zeros(1))
    (tensor([1.]), tensor([0.7500]), tensor([-1.]))
    """
    return _ops.sign_codes_backward(grad, input, scale, threshold)


# ---- statistics ----


def min_max(input: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Minimum and maximum of the finite elements (inf and -inf if there are none), and how many are not.

    >>> min_max(torch.tensor([1.0, -2.0, float("nan")]))
    (tensor(-2.), tensor(1.), tensor(1))
    """
    return _ops.min_max(input)


def moments(input: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sum and sum of squares of the finite elements in float64, and how many are not finite.

    >>> moments(torch.tensor([1.0, -2.0, 4.0]))
    (tensor(3., dtype=torch.float64), tensor(21., dtype=torch.float64), tensor(0))
    """
    return _ops.moments(input)


def histogram(input: Tensor, low: float, high: float, bins: int) -> tuple[Tensor, Tensor]:
    """Counts over `bins` equal parts of [low, high], and how many finite elements lie outside.

    Elements that are not finite are counted nowhere.

    >>> histogram(torch.tensor([0.0, 0.1, 0.6, 1.0, 7.0]), 0.0, 1.0, 2)
    (tensor([2, 2]), tensor(1))
    """
    return _ops.histogram(input, low, high, bins)


# ---- convolution and linear layers ----


def conv2d_s32(
    input: Tensor,
    weight: Tensor,
    input_zero_point: Tensor | None = None,
    weight_zero_point: Tensor | None = None,
    stride: _Ints = 1,
    padding: _Ints = 0,
    dilation: _Ints = 1,
    groups: int = 1,
) -> Tensor:
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
    return _ops.conv2d_s32(
        input, weight, input_zero_point, weight_zero_point, stride, padding, dilation, groups
    )


def conv2d(
    input: Tensor,
    input_scale: Tensor,
    input_zero_point: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    weight_zero_point: Tensor | None,
    bias: Tensor | None,
    output_scale: Tensor,
    output_zero_point: Tensor,
    qmin: int,
    qmax: int,
    stride: _Ints = 1,
    padding: _Ints = 0,
    dilation: _Ints = 1,
    groups: int = 1,
    activation: str = "none",
    activation_args: Sequence[float] = (),
    slopes: Tensor | None = None,
    residual: Tensor | None = None,
    residual_scale: Tensor | None = None,
    residual_zero_point: Tensor | None = None,
    group_size: int = 0,
    weight_bits: int = 8,
    weight_shape: Sequence[int] | None = None,
    weight_levels: Tensor | None = None,
) -> Tensor:
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
    return _ops.conv2d(
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
    input: Tensor,
    input_scale: Tensor,
    input_zero_point: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    weight_zero_point: Tensor | None,
    bias: Tensor | None,
    stride: _Ints = 1,
    padding: _Ints = 0,
    dilation: _Ints = 1,
    groups: int = 1,
    activation: str = "none",
    activation_args: Sequence[float] = (),
    slopes: Tensor | None = None,
    group_size: int = 0,
    weight_bits: int = 8,
    weight_shape: Sequence[int] | None = None,
    weight_levels: Tensor | None = None,
) -> Tensor:
    """`conv2d` with real results: `activation(float32(acc) * (input_scale * weight_scale) + bias)`.

    For last layers, and for inputs quantized per sample: `input_scale` and `input_zero_point` have one
    element or one per sample. An int32 bias is added to the accumulator, a float32 one after the scale.

    >>> one, zero = torch.ones(1), torch.zeros(1, dtype=torch.int32)
    >>> x = torch.arange(4, dtype=torch.uint8).reshape(1, 1, 2, 2)
    >>> w = torch.full((1, 1, 1, 1), -3, dtype=torch.int8)
    >>> conv2d_f32(x, 0.5 * one, zero, w, one, None, one).flatten()
    tensor([ 1.0000, -0.5000, -2.0000, -3.5000])
    """
    return _ops.conv2d_f32(
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


def linear_s32(
    input: Tensor,
    weight: Tensor,
    input_zero_point: Tensor | None = None,
    weight_zero_point: Tensor | None = None,
) -> Tensor:
    """ONNX MatMulInteger with `weight` transposed: `conv2d_s32` of `input` [..., K] and `weight` [O, K].

    >>> x = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8)
    >>> linear_s32(x, torch.tensor([[1, -1]], dtype=torch.int8), torch.tensor([1], dtype=torch.int32))
    tensor([[-1],
            [-1]], dtype=torch.int32)
    """
    return _ops.linear_s32(input, weight, input_zero_point, weight_zero_point)


def linear(
    input: Tensor,
    input_scale: Tensor,
    input_zero_point: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    weight_zero_point: Tensor | None,
    bias: Tensor | None,
    output_scale: Tensor,
    output_zero_point: Tensor,
    qmin: int,
    qmax: int,
    activation: str = "none",
    activation_args: Sequence[float] = (),
    slopes: Tensor | None = None,
    residual: Tensor | None = None,
    residual_scale: Tensor | None = None,
    residual_zero_point: Tensor | None = None,
    group_size: int = 0,
    weight_bits: int = 8,
    weight_shape: Sequence[int] | None = None,
    weight_levels: Tensor | None = None,
) -> Tensor:
    """ONNX QLinearMatMul with `weight` transposed: `conv2d` of `input` [..., K] and `weight` [O, K].

    >>> one, zero = torch.ones(1), torch.zeros(1, dtype=torch.int32)
    >>> x = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8)
    >>> w = torch.tensor([[1, 1]], dtype=torch.int8)
    >>> linear(x, one, zero, w, one, None, None, 2 * one, zero, 0, 255)
    tensor([[2],
            [4]], dtype=torch.uint8)
    """
    return _ops.linear(
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
    input: Tensor,
    input_scale: Tensor,
    input_zero_point: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    weight_zero_point: Tensor | None,
    bias: Tensor | None,
    activation: str = "none",
    activation_args: Sequence[float] = (),
    slopes: Tensor | None = None,
    group_size: int = 0,
    weight_bits: int = 8,
    weight_shape: Sequence[int] | None = None,
    weight_levels: Tensor | None = None,
) -> Tensor:
    """`linear` with real results, as `conv2d_f32`; samples are the entries of dimension 0.

    >>> one, zero = torch.ones(1), torch.zeros(1, dtype=torch.int32)
    >>> x = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8)
    >>> linear_f32(x, 0.5 * one, zero, torch.tensor([[1, 1]], dtype=torch.int8), one, None, None)
    tensor([[1.5000],
            [3.5000]])
    """
    return _ops.linear_f32(
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


# ---- pooling ----


def max_pool2d(
    input: Tensor,
    kernel_size: _Ints,
    stride: _Ints = (),
    padding: _Ints = 0,
    dilation: _Ints = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """`torch.nn.functional.max_pool2d` of codes, which keep their scale and zero point.

    >>> x = torch.arange(16, dtype=torch.uint8).reshape(1, 1, 4, 4)
    >>> max_pool2d(x, 2).flatten()
    tensor([ 5,  7, 13, 15], dtype=torch.uint8)
    """
    return _ops.max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode)


def avg_pool2d(
    input: Tensor,
    input_scale: Tensor,
    input_zero_point: Tensor,
    output_scale: Tensor,
    output_zero_point: Tensor,
    qmin: int,
    qmax: int,
    kernel_size: _Ints,
    stride: _Ints = (),
    padding: _Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """`torch.nn.functional.avg_pool2d` of codes with one rounding.

    `clamp(round(float32(sum of (q - input_zero_point)) * (input_scale / output_scale / count)) +
    output_zero_point, qmin, qmax)`, in float32; padding counts as real 0.

    >>> one, zero = torch.ones(1), torch.zeros(1, dtype=torch.int32)
    >>> x = torch.arange(16, dtype=torch.uint8).reshape(1, 1, 4, 4)
    >>> avg_pool2d(x, one, zero, 0.5 * one, zero, 0, 255, 2).flatten()
    tensor([ 5,  9, 21, 25], dtype=torch.uint8)
    """
    return _ops.avg_pool2d(
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
    input: Tensor,
    input_scale: Tensor,
    input_zero_point: Tensor,
    output_scale: Tensor,
    output_zero_point: Tensor,
    qmin: int,
    qmax: int,
    output_size: _Ints,
) -> Tensor:
    """`torch.nn.functional.adaptive_avg_pool2d` of codes, rounded as in `avg_pool2d`.

    >>> one, zero = torch.ones(1), torch.zeros(1, dtype=torch.int32)
    >>> x = torch.arange(16, dtype=torch.uint8).reshape(1, 1, 4, 4)
    >>> adaptive_avg_pool2d(x, one, zero, 0.5 * one, zero, 0, 255, 1).flatten()
    tensor([15], dtype=torch.uint8)
    """
    return _ops.adaptive_avg_pool2d(
        input, input_scale, input_zero_point, output_scale, output_zero_point, qmin, qmax, output_size
    )


# ---- pointwise ----


def add(
    a: Tensor,
    a_scale: Tensor,
    a_zero_point: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor,
    output_scale: Tensor,
    output_zero_point: Tensor,
    qmin: int,
    qmax: int,
    activation: str = "none",
    activation_args: Sequence[float] = (),
) -> Tensor:
    """Sum of two tensors of codes, each with its own scale; shapes broadcast.

    `t = float32(a - a_zero_point) * (a_scale / output_scale) + float32(b - b_zero_point) * (b_scale /
    output_scale)`, then `clamp(round(activation(t)) + output_zero_point, qmin, qmax)`; activations as in
    `conv2d`, prelu excepted.

    >>> one, zero = torch.ones(1), torch.zeros(1, dtype=torch.int32)
    >>> x = torch.tensor([1, 2, 3], dtype=torch.uint8)
    >>> add(x, one, zero, x, 0.5 * one, zero, 0.5 * one, zero, 0, 255)
    tensor([3, 6, 9], dtype=torch.uint8)
    """
    return _ops.add(
        a,
        a_scale,
        a_zero_point,
        b,
        b_scale,
        b_zero_point,
        output_scale,
        output_zero_point,
        qmin,
        qmax,
        activation,
        activation_args,
    )


def mul(
    a: Tensor,
    a_scale: Tensor,
    a_zero_point: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor,
    output_scale: Tensor,
    output_zero_point: Tensor,
    qmin: int,
    qmax: int,
    activation: str = "none",
    activation_args: Sequence[float] = (),
) -> Tensor:
    """Product of two tensors of codes; shapes broadcast, fastest for [N, C, 1, 1] against images.

    `t = float32((a - a_zero_point) * (b - b_zero_point)) * ((a_scale * b_scale) / output_scale)`, then as
    `add`.

    >>> one, zero = torch.ones(1), torch.zeros(1, dtype=torch.int32)
    >>> x = torch.tensor([1, 2, 3], dtype=torch.uint8)
    >>> mul(x, one, zero, x, 0.5 * one, zero, 0.5 * one, zero, 0, 255)
    tensor([1, 4, 9], dtype=torch.uint8)
    """
    return _ops.mul(
        a,
        a_scale,
        a_zero_point,
        b,
        b_scale,
        b_zero_point,
        output_scale,
        output_zero_point,
        qmin,
        qmax,
        activation,
        activation_args,
    )


def cat(inputs: Sequence[Tensor], dim: int = 1) -> Tensor:
    """`torch.cat` of codes that share scale, zero point and type.

    >>> x = torch.zeros(2, 1, dtype=torch.uint8)
    >>> cat([x, x + 1])
    tensor([[0, 1],
            [0, 1]], dtype=torch.uint8)
    """
    if not inputs:  # no tensor, no kernel to ask
        raise ValueError("inputs must have at least one tensor, got none")
    return _ops.cat(inputs, dim)


def lookup(input: Tensor, table: Tensor) -> Tensor:
    """`table[input]` for uint8 codes, `table[input + 128]` for int8 ones: any function of one code.

    `table` has 256 codes, and the output their type.

    >>> squares = (torch.arange(256) ** 2 % 256).to(torch.uint8)
    >>> lookup(torch.tensor([0, 3, 17], dtype=torch.uint8), squares)
    tensor([ 0,  9, 33], dtype=torch.uint8)
    """
    return _ops.lookup(input, table)


# ---- 16-bit fixed point ----


def conv2d_s64(
    input: Tensor,
    weight: Tensor,
    stride: _Ints = 1,
    padding: _Ints = 0,
    dilation: _Ints = 1,
    groups: int = 1,
) -> Tensor:
    """Sums of products of 16-bit codes, exact: int16 [N, C, H, W] and [O, C / groups, kh, kw] to int64.

    `padding` is one number or [top, left, bottom, right]; codes have no zero point, and padding is 0.

    >>> x = torch.full((1, 1, 2, 2), -32768, dtype=torch.int16)
    >>> conv2d_s64(x, x).item() == 4 * 2**30
    True
    """
    return _ops.conv2d_s64(input, weight, stride, padding, dilation, groups)


def linear_s64(input: Tensor, weight: Tensor) -> Tensor:
    """Sums of products of 16-bit codes, exact: int16 [..., K] and [O, K] to int64 [..., O].

    >>> x = torch.tensor([[30000, -20000]], dtype=torch.int16)
    >>> linear_s64(x, x)
    tensor([[1300000000]])
    """
    return _ops.linear_s64(input, weight)


# ---- binary layers ----


def pack_signs(input: Tensor) -> Tensor:
    """Signs as bits, eight a byte along dimension 1: 1 (for +1) where `input >= 0`, else 0 (for -1).

    `input` is real, [N, C, H, W] or [N, K]; the result is uint8 with `4 * ceil(C / 32)` bytes in place of C,
    channels_last if it has 4 dimensions. The first channel is the lowest bit of the first byte; the bits
    after the last channel are 0. NaN counts as -1. Activations and weights [O, C, kh, kw] are packed alike.

    >>> pack_signs(torch.tensor([[1.0, -1.0, 0.0, -3.0, 2.0]]))
    tensor([[21,  0,  0,  0]], dtype=torch.uint8)
    """
    return _ops.pack_signs(input)


def binary_conv2d_s32(
    input: Tensor,
    weight: Tensor,
    channels: int,
    stride: _Ints = 1,
    padding: _Ints = 0,
    dilation: _Ints = 1,
) -> Tensor:
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
    return _ops.binary_conv2d_s32(input, weight, channels, stride, padding, dilation)


def binary_conv2d_f32(
    input: Tensor,
    weight: Tensor,
    channels: int,
    weight_scale: Tensor,
    bias: Tensor | None = None,
    stride: _Ints = 1,
    padding: _Ints = 0,
    dilation: _Ints = 1,
) -> Tensor:
    """`binary_conv2d_s32(...) * weight_scale + bias` as float32, in one pass.

    `weight_scale` has 1 or O elements, `bias` O; both are float32. A batch norm that follows folds into them,
    and `pack_signs` of the result is the input of the next binary layer.

    >>> x = pack_signs(torch.ones(1, 3, 1, 1))
    >>> binary_conv2d_f32(x, x, 3, torch.tensor([0.5]), torch.tensor([1.0])).flatten()
    tensor([2.5000])
    """
    return _ops.binary_conv2d_f32(input, weight, channels, weight_scale, bias, stride, padding, dilation)


def binary_linear_s32(input: Tensor, weight: Tensor, features: int) -> Tensor:
    """Products of +1 and -1 summed: [N, bytes] and [O, bytes], packed by `pack_signs`, to int32 [N, O].

    >>> x = pack_signs(torch.tensor([[1.0, 1.0, -1.0]]))
    >>> binary_linear_s32(x, pack_signs(torch.tensor([[1.0, 1.0, 1.0], [-1.0, -1.0, 1.0]])), 3)
    tensor([[ 1, -3]], dtype=torch.int32)
    """
    return _ops.binary_linear_s32(input, weight, features)


def binary_linear_f32(
    input: Tensor, weight: Tensor, features: int, weight_scale: Tensor, bias: Tensor | None = None
) -> Tensor:
    """`binary_linear_s32(...) * weight_scale + bias` as float32; the arguments are `binary_conv2d_f32`'s.

    >>> x = pack_signs(torch.tensor([[1.0, 1.0, -1.0]]))
    >>> binary_linear_f32(x, x, 3, torch.tensor([0.5]))
    tensor([[1.5000]])
    """
    return _ops.binary_linear_f32(input, weight, features, weight_scale, bias)


# ---- storage ----


def pack_codes(input: Tensor, bits: int) -> Tensor:
    """int8 codes of 1 to 7 bits, [rows, ...], as uint8 [rows, ceil(K * bits / 8)], without gaps; K is the
    product of the other sizes.

    Code i lies in bits [i * bits, (i + 1) * bits) of its row, the lowest bit of the first byte being bit 0.

    >>> pack_codes(torch.tensor([[1, -1, -2, 0, 1]], dtype=torch.int8), 2)
    tensor([[45,  1]], dtype=torch.uint8)
    >>> pack_codes(torch.tensor([[3, -4, 1]], dtype=torch.int8), 3)
    tensor([[99,  0]], dtype=torch.uint8)
    """
    return _ops.pack_codes(input, bits)


def unpack_codes(packed: Tensor, bits: int, sizes: Sequence[int]) -> Tensor:
    """The int8 codes of shape `sizes` that `pack_codes` packed.

    >>> unpack_codes(torch.tensor([[45, 1]], dtype=torch.uint8), 2, [1, 5])
    tensor([[ 1, -1, -2,  0,  1]], dtype=torch.int8)
    """
    return _ops.unpack_codes(packed, bits, sizes)


def pack_int4(input: Tensor) -> Tensor:
    """int8 codes in -8..7, [rows, ...], as uint8 [rows, ceil(K / 2)]; K is the product of the other sizes.

    The code with the even index lies in the low half of its byte.

    >>> pack_int4(torch.tensor([[1, -1, 7]], dtype=torch.int8))
    tensor([[241,   7]], dtype=torch.uint8)
    """
    return _ops.pack_int4(input)


def unpack_int4(packed: Tensor, sizes: Sequence[int]) -> Tensor:
    """The int8 codes of shape `sizes` that `pack_int4` packed.

    >>> unpack_int4(torch.tensor([[241, 7]], dtype=torch.uint8), [1, 3])
    tensor([[ 1, -1,  7]], dtype=torch.int8)
    """
    return _ops.unpack_int4(packed, sizes)


# ---- a whole network ----


def engine_run(input: Tensor, program: Tensor, output_shape: Sequence[int]) -> Tensor:
    """Runs the network of a .ptqx file: `program` holds its bytes, uint8 [bytes].

    `input` is float32 [N, ...] and finite; the result float32 [N] + `output_shape`, the shape that the file
    says. The plan is made on the first call and kept for the next ones. ValueError if the file is unusable.

    >>> engine_run(torch.zeros(1, 4), torch.zeros(8, dtype=torch.uint8), [2])
    Traceback (most recent call last):
    ...
    ValueError: program: ... is not a .ptqx file: its header is not a JSON object
    """
    return _ops.engine_run(input, program, output_shape)


def engine_describe(program: Tensor) -> str:
    """One line for each step that `engine_run` takes: name, operation, shapes, kernel, multiplications."""
    return _C.engine_describe(program)
