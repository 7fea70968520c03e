"""Targets: what runs a quantized network in integers, and which recipes it can express.

A target is a list of rules: a field of the recipe or of a scheme, the values that the target takes, the best
first, and why. A new target is an entry of TARGETS.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import PtqxError, unknown_name
from .recipe import Recipe, resolve
from .scheme import Scheme

OF_SCHEMES = ("weights", "activations")


@dataclass(frozen=True)
class Rule:
    """`part` is "weights", "activations" or "recipe", the owner of `field`; `allowed` begins with the
    best."""

    part: str
    field: str
    allowed: tuple[Any, ...]
    reason: str

    def is_met(self, owner: Any) -> bool:
        return getattr(owner, self.field) in self.allowed

    @property
    def change(self) -> tuple[str, Any]:
        """Field and value that meet it."""
        return ("levels", "uniform") if self.field == "on_grid" else (self.field, self.allowed[0])


@dataclass(frozen=True)
class Unmet:
    """What a target can't express: the field, its value, and what to take instead."""

    where: str
    value: Any
    change: Any
    reason: str

    def __str__(self) -> str:
        return f"{self.where}={self.value!r} ({self.reason}): use {self.change!r}"


def _rules(part: str, reason: str, **allowed: tuple[Any, ...]) -> tuple[Rule, ...]:
    return tuple(Rule(part, field, values, reason) for field, values in allowed.items())


STATIC = _rules("activations", "ranges are fixed before it runs", granularity=("tensor",))
EIGHT_BITS = (
    *_rules("weights", "kernels of 8 bits", bits=(8,)),
    *_rules("activations", "kernels of 8 bits", bits=(8,)),
)
UP_TO_EIGHT_BITS = (
    *_rules("weights", "kernels of 8 bits or fewer", bits=tuple(range(8, 0, -1))),
    *_rules("activations", "kernels of 8 bits or fewer", bits=tuple(range(8, 0, -1))),
)
UNIFORM = (
    *_rules("weights", "one scale and zero point stand for the levels", levels=("uniform",)),
    *_rules("activations", "one scale and zero point stand for the levels", levels=("uniform", "fixed")),
)
SYMMETRIC = _rules("weights", "no zero points of channels", symmetric=(True,), signed=(True,))
QUANTIZED_SUMS = _rules("recipe", "its additions take codes", residual=("requantized",))
WITH_FLOATS = _rules("recipe", "its kernels requantize in float32", requantize=("float",))

TARGETS: dict[str, tuple[Rule, ...]] = {
    "cpu": (
        *STATIC,
        *UP_TO_EIGHT_BITS,
        *_rules("weights", "levels that are no whole numbers are simulated", on_grid=(True,)),
        *_rules("weights", "groups take a sum of scaled parts", granularity=("channel", "tensor")),
        *SYMMETRIC,
        *_rules("recipe", "added to the sums before the one rounding", bias=("int32",), residual=("fused",)),
        *WITH_FLOATS,
    ),
    "onnxruntime": (
        *STATIC,
        *UP_TO_EIGHT_BITS,
        *_rules("weights", "stored as INT8 or INT4", on_grid=(True,)),
        *_rules("weights", "convolutions with blocks run in float", granularity=("channel", "tensor")),
        *SYMMETRIC,
        *_rules("recipe", "integer kernels take int32", bias=("int32",)),
        *QUANTIZED_SUMS,
        *WITH_FLOATS,
    ),
    "openvino": (
        *STATIC,
        *EIGHT_BITS,
        *UNIFORM,
        *_rules("weights", "convolutions have no groups of scales", granularity=("channel", "tensor")),
        *SYMMETRIC,
        *QUANTIZED_SUMS,
        *WITH_FLOATS,
    ),
    "pow2-device": (
        *_rules("weights", "scales are powers of two", levels=("fixed",)),
        *_rules("activations", "scales are powers of two", levels=("fixed",)),
        *_rules("weights", "one scale a tensor", granularity=("tensor",)),
        *STATIC,
        *_rules("weights", "registers of 8 or 16 bits", bits=(8, 16)),
        *_rules("activations", "registers of 8 or 16 bits", bits=(8, 16)),
        *_rules("weights", "no zero points", symmetric=(True,), signed=(True,)),
        *_rules("activations", "no zero points", symmetric=(True,), signed=(True,)),
        *_rules("weights", "fixed point rounds to the nearest", rounding=("nearest",)),
        *_rules("recipe", "it has no floats", requantize=("shift",), bias=("int32",)),
        *QUANTIZED_SUMS,
    ),
    "general": (
        *STATIC,
        *EIGHT_BITS,
        *UNIFORM,
        *_rules("weights", "some runtimes have one scale a tensor", granularity=("tensor",)),
        *SYMMETRIC,
        *_rules("recipe", "integer kernels take int32", bias=("int32",)),
        *QUANTIZED_SUMS,
        *WITH_FLOATS,
    ),
}


