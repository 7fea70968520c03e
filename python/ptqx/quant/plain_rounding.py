"""Quantizers that round in plain torch: stochastically, and to fixed point."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import PtqxError
from .affine import check_finite, codes_f32, expand_to
from .calibrated import Fixed, MovingAverage
from .learned import LSQ
from .levels import stochastic_codes
from .noise import stream_of, uniform_noise
from .quantizer import Quantizer
from .registry import register_quantizer
from .scheme import Scheme


class PlainRounding(Quantizer):
    """Rounds in plain torch, by `_rounded_at`; gradients are those of rounding to the nearest."""

    def rounded(self, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        return self._rounded_at(x, scale, zero_point, 0)

    def quantize(self, x: Tensor) -> Tensor:
        check_finite(x, self.tensor_name)
        return self.codes_f32(x).to(self.scheme.dtype)

    def forward_scaled(self, x: Tensor, factor: Tensor) -> Tensor:
        return self._forward_scaled_apart(x, factor)

    def _rounded_at(self, x: Tensor, scale: Tensor, zero_point: Tensor, step: Tensor | int) -> Tensor:
        raise NotImplementedError

    def _training_step(self) -> Tensor | int:
        return 0

    def _fake_quantize(self, x: Tensor) -> Tensor:
        scale, zero_point = self._training_scale(x), self.zero_point
        codes = self._rounded_at(x.detach(), scale.detach(), zero_point, self._training_step())
        scale, zero_point = (expand_to(parameter, x, self.scheme) for parameter in (scale, zero_point))
        low, high = (bound - zero_point for bound in (self.scheme.qmin, self.scheme.qmax))
        steps = torch.clamp(x / scale, low, high)
        return scale * (steps + (codes - zero_point - steps).detach())

    def _codes(self, x: Tensor) -> Tensor:
        return self._fake_quantize(x) / self.scale.detach()


class StochasticRounding(PlainRounding):
    """q = clamp(floor(x / scale + noise) + zero_point, qmin, qmax), noise uniform in [0, 1).

    The mean of q is x / scale + zero_point. The noise is `uniform_noise` of the scheme's seed, the tensor's
    name and `step`: in train() every pass takes another step, in eval() it is step 0, so that a converted
    model is always the same.
    """

    step: Tensor

    def _check_scheme(self, scheme: Scheme) -> None:
        if scheme.levels != "uniform" or scheme.rounding != "stochastic":
            raise PtqxError(
                f"a {type(self).__name__} quantizer needs levels='uniform' and rounding='stochastic', "
                f"got {scheme.levels!r} and {scheme.rounding!r}"
            )

    def _make_qparams(self, ones: Tensor) -> None:
        super()._make_qparams(ones)
        self.register_buffer("step", torch.zeros(1, dtype=torch.int64))
        self._stream = stream_of(self.tensor_name)

    def _training_step(self) -> Tensor | int:
        if not self.training:
            return 0
        self.step += 1
        return self.step

    def _rounded_at(self, x: Tensor, scale: Tensor, zero_point: Tensor, step: Tensor | int) -> Tensor:
        scale, zero_point = (expand_to(parameter, x, self.scheme) for parameter in (scale, zero_point))
        noise = uniform_noise(x.shape, self.scheme.seed, self._stream, step, x.device)
        return stochastic_codes(x, scale, zero_point, self.scheme, noise)


class FixedPointRounding(PlainRounding):
    """Of levels "fixed": a power of two as the scale, up to 16 bits."""

    def _check_scheme(self, scheme: Scheme) -> None:
        if scheme.levels != "fixed":
            raise PtqxError(f"a {type(self).__name__} quantizer needs levels='fixed', got {scheme.levels!r}")

    def _rounded_at(self, x: Tensor, scale: Tensor, zero_point: Tensor, step: Tensor | int) -> Tensor:
        scale, zero_point = (expand_to(parameter, x, self.scheme) for parameter in (scale, zero_point))
        return codes_f32(x, scale, zero_point, self.scheme.qmin, self.scheme.qmax)


@register_quantizer("fixed_point")
class FixedPointFixed(FixedPointRounding, Fixed):
    """The scale stays as calibrated."""


@register_quantizer("fixed_point_moving_average")
class FixedPointMovingAverage(FixedPointRounding, MovingAverage):
    """The scale follows the data; it is never learned, because it is a power of two."""


@register_quantizer("stochastic")
class StochasticFixed(StochasticRounding, Fixed):
    """Scale and zero point stay as calibrated."""


@register_quantizer("stochastic_moving_average")
class StochasticMovingAverage(StochasticRounding, MovingAverage):
    """The range follows the data."""


@register_quantizer("stochastic_lsq")
class StochasticLSQ(StochasticRounding, LSQ):
    """The scale is learned."""
