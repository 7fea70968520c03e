"""Named recipes."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from typing import Any

from ..errors import PtqxError, unknown_name
from .method_entry import parse_methods
from .recipe import Recipe
from .scheme import Scheme
from .targets import require


def weight_scheme(bits: int) -> Scheme:
    """The presets' weights: symmetric, per output channel, max-abs; 2 bits with the least error."""
    return Scheme(bits=bits, granularity="channel", observer="minmax" if bits > 2 else "mse")


def activation_scheme(bits: int) -> Scheme:
    """The presets' activations: unsigned, asymmetric, per tensor, the range with the least squared error."""
    return Scheme(bits=bits, signed=False, symmetric=False, observer="mse")


def dynamic_scheme(bits: int) -> Scheme:
    """The dynamic presets' activations: unsigned, asymmetric, the range of each sample."""
    return Scheme(bits=bits, signed=False, symmetric=False, granularity="sample")


def levels_scheme(levels: str, bits: int, observer: str = "minmax") -> Scheme:
    """The presets' weights in levels that are not uniform: a scale for every output channel."""
    return Scheme(bits=bits, levels=levels, granularity="channel", observer=observer)


def sign_scheme() -> Scheme:
    """The presets' binary activations: on which side of the mean, scaled by the standard deviation."""
    return Scheme(
        bits=1, signed=False, symmetric=False, levels="sign", observer="ksigma", observer_args=(("k", 1.0),)
    )


PRESETS: dict[str, Recipe] = {}


def register_recipe(name: str, preset: Recipe) -> None:
    """Make `preset` known under `name`."""
    if name in PRESETS:
        raise PtqxError(f"recipe {name!r} is registered twice")
    PRESETS[name] = preset


def presets() -> list[str]:
    """Names that `recipe` knows, beside every wNaM, intN, intN-dynamic and intN-weight-only, 2 to 8 bits.

    Each may be followed by methods: "w4a4+gptq+bias_correction".
    """
    return list(PRESETS)


def recipe(name: str | Recipe, target: str | None = None, **changes: Any) -> Recipe:
    """The recipe called `name` (or given as one), with fields changed.

    With a `target`, one that it can express: "cpu" (ptqx's engine), "onnxruntime", "openvino", "pow2-device"
    (a scale a tensor, all powers of two) or "general" (what every runtime of 8-bit integers takes).

    "w4a4+gptq+adaround:steps=500" is w4a4 with these methods, in this order, instead of its own.

    >>> recipe("int8").weights.bits, recipe("w2a4").activations.bits, recipe("int4") == recipe("w4a8")
    (8, 4, True)
    >>> recipe("int8", residual="requantized").residual
    'requantized'
    >>> recipe("w4a4+gptq+bias_correction").methods
    ('gptq', 'bias_correction')
    >>> recipe("int8", target="openvino")
    Traceback (most recent call last):
    ptqx.errors.PtqxError: target 'openvino' can't express the recipe: residual='fused' (its additions take
    codes): use 'requantized'; or take ptqx.quant.fitted(recipe, 'openvino')
    >>> recipe("int8-dynamik")
    Traceback (most recent call last):
    ptqx.errors.PtqxError: unknown recipe 'int8-dynamik'; did you mean int8-dynamic?
    """
    base = name if isinstance(name, Recipe) else _named(name)
    known = [field.name for field in fields(Recipe)]
    for key in changes:
        if key not in known:
            raise unknown_name("Recipe field", key, known)
    result = replace(base, **changes) if changes else base
    if target is not None:
        require(result, target)
    return result


def _named(name: str) -> Recipe:
    if not isinstance(name, str):
        raise PtqxError(f"recipe: expected a name or a Recipe, got {name!r}")
    if "+" in name:
        base, *methods = name.split("+")
        return replace(_named(base), methods=parse_methods(methods))
    if name in PRESETS:
        return PRESETS[name]
    if match := re.fullmatch(r"w([2-8])a([2-8])", name):
        weight_bits, activation_bits = map(int, match.groups())
        return Recipe(weight_scheme(weight_bits), activation_scheme(activation_bits))
    if match := re.fullmatch(r"int([2-8])(|-dynamic|-weight-only)", name):
        bits, suffix = int(match[1]), match[2]
        activations = {"": activation_scheme(8), "-dynamic": dynamic_scheme(8), "-weight-only": None}[suffix]
        return Recipe(weight_scheme(bits), activations, bias="float32" if suffix else "int32")
    raise unknown_name("recipe", name, [*PRESETS, "wNaM with 2 to 8 bits"])


for _name in (
    *("int8", "int8-dynamic", "int8-weight-only", "int4", "int4-weight-only"),
    *("w4a4", "w3a3", "w2a4", "w2a2"),
):
    register_recipe(_name, _named(_name))

for _levels, _bits in (("pow2", 4), ("apot", 4), ("kmeans", 4), ("ternary", 2), ("ttq", 2), ("binary", 1)):
    register_recipe(_levels, Recipe(levels_scheme(_levels, _bits), activation_scheme(8)))
register_recipe("w1a1", Recipe(levels_scheme("binary", 1), sign_scheme()))
register_recipe(
    "shift",
    Recipe(
        Scheme(signed=False, symmetric=False, granularity="channel", levels="shift"), activation_scheme(8)
    ),
)
register_recipe(
    "int8-multiplier",
    Recipe(weight_scheme(8), activation_scheme(8), residual="requantized", requantize="multiplier"),
)
for _bits in (8, 16):
    register_recipe(
        f"fixed{_bits}",
        Recipe(
            Scheme(bits=_bits, levels="fixed", granularity="channel"),
            Scheme(bits=_bits, levels="fixed"),
            residual="requantized",
            requantize="shift",
        ),
    )
register_recipe("stochastic", Recipe(replace(weight_scheme(8), rounding="stochastic"), activation_scheme(8)))
