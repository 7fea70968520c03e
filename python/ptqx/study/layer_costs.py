"""What the layers of an integer model cost: bytes in the file, milliseconds in the engine."""

from __future__ import annotations

import statistics

import torch
from torch import Tensor

from .. import _C
from ..errors import PtqxError
from ..graph import IntegerModel, compile
from .timing import thread_count

ROUNDS = 7
STEP_ROUNDS = 3  # passes of the engine in a round


def layer_bytes(model: IntegerModel) -> dict[str, int]:
    """What each layer's tensors take in the file, by layer: packed codes, scales, levels, bias."""
    tensors = model.tensors()
    return {
        node.name: sum(tensors[name].nbytes for name in node.tensors.values())
        for node in model.graph
        if "weight_shape" in node.attrs
    }


def engine_program(model: IntegerModel, batch: int) -> Tensor | None:
    """The engine's program for batches of that size; None if the engine does not run the model."""
    try:
        return compile(model, torch.zeros(batch, *model.graph.input_shape)).program
    except PtqxError:
        return None


def step_milliseconds(programs: list[Tensor], batch: int) -> list[dict[str, float]]:
    """Of every layer and every other step, by name, on one thread: medians of rounds over the programs, so
    that all are disturbed alike. Several steps of one name count together."""
    samples: list[dict[str, list[float]]] = [{} for _ in programs]
    with thread_count(1):
        for _ in range(ROUNDS):
            for program, times in zip(programs, samples, strict=True):
                for name, seconds in _step_seconds(program, batch).items():
                    times.setdefault(name, []).append(1e3 * seconds)
    return [{name: statistics.median(values) for name, values in times.items()} for times in samples]


def _step_seconds(program: Tensor, batch: int) -> dict[str, float]:
    seconds: dict[str, float] = {}
    for step in _C.engine_profile(program, batch, STEP_ROUNDS):
        seconds[step["name"]] = seconds.get(step["name"], 0.0) + step["seconds"]
    return seconds
