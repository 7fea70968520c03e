"""Evenly spaced levels: affine codes, and shift-and-scale with a float offset."""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import PtqxError
from ..affine import MIN_SCALE, codes_f32, dequantize_codes, expand_to
from ..midrise import level_offset, observe_levels, qparams_of_levels
from ..noise import uniform_noise
from ..observer import observe_whole
from ..registry import register_levels
from ..scheme import Scheme
from .base import Levels, Parameters


@register_levels("uniform")
class Uniform(Levels):
    """real = scale * (q - zero_point), or scale * (q + 1/2) where "midrise" is 1 (2 bits).

    Stochastic rounding adds noise in [0, 1) and rounds down, so that a value's expectation is itself (Gupta
    et al., "Deep Learning with Limited Numerical Precision", ICML 2015). The noise of an element depends on
    the scheme's seed and the element's index alone, not on the number of threads.

    >>> from ptqx.quant import quantize_tensor
    >>> x = torch.tensor([0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 127.0])
    >>> quantize_tensor(x, Scheme(rounding="stochastic", seed=4)).codes
    tensor([  0,   1,   1,   0,   0,   0, 127], dtype=torch.int8)
    """

    affine = True

    def blank(self, shape: tuple[int, ...], scheme: Scheme) -> Parameters:
        levels = {"midrise": torch.zeros(shape[:1], dtype=torch.uint8)} if scheme.chooses_levels else {}
        return {"scale": torch.ones(shape), "zero_point": torch.zeros(shape, dtype=torch.int32), **levels}

    def fit(self, x: Tensor, scheme: Scheme, name: str = "input") -> Parameters:
        observed = observe_levels(x, scheme, name)
        scale, zero_point = qparams_of_levels(observed, scheme)
        levels = {} if observed.midrise is None else {"midrise": observed.midrise}
        return {"scale": scale, "zero_point": zero_point, **levels}

    def codes(self, x: Tensor, parameters: Parameters, scheme: Scheme) -> Tensor:
        x = x - level_offset(parameters["scale"], parameters.get("midrise"), x, scheme)
        scale = expand_to(parameters["scale"], x, scheme)
        zero_point = expand_to(parameters["zero_point"], x, scheme)
        if scheme.rounding == "nearest":
            return codes_f32(x, scale, zero_point, scheme.qmin, scheme.qmax)
        noise = uniform_noise(x.shape, scheme.seed, device=x.device)
        return stochastic_codes(x, scale, zero_point, scheme, noise)

    def values(self, codes: Tensor, parameters: Parameters, scheme: Scheme) -> Tensor:
        scale, zero_point = parameters["scale"], parameters["zero_point"]
        real = dequantize_codes(codes, expand_to(scale, codes, scheme), expand_to(zero_point, codes, scheme))
        return real + level_offset(scale, parameters.get("midrise"), codes, scheme)


def stochastic_codes(x: Tensor, scale: Tensor, zero_point: Tensor, scheme: Scheme, noise: Tensor) -> Tensor:
    """clamp(floor(x / scale + noise) + zero_point, qmin, qmax) as float32; the sum is a float64's.

    >>> x, one = torch.tensor([2.0, 2.0, 2.25]), torch.ones(1)
    >>> stochastic_codes(x, one, 0 * one, Scheme(), torch.tensor([0.0, 0.9999, 0.75]))
    tensor([2., 2., 3.])
    """
    steps = torch.floor((x.float() / scale).double() + noise)
    return (steps + zero_point).clamp(scheme.qmin, scheme.qmax).float()


@register_levels("fixed")
class FixedPoint(Uniform):
    """Fixed point Qm.n of `bits` bits, two's complement: real = q / 2**n.

    n is the largest for which the range fits: scale = 2**-n is the range's scale rounded up to a power of
    two, so that multiplying scales is shifting (ARM's notation: m = bits - n integer bits, the sign among
    them). Values beyond the range saturate.

    >>> from ptqx.quant import quantize_tensor
    >>> q = quantize_tensor(torch.tensor([3.14159, -0.5]), Scheme(bits=16, levels="fixed"))
    >>> q.codes, q.parameters["scale"].log2()
    (tensor([25736, -4096], dtype=torch.int16), tensor([-13.]))
    >>> q.dequantize()
    tensor([ 3.1416, -0.5000])
    """

    allowed_bits = range(2, 17)
    granularities = ("tensor", "channel")

    @classmethod
    def check(cls, scheme: Scheme) -> None:
        if not scheme.signed or not scheme.symmetric:
            raise PtqxError("levels 'fixed' need signed=True, symmetric=True: fixed point has no zero point")
        if scheme.rounding != "nearest":
            raise PtqxError(
                "levels 'fixed' round to the nearest; rounding='stochastic' needs levels='uniform'"
            )


@register_levels("shift")
class Shift(Levels):
    """Shift and scale: real = scale * q + offset, q in 0..2**bits - 1, with a float offset.

    offset = min(x), scale = (max(x) - min(x)) / (2**bits - 1), q = round((x - offset) / scale). All codes are
    used even where the data is far from 0; 0 itself need not be representable, so there is no integer
    arithmetic with it. The observer has no say. Equal values give scale 1 and codes 0, exactly.

    >>> from ptqx.quant import quantize_tensor
    >>> shift = Scheme(levels="shift", signed=False, symmetric=False)
    >>> q = quantize_tensor(torch.tensor([400.0, 500.0, 600.0]), shift)
    >>> q.codes
    tensor([  0, 128, 255], dtype=torch.uint8)
    >>> [round(value, 3) for value in q.dequantize().tolist()]
    [400.0, 500.392, 600.0]
    """

    granularities = ("tensor", "channel")

    @property
    def on_grid(self) -> bool:
        return False

    @classmethod
    def check(cls, scheme: Scheme) -> None:
        if scheme.signed or scheme.symmetric:
            raise PtqxError("levels 'shift' need signed=False, symmetric=False: their codes start at 0")
        if scheme.observer != "minmax":
            raise PtqxError(
                f"levels 'shift' span the data's range: observer must be 'minmax', got {scheme.observer!r}"
            )
        if scheme.rounding != "nearest":
            raise PtqxError("levels 'shift' round to the nearest")

    def blank(self, shape: tuple[int, ...], scheme: Scheme) -> Parameters:
        return {"scale": torch.ones(shape), "offset": torch.zeros(shape)}

    def fit(self, x: Tensor, scheme: Scheme, name: str = "input") -> Parameters:
        low, high = observe_whole(x, scheme, name)
        scale = ((high / 2 - low / 2) / scheme.qmax * 2).clamp(min=MIN_SCALE)
        scale = torch.where(high > low, scale, torch.ones_like(scale))
        return {"scale": scale, "offset": low}

    def codes(self, x: Tensor, parameters: Parameters, scheme: Scheme) -> Tensor:
        scale, offset = (expand_to(parameters[key], x, scheme) for key in ("scale", "offset"))
        # Halves, which are exact, because x - offset may exceed float32.
        return ((x.float() / 2 - offset / 2) / (scale / 2)).round().clamp(scheme.qmin, scheme.qmax)

    def values(self, codes: Tensor, parameters: Parameters, scheme: Scheme) -> Tensor:
        scale, offset = (expand_to(parameters[key], codes, scheme) for key in ("scale", "offset"))
        return (codes.double() * scale + offset).float()
