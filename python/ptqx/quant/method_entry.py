"""Entries of Recipe.methods: a name, or a name with options."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import PtqxError
from .frozen import FrozenMapping
from .registry import METHODS

Entry = str | tuple[str, FrozenMapping]


def checked_methods(methods: Any) -> tuple[Entry, ...]:
    """Names, and (name, options) pairs as hashable values.

    Raises:
        PtqxError: another shape, or a method or an option that does not exist, with the nearest ones.
    """
    if isinstance(methods, str) or not isinstance(methods, Sequence):
        raise PtqxError(
            f"methods: expected a sequence of names or (name, {{option: value}}), got {methods!r}"
        )
    return tuple(_checked(entry) for entry in methods)


def _checked(entry: Any) -> Entry:
    name, options = named_options(entry)
    METHODS.check_arguments(name, options)
    for option, value in options.items():
        if not isinstance(value, str | int | float | bool | None):
            raise PtqxError(f"methods: option {option!r} of {name!r}: expected a plain value, got {value!r}")
    return (name, FrozenMapping(options)) if options else name


def named_options(entry: Any) -> tuple[str, Mapping[str, Any]]:
    """The name and the options of one entry."""
    if isinstance(entry, str):
        return entry, {}
    if isinstance(entry, tuple | list) and len(entry) == 2:
        name, options = entry
        if isinstance(name, str) and isinstance(options, Mapping):
            return name, options
    raise PtqxError(
        f"methods: expected a sequence of names or (name, {{option: value}}), got the entry {entry!r}"
    )


def parse_methods(names: Sequence[str]) -> tuple[Entry, ...]:
    """Entries written as "name" or "name:option=value:option=value".

    >>> parse_methods(["gptq", "adaround:steps=500"])
    ('gptq', ('adaround', {'steps': 500}))
    >>> parse_methods(["gptk"])
    Traceback (most recent call last):
    ptqx.errors.PtqxError: unknown method 'gptk'; did you mean gptq?
    """
    return checked_methods([_parsed(name) for name in names])


def _parsed(text: str) -> Any:
    name, *pairs = text.split(":")
    options = {}
    for pair in pairs:
        option, equals, value = pair.partition("=")
        if not equals or not option:
            raise PtqxError(f"methods: expected name:option=value, got {text!r}")
        options[option] = _value(value)
    return (name, options)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
