"""The operators' formulas once more, in numpy and exact integers: the Python twin of csrc/kernels/arith.h.

Each function takes an operator's arguments and returns what it must return, bit by bit.
"""

from __future__ import annotations

import inspect
import itertools
import math
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

f32 = np.float32


# ---- arith.h ----


def round_and_clamp(t: np.ndarray, zero_point, qmin: int, qmax: int) -> np.ndarray:
    """clamp(round_half_even(t) + zero_point, qmin, qmax) of float32 t; a NaN becomes zero_point."""
    zero_point = np.asarray(zero_point, dtype=np.int64)
    clipped = np.clip(t, (qmin - zero_point).astype(f32), (qmax - zero_point).astype(f32))
    rounded = np.where(np.isnan(t), 0, np.rint(clipped)).astype(np.int64) + zero_point
    return np.clip(rounded, qmin, qmax)


def activate(t: np.ndarray, activation: str, args, slopes=None) -> np.ndarray:
    """`slopes` broadcasts against t."""
    args = [f32(a) for a in args]
    if activation == "clip":
        return np.minimum(np.maximum(t, args[0]), args[1])
    if activation == "leaky_relu":
        return np.where(t < 0, t * args[0], t)
    if activation == "prelu":
        return np.where(t < 0, t * slopes, t)
    if activation == "hardsigmoid":
        return np.minimum(np.maximum(t * args[0] + args[1], f32(0)), args[2])
    if activation == "hardswish":
        return t * np.minimum(np.maximum(t * args[0] + f32(0.5), f32(0)), f32(1))
    assert activation == "none"
    return t


def code_dtype(qmin: int) -> torch.dtype:
    return torch.uint8 if qmin >= 0 else torch.int8


def codes(q: np.ndarray, qmin: int) -> Tensor:
    return torch.as_tensor(np.asarray(q)).to(code_dtype(qmin))


def one(x: Tensor):
    """The value of a tensor of one element, as float32 or int."""
    return f32(x.item()) if x.is_floating_point() else int(x.item())


# ---- quantize ----


def spread(values: Tensor, shape, axis: int, group_size: int) -> np.ndarray:
    """Scales or zero points as an array that broadcasts against `shape`."""
    array = values.numpy()
    if group_size:
        groups = np.arange(shape[1]) // group_size
        return array[:, groups].reshape(*shape[:2], *[1] * (len(shape) - 2))
    if array.size == 1:
        return array.reshape([1] * len(shape))
    view = [1] * len(shape)
    view[axis] = array.size
    return array.reshape(view)


def quantize(input, scale, zero_point, qmin, qmax, axis=0, group_size=0):
    s, z = (spread(v, input.shape, axis, group_size) for v in (scale, zero_point))
    with np.errstate(over="ignore"):
        t = input.float().numpy() / s
    return codes(round_and_clamp(t, z, qmin, qmax), qmin)


def dequantize(input, scale, zero_point, axis=0, group_size=0):
    s, z = (spread(v, input.shape, axis, group_size) for v in (scale, zero_point))
    return torch.from_numpy((input.numpy().astype(np.int64) - z).astype(f32) * s)


def dynamic_quantize(input, qmin=0, qmax=255, per_sample=False):
    x = input.float().numpy()
    rows = x.reshape(len(x), math.prod(x.shape[1:])) if per_sample else x.reshape(1, -1)
    low = np.minimum(rows.min(axis=1, initial=np.inf), f32(0))
    high = np.maximum(rows.max(axis=1, initial=-np.inf), f32(0))
    scale = (high - low) / f32(qmax - qmin)
    scale[low == high] = 1
    zero_point = np.clip(np.rint(f32(qmin) - low / scale), qmin, qmax).astype(np.int32)
    zero_point[low == high] = np.clip(0, qmin, qmax)
    scale, zero_point = torch.from_numpy(scale.astype(f32)), torch.from_numpy(zero_point)
    return quantize(input, scale, zero_point, qmin, qmax), scale, zero_point


