"""A mapping that can be part of a hashable value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


class FrozenMapping(Mapping[str, Any]):
    """A hashable mapping that keeps its order; mappings inside it are frozen too."""

    def __init__(self, values: Mapping[str, Any] | Iterable[tuple[str, Any]] = ()) -> None:
        self._values = {
            key: FrozenMapping(value) if isinstance(value, Mapping) else value
            for key, value in dict(values).items()
        }

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(tuple(self._values.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and list(self._values.items()) == list(other.items())

    def __repr__(self) -> str:
        return repr(self._values)
