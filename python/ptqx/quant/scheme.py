"""How one tensor is quantized, as a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from ..errors import PtqxError, unknown_name
from .registry import LEVELS, OBSERVERS

GRANULARITIES = ("tensor", "channel", "group", "sample")
ROUNDINGS = ("nearest", "stochastic")


@dataclass(frozen=True)
class Scheme:
    """How one tensor is quantized: real = scale * (q - zero_point), q an integer in [qmin, qmax].

    Attributes:
        bits: width of a code, 2 to 8 for uniform levels; see the levels for theirs.
        signed: codes are int8, else uint8.
        symmetric: zero_point is 0 and scale = max|x| / qmax; else scale = (max - min) / (qmax - qmin).
        granularity: who shares a scale: the whole "tensor", an output "channel" (dim 0), a "group" of
            `group_size` input channels with all their taps, or a "sample" of a batch (dynamic quantization).
        group_size: input channels per group, a multiple of 4; 0 unless granularity is "group".
        levels: the set of levels, by its registered name: "uniform", "shift", "pow2", "kmeans", ...
        levels_args: keyword arguments of the levels, a mapping or a tuple of (name, value).
        rounding: "nearest" (half to even) or "stochastic".
        seed: of stochastic rounding, 0 to 2**31 - 1.
        observer: which observer finds the range, by its registered name: "minmax", "percentile", "mse", ...
        observer_args: keyword arguments of the observer, a mapping or a tuple of (name, value).
        narrow: leave out the most negative code, so that the range is symmetric. None means the default:
            narrow for symmetric 5 to 8 bits, full below.
        midrise: of symmetric 2-bit weights, real = scale * (q + 1/2): the levels {-3, -1, 1, 3} * scale / 2
            instead of {-2, -1, 0, 1} * scale. None means the default: for every output channel (the whole
            tensor if it shares one scale) the levels with the lesser squared error of the two.

    | bits | symmetric  | symmetric, narrow=True | unsigned |
    |------|------------|------------------------|----------|
    | 8    | -127..127  | -127..127              | 0..255   |
    | 4    | -8..7      | -7..7                  | 0..15    |
    | 2    | -2..1      | -1..1                  | 0..3     |

    Shapes of scale and zero_point for a weight [64, 32, 3, 3]: "tensor" [1]; "channel" [64]; "group" with
    group_size=8 [64, 4], each entry shared by 8*3*3 values. For a batch of activations [N, 32, 8, 8]:
    "tensor" [1], "sample" [N].

    Raises:
        PtqxError: a value outside these, or a combination that has no meaning.

    >>> weights = Scheme(bits=4, granularity="channel")
    >>> weights.qmin, weights.qmax, weights.dtype, weights.storage_bits
    (-8, 7, torch.int8, 4)
    >>> Scheme(bits=8).qmin, Scheme(signed=False, symmetric=False).qmax
    (-127, 255)
    >>> Scheme(observer="percentle")
    Traceback (most recent call last):
    ptqx.errors.PtqxError: unknown observer 'percentle'; did you mean percentile?
    """

    bits: int = 8
    signed: bool = True
    symmetric: bool = True
    granularity: str = "tensor"
    group_size: int = 0
    levels: str = "uniform"
    rounding: str = "nearest"
    observer: str = "minmax"
    observer_args: tuple[tuple[str, Any], ...] = ()
    narrow: bool | None = None
    midrise: bool | None = None
    levels_args: tuple[tuple[str, Any], ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        _check_types(self)
        levels = LEVELS[self.levels]
        if self.bits not in levels.allowed_bits:
            first, last = levels.allowed_bits[0], levels.allowed_bits[-1]
            expected = f"{first} to {last}" if last > first else str(first)
            raise PtqxError(f"bits: expected {expected} for levels {self.levels!r}, got {self.bits}")
        if self.granularity not in GRANULARITIES:
            raise unknown_name("granularity", self.granularity, GRANULARITIES)
        if self.granularity not in levels.granularities:
            raise PtqxError(
                f"granularity: expected {_alternatives(levels.granularities)} for levels {self.levels!r}, "
                f"got {self.granularity!r}"
            )
        if self.rounding not in ROUNDINGS:
            raise unknown_name("rounding", self.rounding, ROUNDINGS)
        if self.symmetric and not self.signed:
            raise PtqxError(
                "symmetric=True needs signed=True; for data that is never negative use "
                "signed=False, symmetric=False: its zero_point comes out as 0"
            )
        if self.narrow and not self.signed:
            raise PtqxError(
                "narrow=True needs signed=True: unsigned codes have no most negative one to leave out"
            )
        if self.midrise and not self.chooses_levels:
            raise PtqxError("midrise=True needs bits=2, levels='uniform', symmetric=True and no narrow=True")
        if self.granularity == "group" and (self.group_size <= 0 or self.group_size % 4):
            raise PtqxError(f"group_size: expected a positive multiple of 4, got {self.group_size}")
        if self.granularity != "group" and self.group_size:
            raise PtqxError(
                f"group_size={self.group_size} needs granularity='group', got {self.granularity!r}"
            )
        OBSERVERS.check_arguments(self.observer, dict(self.observer_args))
        LEVELS.check_arguments(self.levels, dict(self.levels_args))
        levels.check(self)

    @property
    def qmin(self) -> int:
        """The smallest code."""
        if not self.signed:
            return 0
        by_default = self.symmetric and self.bits >= 5 and self.levels == "uniform"
        narrow = by_default if self.narrow is None else self.narrow
        return -(2 ** (self.bits - 1)) + int(narrow)

    @property
    def qmax(self) -> int:
        """The largest code."""
        return 2 ** (self.bits - int(self.signed)) - 1

    @property
    def largest(self) -> float:
        """The largest level of a symmetric scheme in units of scale."""
        return self.qmax + (0.5 if self.midrise else 0.0)

    @property
    def chooses_levels(self) -> bool:
        """Whether `midrise` applies: symmetric, four levels."""
        return self.bits == 2 and self.symmetric and not self.narrow and self.levels == "uniform"

    @property
    def affine(self) -> bool:
        """Whether real = scale * (q - zero_point) is all there is: uniform levels, and fixed point."""
        affine: bool = LEVELS[self.levels].affine
        return affine

    @property
    def of_activations(self) -> bool:
        """Whether the levels are for values between layers, and not for weights."""
        of_activations: bool = LEVELS[self.levels].of_activations
        return of_activations

    @property
    def on_grid(self) -> bool:
        """Whether integer kernels can compute with the levels: scale * (a whole number of 8 bits)."""
        on_grid: bool = LEVELS[self.levels](**dict(self.levels_args)).on_grid
        return on_grid

    @property
    def dtype(self) -> torch.dtype:
        """Of the codes in memory: torch.int8 or torch.uint8; torch.int16 beyond 8 bits."""
        if self.bits > 8:
            return torch.int16
        return torch.int8 if self.signed else torch.uint8

    @property
    def storage_bits(self) -> int:
        """Bits per code in a file: the code's own up to 8 bits, which are packed without gaps, else 16."""
        return self.bits if self.bits <= 8 else 16

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON; `Scheme(**d)` gives the scheme back."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        arguments = {name: dict(getattr(self, name)) for name in ("observer_args", "levels_args")}
        return {**values, **arguments}