def fake_quantize(input, scale, zero_point, qmin, qmax, axis=0, group_size=0):
    s, z = (spread(v.detach(), input.shape, axis, group_size) for v in (scale, zero_point))
    x = input.detach().float().numpy()
    with np.errstate(invalid="ignore"):
        q = round_and_clamp(x / s, np.rint(z), qmin, qmax)
    y = np.where(np.isnan(x), x, (q - np.rint(z).astype(np.int64)).astype(f32) * s)
    return torch.from_numpy(y).to(input.dtype)


def lsq(input, scale, zero_point, qmin, qmax, grad_factor=0.0, axis=0, group_size=0):
    return fake_quantize(input, scale, zero_point, qmin, qmax, axis, group_size)


def lsq_codes(input, scale, zero_point, qmin, qmax, grad_factor=0.0):
    x = input.detach().float().numpy()
    z = np.rint(zero_point.detach().float().numpy())
    with np.errstate(invalid="ignore"):
        q = round_and_clamp(x / scale.detach().numpy(), z, qmin, qmax)
    codes = np.where(np.isnan(x), x, (q - z.astype(np.int64)).astype(f32))
    return torch.from_numpy(codes).to(input.dtype)


def sign_codes(input, scale, threshold, dtype=None):
    x = input.detach().float().numpy() - threshold.detach().numpy()
    return torch.from_numpy(np.where(np.isnan(x), x, np.where(x >= 0, f32(1), f32(-1)))).to(
        dtype or input.dtype
    )


def sign_codes_backward(grad, input, scale, threshold):
    """The first exactly; the sums of the others in float64."""
    s = scale.detach().numpy()
    above = input.detach().float().numpy() - threshold.detach().numpy()
    share = grad.detach().float().numpy() / s
    inside = np.abs(above) <= s
    dx = np.where(inside, share, f32(0))
    u = np.where(inside, above / s, f32(0)).astype(np.float64)
    by_scale = share.astype(np.float64) * (np.where(above >= 0, 1, -1) - u)
    sums = (np.full(1, terms.sum(), f32) for terms in (by_scale, -dx.astype(np.float64)))
    return torch.from_numpy(dx).to(input.dtype), *map(torch.from_numpy, sums)


def fake_quantize_backward(grad, input, scale, zero_point, qmin, qmax, axis=0, group_size=0, factor=1.0):
    """The first exactly; the sums of the others in float64."""
    s, z = (spread(v.detach(), input.shape, axis, group_size) for v in (scale, zero_point))
    x, dy = (v.detach().float().numpy() for v in (input, grad))
    t = x / s
    low, high = qmin - np.rint(z), qmax - np.rint(z)
    below, above = np.rint(t) < low, np.rint(t) > high
    inside = ~(below | above)
    by_scale = np.where(inside, np.rint(t) - t, np.where(below, low, high)).astype(np.float64) * dy
    by_zero_point = np.where(inside, 0.0, -dy.astype(np.float64) * s)

    def summed(terms):
        out = np.zeros(scale.numel())
        index = np.arange(scale.numel()).reshape(scale.shape)
        np.add.at(
            out, np.broadcast_to(spread(torch.from_numpy(index), x.shape, axis, group_size), x.shape), terms
        )
        return torch.from_numpy((out * factor).astype(f32)).reshape(scale.shape)

    return (
        torch.from_numpy(np.where(inside, dy, f32(0))).to(input.dtype),
        summed(by_scale),
        summed(by_zero_point),
    )


def lsq_backward(grad, input, scale, zero_point, qmin, qmax, grad_factor=0.0, axis=0, group_size=0):
    factor = grad_factor or 1 / math.sqrt(max(input.numel() / scale.numel(), 1) * qmax)
    return fake_quantize_backward(grad, input, scale, zero_point, qmin, qmax, axis, group_size, factor)


# ---- statistics ----


