"""What a set of levels must know, and a tensor quantized with any of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from ...errors import PtqxError
from ..registry import LEVELS
from ..scheme import Scheme

Parameters = Mapping[str, Tensor]


class Levels(ABC):
    """A set of levels: what the codes of a scheme stand for.

    A new one is one subclass decorated with `@register_levels("name")`. `fit` finds the parameters (one entry
    per scale, see Scheme) of a whole tensor, `codes` and `values` map to codes and back with them. Keyword
    arguments of its __init__ become `Scheme.levels_args`.
    """

    name: str  # set by register_levels
    allowed_bits: range = range(2, 9)
    granularities: tuple[str, ...] = ("tensor", "channel", "group", "sample")
    affine = False  # real = scale * (q - zero_point) and nothing else
    weighs_importance = False  # `fit` takes `importance`
    of_activations = False  # they stand for values between layers, not for weights
    wider_observer = "minmax"  # of the uniform levels that take their place where more bits are asked for
    learned_by = "levels"  # the quantizer that trains with them, by its registered name

    @classmethod
    def check(cls, scheme: Scheme) -> None:
        """Raise a PtqxError if the scheme asks for what these levels can't do."""
        return

    @property
    def on_grid(self) -> bool:
        """Whether all values are scale * (a whole number of 8 bits), so that integer kernels can compute."""
        return True

    @abstractmethod
    def blank(self, shape: tuple[int, ...], scheme: Scheme) -> Parameters:
        """Parameters before any fit, for scales of `shape`: those of `fit` have the same shapes."""

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
        return make_levels(self.scheme).values(self.codes, self.parameters, self.scheme)


def make_levels(scheme: Scheme) -> Levels:
    """The scheme's levels, with its `levels_args`."""
    levels: Levels = LEVELS[scheme.levels](**dict(scheme.levels_args))
    return levels


def quantize_tensor(
    x: Tensor, scheme: Scheme, name: str = "input", importance: Tensor | None = None
) -> QuantizedTensor:
    """Quantize a whole float tensor with any registered levels; codes have its shape and the scheme's dtype.

    Args:
        name: what an error message calls the tensor.
        importance: of x's shape, not negative: how much the squared error of every value counts, such as the
            diagonal of a Hessian. For levels that are fitted to it ("kmeans").

    Raises:
        PtqxError: NaN or infinite values, with their count; what the levels can't do with this tensor.

    >>> import torch
    >>> weights = torch.tensor([[0.5, -1.0], [2.0, 0.25]])
    >>> q = quantize_tensor(weights, Scheme(granularity="channel"))
    >>> q.codes
    tensor([[  64, -127],
            [ 127,   16]], dtype=torch.int8)
    >>> q.dequantize()
    tensor([[ 0.5039, -1.0000],
            [ 2.0000,  0.2520]])
    """
    levels = make_levels(scheme)
    parameters = fit_levels(levels, x, scheme, name, importance)
    return QuantizedTensor(levels.codes(x, parameters, scheme).to(scheme.dtype), parameters, scheme)


def fit_levels(
    levels: Levels, x: Tensor, scheme: Scheme, name: str, importance: Tensor | None = None
) -> Parameters:
    """levels.fit, with the importance where there is one and the levels weigh it."""
    if importance is None:
        return levels.fit(x, scheme, name)
    if not levels.weighs_importance:
        known = ", ".join(repr(n) for n, cls in LEVELS.items() if cls.weighs_importance)
        raise PtqxError(
            f"{name}: importance: levels {scheme.levels!r} do not weigh values; these do: {known}"
        )
    return levels.fit(x, scheme, name, importance=importance)  # type: ignore[call-arg]
