"""Sets of levels: what the codes of a scheme stand for, and a tensor quantized with them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import PtqxError
from .affine import MIN_SCALE, codes_f32, dequantize_codes, expand_to
from .midrise import level_offset, observe_levels, qparams_of_levels
from .observer import observe_whole
from .registry import LEVELS, register_levels
from .scheme import Scheme

Parameters = Mapping[str, Tensor]


class Levels(ABC):
    """A set of levels. A new one is one subclass decorated with `@register_levels("name")`.

    `fit` finds the parameters (one entry per scale, see Scheme) of a whole tensor, `codes` and `values` map
    to codes and back with them.
    """

    name: str  # set by register_levels
    allowed_bits: range = range(2, 9)

    @classmethod
    def check(cls, scheme: Scheme) -> None:
        """Raise a PtqxError if the scheme asks for what these levels can't do."""
        return

    @abstractmethod
    def fit(self, x: Tensor, scheme: Scheme, name: str = "input") -> Parameters: ...

    @abstractmethod
    def codes(self, x: Tensor, parameters: Parameters, scheme: Scheme) -> Tensor: ...

    @abstractmethod
    def values(self, codes: Tensor, parameters: Parameters, scheme: Scheme) -> Tensor: ...


@dataclass(frozen=True)
class QuantizedTensor:
    """Codes with what they mean: `dequantize()` gives the real values back."""

    codes: Tensor
    parameters: Parameters = field(repr=False)
    scheme: Scheme

    def dequantize(self) -> Tensor:
        """float32, of the codes' shape."""
        return LEVELS[self.scheme.levels]().values(self.codes, self.parameters, self.scheme)


def quantize_tensor(x: Tensor, scheme: Scheme, name: str = "input") -> QuantizedTensor:
    """Quantize a whole float tensor with any registered levels; codes have its shape and the scheme's dtype.

    Raises:
        PtqxError: NaN or infinite values, with their count; `name` is what the message calls the tensor.

    >>> weights = torch.tensor([[0.5, -1.0], [2.0, 0.25]])
    >>> q = quantize_tensor(weights, Scheme(granularity="channel"))
    >>> q.codes
    tensor([[  64, -127],
            [ 127,   16]], dtype=torch.int8)
    >>> q.dequantize()
    tensor([[ 0.5039, -1.0000],
            [ 2.0000,  0.2520]])
    """
    levels: Levels = LEVELS[scheme.levels]()
    parameters = levels.fit(x, scheme, name)
    return QuantizedTensor(levels.codes(x, parameters, scheme).to(scheme.dtype), parameters, scheme)


@register_levels("uniform")
class Uniform(Levels):
    """real = scale * (q - zero_point), or scale * (q + 1/2) where "midrise" is 1 (2 bits).

    Stochastic rounding adds uniform noise in [0, 1) and rounds down.

    The noise is drawn from torch's global CPU generator in the order of the elements: torch.manual_seed makes
    it reproducible, whatever the number of threads.
    """

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
        noise = torch.rand(x.shape).to(x.device)
        return (torch.floor(x.float() / scale + noise) + zero_point).clamp(scheme.qmin, scheme.qmax)

    def values(self, codes: Tensor, parameters: Parameters, scheme: Scheme) -> Tensor:
        scale, zero_point = parameters["scale"], parameters["zero_point"]
        real = dequantize_codes(codes, expand_to(scale, codes, scheme), expand_to(zero_point, codes, scheme))
        return real + level_offset(scale, parameters.get("midrise"), codes, scheme)


@register_levels("shift")
class Shift(Levels):
    """Shift and scale: real = scale * q + offset, q in 0..2**bits - 1, with a float offset.

    offset = min(x), scale = (max(x) - min(x)) / (2**bits - 1), q = round((x - offset) / scale). All codes are
    used even where the data is far from 0; 0 itself need not be representable. The observer has no say.
    Equal values give scale 1 and codes 0, exactly.

    >>> shift = Scheme(levels="shift", signed=False, symmetric=False)
    >>> q = quantize_tensor(torch.tensor([400.0, 500.0, 600.0]), shift)
    >>> q.codes
    tensor([  0, 128, 255], dtype=torch.uint8)
    >>> [round(value, 3) for value in q.dequantize().tolist()]
    [400.0, 500.392, 600.0]
    """

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