def min_max(input):
    x = input.float().numpy().ravel()
    finite = x[np.isfinite(x)]
    low, high = finite.min(initial=np.inf), finite.max(initial=-np.inf)
    return torch.tensor(low), torch.tensor(high), torch.tensor(x.size - finite.size)


def moments(input):
    """Exactly rounded sums: the operator's differ in the last bits."""
    x = input.double().numpy().ravel()
    finite = x[np.isfinite(x)]
    sums = [torch.tensor(math.fsum(v), dtype=torch.float64) for v in (finite, finite * finite)]
    return *sums, torch.tensor(x.size - finite.size)


def histogram(input, low, high, bins):
    x = input.float().numpy().ravel()
    x = x[np.isfinite(x)]
    low, high = f32(low), f32(high)
    inside = x[(x >= low) & (x <= high)].astype(np.float64)
    place = np.floor((inside - np.float64(low)) * (bins / (np.float64(high) - np.float64(low))))
    counts = np.bincount(np.minimum(place, bins - 1).astype(np.int64), minlength=bins)
    return torch.from_numpy(counts), torch.tensor(x.size - inside.size)


# ---- conv2d, linear ----


def pair(value) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


def centered(q: Tensor, zero_point: Tensor | None, axis: int) -> Tensor:
    """q - zero_point in float64, where every sum below 2^53 is exact."""
    if zero_point is None:
        return q.double()
    view = [1] * q.dim()
    view[axis] = zero_point.numel()
    return q.double() - zero_point.double().reshape(view)


def accumulators(
    input, weight, input_zero_point, weight_zero_point, stride, padding, dilation, groups
) -> np.ndarray:
    top, left, bottom, right = [padding] * 4 if isinstance(padding, int) else padding
    x = F.pad(centered(input, input_zero_point, 0), (left, right, top, bottom))
    w = centered(weight, weight_zero_point, 0)
    if len(x) == 0:
        x = x.new_zeros(1, *x.shape[1:])
        return F.conv2d(x, w, None, pair(stride), 0, pair(dilation), groups).numpy().astype(np.int64)[:0]
    return F.conv2d(x, w, None, pair(stride), 0, pair(dilation), groups).numpy().astype(np.int64)


def conv2d_s32(
    input, weight, input_zero_point=None, weight_zero_point=None, stride=1, padding=0, dilation=1, groups=1
):
    acc = accumulators(input, weight, input_zero_point, weight_zero_point, stride, padding, dilation, groups)
    return torch.from_numpy(acc).to(torch.int32)


def scaled(input, input_scale, input_zero_point, weight, weight_scale, weight_zero_point, bias, output_scale,
           geometry, group_size) -> np.ndarray:  # fmt: skip
    """Accumulators and bias in units of the output scale, float32."""
    s_x, s_y = input_scale.numpy().reshape(-1, 1, 1, 1), f32(output_scale)
    real_bias = f32(0) if bias is None else (bias.numpy().reshape(1, -1, 1, 1) / s_y).astype(f32)
    integer_bias = bias is not None and not bias.is_floating_point()

    def multiplier(s_w):
        return (s_x * s_w.reshape(1, -1, 1, 1)) / s_y

    if group_size:
        t = None
        for g in range(weight_scale.shape[1]):
            part = slice(g * group_size, (g + 1) * group_size)
            acc = accumulators(
                input[:, part], weight[:, part], input_zero_point, weight_zero_point, *geometry
            )
            term = acc.astype(f32) * multiplier(weight_scale[:, g].numpy())
            t = term if t is None else t + term
        return t if bias is None else t + real_bias
    acc = accumulators(input, weight, input_zero_point, weight_zero_point, *geometry)
    if integer_bias:
        acc = acc + bias.numpy().reshape(1, -1, 1, 1)
    t = acc.astype(f32) * multiplier(weight_scale.numpy())
    return t if bias is None or integer_bias else t + real_bias


