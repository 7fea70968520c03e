"""Names to classes: the tables that decorators fill and recipes look into."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from ..errors import PtqxError, unknown_name

T = TypeVar("T")


class Registry(Mapping[str, Any]):
    """A table of named classes or functions; an unknown name raises a PtqxError with the nearest ones.

    `home` is the module whose import fills the table, where that is not done when somebody first looks in.

    >>> shapes = Registry("shape")
    >>> @shapes.register("circle")
    ... class Circle:
    ...     def __init__(self, radius=1.0): ...
    >>> shapes["circle"] is Circle, Circle.name
    (True, 'circle')
    >>> shapes["circel"]
    Traceback (most recent call last):
    ptqx.errors.PtqxError: unknown shape 'circel'; did you mean circle?
    """

    def __init__(self, kind: str, home: str | None = None) -> None:
        self.kind = kind
        self._home = home
        self._entries: dict[str, Any] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator: enter a class or function under `name`, and give it the attribute `name`."""

        def enter(entry: T) -> T:
            if name in self._entries:
                raise PtqxError(f"{self.kind} {name!r} is registered twice")
            entry.name = name  # type: ignore[attr-defined]
            self._entries[name] = entry
            return entry

        return enter

    def __getitem__(self, name: str) -> Any:
        if name not in self._filled():
            raise unknown_name(self.kind, name, self._entries)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._filled()

    def __iter__(self) -> Iterator[str]:
        return iter(self._filled())

    def __len__(self) -> int:
        return len(self._filled())

    def _filled(self) -> dict[str, Any]:
        if self._home is not None:
            home, self._home = self._home, None
            importlib.import_module(home)
        return self._entries

    def check_arguments(self, name: str, arguments: Iterable[str]) -> None:
        """Raise unless every argument is a keyword argument (with a default) of the entry `name`."""
        known = [
            p.name for p in inspect.signature(self[name]).parameters.values() if p.default is not p.empty
        ]
        for argument in arguments:
            if argument not in known:
                raise unknown_name(f"argument of {self.kind} {name!r}", argument, known)


OBSERVERS = Registry("observer")
LEVELS = Registry("levels")
QUANTIZERS = Registry("quantizer")
METHODS = Registry("method", home="ptqx.methods")

register_observer = OBSERVERS.register
register_levels = LEVELS.register
register_quantizer = QUANTIZERS.register
register_method = METHODS.register
