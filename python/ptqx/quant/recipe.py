"""How a whole network is quantized, as a value."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from ..errors import PtqxError, unknown_name
from .frozen import FrozenMapping
from .method_entry import Entry, checked_methods
from .registry import LEVELS, QUANTIZERS
from .scheme import Scheme, scheme_from_dict, uniform_scheme

BIASES = ("int32", "float32")
RESIDUALS = ("fused", "requantized")
REQUANTIZES = ("float", "multiplier", "shift")
OVERRIDE_KEYS = ("weights", "activations", "bits", "dtype")
FLOAT_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Recipe:
    """How a network is quantized. Hashable; `to_json` and `from_json` are inverse.

    Attributes:
        weights: scheme of convolution and linear weights; None keeps them float.
        activations: scheme of the inputs of convolutions and linear layers; None keeps them float
            (weight-only quantization), granularity "sample" finds their ranges at run time (dynamic
            quantization). What additions, pools and the like compute with has 8 bits where this has fewer.
        bias: "int32", q_b = round(b / (s_x * s_w)), or "float32". Dynamic, weight-only and per-group layers
            have no such scale and keep float32 in either case.
        residual: an addition after a convolution is "fused" into it, with one rounding, or the convolution's
            output is "requantized" first.
        requantize: arithmetic between accumulator and codes of static layers: "float"; "multiplier", a whole
            number of 31 bits and a shift, or "shift" alone, both rounding half to even, for devices without
            floats. "shift" needs levels "fixed" everywhere; both need residual="requantized".
        methods: post-training methods in the order in which they run (ptqx.methods), each a name or
            (name, {option: value}).
        quantizer: quantizer modules for training, by registered name: "fixed", "moving_average", "lsq", ...;
            None leaves the choice to `prepare`.
        edge_bits: at least this many bits for the first and the last layer, weights and input; None: no
            exception for them.
        overrides: module name or glob -> {"weights": ..., "activations": ..., "bits": ...} for the layers it
            matches. The value of the first two is None (float), a Scheme, or a mapping of Scheme fields to
            change; "bits" changes both widths, and levels that have no such width become uniform.
            {"dtype": "fp16"}, or "bf16" or "fp32", leaves the layer float: its weights are rounded to that
            type and stored so, its arithmetic is float32. Globs are applied in the order written, then the
            exact name. Overrides win over edge_bits.

    Raises:
        PtqxError: a value or a key outside these, with the nearest that exist.

    >>> from ptqx.quant import recipe
    >>> changes = {"features.*": {"bits": 6}, "features.3": {"weights": {"observer": "mse"}}}
    >>> mixed = recipe("w4a4", overrides=changes)
    >>> weights, activations = resolve(mixed, "features.3")
    >>> weights.bits, weights.observer, activations.bits
    (6, 'mse', 6)
    >>> Recipe.from_json(mixed.to_json()) == mixed
    True
    """

    weights: Scheme | None = None
    activations: Scheme | None = None
    bias: str = "int32"
    residual: str = "fused"
    requantize: str = "float"
    methods: tuple[Entry, ...] = ()
    quantizer: str | None = None
    edge_bits: int | None = 8
    overrides: Mapping[str, Mapping[str, Any]] = FrozenMapping()

    def __post_init__(self) -> None:
        for name in ("weights", "activations"):
            value = getattr(self, name)
            if isinstance(value, Mapping):
                object.__setattr__(self, name, scheme_from_dict(value))
            elif not isinstance(value, Scheme | None):
                raise PtqxError(f"{name}: expected a Scheme, a mapping of its fields or None, got {value!r}")
        for name, known in (("bias", BIASES), ("residual", RESIDUALS), ("requantize", REQUANTIZES)):
            if getattr(self, name) not in known:
                raise unknown_name(name, getattr(self, name), known)
        object.__setattr__(self, "methods", checked_methods(self.methods))
        if self.quantizer is not None and self.quantizer not in QUANTIZERS:
            raise unknown_name("quantizer", self.quantizer, QUANTIZERS)
        if self.edge_bits is not None and self.edge_bits not in range(2, 9):
            raise PtqxError(f"edge_bits: expected None or 2 to 8, got {self.edge_bits!r}")
        if self.weights is not None and self.weights.granularity == "sample":
            raise PtqxError(
                "weights: granularity 'sample' is for activations; use 'tensor', 'channel' or 'group'"
            )
        if self.activations is not None and self.activations.granularity not in ("tensor", "sample"):
            raise PtqxError(
                f"activations: granularity must be 'tensor' or 'sample' (dynamic), "
                f"got {self.activations.granularity!r}"
            )
        if self.activations is not None and self.activations.midrise:
            raise PtqxError("activations: midrise=True is for weights: activations need a code for 0")
        if self.weights is not None and self.weights.of_activations:
            raise PtqxError(f"weights: levels {self.weights.levels!r} are for activations; use 'binary'")
        if self.activations is not None and not (self.activations.affine or self.activations.of_activations):
            raise PtqxError(
                f"activations: levels {self.activations.levels!r} are for weights; use levels='uniform'"
            )
        _check_requantize(self)
        if self.activations is not None and self.activations.rounding != "nearest":
            raise PtqxError("activations: rounding='stochastic' is for weights; use rounding='nearest'")
        object.__setattr__(self, "overrides", _checked_overrides(self))

    @property
    def dynamic(self) -> bool:
        """Whether activation ranges are found at run time."""
        return self.activations is not None and self.activations.granularity == "sample"

    @property
    def kind(self) -> str:
        """ "static", "dynamic" or "weight_only"."""
        if self.activations is None:
            return "weight_only"
        return "dynamic" if self.dynamic else "static"

    @property
    def between_layers(self) -> Scheme | None:
        """The scheme of values that not only layers read, such as those of a residual stream: the
        activations', of at least 8 bits. Layers get theirs from a table."""
        activations = self.activations
        if activations is None or activations.bits >= 8:
            return activations
        return uniform_scheme(activations, 8) if activations.of_activations else replace(activations, bits=8)

    def check_names(self, names: Iterable[str]) -> None:
        """Raise a PtqxError if an override matches none of the layers `names`."""
        names = list(names)
        for pattern in self.overrides:
            if pattern not in names and not fnmatch.filter(names, pattern):
                raise unknown_name("layer in overrides", pattern, names)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}

    def to_json(self) -> str:
        """A JSON object of all fields."""
        return json.dumps(self.to_dict())

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Recipe:
        """The recipe of `to_dict`; missing fields take their defaults."""
        known = [field.name for field in fields(Recipe)]
        for key in values:
            if key not in known:
                raise unknown_name("Recipe field", key, known)
        return Recipe(**values)

    @staticmethod
    def from_json(text: str) -> Recipe:
        """The recipe of `to_json`."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise PtqxError(f"a recipe's JSON can't be read: {error}") from error
        if not isinstance(values, dict):
            raise PtqxError(f"a recipe's JSON must be an object, got {type(values).__name__}")
        return Recipe.from_dict(values)


def resolve(recipe: Recipe, module_name: str, is_edge: bool = False) -> tuple[Scheme | None, Scheme | None]:
    """Schemes of one layer's weights and of its input activations; None stays float.

    >>> from ptqx.quant import recipe
    >>> weights, activations = resolve(recipe("w4a4"), "features.0", is_edge=True)
    >>> weights.bits, activations.bits
    (8, 8)
    """
    schemes = {"weights": recipe.weights, "activations": recipe.activations}
    if is_edge and recipe.edge_bits is not None:
        schemes = {key: _widened(scheme, recipe.edge_bits) for key, scheme in schemes.items()}
    for override in _overrides_of(recipe, module_name):
        schemes = _overridden(schemes, override)
    return schemes["weights"], schemes["activations"]


def float_dtype(recipe: Recipe, module_name: str) -> str:
    """The type that holds the weights of a layer that stays float.

    >>> from ptqx.quant import recipe
    >>> float_dtype(recipe("int8", overrides={"classifier.*": {"dtype": "bf16"}}), "classifier.1")
    'bf16'
    """
    return next((o["dtype"] for o in reversed(_overrides_of(recipe, module_name)) if "dtype" in o), "fp32")


def _overrides_of(recipe: Recipe, module_name: str) -> list[Mapping[str, Any]]:
    """Those that match, in the order in which they apply."""
    globs = [p for p in recipe.overrides if p != module_name and fnmatch.fnmatchcase(module_name, p)]
    return [recipe.overrides[p] for p in [*globs, *(p for p in recipe.overrides if p == module_name)]]


def _widened(scheme: Scheme | None, bits: int) -> Scheme | None:
    """Levels that are a list have few bits by their nature: a wider layer is uniform."""
    if scheme is None or scheme.bits >= bits:
        return scheme
    return _with_bits(scheme, bits) if scheme.affine else uniform_scheme(scheme, bits)


def _with_bits(scheme: Scheme, bits: int) -> Scheme:
    """Levels that do not exist with that many bits become uniform."""
    if bits not in LEVELS[scheme.levels].allowed_bits:
        return uniform_scheme(scheme, bits)
    return replace(scheme, bits=bits, midrise=scheme.midrise if bits == 2 else None)


def _overridden(schemes: dict[str, Scheme | None], override: Mapping[str, Any]) -> dict[str, Scheme | None]:
    if "dtype" in override:
        return {"weights": None, "activations": None}
    schemes = dict(schemes)
    if "bits" in override:
        schemes = {key: s if s is None else _with_bits(s, override["bits"]) for key, s in schemes.items()}
    for key in ("weights", "activations"):
        if key in override:
            value, base = override[key], schemes[key]
            if isinstance(value, Mapping):
                value = scheme_from_dict({**(base.to_dict() if base is not None else {}), **value})
            schemes[key] = value
    return schemes


def _check_requantize(recipe: Recipe) -> None:
    schemes = [s for s in (recipe.weights, recipe.activations) if s is not None]
    wide = any(scheme.bits > 8 for scheme in schemes)
    if recipe.requantize == "float":
        if wide:
            raise PtqxError("requantize: codes of more than 8 bits need requantize='shift', got 'float'")
        return
    if recipe.kind != "static" or recipe.bias != "int32" or recipe.residual != "requantized":
        raise PtqxError(
            f"requantize={recipe.requantize!r} needs static activations, bias='int32' and "
            f"residual='requantized', got {recipe.kind}, {recipe.bias!r} and {recipe.residual!r}"
        )
    fixed = all(scheme.levels == "fixed" for scheme in schemes)
    if recipe.requantize == "shift" and not fixed:
        raise PtqxError(
            "requantize='shift' needs levels='fixed' of weights and activations, so that scales are powers "
            "of two; use 'multiplier' for others"
        )
    if recipe.requantize == "multiplier" and wide:
        raise PtqxError("requantize='multiplier' is for codes of up to 8 bits; use 'shift'")


def _checked_overrides(recipe: Recipe) -> FrozenMapping:
    if not isinstance(recipe.overrides, Mapping):
        raise PtqxError(f"overrides: expected a mapping of module names, got {recipe.overrides!r}")
    for pattern, override in recipe.overrides.items():
        if not isinstance(override, Mapping):
            raise PtqxError(f"overrides[{pattern!r}]: expected a mapping, got {override!r}")
        for key, value in override.items():
            if key not in OVERRIDE_KEYS:
                raise unknown_name(f"key in overrides[{pattern!r}]", key, OVERRIDE_KEYS)
            if key == "dtype":
                if value not in FLOAT_DTYPES:
                    raise unknown_name(f"dtype in overrides[{pattern!r}]", str(value), FLOAT_DTYPES)
                if len(override) > 1:
                    raise PtqxError(
                        f"overrides[{pattern!r}]: a dtype leaves the layer float; remove it or "
                        f"{', '.join(k for k in override if k != 'dtype')}"
                    )
            elif key != "bits" and not isinstance(value, Scheme | Mapping | None):
                raise PtqxError(
                    f"overrides[{pattern!r}][{key!r}]: expected a Scheme, its fields or None, got {value!r}"
                )
        try:
            _overridden({"weights": recipe.weights, "activations": recipe.activations}, override)
        except PtqxError as error:
            raise PtqxError(f"overrides[{pattern!r}]: {error}") from error
    # A Scheme becomes the mapping of all its fields, so that a recipe equals its JSON round trip.
    return FrozenMapping({p: {k: _plain(v) for k, v in o.items()} for p, o in recipe.overrides.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, Scheme):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, tuple) else value