def reads_stored_weight(operator):
    """With weight_bits, weight_shape and weight_levels, for the argument `weight`."""
    position = list(inspect.signature(operator).parameters).index("weight")

    def run(*args, weight_bits=8, weight_shape=(), weight_levels=None, **rest):
        weight = args[position]
        if weight_bits < 8:
            weight = unpack_codes(weight, weight_bits, weight_shape)
        if weight_levels is not None:
            rows = np.broadcast_to(weight_levels.numpy(), (len(weight), 2**weight_bits))
            index = weight.reshape(len(weight), -1).numpy().astype(np.int64) + 2 ** (weight_bits - 1)
            weight = torch.from_numpy(np.take_along_axis(rows, index, axis=1)).reshape(weight.shape)
        return operator(*args[:position], weight, *args[position + 1 :], **rest)

    return run


@reads_stored_weight
def conv2d(input, input_scale, input_zero_point, weight, weight_scale, weight_zero_point, bias, output_scale,
           output_zero_point, qmin, qmax, stride=1, padding=0, dilation=1, groups=1, activation="none",
           activation_args=(), slopes=None, residual=None, residual_scale=None, residual_zero_point=None,
           group_size=0):  # fmt: skip
    s_y = one(output_scale)
    t = scaled(input, input_scale, input_zero_point, weight, weight_scale, weight_zero_point, bias, s_y,
               (stride, padding, dilation, groups), group_size)  # fmt: skip
    if residual is not None:
        r = residual.numpy().astype(np.int64) - one(residual_zero_point)
        t = t + r.astype(f32) * (one(residual_scale) / s_y)
    t = activate(
        t, activation, activation_args, None if slopes is None else slopes.numpy().reshape(1, -1, 1, 1)
    )
    return codes(round_and_clamp(t, one(output_zero_point), qmin, qmax), qmin)


@reads_stored_weight
def conv2d_f32(input, input_scale, input_zero_point, weight, weight_scale, weight_zero_point, bias, stride=1,
               padding=0, dilation=1, groups=1, activation="none", activation_args=(), slopes=None,
               group_size=0):  # fmt: skip
    t = scaled(input, input_scale, input_zero_point, weight, weight_scale, weight_zero_point, bias, 1.0,
               (stride, padding, dilation, groups), group_size)  # fmt: skip
    t = activate(
        t, activation, activation_args, None if slopes is None else slopes.numpy().reshape(1, -1, 1, 1)
    )
    return torch.from_numpy(t.astype(f32))


@reads_stored_weight
def conv2d_fixed_point(input, input_zero_point, weight, weight_zero_point, bias, multiplier, shift,
                       output_zero_point, qmin, qmax, stride=1, padding=0, dilation=1, groups=1):  # fmt: skip
    acc = torch.from_numpy(
        accumulators(input, weight, input_zero_point, weight_zero_point, stride, padding, dilation, groups)
    )
    offsets = [] if bias is None else [bias]
    dtype = torch.uint8 if qmin >= 0 else torch.int8
    return requantize([acc], offsets, multiplier.reshape(1, -1), shift, output_zero_point, qmin, qmax, dtype)


def column(x: Tensor | None) -> Tensor | None:
    """[N, ..., K] as images [N, K, rows, 1]."""
    if x is None:
        return None
    samples = x.shape[0] if x.dim() > 1 else 1
    return x.reshape(samples, math.prod(x.shape[1:-1]), x.shape[-1]).transpose(1, 2).unsqueeze(3)


def uncolumn(y: Tensor, input: Tensor) -> Tensor:
    return y.squeeze(3).transpose(1, 2).reshape(*input.shape[:-1], y.shape[1])


def linear_s32(input, weight, input_zero_point=None, weight_zero_point=None):
    y = conv2d_s32(column(input), weight[:, :, None, None], input_zero_point, weight_zero_point)
    return uncolumn(y, input)


@reads_stored_weight
def linear_fixed_point(input, input_zero_point, weight, *rest):
    return uncolumn(
        conv2d_fixed_point(column(input), input_zero_point, weight[:, :, None, None], *rest), input
    )