def unmet(recipe: Recipe, target: str) -> list[Unmet]:
    """What of `recipe` the target can't express, and what to take instead; empty if it can all of it.

    >>> from ptqx.quant import recipe
    >>> unmet(recipe("int8"), "cpu")
    []
    >>> for finding in unmet(recipe("w4a8"), "openvino"):
    ...     print(finding)
    weights.bits=4 (kernels of 8 bits): use 8
    residual='fused' (its additions take codes): use 'requantized'
    """
    rules = _known(target)
    found: list[Unmet] = []
    for prefix, schemes in _schemes(recipe):
        for part, scheme in schemes.items():
            found += _unmet_of_scheme(rules, prefix, part, scheme)
    for rule in rules:
        if rule.part == "recipe" and not rule.is_met(recipe):
            found.append(Unmet(rule.field, getattr(recipe, rule.field), rule.allowed[0], rule.reason))
    return found


def require(recipe: Recipe, target: str) -> None:
    """
    Raises:
        PtqxError: the target can't express the recipe; all that `unmet` finds.
    """
    findings = unmet(recipe, target)
    if findings:
        raise PtqxError(
            f"target {target!r} can't express the recipe: {'; '.join(map(str, findings))}; "
            f"or take ptqx.quant.fitted(recipe, {target!r})"
        )


def fitted(recipe: Recipe, target: str) -> Recipe:
    """The recipe with all changes that `unmet` asks for.

    >>> from ptqx.quant import recipe
    >>> device = fitted(recipe("int8"), "pow2-device")
    >>> device.weights.levels, device.weights.granularity, device.requantize
    ('fixed', 'tensor', 'shift')
    >>> unmet(device, "pow2-device")
    []
    """
    rules = _known(target)
    overrides = {pattern: dict(override) for pattern, override in recipe.overrides.items()}
    for pattern, schemes in _schemes(recipe):
        if pattern and _unmet_of_any(rules, schemes):
            overrides[pattern] = {part: _changed(rules, part, scheme) for part, scheme in schemes.items()}
    changes: dict[str, Any] = {
        rule.field: rule.allowed[0] for rule in rules if rule.part == "recipe" and not rule.is_met(recipe)
    }
    changes |= {part: _changed(rules, part, getattr(recipe, part)) for part in OF_SCHEMES}
    return replace(recipe, **changes, overrides=overrides)


def _known(target: str) -> tuple[Rule, ...]:
    if target not in TARGETS:
        raise unknown_name("target", target, TARGETS)
    return TARGETS[target]


def _schemes(recipe: Recipe) -> Iterator[tuple[str, Mapping[str, Scheme | None]]]:
    """The recipe's own schemes under "", then those of every override under its pattern."""
    yield "", {"weights": recipe.weights, "activations": recipe.activations}
    for pattern in recipe.overrides:
        yield pattern, dict(zip(OF_SCHEMES, resolve(recipe, pattern), strict=True))


def _unmet_of_scheme(rules: tuple[Rule, ...], prefix: str, part: str, scheme: Scheme | None) -> list[Unmet]:
    where = f"overrides[{prefix!r}].{part}" if prefix else part
    if scheme is None:
        return [Unmet(where, None, _changed(rules, part, None), "in float")]
    broken = [rule for rule in rules if rule.part == part and not rule.is_met(scheme)]
    return [
        Unmet(f"{where}.{field}", getattr(scheme, field), value, rule.reason)
        for rule in broken
        for field, value in [rule.change]
    ]


def _unmet_of_any(rules: tuple[Rule, ...], schemes: Mapping[str, Scheme | None]) -> bool:
    return any(_unmet_of_scheme(rules, "", part, scheme) for part, scheme in schemes.items())


def _changed(rules: tuple[Rule, ...], part: str, scheme: Scheme | None) -> Scheme:
    """The scheme with the best value of every field that does not fit."""
    if scheme is None:
        scheme = Scheme() if part == "weights" else Scheme(signed=False, symmetric=False)
    values = dict(rule.change for rule in rules if rule.part == part and not rule.is_met(scheme))
    if "granularity" in values:
        values["group_size"] = 0
    if "levels" in values:
        values |= {"levels_args": (), "observer": "minmax", "observer_args": ()}
    if values.keys() & {"bits", "levels"}:
        values["midrise"] = None
    if values.get("symmetric") is False:
        values["narrow"] = None
    return replace(scheme, **values)
