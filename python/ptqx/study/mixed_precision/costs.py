"""What every layer costs in every width: bytes in the file, milliseconds in the engine."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ... import _C
from ...errors import PtqxError
from ...graph import IntegerModel, compile, quantize
from ...quant import Recipe
from ..timing import thread_count
from .widths import FP32, Width, uniform_recipe

ROUNDS = 7
STEP_ROUNDS = 3  # passes of the engine in a round


@dataclass(frozen=True)
class LayerCosts:
    """Costs by layer and width.

    Attributes:
        bytes: of the layer's tensors in a .ptqx file: packed codes, scales, levels, bias.
        milliseconds: of the layer's steps in the engine, for a batch on one thread; infinite for "fp32",
            which the engine does not run. None if nothing was timed.
        other_milliseconds: of all other steps together.
        batch: samples that were timed together.
    """

    bytes: dict[str, dict[Width, int]]
    milliseconds: dict[str, dict[Width, float]] | None = None
    other_milliseconds: float = 0.0
    batch: int = 0


def layer_bytes(model: IntegerModel) -> dict[str, int]:
    """What each layer's tensors take in the file, by layer."""
    tensors = model.tensors()
    return {
        node.name: sum(tensors[name].nbytes for name in node.tensors.values())
        for node in model.graph
        if "weight_shape" in node.attrs
    }


@torch.no_grad()
def layer_costs(
    model: nn.Module,
    base: Recipe,
    weights: dict[str, Tensor],
    widths: Sequence[Width],
    calibration: list[Tensor],
    batch: int | None,
    progress: bool = False,
) -> LayerCosts:
    """Convert the model once for every width, the same everywhere, weigh its layers and time them.

    Args:
        weights: every layer's folded weight.
        batch: samples to time together; None leaves time out.
    """
    integer = [width for width in widths if width != FP32] or [8]
    models = {
        width: quantize(model, calibration[:1], uniform_recipe(base, width, weights))
        for width in tqdm(integer, "convert", disable=not progress, leave=False)
    }
    weighed = {width: layer_bytes(converted) for width, converted in models.items()}
    sizes: dict[str, dict[Width, int]] = {
        layer: {width: weighed[width][layer] for width in widths if width != FP32} for layer in weights
    }
    if FP32 in widths:
        one = next(iter(models.values()))
        for layer, weight in weights.items():
            sizes[layer][FP32] = 4 * (weight.numel() + _other_parameters(one, layer))
    if batch is None:
        return LayerCosts(sizes)
    times, other = _milliseconds(models, list(weights), batch, progress)
    if FP32 in widths:
        for layer in times:
            times[layer][FP32] = math.inf
    return LayerCosts(sizes, times, other, batch)


def profiled_milliseconds(model: IntegerModel, batch: int, rounds: int = ROUNDS) -> float | None:
    """Of all steps of the engine on a batch, on one thread, median of rounds; None if the engine does not run
    the model."""
    try:
        program = compile(model, torch.zeros(batch, *model.graph.input_shape)).program
    except PtqxError:
        return None
    with thread_count(1):
        totals = [sum(_step_seconds(program, batch).values()) for _ in range(rounds)]
    return 1e3 * statistics.median(totals)


def _other_parameters(model: IntegerModel, layer: str) -> int:
    """Values of the layer's bias and slopes, which every width has."""
    node, tensors = model.graph.nodes[layer], model.tensors()
    return sum(tensors[node.tensors[role]].numel() for role in ("bias", "slopes") if role in node.tensors)


def _milliseconds(
    models: dict[Width, IntegerModel], layers: list[str], batch: int, progress: bool
) -> tuple[dict[str, dict[Width, float]], float]:
    """Of each layer by width, and of the other steps; in rounds over the widths, so that all are disturbed
    alike."""
    programs = {
        width: compile(model, torch.zeros(batch, *model.graph.input_shape)).program
        for width, model in models.items()
    }
    seconds: dict[tuple[str, Width], list[float]] = {}
    others: list[float] = []
    with thread_count(1):
        for _ in tqdm(range(ROUNDS), "time", disable=not progress, leave=False):
            for width, program in programs.items():
                steps = _step_seconds(program, batch)
                for layer in layers:
                    seconds.setdefault((layer, width), []).append(steps.pop(layer, 0.0))
                others.append(sum(steps.values()))
    times = {
        layer: {width: 1e3 * statistics.median(seconds[layer, width]) for width in models} for layer in layers
    }
    return times, 1e3 * statistics.median(others)


def _step_seconds(program: Tensor, batch: int) -> dict[str, float]:
    """Of every layer and every other step, several steps of one name together."""
    seconds: dict[str, float] = {}
    for step in _C.engine_profile(program, batch, STEP_ROUNDS):
        seconds[step["name"]] = seconds.get(step["name"], 0.0) + step["seconds"]
    return seconds
