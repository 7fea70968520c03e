"""compile: from an integer model to an engine, compared with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, NoReturn, overload

import torch
from torch import Tensor

from ..errors import PtqxError, listed
from ..files import pageable
from .capture import example_tensor
from .engine import Engine
from .integer import IntegerModel
from .io import to_bytes
from .partial import PartialEngine, split
from .structure import require_equal
from .tuning import tune as tune_program


def float_layers(qmodel: IntegerModel) -> list[str]:
    """Names of the layers that compute in float, which the engine does not run."""
    in_float = ("_float", "_simulated")
    return [node.name for node in qmodel.graph if node.op == "float" or node.op.endswith(in_float)]


def wide_layers(qmodel: IntegerModel) -> list[str]:
    """Names of the steps that take or give codes of more than 8 bits, which the engine does not run."""
    graph = qmodel.graph
    wide = {node.name for node in graph if node.output.dtype == "int16"}
    return [node.name for node in graph if node.op.endswith("_wide") or {node.name, *node.inputs} & wide]


@overload
def compile(
    qmodel: IntegerModel, example_inputs: Any, *, tune: bool = ..., partial: Literal[False] = ...
) -> Engine: ...


@overload
def compile(
    qmodel: IntegerModel, example_inputs: Any, *, tune: bool = ..., partial: bool
) -> Engine | PartialEngine: ...


@torch.no_grad()
def compile(
    qmodel: IntegerModel, example_inputs: Any, *, tune: bool = False, partial: bool = False
) -> Engine | PartialEngine:
    """Compile an integer model to one operator call; check on the example that both are equal.

    Args:
        qmodel: of `ptqx.convert` or `ptqx.load`.
        example_inputs: a tensor of the shape it takes, or a tuple with one.
        tune: measure for some seconds which ways to compute the layers are the fastest on this machine, for
            the example's batch size and torch's threads. No number changes. What was measured is kept in
            `~/.cache/ptqx` ($XDG_CACHE_HOME), so that the next time nothing is measured again, and stays with
            the engine when it is saved, copied or exported.
        partial: if there are steps that the engine does not run, compile what comes before them, and let them
            and all that reads them run one by one.

    Raises:
        PtqxError: parts that the engine can't run, by name; an example that does not fit.
    """
    if not isinstance(qmodel, IntegerModel):
        raise PtqxError(f"qmodel: expected an integer model of ptqx.convert, got {type(qmodel).__name__}")
    example = example_tensor(example_inputs)
    refused = {*float_layers(qmodel), *wide_layers(qmodel)}
    if refused and not partial:
        _refuse(qmodel)
    if refused:
        head, rest, given = split(qmodel, refused)
        if not any("weight" in node.tensors for node in head.graph):
            _refuse(qmodel)
        partly = PartialEngine(compile(head, example, tune=tune), rest, given)
        require_equal(
            partly(example), qmodel(example), "the engine and the steps after it differ from the model"
        )
        return partly
    expected = qmodel(example)
    engine = _checked_engine(qmodel, example, expected)
    if not tune:
        return engine
    found = tune_program(engine.program, len(example))
    if found is None:
        return engine
    tuning = found.merged_over(qmodel.graph.tuning)
    tuned = IntegerModel(replace(qmodel.graph, tuning=tuning), qmodel.tensors())
    return _checked_engine(tuned, example, expected)


def _refuse(qmodel: IntegerModel) -> NoReturn:
    """Say what the engine does not run."""
    remedy = "partial=True compiles what comes before them, if there is a layer"
    in_float = float_layers(qmodel)
    if in_float:
        raise PtqxError(
            f"the engine runs integer layers only; these compute in float: {listed(in_float)}; {remedy}"
        )
    wide = wide_layers(qmodel)
    raise PtqxError(f"the engine runs codes of up to 8 bits; these have more: {listed(wide)}; {remedy}")


def _checked_engine(qmodel: IntegerModel, example: Tensor, expected: Any) -> Engine:
    with torch.inference_mode(False):  # so that the buffer counts its writes: what is built of it is kept
        engine = Engine(pageable(to_bytes(qmodel)), expected)
    try:
        got = engine(example)
    except (RuntimeError, ValueError) as error:
        raise PtqxError(f"the engine can't run this network: {str(error).splitlines()[0]}") from error
    require_equal(got, expected, "the engine differs from the integer model")
    return engine
