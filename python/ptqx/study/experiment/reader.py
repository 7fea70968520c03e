"""Plain values, as a YAML file gives them, into dataclasses; what is unknown or of a wrong type is named."""

from __future__ import annotations

import dataclasses
import os
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, Union

from ...errors import PtqxError, unknown_name

T = TypeVar("T")
TYPE_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def read_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        PtqxError: PyYAML is missing, the file can't be read, is no YAML, holds a key twice, or no mapping.
    """
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise PtqxError("studies are written in YAML: pip install 'ptqx[study]'") from error

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            twice = next((key for i, key in enumerate(keys) if key in keys[:i]), None)
            if twice is not None:
                raise PtqxError(f"{path}: key {twice!r} stands twice in line {node.start_mark.line + 1} on")
            return super().construct_mapping(node, deep)

    try:
        values = yaml.load(Path(path).read_text(encoding="utf-8"), Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise PtqxError(f"can't read {path}: {error}") from error
    except yaml.YAMLError as error:
        raise PtqxError(f"{path} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise PtqxError(f"{path}: expected a mapping of keys to values, got {type(values).__name__}")
    return values


def build(kind: type[T], values: Any, where: str = "config") -> T:
    """A dataclass from a mapping of its fields, nested ones included.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Point:
    ...     x: int = 0
    >>> build(Point, {"x": 3})
    Point(x=3)
    >>> build(Point, {"y": 3})
    Traceback (most recent call last):
    ptqx.errors.PtqxError: unknown key in config 'y'; known: x
    >>> build(Point, {"x": "three"})
    Traceback (most recent call last):
    ptqx.errors.PtqxError: config.x: expected a whole number, got 'three'
    """
    if not isinstance(values, Mapping):
        raise PtqxError(f"{where}: expected a mapping of keys to values, got {values!r}")
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise unknown_name(f"key in {where}", key, fields)
    missing = [
        name
        for name, field in fields.items()
        if name not in values
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise PtqxError(f"{where}: {', '.join(missing)} missing")
    return kind(**{key: _value(hints[key], value, f"{where}.{key}") for key, value in values.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _value(next(a for a in arguments if a is not type(None)), value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise PtqxError(f"{where}: expected a list, got {value!r}")
        return tuple(_value(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is Mapping or hint is Mapping:
        if not isinstance(value, Mapping):
            raise PtqxError(f"{where}: expected a mapping of keys to values, got {value!r}")
        return dict(value)
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type[Any], hint), value, where)
    return _scalar(hint, value, where)


def _scalar(hint: type[Any], value: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        remedy = "; on, off, yes and no are truth values in YAML: write them in quotes"
        hint_for_text = remedy if hint is str and isinstance(value, bool) else ""
        raise PtqxError(f"{where}: expected {TYPE_NAMES[hint]}, got {value!r}{hint_for_text}")
    return value