@reads_stored_weight
def linear(input, input_scale, input_zero_point, weight, weight_scale, weight_zero_point, bias, output_scale,
           output_zero_point, qmin, qmax, activation="none", activation_args=(), slopes=None, residual=None,
           residual_scale=None, residual_zero_point=None, group_size=0):  # fmt: skip
    y = conv2d(column(input), input_scale, input_zero_point, weight[:, :, None, None], weight_scale,
               weight_zero_point, bias, output_scale, output_zero_point, qmin, qmax, activation=activation,
               activation_args=activation_args, slopes=slopes, residual=column(residual),
               residual_scale=residual_scale, residual_zero_point=residual_zero_point,
               group_size=group_size)  # fmt: skip
    return uncolumn(y, input)


@reads_stored_weight
def linear_f32(input, input_scale, input_zero_point, weight, weight_scale, weight_zero_point, bias,
               activation="none", activation_args=(), slopes=None, group_size=0):  # fmt: skip
    y = conv2d_f32(
        column(input),
        input_scale,
        input_zero_point,
        weight[:, :, None, None],
        weight_scale,
        weight_zero_point,
        bias,
        activation=activation,
        activation_args=activation_args,
        slopes=slopes,
        group_size=group_size,
    )
    return uncolumn(y, input)


def matmul(a, a_scale, a_zero_point, b, b_scale, b_zero_point, factor=1.0, output_scale=None,
           output_zero_point=None, qmin=0, qmax=255):  # fmt: skip
    sums = torch.einsum("nkrm,nkrl->nlrm", centered(a, a_zero_point, 0), centered(b, b_zero_point, 0)).numpy()
    multiplier = one(a_scale) * one(b_scale) * f32(factor)
    if output_scale is None:
        return torch.from_numpy(sums.astype(f32) * multiplier)
    t = sums.astype(f32) * (multiplier / one(output_scale))
    return codes(round_and_clamp(t, one(output_zero_point), qmin, qmax), qmin)


# ---- pooling ----


def max_pool2d(input, kernel_size, stride=(), padding=0, dilation=1, ceil_mode=False):
    stride = stride or kernel_size
    return F.max_pool2d(input.double(), kernel_size, stride, padding, dilation, ceil_mode).to(input.dtype)


def average(sums: np.ndarray, counts, scales, zero_points, qmin, qmax) -> Tensor:
    ratio = one(scales[0]) / one(scales[1])
    t = sums.astype(f32) * (ratio / np.asarray(counts, dtype=f32))
    return codes(round_and_clamp(t, one(zero_points[1]), qmin, qmax), qmin)


def avg_pool2d(
    input,
    input_scale,
    input_zero_point,
    output_scale,
    output_zero_point,
    qmin,
    qmax,
    kernel_size,
    stride=(),
    padding=0,
    ceil_mode=False,
    count_include_pad=True,
    divisor_override=None,
):
    stride = stride or kernel_size
    x = centered(input, input_zero_point, 0)
    window = (kernel_size, stride, padding, ceil_mode)
    sums = F.avg_pool2d(x, *window, divisor_override=1).numpy()
    counts = divisor_override
    if counts is None:  # the mean of ones is counted / (what the mean divides by)
        ones = torch.ones(1, 1, *x.shape[2:], dtype=torch.float64)
        inside = F.avg_pool2d(ones, *window, divisor_override=1).numpy()
        counts = np.rint(inside / F.avg_pool2d(ones, *window, count_include_pad).numpy())
    return average(
        sums, counts, (input_scale, output_scale), (input_zero_point, output_zero_point), qmin, qmax
    )