def uniform_scheme(scheme: Scheme, bits: int) -> Scheme:
    """The scheme with `bits` and evenly spaced levels.

    >>> uniform_scheme(Scheme(bits=1, levels="binary"), 8)
    Scheme(bits=8, signed=True, ... levels='uniform', ... observer='minmax', ...)
    """
    observer = LEVELS[scheme.levels].wider_observer
    return replace(
        scheme, bits=bits, levels="uniform", levels_args=(), observer=observer, observer_args=(), midrise=None
    )


def scheme_from_dict(values: Mapping[str, Any]) -> Scheme:
    """Scheme(**values), with unknown keys named.

    >>> scheme_from_dict({"bit": 4})
    Traceback (most recent call last):
    ptqx.errors.PtqxError: unknown Scheme field 'bit'; did you mean bits?
    """
    known = [field.name for field in fields(Scheme)]
    for key in values:
        if key not in known:
            raise unknown_name("Scheme field", key, known)
    return Scheme(**values)


def _check_types(scheme: Scheme) -> None:
    for name in ("bits", "group_size", "seed"):
        value = getattr(scheme, name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise PtqxError(f"{name}: expected an int, got {value!r}")
    for name in ("signed", "symmetric"):
        if not isinstance(getattr(scheme, name), bool):
            raise PtqxError(f"{name}: expected True or False, got {getattr(scheme, name)!r}")
    for name in ("narrow", "midrise"):
        if getattr(scheme, name) not in (None, True, False):
            raise PtqxError(f"{name}: expected None, True or False, got {getattr(scheme, name)!r}")
    for name in ("granularity", "levels", "rounding", "observer"):
        if not isinstance(getattr(scheme, name), str):
            raise PtqxError(f"{name}: expected a name, got {getattr(scheme, name)!r}")
    if not 0 <= scheme.seed < 2**31:
        raise PtqxError(f"seed: expected 0 to 2**31 - 1, got {scheme.seed}")
    for name in ("observer_args", "levels_args"):
        value = getattr(scheme, name)
        try:
            arguments = tuple(sorted(dict(value).items()))
            hash(arguments)
        except (TypeError, ValueError) as error:
            raise PtqxError(f"{name}: expected names and plain values, got {value!r}") from error
        object.__setattr__(scheme, name, arguments)


def _alternatives(names: Sequence[str]) -> str:
    quoted = [repr(name) for name in names]
    return " or ".join(filter(None, [", ".join(quoted[:-1]), quoted[-1]]))
