"""The numbers of csrc/kernels/arith.h in float32 torch operations, one rounding each.

The simulated model's exact path is made of these and of PyTorch's own convolution; no kernel of ours takes
part.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

TAIL_KINDS = ("none", "clip", "leaky_relu", "prelu", "hardsigmoid", "hardswish")
EXACT_IN_FLOAT32 = 2**24
MAX_ACCUMULATOR = 2**31 - 1
MOST_PRODUCT_DEPTH = MAX_ACCUMULATOR // 255**2  # terms of sums of products of codes of 8 bits
REAL_FUNCTIONS = ("sigmoid", "silu", "tanh", "gelu", "gelu_tanh", "square")
LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10  # as csrc/kernels/exp.h


class QParams(NamedTuple):
    """real = scale * (q - zero_point), q in [qmin, qmax] and not negative. scale, zero_point: float32
    scalars."""

    scale: Tensor
    zero_point: Tensor
    qmin: int
    qmax: int

    @property
    def steps(self) -> int:
        """The largest |q - zero_point| there can be, whatever the zero point."""
        return self.qmax - self.qmin


class Codes(NamedTuple):
    """Codes held in float32, and what they mean."""

    values: Tensor
    qparams: QParams

    def centered(self) -> Tensor:
        return self.values - self.qparams.zero_point

    def real(self) -> Tensor:
        return self.centered() * self.qparams.scale


def round_and_clamp(t: Tensor, out: QParams) -> Tensor:
    """clamp(round_half_even(t) + zero_point, qmin, qmax): the clamp on whole bounds comes first."""
    return torch.clamp(t, out.qmin - out.zero_point, out.qmax - out.zero_point).round() + out.zero_point


def quantize(x: Tensor, out: QParams) -> Codes:
    """ONNX QuantizeLinear: a division, not a multiplication by the inverse."""
    return Codes(round_and_clamp(x / out.scale, out), out)


def requantize_multiplier(input_scale: Tensor, weight_scale: Tensor, output_scale: Tensor) -> Tensor:
    """(s_x * s_w) / s_y in float32, left to right."""
    return (input_scale * weight_scale) / output_scale


def apply_tail(t: Tensor, kind: str, args: list[Tensor], slopes: Tensor | None = None) -> Tensor:
    """The activation, in the units of t; `slopes` must broadcast with t."""
    if kind == "none":
        return t
    if kind == "clip":
        return torch.clamp(t, args[0], args[1])
    if kind == "leaky_relu":
        return torch.where(t < 0, t * args[0], t)
    if kind == "prelu":
        assert slopes is not None
        return torch.where(t < 0, t * slopes, t)
    if kind == "hardsigmoid":
        return torch.minimum(torch.clamp_min(t * args[0] + args[1], 0.0), args[2])
    assert kind == "hardswish", kind
    return t * torch.clamp(t * args[0] + 0.5, 0.0, 1.0)


def per_channel(parameter: Tensor, weight: Tensor) -> Tensor:
    """[channels] or [1], made to broadcast with what `weight` computes: [N, C, H, W] or [..., C]."""
    return parameter.reshape(-1, 1, 1) if weight.dim() == 4 else parameter


def convolve(x: Tensor, weight: Tensor, attrs: dict[str, Any], bias: Tensor | None = None) -> Tensor:
    """conv2d with padding on four sides, or linear; the layer's shape in `attrs`."""
    if weight.dim() == 2:
        return F.linear(x, weight, bias)
    top, left, bottom, right = attrs["padding"]
    if (top, left) != (bottom, right):
        x, top, left = F.pad(x, (left, right, top, bottom)), 0, 0
    return F.conv2d(x, weight, bias, attrs["stride"], (top, left), attrs["dilation"], attrs["groups"])


def accumulate(x: Tensor, weight: Tensor, bias: Tensor | None, steps: int, attrs: dict[str, Any]) -> Tensor:
    """float32(acc), acc = convolution + bias, exact before that one rounding; all whole numbers, |x| <=
    steps."""
    return exact_sums(x, weight, bias, steps, attrs).float()


def exact_sums(x: Tensor, weight: Tensor, bias: Tensor | None, steps: int, attrs: dict[str, Any]) -> Tensor:
    """The same before the rounding, in float32 or float64.

    steps * max(sum |w|) + max |bias| < 2**24 proves that every partial sum is exact in float32, in any order.
    Where it fails, w = 16 * high + low makes two convolutions of smaller sums; where that fails too, float64
    is used.
    """
    bound = _bound(weight, steps)
    if bound < EXACT_IN_FLOAT32:
        acc = convolve(x, weight, attrs)
        if bias is not None and not _small_bias(bias, EXACT_IN_FLOAT32 - bound):
            acc = acc.double()
    else:
        low = torch.remainder(weight + 8, 16) - 8
        high = (weight - low) / 16
        if max(_bound(high, steps), _bound(low, steps)) < EXACT_IN_FLOAT32:
            acc = convolve(x, high, attrs).double() * 16 + convolve(x, low, attrs)
        else:
            acc = convolve(x.double(), weight.double(), attrs)
    if bias is not None:
        acc = acc + per_channel(bias.to(acc.dtype), weight)
    return acc


