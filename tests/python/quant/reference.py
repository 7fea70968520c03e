"""Plain autograd twins of the operators that quantizers call: slow, obvious, same arguments."""

from __future__ import annotations

import torch
from torch import Tensor


def _expand(parameter: Tensor, x: Tensor, axis: int, group_size: int) -> Tensor:
    if parameter.numel() == 1:
        return parameter.reshape(())
    if group_size:
        parameter = parameter.repeat_interleave(group_size, dim=1)[:, : x.shape[1]]
        return parameter.reshape(parameter.shape + (1,) * (x.dim() - 2))
    shape = [1] * x.dim()
    shape[axis] = -1
    return parameter.reshape(shape)


def _straight_through(value: Tensor, slope_of: Tensor) -> Tensor:
    """`value` going forward, the gradient of `slope_of` going back."""
    return slope_of + (value - slope_of).detach()


def quantize(x, scale, zero_point, qmin, qmax, axis=0, group_size=0):
    s, z = _expand(scale, x, axis, group_size), _expand(zero_point, x, axis, group_size)
    codes = torch.clamp(torch.round(x / s), qmin - z, qmax - z) + z
    return codes.to(torch.uint8 if qmin >= 0 else torch.int8)


def fake_quantize(x, scale, zero_point, qmin, qmax, axis=0, group_size=0):
    s = _expand(scale, x, axis, group_size)
    z = _expand(zero_point, x, axis, group_size).float()
    z = _straight_through(z.round(), z)
    t = x / s
    rounded = _straight_through(t.round(), t)
    codes = rounded + z.detach()
    inside = (codes >= qmin) & (codes <= qmax)
    end = torch.where(codes < qmin, qmin, qmax) - z
    return torch.where(inside, rounded, end) * s


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, parameter, factor):
        ctx.factor = factor
        return parameter.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.factor, None


def lsq(x, scale, zero_point, qmin, qmax, grad_factor=0.0, axis=0, group_size=0):
    factor = grad_factor or (x.numel() / scale.numel() * qmax) ** -0.5
    zero_point = (
        zero_point if not zero_point.is_floating_point() else _ScaleGradient.apply(zero_point, factor)
    )
    return fake_quantize(x, _ScaleGradient.apply(scale, factor), zero_point, qmin, qmax, axis, group_size)
