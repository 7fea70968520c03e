"""What every layer costs in every width: bytes in the file, milliseconds in the engine."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ...errors import PtqxError
from ...graph import IntegerModel, quantize
from ...quant import Recipe
from ..layer_costs import engine_program, layer_bytes, step_milliseconds
from .widths import FLOAT_WIDTHS, Width, stored_bits, uniform_recipe


@dataclass(frozen=True)
class LayerCosts:
    """Costs by layer and width.

    Attributes:
        bytes: of the layer's tensors in a .ptqx file: packed codes, scales, levels, bias.
        milliseconds: of the layer's steps in the engine, for a batch on one thread; infinite for float,
            which the engine does not run. None if nothing was timed.
        other_milliseconds: of all other steps together.
        batch: samples that were timed together; 0 if none.
    """

    bytes: dict[str, dict[Width, int]]
    milliseconds: dict[str, dict[Width, float]] | None = None
    other_milliseconds: float = 0.0
    batch: int = 0


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

    Raises:
        PtqxError: the model is to be timed, and the engine does not run it.
    """
    integer = [width for width in widths if isinstance(width, int)] or [8]
    floats = [width for width in widths if width in FLOAT_WIDTHS]
    plain = replace(base, methods=())  # which code a weight has changes neither bytes nor time
    models = {
        width: quantize(model, calibration[:1], uniform_recipe(plain, width, weights))
        for width in tqdm(integer, "convert", disable=not progress, leave=False)
    }
    weighed = {width: layer_bytes(converted) for width, converted in models.items()}
    sizes: dict[str, dict[Width, int]] = {
        layer: {width: weighed[width][layer] for width in integer} for layer in weights
    }
    one = next(iter(models.values()))
    for layer, weight in weights.items():
        for width in floats:
            sizes[layer][width] = stored_bits(width) // 8 * weight.numel() + 4 * _other_parameters(one, layer)
    if batch is None:
        return LayerCosts(sizes)
    times, other = _milliseconds(models, list(weights), batch)
    for layer in times:
        times[layer] |= dict.fromkeys(floats, math.inf)
    return LayerCosts(sizes, times, other, batch)


def engine_milliseconds(model: IntegerModel, batch: int) -> float | None:
    """Of all steps together, as `layer_costs` takes them; None if the engine does not run the model."""
    program = engine_program(model, batch)
    return None if program is None else sum(step_milliseconds([program], batch)[0].values())


def _other_parameters(model: IntegerModel, layer: str) -> int:
    """Values of the layer's bias and slopes, which every width has."""
    node, tensors = model.graph.nodes[layer], model.tensors()
    return sum(tensors[node.tensors[role]].numel() for role in ("bias", "slopes") if role in node.tensors)


def _milliseconds(
    models: dict[Width, IntegerModel], layers: list[str], batch: int
) -> tuple[dict[str, dict[Width, float]], float]:
    """Of each layer by width, and of the other steps, which are the same in all."""
    programs = [engine_program(model, batch) for model in models.values()]
    known = [program for program in programs if program is not None]
    if len(known) < len(programs):
        raise PtqxError("batch: the engine does not run this network, so that nothing can be timed; leave it")
    timed = dict(zip(models, step_milliseconds(known, batch), strict=True))
    times = {layer: {width: timed[width].get(layer, 0.0) for width in models} for layer in layers}
    others = [sum(ms for name, ms in steps.items() if name not in times) for steps in timed.values()]
    return times, statistics.median(others)