def _small_bias(bias: Tensor, room: int) -> bool:
    return not torch.compiler.is_compiling() and int(bias.abs().max()) < room


def _bound(weight: Tensor, steps: int) -> int:
    if weight.numel() == 0:
        return 0
    if torch.compiler.is_compiling():  # a graph can't depend on values: take the worst weight there can be
        return steps * 128 * weight[0].numel()
    return steps * int(weight.abs().flatten(1).sum(1, dtype=torch.float64).max())


def dynamic_qparams(x: Tensor, qmax: int) -> tuple[Tensor, Tensor]:
    """ONNX DynamicQuantizeLinear per sample: scale and zero point (float32) [N], codes in 0..qmax."""
    if x.numel() == 0:
        return x.new_ones(x.shape[0]), x.new_zeros(x.shape[0])
    low, high = torch.aminmax(x.reshape(x.shape[0], -1), dim=1)
    low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    scale = (high - low) / qmax
    scale = torch.where(high == low, torch.ones_like(scale), scale.clamp(min=2.0**-64))
    return scale, torch.clamp(torch.round(0.0 - low / scale), 0, qmax)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Over the channels of [N, C] or [N, C, H, W], float32, as csrc/kernels/layer_norm.h writes it."""
    pixels = x.movedim(1, -1)
    count = pixels.shape[-1]
    lanes = F.pad(pixels.double(), (0, -count % 16)).unflatten(-1, (-1, 16))
    mean = _sum_lanes(lanes) / count
    variance = (_sum_lanes(lanes * lanes) / count - mean * mean).clamp(min=0.0)
    inverse_deviation = (1.0 / torch.sqrt(variance + eps)).float()
    t = ((pixels - mean.float()) * inverse_deviation) * weight + bias
    return t.movedim(-1, 1)


def group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Of [N, C, H, W], float32, as csrc/kernels/group_norm.h writes it."""
    sums = _in_turn(_in_turn(x.double())).unflatten(1, (groups, -1))
    squares = _in_turn(_in_turn(x.double().square())).unflatten(1, (groups, -1))
    count = x.shape[1:].numel() // groups
    mean = _in_turn(sums) / count
    variance = (_in_turn(squares) / count - mean * mean).clamp(min=0.0)
    inverse_deviation = (1.0 / torch.sqrt(variance + eps)).float()
    mean, inverse_deviation = (
        of_group.repeat_interleave(x.shape[1] // groups, 1)[:, :, None, None]
        for of_group in (mean.float(), inverse_deviation)
    )
    return ((x - mean) * inverse_deviation) * weight[:, None, None] + bias[:, None, None]


def _in_turn(x: Tensor) -> Tensor:
    """The sum over the last dimension, in its order."""
    total = torch.zeros_like(x[..., 0])
    for part in x.unbind(-1):
        total = total + part
    return total


def softmax(x: Tensor, log: bool) -> Tensor:
    """Over the channels of [N, C] or [N, C, H, W], float32, as csrc/kernels/softmax.h writes it but for the
    log: the last bits of float64, in which it may differ, show in one float32 of some 10^8."""
    pixels = x.movedim(1, -1).double()
    shifted = pixels - pixels.amax(-1, keepdim=True)
    powers = _exp_of_negative(shifted)
    total = _sum_lanes(F.pad(powers, (0, -x.shape[1] % 16)).unflatten(-1, (-1, 16)))
    return (shifted - total.log() if log else powers / total).float().movedim(-1, 1)


def product_over_channels(a: Tensor, b: Tensor) -> Tensor:
    """Of every pixel of a [N, K, R, M] with every pixel of b [N, K, R, L] in the same row, [N, L, R, M]."""
    return torch.matmul(a.permute(0, 2, 3, 1), b.permute(0, 2, 1, 3)).permute(0, 3, 1, 2)


def matmul(a: Codes, b: Codes, factor: Tensor, out: QParams | None) -> Tensor:
    """The same of codes, exact before the rounding to float32, in units of the output's scale."""
    total = product_over_channels(a.centered().double(), b.centered().double()).float()
    multiplier = a.qparams.scale * b.qparams.scale * factor
    return total * (multiplier if out is None else multiplier / out.scale)


def real_function(name: str, x: Tensor) -> Tensor:
    """One of REAL_FUNCTIONS of float32, as csrc/kernels/real_function.h writes them."""
    wide = x.double()
    if name == "square":
        return (wide * wide).float()
    if name == "gelu":
        return _gelu(wide).float()
    if name == "gelu_tanh":
        return (wide * _sigmoid(TWICE_SQRT_2_OVER_PI * (wide + 0.044715 * (wide * wide * wide)))).float()
    if name == "tanh":
        magnitude = wide.abs()
        e = _exp_of_negative(-2.0 * magnitude)
        small = magnitude - magnitude * (magnitude * magnitude) * (1.0 / 3.0)
        result = torch.where(magnitude < 2.0**-12, small, (1.0 - e) / (1.0 + e))
        return torch.where(wide < 0, -result, result).float()
    return (wide * _sigmoid(wide) if name == "silu" else _sigmoid(wide)).float()


def _sigmoid(x: Tensor) -> Tensor:
    e = _exp_of_negative(-x.abs())
    share = 1.0 / (1.0 + e)
    return torch.where(x < 0, e * share, share)


TWICE_SQRT_2_OVER_PI = 1.5957691216057308
# (1 + 2 z) e^(z^2) erfc(z) by t = (z - 3.75) / (z + 3.75), from the constant on.
SCALED_ERFC = (
    1.2375126308378275,
    -0.14024059858550444,
    0.003585415485523275,
    0.08227673848702269,
    -0.10880393014608769,
    0.09230432122812039,
    -0.05869339849540758,
    0.028362276742910596,
    -0.009746580498740973,
    0.0017556295759281106,
    0.00029371884657765324,
    -0.000290166471091793,
    5.163185789476895e-05,
    2.2410291482750057e-05,
    -1.1407905388891046e-05,
    -1.0086004108981255e-06,
    1.7029183867088038e-06,
    -2.7618899599327736e-08,
    -2.1755141905337236e-07,
    8.49820015093241e-09,
    1.8198592830243115e-08,
)


def _gelu(x: Tensor) -> Tensor:
    z = (x.abs() * (1.0 / math.sqrt(2.0))).clamp(max=20.0)
    t = (z - 3.75) / (z + 3.75)
    series = torch.full_like(x, SCALED_ERFC[-1])
    for coefficient in SCALED_ERFC[-2::-1]:
        series = series * t + coefficient
    tail = _exp_of_negative(-(z * z)) * (series / (2.0 + 4.0 * z))
    return x * torch.where(x < 0, tail, 1.0 - tail)


def _exp_of_negative(x: Tensor) -> Tensor:
    """csrc/kernels/exp.h"""
    bounded = torch.where(x < -200.0, torch.zeros_like(x), x)
    n = torch.round(bounded * math.log2(math.e))
    r = (bounded - n * LN2_HIGH) - n * LN2_LOW
    series = torch.full_like(x, 1.0 / math.factorial(13))
    for k in range(12, -1, -1):
        series = series * r + 1.0 / math.factorial(k)
    return torch.where(x < -200.0, torch.zeros_like(x), torch.ldexp(series, n))


def bilinear_taps(size: int, outputs: int, align_corners: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Of each output of one axis: the index before its place in the input, the one after it, and float32 the
    weight of the latter, as csrc/kernels/upsample.h writes them."""
    places = torch.arange(outputs, dtype=torch.float64)
    if align_corners:
        at = places * (size - 1) / max(outputs - 1, 1)
    else:
        at = ((places + 0.5) * size / outputs - 0.5).clamp(min=0.0)
    first = at.floor()
    return first.long(), (first + 1).clamp(max=size - 1).long(), (at - first).float()


def upsample_bilinear2d(x: Tensor, size: list[int], align_corners: bool) -> Tensor:
    """Of [N, C, H, W] float32: along the columns, then along the rows."""
    for axis in (3, 2):
        first, second, weight = (
            t.to(x.device) for t in bilinear_taps(x.shape[axis], size[axis - 2], align_corners)
        )
        weight = weight.reshape(-1, 1) if axis == 2 else weight
        x = x.index_select(axis, first) * (1.0 - weight) + x.index_select(axis, second) * weight
    return x


def _sum_lanes(lanes: Tensor) -> Tensor:
    """[..., rows, 16] float64 to [..., 1]: rows in their order, then lanes as a binary tree."""
    total = torch.zeros_like(lanes[..., 0, :])
    for row in lanes.unbind(-2):
        total = total + row
    for width in (8, 4, 2, 1):
        total = total[..., :width] + total[..., width : 2 * width]
    return total


def per_sample(parameter: Tensor, x: Tensor) -> Tensor:
    """[N], made to broadcast with [N, ...]."""
    return parameter.reshape(-1, *[1] * (x.dim() - 1))
