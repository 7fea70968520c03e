"""Range search: scales of weights and activations with the least error at the layers' outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from ..errors import PtqxError
from ..graph.formulas import convolve
from ..graph.ir import Node
from ..graph.operators import OPERATORS
from ..graph.operators.base import Mover
from ..graph.workbench import LAYER_OPS, Workbench
from .grid import layer_grid
from .method import method
from .moments import grouped, layer_moments
from .walk import Stage, by_layer, walk

Sight = Callable[[Tensor], Tensor]  # what a reader makes of a value


@method("range_search", moves_weights=True)
def range_search(
    bench: Workbench,
    *,
    candidates: int = 16,
    smallest: float = 0.4,
    largest: float = 1.2,
    weights: bool = True,
    activations: bool = True,
    samples: int = 256,
) -> None:
    """Multiply every calibrated scale by the factor whose rounding errs least where it matters.

    Layer by layer on the quantized network so far: the scale of every weight channel by the squared error of
    the layer's output, E |(Q - W) x|^2; then the scale of the activations it gives by the squared error that
    their rounding makes in the outputs of the layers that read them.

    Args:
        candidates: factors tried, evenly spaced from `smallest` to `largest`, and 1.
        weights, activations: which scales are searched.
        samples: calibration samples that activations are searched with.
    """
    if candidates < 2 or not 0.0 < smallest < largest:
        raise PtqxError(
            "range_search: expected candidates >= 2 and 0 < smallest < largest, "
            f"got {candidates}, {smallest} and {largest}"
        )
    factors = [1.0, *torch.linspace(smallest, largest, candidates).tolist()]
    with torch.no_grad():
        for stage in walk(bench, by_layer(bench), "range_search"):
            if weights:
                for node in stage.layers:
                    _search_weights(bench, stage, node, factors)
            if activations:
                for key in _static_quantizers(bench, stage):
                    _search_activations(bench, stage, key, factors, samples)


def _search_weights(bench: Workbench, stage: Stage, node: Node, factors: list[float]) -> None:
    gram = layer_moments(bench, stage, node).gram
    target, grid = grouped(node, bench.weight(node)), layer_grid(bench, node)
    errors = []
    for factor in factors:
        error = grid.scaled(factor).nearest(target) - target
        errors.append(((error @ gram) * error).sum(2).reshape(-1))
    quantizer = bench.quantizer(node)
    table = torch.stack(errors)
    if len(quantizer.scale) == 1:
        table = table.sum(1, keepdim=True)
    best = torch.tensor(factors)[table.argmin(0)]
    scale = quantizer.scale.detach()
    quantizer.set_qparams(scale * best.reshape(-1, *[1] * (scale.dim() - 1)), quantizer.zero_point)


def _static_quantizers(bench: Workbench, stage: Stage) -> list[str]:
    graph = bench.prep.graph
    names = {node.name for node in stage.segment.nodes}
    return [
        key
        for key, site in graph.quantizers.items()
        if site.owner in names and site.scheme.granularity == "tensor"
    ]


def _search_activations(bench: Workbench, stage: Stage, key: str, factors: list[float], samples: int) -> None:
    quantizer = bench.prep.activation_quantizer(key)
    owner = bench.prep.graph.quantizers[key].owner
    quantizer.enabled = False
    y = _value(bench, stage, owner, samples, quantized=True)
    quantizer.enabled = True
    wanted = _value(bench, stage, owner, samples, quantized=False)
    readings = [(see, see(wanted)) for see in _readings(bench, owner)]
    scale, zero_point = quantizer.scale.detach().clone(), quantizer.zero_point.clone()
    errors = []
    for factor in factors:
        quantizer.set_qparams(scale * factor, zero_point)
        rounded = quantizer(y)
        errors.append(sum(_relative(see(rounded) - target, target) for see, target in readings))
    best = min(range(len(factors)), key=lambda i: errors[i])
    quantizer.set_qparams(scale * factors[best], zero_point)


def _value(bench: Workbench, stage: Stage, name: str, samples: int, quantized: bool) -> Tensor:
    """What a node of the stage gives for the first samples."""
    model, values = (bench.prep, stage.quantized) if quantized else (bench.reference, stage.floats)
    known = {key: value[:samples] for key, value in values.items()}
    with model.observe(statistics=False) if not quantized else torch.no_grad():
        for node in stage.segment.nodes:
            own = model.graph.nodes[node.name]
            known[node.name] = model.step(own, *(known[i] for i in node.inputs))
            if node.name == name:
                break
    return known[name]


def _as_it_is(x: Tensor) -> Tensor:
    return x


def _readings(bench: Workbench, name: str, see: Sight = _as_it_is) -> Iterator[Sight]:
    """What each reader makes of a node's value, at once or behind movers; the value itself where it is an
    output of the network or meets another."""
    graph = bench.prep.graph
    if name in graph.outputs:
        yield see
    for reader in (graph.nodes[consumer] for consumer in graph.consumers(name)):
        operator = OPERATORS[reader.op]
        if isinstance(operator, Mover):
            yield from _readings(bench, reader.name, partial(_moved, operator, reader, see))
        elif reader.op in LAYER_OPS and reader.inputs[0] == name:
            yield partial(_convolved, bench.weight(reader), reader, see)
        else:
            yield see


def _moved(operator: Mover, node: Node, see: Sight, x: Tensor) -> Tensor:
    return operator.move(node.attrs, see(x), None)


def _convolved(weight: Tensor, node: Node, see: Sight, x: Tensor) -> Tensor:
    return convolve(see(x), weight, node.attrs)


def _relative(error: Tensor, wanted: Tensor) -> float:
    return float(error.square().mean() / wanted.square().mean().clamp(min=1e-20))
