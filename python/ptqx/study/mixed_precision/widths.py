"""What a width is: a whole number of bits of integer weights, or "fp32", a layer left in float."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...errors import PtqxError
from ...quant import Recipe, Scheme, recipe

Width = int | str
FP32 = "fp32"
WIDTHS: tuple[Width, ...] = (2, 3, 4, 5, 6, 7, 8, FP32)
DEFAULT_WIDTHS: tuple[Width, ...] = (2, 4, 8)  # 3 takes as many bytes as 4; 5, 6 and 7 as many as 8


def checked_widths(widths: Sequence[Width]) -> tuple[Width, ...]:
    """The widths, each once, the narrowest first.

    >>> checked_widths([8, "fp32", 4, 8])
    (4, 8, 'fp32')
    """
    for width in widths:
        if width not in WIDTHS or isinstance(width, bool):
            raise PtqxError(f"widths: expected 2 to 8 bits or 'fp32', got {width!r}")
    if not widths:
        raise PtqxError("widths: expected at least one")
    return tuple(width for width in WIDTHS if width in widths)


def parsed_widths(text: str) -> tuple[Width, ...]:
    """
    >>> parsed_widths("2, 4,fp32")
    (2, 4, 'fp32')
    """
    names = [name.strip() for name in text.split(",")]
    return checked_widths([int(name) if name.isdecimal() else name for name in names])


def base_recipe(activations: int, methods: Sequence[Any] = ()) -> Recipe:
    """8-bit weights everywhere, from which `mixed_recipe` departs layer by layer."""
    return replace(recipe(f"w8a{activations}"), edge_bits=None, methods=tuple(methods))


def mixed_recipe(base: Recipe, widths: Mapping[str, Width]) -> Recipe:
    """`base` with weights of these widths, as overrides.

    >>> mixed_recipe(base_recipe(8), {"features.0": 8, "features.3": 2}).overrides
    {'features.3': {'weights': {'bits': 2, 'observer': 'mse'}}}
    """
    overrides = {layer: {"weights": _weights(width)} for layer, width in widths.items() if width != 8}
    return replace(base, overrides=overrides)


def uniform_recipe(base: Recipe, width: Width, layers: Iterable[str]) -> Recipe:
    """The same width everywhere."""
    return mixed_recipe(base, dict.fromkeys(layers, width))


def _weights(width: Width) -> Mapping[str, Any] | None:
    """Fields that make the presets' 8-bit weights those of `width` bits."""
    if not isinstance(width, int):
        return None
    scheme = recipe(f"w{width}a8").weights
    assert isinstance(scheme, Scheme)
    fields: dict[str, Any] = {"bits": width}
    if scheme.observer != "minmax":
        fields["observer"] = scheme.observer
    return fields
