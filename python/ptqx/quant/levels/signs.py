"""One or two magnitudes: binary and ternary weights."""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import PtqxError
from ..affine import MIN_SCALE, check_finite, expand_to
from ..registry import register_levels
from ..scheme import Scheme
from .base import Parameters
from .codebook import Codebook, positive_scale, shared_mean

GRID = 127  # the largest whole number of a level


@register_levels("binary")
class Binary(Codebook):
    """real = scale * sign(x), with scale = mean(|x|), which has the least squared error; sign(0) is 1.

    There is no level at 0: values that are all 0 get the smallest scale there is, 2**-64.
    Rastegari et al., "XNOR-Net", ECCV 2016, equation 6.

    >>> from ptqx.quant import quantize_tensor
    >>> quantize_tensor(torch.tensor([0.5, -1.0, 0.0]), Scheme(bits=1, levels="binary")).dequantize()
    tensor([ 0.5000, -0.5000,  0.5000])
    """

    allowed_bits = range(1, 2)
    learned_by = "refitted_levels"

    @classmethod
    def check(cls, scheme: Scheme) -> None:
        super().check(scheme)
        _check_observer(scheme)

    def table(self, bits: int) -> Tensor:
        return torch.tensor([-1.0, 1.0])

    def fit(self, x: Tensor, scheme: Scheme, name: str = "input") -> Parameters:
        check_finite(x, name)
        scale = shared_mean(x.detach().abs(), scheme).clamp(min=MIN_SCALE)
        return {"scale": scale, "levels": self.table(1)[None].to(x.device)}

    def codes(self, x: Tensor, parameters: Parameters, scheme: Scheme) -> Tensor:
        return (x >= 0).float() - 1


@register_levels("ternary")
class Ternary(Codebook):
    """real = scale * {-1, 0, 1}: 0 where |x| <= 0.7 * mean(|x|); scale is the mean |x| of the others.

    Parameters: also "threshold", in units of scale.
    Li, Zhang, Liu, "Ternary Weight Networks", 2016, equations 5 and 6.

    >>> from ptqx.quant import quantize_tensor
    >>> quantize_tensor(torch.tensor([0.5, -1.0, 0.1]), Scheme(bits=2, levels="ternary")).dequantize()
    tensor([ 0.7500, -0.7500,  0.0000])
    """

    allowed_bits = range(2, 3)
    learned_by = "refitted_levels"
    factor = 0.7

    @classmethod
    def check(cls, scheme: Scheme) -> None:
        super().check(scheme)
        _check_observer(scheme)

    def table(self, bits: int) -> Tensor:
        return torch.tensor([-1.0, -1.0, 0.0, 1.0])

    def blank(self, shape: tuple[int, ...], scheme: Scheme) -> Parameters:
        return {**super().blank(shape, scheme), "threshold": torch.full(shape, 0.5)}

    def fit(self, x: Tensor, scheme: Scheme, name: str = "input") -> Parameters:
        check_finite(x, name)
        size = x.detach().float().abs()
        threshold = self.factor * shared_mean(size, scheme)
        scale = positive_scale(shared_mean(size, scheme, size > expand_to(threshold, x, scheme)))
        return {"scale": scale, "levels": self.table(2)[None].to(x.device), "threshold": threshold / scale}

    def codes(self, x: Tensor, parameters: Parameters, scheme: Scheme) -> Tensor:
        scale, threshold = (expand_to(parameters[key], x, scheme) for key in ("scale", "threshold"))
        steps = x.float() / scale
        return (steps > threshold).float() - (steps < -threshold).float()


@register_levels("ttq")
class TrainedTernary(Ternary):
    """real = {-n, 0, p}, two scales: p is the mean of x above 0.05 * max(|x|), -n of that below its negative.

    In training p and n are learned. Both lie on a grid of 127 steps, scale = max(p, n) / 127, so that
    integer kernels compute with them. Parameters: as Ternary, with levels for every scale.
    Zhu et al., "Trained Ternary Quantization", ICLR 2017, equations 6 to 9.

    >>> from ptqx.quant import quantize_tensor
    >>> quantize_tensor(torch.tensor([0.5, -1.0, 0.01]), Scheme(bits=2, levels="ttq")).dequantize()
    tensor([ 0.5039, -1.0000,  0.0000])
    """

    granularities: tuple[str, ...] = ("tensor", "channel")
    learned_by = "learned_sides"
    factor = 0.05

    def fit(self, x: Tensor, scheme: Scheme, name: str = "input") -> Parameters:
        check_finite(x, name)
        x = x.detach().float()
        threshold = self.absolute_threshold(x, scheme)
        column = expand_to(threshold, x, scheme)
        positive, negative = (shared_mean(side, scheme, side > column) for side in (x, -x))
        scale, levels = self.grid(positive, negative)
        return {"scale": scale, "levels": levels, "threshold": threshold / scale}

    def blank(self, shape: tuple[int, ...], scheme: Scheme) -> Parameters:
        levels = self.table(2).expand(shape[0], -1).clone()
        return {**super().blank(shape, scheme), "levels": levels}

    def absolute_threshold(self, x: Tensor, scheme: Scheme) -> Tensor:
        """0.05 * max(|x|), [channels or 1]."""
        largest = x.abs().amax().reshape(1) if scheme.granularity == "tensor" else x.abs().flatten(1).amax(1)
        return self.factor * largest.float()

    @staticmethod
    def grid(positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and levels [channels or 1, 4] of the two magnitudes, each [channels or 1]."""
        scale = positive_scale(torch.maximum(positive, negative) / GRID)
        below, above = (torch.round(size / scale) for size in (negative, positive))
        return scale, torch.stack([-below, -below, torch.zeros_like(above), above], dim=1)


def _check_observer(scheme: Scheme) -> None:
    if scheme.observer != "minmax":
        raise PtqxError(
            f"levels {scheme.levels!r} find their own scale: observer must be 'minmax', "
            f"got {scheme.observer!r}"
        )
