"""Two levels for activations: on which side of a threshold a value lies."""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import PtqxError
from ..affine import MIN_SCALE, expand_to
from ..observer import observe_whole
from ..registry import register_levels
from ..scheme import Scheme
from .base import Levels, Parameters


@register_levels("sign")
class Sign(Levels):
    """Binary activations: real = scale * sign(x - threshold); the code is 1 where x >= threshold, else 0.

    threshold is the middle of the observer's range and scale half its width: with observer "ksigma" and k=1
    they are mean and standard deviation, as far as the data reaches. The levels are on both sides of 0
    whatever the threshold is: after a ReLU too they tell large values from small ones, and the constant that
    is lost is the next bias's. Zero padding stays 0, between the levels.
    Rastegari et al., "XNOR-Net", ECCV 2016; Liu et al., "ReActNet", ECCV 2020 (the threshold).

    >>> from ptqx.quant import quantize_tensor
    >>> scheme = Scheme(bits=1, levels="sign", signed=False, symmetric=False)
    >>> q = quantize_tensor(torch.tensor([0.0, 0.75, 1.0, 4.0]), scheme)
    >>> q.codes, q.dequantize()
    (tensor([0, 0, 0, 1], dtype=torch.uint8), tensor([-2., -2., -2.,  2.]))
    """

    allowed_bits = range(1, 2)
    granularities = ("tensor",)
    of_activations = True
    wider_observer = "mse"

    @classmethod
    def check(cls, scheme: Scheme) -> None:
        if scheme.signed or scheme.symmetric:
            raise PtqxError("levels 'sign' need signed=False, symmetric=False: their codes are 0 and 1")
        if scheme.rounding != "nearest":
            raise PtqxError("levels 'sign' compare with a threshold: rounding must be 'nearest'")
        if scheme.observer in ("mse", "kl"):
            raise PtqxError(
                f"levels 'sign': observer {scheme.observer!r} is for evenly spaced levels; use 'ksigma', "
                "'percentile' or 'minmax'"
            )

    def blank(self, shape: tuple[int, ...], scheme: Scheme) -> Parameters:
        return {"scale": torch.ones(shape), "threshold": torch.zeros(shape)}

    def fit(self, x: Tensor, scheme: Scheme, name: str = "input") -> Parameters:
        return self.around(*observe_whole(x, scheme, name))

    def codes(self, x: Tensor, parameters: Parameters, scheme: Scheme) -> Tensor:
        return (x.float() >= expand_to(parameters["threshold"], x, scheme)).float()

    def values(self, codes: Tensor, parameters: Parameters, scheme: Scheme) -> Tensor:
        return (2 * codes.float() - 1) * expand_to(parameters["scale"], codes, scheme)

    @staticmethod
    def around(low: Tensor, high: Tensor) -> Parameters:
        """Scale and threshold of a range."""
        return {"scale": (high / 2 - low / 2).clamp(min=MIN_SCALE), "threshold": low / 2 + high / 2}
