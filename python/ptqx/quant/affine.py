"""The affine numbers in plain torch: range to scale and zero point, real values to codes and back.

The simulated model's exact path is built on these, so they never call the integer kernels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import PtqxError
from .scheme import Scheme

MIN_SCALE = 2.0**-64


def qparams_from_range(low: Tensor, high: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor]:
    """Scale (float32) and zero point (int32) of values in [low, high], elementwise over any shape.

    The range is first extended to contain 0, which is then exactly representable. In float32:
        symmetric:   scale = max(-low, high) / qmax,  zero_point = 0  (mid-rise: 1.5 for qmax)
        asymmetric:  scale = (high - low) / (qmax - qmin),  zero_point = round(qmin - low / scale)
    with scale >= 2**-64, of levels "fixed" the next power of two. An all-zero range gives scale 1 and
    zero_point 0.

    >>> qparams_from_range(torch.tensor([19.0]), torch.tensor([21.0]), Scheme(signed=False, symmetric=False))
    (tensor([0.0824]), tensor([0], dtype=torch.int32))
    """
    largest = torch.finfo(torch.float32).max
    low = low.float().clamp(-largest, 0.0)
    high = high.float().clamp(0.0, largest)
    zero = (low == 0) & (high == 0)
    if scheme.symmetric:
        scale = torch.maximum(-low, high) / scheme.largest
    else:
        steps = scheme.qmax - scheme.qmin
        scale = (high - low) / steps
        scale = torch.where(scale.isinf(), high / steps - low / steps, scale)
    scale = torch.where(zero, torch.ones_like(scale), scale.clamp(min=MIN_SCALE))
    if scheme.levels == "fixed":
        scale = next_power_of_two(scale)
    if scheme.symmetric:
        return scale, torch.zeros_like(scale, dtype=torch.int32)
    zero_point = torch.round(scheme.qmin - low / scale).clamp(scheme.qmin, scheme.qmax)
    return scale, zero_point.masked_fill(zero, 0.0).int()


def next_power_of_two(x: Tensor) -> Tensor:
    """The smallest power of two that is not below x > 0, exact.

    >>> next_power_of_two(torch.tensor([0.5, 0.51, 3.0]))
    tensor([0.5000, 1.0000, 4.0000])
    """
    mantissa, exponent = torch.frexp(x)
    return torch.ldexp(torch.ones_like(x), exponent - (mantissa == 0.5).int())


def codes_f32(x: Tensor, scale: Tensor, zero_point: Tensor, qmin: int, qmax: int) -> Tensor:
    """clamp(round_half_even(x / scale) + zero_point, qmin, qmax) as float32; arguments broadcast.

    Equal, as numbers, to the codes of `torch.ops.ptqx.quantize`; NaN stays NaN.
    """
    z = zero_point.float()
    return (x.float() / scale).clamp_(qmin - z, qmax - z).round_().add_(z)


def dequantize_codes(codes: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """float32((codes - zero_point) * scale); arguments broadcast."""
    return (codes.float() - zero_point.float()) * scale


def midrise_offset(scale: Tensor, midrise: Tensor | int) -> Tensor:
    """scale / 2 where midrise is 1, else 0: real = scale * q + offset; the halving is exact."""
    return scale * (0.5 * midrise)


def split_rows(x: Tensor, scheme: Scheme) -> list[Tensor]:
    """The values that share a scale as rows: a list of [rows, values per row], in the order of scale.

    Per tensor [1, n]; per channel and per sample [dim 0, rest]. Per group [channels, group_size * taps] for
    every group of input channels in turn; where group_size does not divide them the last is narrower.
    """
    if scheme.granularity == "tensor":
        return [x.reshape(1, -1)]
    if x.dim() < 2 and scheme.granularity == "group":
        raise PtqxError(f"granularity 'group' needs at least 2 dimensions, got shape {tuple(x.shape)}")
    if scheme.granularity == "group":
        return [group.flatten(1) for group in x.split(scheme.group_size, dim=1)]
    return [x.reshape(x.shape[0], -1) if x.numel() else x.new_zeros(x.shape[0], 0)]


def expand_to(parameter: Tensor, x: Tensor, scheme: Scheme) -> Tensor:
    """A scale or zero point ([1], [channels], [channels, groups] or [N]) made to broadcast with x.

    >>> expand_to(torch.ones(64), torch.ones(64, 32, 3, 3), Scheme(granularity="channel")).shape
    torch.Size([64, 1, 1, 1])
    """
    if scheme.granularity == "tensor":
        return parameter.reshape(())
    if scheme.granularity == "group":
        parameter = parameter.repeat_interleave(scheme.group_size, dim=1)[:, : x.shape[1]]
    return parameter.reshape(parameter.shape + (1,) * (x.dim() - parameter.dim()))


def check_finite(x: Tensor, name: str) -> None:
    """Raise a PtqxError with the count if x holds NaN or an infinity; not in a traced graph."""
    if torch.compiler.is_compiling() or x.numel() == 0:
        return
    low, high = torch.aminmax(x.detach())
    if not torch.isfinite(low) or not torch.isfinite(high):
        bad = int((~torch.isfinite(x)).sum())
        raise PtqxError(f"{name}: {bad} of {x.numel()} values are NaN or infinite")
