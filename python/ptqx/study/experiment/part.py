"""The parts of a study: each plans units of work, and each unit gives plain values.

A new part is one decorated function, `@part("name", Options)`, that yields units.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...errors import PtqxError, unknown_name
from .config import Study
from .reader import build

if TYPE_CHECKING:
    from .subject import Subject

Values = dict[str, Any]


@dataclass(frozen=True)
class Unit:
    """A piece of work that is done at once and stored whole.

    Attributes:
        part, name: together unique in a study.
        run: gives plain values, ready for JSON.
        depends: everything that its result depends on beside model, data and seed. The result of a former
            run is taken if it is the same.
        scratch: globs of files that a stopped run continues from, and nobody needs once the result is stored.
        trains: every process under torchrun runs it, to take its share of each batch; the first one's values
            are stored.
    """

    part: str
    name: str
    run: Callable[[Subject], Values]
    depends: Mapping[str, Any] = field(default_factory=dict)
    scratch: tuple[str, ...] = ()
    trains: bool = False

    def fingerprint(self, base: Mapping[str, Any]) -> str:
        """Of `base` and `depends`."""
        return digest_of([dict(base), self.part, self.name, dict(self.depends)])


def digest_of(values: Any) -> str:
    """Of plain values: equal ones have the same."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Part:
    """A part's name, the dataclass of its options, and what makes its units."""

    name: str
    options: type[Any]
    plan: Callable[[Study, Any], Iterable[Unit]]


PARTS: dict[str, Part] = {}


@dataclass(frozen=True)
class NoOptions:
    """Of parts that have none."""


def part(name: str, options: type[Any] = NoOptions) -> Callable[[Any], Any]:
    """Decorator: make a part known by name; the function takes (study, options) and yields its units."""

    def enter(plan: Any) -> Any:
        PARTS[name] = Part(name, options, plan)
        return plan

    return enter


def part_options(name: str, values: Any) -> Any:
    """The options of the part `name`.

    Raises:
        PtqxError: an unknown part or option, or a value that is none.
    """
    from . import parts  # noqa: F401  (registers them)

    if name not in PARTS:
        raise unknown_name("part", name, PARTS)
    try:
        return build(PARTS[name].options, values or {}, f"config.parts.{name}")
    except TypeError as error:
        raise PtqxError(f"config.parts.{name}: {error}") from error


def units(study: Study) -> list[Unit]:
    """All units of a study in the order of work: rows first, then the parts as the config lists them."""
    from .rows import row_units

    planned = list(row_units(study))
    for name, values in study.parts.items():
        planned += PARTS[name].plan(study, part_options(name, values))
    return planned