def adaptive_avg_pool2d(
    input, input_scale, input_zero_point, output_scale, output_zero_point, qmin, qmax, output_size
):
    x = centered(input, input_zero_point, 0).numpy()
    oh, ow = pair(output_size)
    h, w = x.shape[2:]
    sums, counts = np.zeros((*x.shape[:2], oh, ow)), np.zeros((oh, ow))
    for i, j in itertools.product(range(oh), range(ow)):
        rows = slice(i * h // oh, -(-(i + 1) * h // oh))
        columns = slice(j * w // ow, -(-(j + 1) * w // ow))
        sums[:, :, i, j] = x[:, :, rows, columns].sum(axis=(2, 3))
        counts[i, j] = x[0:1, 0:1, rows, columns].size or 1
    return average(
        sums, counts, (input_scale, output_scale), (input_zero_point, output_zero_point), qmin, qmax
    )


# ---- upsampling ----


def bilinear_taps(size: int, outputs: int, align_corners: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    o = np.arange(outputs, dtype=np.float64)
    if align_corners:
        at = o * (size - 1) / (outputs - 1) if outputs > 1 else 0 * o
    else:
        at = np.maximum((o + 0.5) * size / outputs - 0.5, 0)
    first = np.floor(at).astype(np.int64)
    return first, np.minimum(first + 1, size - 1), (at - first).astype(f32)


def upsample_bilinear2d(input, zero_point, size, align_corners=False):
    height, width = size
    zero = 0 if zero_point is None else int(zero_point)
    q = input.float().numpy() - f32(zero)
    top, bottom, below = bilinear_taps(q.shape[2], height, align_corners)
    left, right, after = bilinear_taps(q.shape[3], width, align_corners)
    below = below.reshape(-1, 1)
    lines = q[..., left] * (1 - after) + q[..., right] * after
    v = lines[:, :, top] * (1 - below) + lines[:, :, bottom] * below
    if zero_point is None:
        return torch.from_numpy(v)
    low = -128 if input.dtype == torch.int8 else 0
    return codes(round_and_clamp(v, zero, low, low + 255), low)


# ---- normalization ----


def in_lanes(x: np.ndarray) -> np.ndarray:
    """[..., n] as float64 [..., rows, 16], zeros behind them."""
    rows = -(-x.shape[-1] // 16)
    lanes = np.zeros((*x.shape[:-1], rows * 16))
    lanes[..., : x.shape[-1]] = x
    return lanes.reshape(*x.shape[:-1], rows, 16)


def sum_lanes(values: np.ndarray) -> np.ndarray:
    sums = np.zeros((*values.shape[:-2], 16))
    for row in np.moveaxis(values, -2, 0):
        sums = sums + row
    for width in (8, 4, 2, 1):
        sums = sums[..., :width] + sums[..., width : 2 * width]
    return sums


def activation(input, function):
    x = input.float().numpy().astype(np.longdouble)
    if function == "tanh":
        return torch.from_numpy(np.tanh(x).astype(f32))
    if function == "square":
        return torch.from_numpy((x * x).astype(f32))
    if function == "gelu":
        phi = (
            np.vectorize(lambda v: math.erfc(-v / math.sqrt(2)) / 2, otypes=[np.float64])(x) if x.size else x
        )
        return torch.from_numpy((x * phi).astype(f32))
    if function == "gelu_tanh":
        inner = 2 * np.sqrt(np.longdouble(2) / np.pi) * (x + np.longdouble(0.044715) * x**3)
        return torch.from_numpy((x / (1 + np.exp(-inner))).astype(f32))
    sigmoid = 1 / (1 + np.exp(-x))
    return torch.from_numpy((x * sigmoid if function == "silu" else sigmoid).astype(f32))


def softmax(input, log=False, output_scale=None, output_zero_point=None, qmin=0, qmax=255):
    x = np.moveaxis(input.float().numpy(), 1, -1).astype(np.float64)
    shifted = x - x.max(axis=-1, keepdims=True) if x.size else x
    total = sum_lanes(in_lanes(np.exp(shifted)))
    t = (shifted - np.log(total) if log else np.exp(shifted) / total).astype(f32)
    t = np.moveaxis(t, -1, 1)
    if output_scale is None:
        return torch.from_numpy(np.ascontiguousarray(t))
    return codes(round_and_clamp(t / one(output_scale), one(output_zero_point), qmin, qmax), qmin)


def layer_norm(input, weight, bias, eps, output_scale=None, output_zero_point=None, qmin=0, qmax=255):
    x = np.moveaxis(input.float().numpy(), 1, -1)
    n = x.shape[-1]
    lanes = in_lanes(x)

    mean = sum_lanes(lanes) / n
    variance = np.maximum(sum_lanes(lanes * lanes) / n - mean * mean, 0)
    inverse = (1 / np.sqrt(variance + eps)).astype(f32)
    t = ((x - mean.astype(f32)) * inverse) * weight.numpy() + bias.numpy()
    t = np.moveaxis(t, -1, 1)
    if output_scale is None:
        return torch.from_numpy(np.ascontiguousarray(t))
    return codes(round_and_clamp(t / one(output_scale), one(output_zero_point), qmin, qmax), qmin)


def in_turn(x):
    """Over the last axis, in its order."""
    return np.cumsum(x, -1)[..., -1]


def group_norm(input, groups, weight, bias, eps, output_scale=None, output_zero_point=None, qmin=0, qmax=255):
    x = input.float().numpy()
    n, c, h, w = x.shape
    if n == 0:
        return torch.empty(x.shape, dtype=torch.float32 if output_scale is None else torch.uint8)
    wide = x.astype(np.float64)
    sums, squares = (in_turn(in_turn(in_turn(v)).reshape(n, groups, -1)) for v in (wide, wide * wide))
    count = c // groups * h * w
    mean = sums / count
    variance = np.maximum(squares / count - mean * mean, 0)
    inverse = (1 / np.sqrt(variance + eps)).astype(f32)
    mean, inverse = (np.repeat(v, c // groups, 1)[:, :, None, None] for v in (mean.astype(f32), inverse))
    t = ((x - mean) * inverse) * weight.numpy()[:, None, None] + bias.numpy()[:, None, None]
    if output_scale is None:
        return torch.from_numpy(t)
    return codes(round_and_clamp(t / one(output_scale), one(output_zero_point), qmin, qmax), qmin)


# ---- pointwise, storage ----


def add(a, a_scale, a_zero_point, b, b_scale, b_zero_point, output_scale, output_zero_point, qmin, qmax,
        activation="none", activation_args=()):  # fmt: skip
    s_y = one(output_scale)
    left = centered(a, a_zero_point, 0).numpy().astype(f32) * (one(a_scale) / s_y)
    right = centered(b, b_zero_point, 0).numpy().astype(f32) * (one(b_scale) / s_y)
    t = activate(left + right, activation, activation_args)
    return codes(round_and_clamp(t, one(output_zero_point), qmin, qmax), qmin)


def mul(a, a_scale, a_zero_point, b, b_scale, b_zero_point, output_scale, output_zero_point, qmin, qmax,
        activation="none", activation_args=()):  # fmt: skip
    product = (centered(a, a_zero_point, 0) * centered(b, b_zero_point, 0)).numpy().astype(f32)
    t = activate(product * ((one(a_scale) * one(b_scale)) / one(output_scale)), activation, activation_args)
    return codes(round_and_clamp(t, one(output_zero_point), qmin, qmax), qmin)


def cat(inputs, dim=1):
    return torch.cat(list(inputs), dim)


def lookup(input, table):
    return table[input.long() + (128 if input.dtype == torch.int8 else 0)]


def pack_codes(input, bits):
    """Through NumPy's packbits, bit by bit."""
    rows = input.reshape(len(input), math.prod(input.shape[1:])).numpy().view(np.uint8)
    stream = np.unpackbits(rows[..., None], axis=2, bitorder="little")[..., :bits]
    stream = stream.reshape(len(rows), rows.shape[1] * bits)
    return torch.from_numpy(np.packbits(stream, axis=1, bitorder="little"))


def unpack_codes(packed, bits, sizes):
    count = math.prod(sizes[1:])
    stream = np.unpackbits(packed.numpy(), axis=1, bitorder="little")[:, : count * bits]
    digits = stream.reshape(len(packed), count, bits).astype(np.int64)
    values = (digits << np.arange(bits)).sum(2)
    values = np.where(values >= 2 ** (bits - 1), values - 2**bits, values)
    return torch.from_numpy(values.astype(np.int8)).reshape(sizes)


def pack_int4(input):
    return pack_codes(input, 4)


def unpack_int4(packed, sizes):
    return unpack_codes(packed, 4, sizes)


# ---- binary layers ----


def pack_signs(input):
    """Through NumPy's packbits, an implementation of its own."""
    x = np.moveaxis(input.double().numpy(), 1, -1) >= 0
    bits = np.zeros((*x.shape[:-1], -(-x.shape[-1] // 32) * 32), dtype=np.uint8)
    bits[..., : x.shape[-1]] = x
    packed = np.packbits(bits, axis=-1, bitorder="little")
    return torch.from_numpy(np.moveaxis(packed, -1, 1).copy())


def signs_of(packed, count):
    """[N, bytes, ...] to [N, count, ...] of +1 and -1."""
    bits = np.unpackbits(packed.numpy(), axis=1, count=count, bitorder="little")
    return torch.from_numpy(bits.astype(np.float64)) * 2 - 1


def conv2d_s64(input, weight, stride=1, padding=0, dilation=1, groups=1):
    acc = accumulators(input, weight, None, None, stride, padding, dilation, groups)
    return torch.from_numpy(acc).to(torch.int64)


def linear_s64(input, weight):
    return uncolumn(conv2d_s64(column(input), weight[:, :, None, None]), input)


def binary_conv2d_s32(input, weight, channels, stride=1, padding=0, dilation=1):
    acc = accumulators(
        signs_of(input, channels), signs_of(weight, channels), None, None, stride, padding, dilation, 1
    )
    return torch.from_numpy(acc).to(torch.int32)


def binary_conv2d_f32(input, weight, channels, weight_scale, bias=None, stride=1, padding=0, dilation=1):
    acc = binary_conv2d_s32(input, weight, channels, stride, padding, dilation).numpy()
    t = acc.astype(f32) * weight_scale.numpy().reshape(1, -1, 1, 1)
    return torch.from_numpy(t if bias is None else t + bias.numpy().reshape(1, -1, 1, 1))


def binary_linear_s32(input, weight, features):
    return binary_conv2d_s32(column(input), weight[:, :, None, None], features)[..., 0, 0]


def binary_linear_f32(input, weight, features, weight_scale, bias=None):
    return binary_conv2d_f32(column(input), weight[:, :, None, None], features, weight_scale, bias)[..., 0, 0]


# ---- requantize ----


def requantize(terms, offsets, multiplier, shift, zero_point, qmin, qmax, dtype):
    """Python's integers, which have no end."""
    channel_dim = 1 if terms[0].dim() == 4 else -1

    def of_elements(values):
        """One number for each element of the terms."""
        if values.numel() == 1 or terms[0].dim() == 0:
            return [int(values.reshape(-1)[0])] * terms[0].numel()
        shape = [1] * terms[0].dim()
        shape[channel_dim] = -1
        return values.reshape(shape).expand(terms[0].shape).flatten().tolist()

    offsets = offsets or [torch.zeros(1, dtype=torch.int64)] * len(terms)
    sums = [0] * terms[0].numel()
    for term, offset, factor in zip(terms, offsets, multiplier, strict=True):
        columns = term.flatten().tolist(), of_elements(offset), of_elements(factor)
        sums = [s + (x + o) * m for s, x, o, m in zip(sums, *columns, strict=True)]
    places = of_elements(shift)
    rounded = [round(Fraction(s, 2**n)) for s, n in zip(sums, places, strict=True)]  # half to even
    clamped = [min(max(q + int(zero_point), qmin), qmax) for q in rounded]
    return torch.tensor(clamped, dtype=dtype).reshape(terms[0].shape)
