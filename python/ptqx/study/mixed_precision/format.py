"""The format `mixed`: widths chosen layer by layer, 4 bits on average unless its name says otherwise."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from ... import graph
from ...errors import PtqxError, unknown_name
from ...quant import parse_methods
from ..formats import Candidate, Task, integer_candidate, register_format
from .choice import mixed_precision
from .losses import MEASURES
from .widths import base_recipe

NAME = "mixed"


@dataclass(frozen=True)
class _Options:
    """What a name may say, "mixed:bits=3:by=fisher": a budget, the measure, bits of activations."""

    bits: float | None = None
    bytes: int | None = None
    milliseconds: float | None = None
    by: str = "loss"
    activations: int = 8


@register_format([NAME], lambda name: name.split("+")[0].split(":")[0] == NAME and bool(_parsed(name)))
def mixed(name: str, task: Task) -> Candidate:
    """Mixed precision by each layer's measured loss, then converted as any recipe."""
    options, methods = _parsed(name)
    choice = mixed_precision(
        task.model,
        task.train,
        **vars(options),
        methods=methods,
        calibration=sum(map(len, task.calibration)),
        seed=task.qat.seed,
        progress=task.progress,
    )
    prepared = graph.calibrate(graph.prepare(task.model, choice.recipe, task.example), task.calibration)
    prepared = graph.apply_methods(prepared, task.calibration, task.progress)
    widths = ", ".join(f"{layer} {width}" for layer, width in choice.widths.items())
    return integer_candidate(name, "ptq", prepared, task, f"{choice.bits:.2f} bits on average: {widths}")


def _parsed(name: str) -> tuple[_Options, tuple[Any, ...]]:
    """Options and methods.

    Raises:
        PtqxError: no such option or method, or a value that can't be one.
    """
    head, *methods = name.split("+")
    values: dict[str, Any] = {}
    known = {field.name: field for field in fields(_Options)}
    for pair in head.split(":")[1:]:
        option, equals, text = pair.partition("=")
        if option not in known:
            raise unknown_name(f"option of {NAME!r}", option, known)
        kind = {"bits": float, "bytes": int, "milliseconds": float, "activations": int}.get(option, str)
        try:
            values[option] = kind(text)
        except ValueError:
            raise PtqxError(f"format {name!r}: expected {option}=NUMBER, got {pair!r}") from None
        if not equals:
            raise PtqxError(f"format {name!r}: expected {option}=VALUE, got {pair!r}")
    options = _Options(**values)
    if options.by not in MEASURES:
        raise unknown_name("measure", options.by, MEASURES)
    parsed = parse_methods(methods)
    graph.check_methods(base_recipe(options.activations, parsed))
    return options, parsed
