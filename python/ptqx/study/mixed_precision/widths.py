"""What a width is: a whole number of bits of integer weights, or the type of a layer that stays float."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...errors import PtqxError
from ...quant import FLOAT_DTYPES, Recipe, Scheme, recipe

Width = int | str
FLOAT_WIDTHS = ("bf16", "fp16", "fp32")
WIDTHS: tuple[Width, ...] = (2, 3, 4, 5, 6, 7, 8, *FLOAT_WIDTHS)
DEFAULT_WIDTHS: tuple[Width, ...] = (2, 3, 4, 6, 8)


def checked_widths(widths: Sequence[Width]) -> tuple[Width, ...]:
    """The widths, each once, the narrowest first.

    >>> checked_widths([8, "fp32", 4, 8])
    (4, 8, 'fp32')
    """
    for width in widths:
        if width not in WIDTHS or isinstance(width, bool):
            raise PtqxError(
                f"widths: expected 2 to 8 bits, {', '.join(map(repr, FLOAT_WIDTHS))}; got {width!r}"
            )
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
    overrides = {
        layer: {"weights": _weights(width)} if isinstance(width, int) else {"dtype": width}
        for layer, width in widths.items()
        if width != 8
    }
    return replace(base, overrides=overrides)


def uniform_recipe(base: Recipe, width: Width, layers: Iterable[str]) -> Recipe:
    """The same width everywhere."""
    return mixed_recipe(base, dict.fromkeys(layers, width))


def stored_bits(width: Width) -> int:
    """What a weight takes.

    >>> stored_bits(3), stored_bits("bf16")
    (3, 16)
    """
    if isinstance(width, int):
        return Scheme(bits=width).storage_bits
    return 8 * FLOAT_DTYPES[width].itemsize


def _weights(width: int) -> Mapping[str, Any]:
    """Fields that make the presets' 8-bit weights those of `width` bits."""
    scheme = recipe(f"w{width}a8").weights
    assert isinstance(scheme, Scheme)
    fields: dict[str, Any] = {"bits": width}
    if scheme.observer != "minmax":
        fields["observer"] = scheme.observer
    return fields
