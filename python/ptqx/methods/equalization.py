"""Cross-layer equalization: consecutive layers share out the ranges of their channels."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import PtqxError
from ..graph.workbench import BATCH, Workbench
from .method import method
from .moments import float_output
from .pairs import Pair, pairs, scale_channels
from .walk import by_layer, walk


@method("equalization", levels=None, moves_weights=True)
def equalization(bench: Workbench, *, iterations: int = 20, absorb_bias: bool = False) -> None:
    """Scale the channels between two layers so that both have the same weight range there; recalibrate.

    With r1 = max|W1| of an output channel and r2 = max|W2| of that input channel, s = sqrt(r1 / r2): W1 / s,
    b1 / s, W2 * s, over all pairs of layers with a positively homogeneous function between them, again and
    again until nothing moves. The float network computes the same. It helps weights with one scale a tensor
    most. Nagel et al., ICCV 2019.

    Args:
        iterations: at most.
        absorb_bias: then move c = max(0, mean - 3 std) of a channel before its ReLU into the next layer's
            bias: b1 - c, b2 + W2 c. Only between layers where it is exact for values above c: nothing but
            ReLU and max-pooling between them, no padding.
    """
    if iterations < 1:
        raise PtqxError(f"equalization: iterations: expected at least 1, got {iterations}")
    with torch.no_grad():
        found = list(pairs(bench))
        for _ in range(iterations):
            largest = max((_equalize(bench, pair) for pair in found), default=0.0)
            if largest < 1e-4:
                break
        if absorb_bias:
            _absorb(bench, found)
        bench.recalibrate()


def _equalize(bench: Workbench, pair: Pair) -> float:
    """Returns the largest relative change of a channel."""
    first = bench.weight(pair.first).abs().flatten(1).amax(1)
    second = weight_ranges(bench, pair)
    factor = torch.sqrt(first / second)
    factor = torch.where((first > 0) & (second > 0), factor, torch.ones_like(factor))
    scale_channels(bench, pair, factor)
    return float((factor - 1).abs().max())


def weight_ranges(bench: Workbench, pair: Pair) -> Tensor:
    """max|W2| of every channel that the first layer gives, [channels]."""
    split = pair.split(bench.weight(pair.second)).abs()
    return split.amax((1, 3)).reshape(-1, pair.positions).amax(1)


def _absorb(bench: Workbench, found: list[Pair]) -> None:
    exact = {pair.first.name: pair for pair in found if _shifts_through(bench, pair)}
    for stage in walk(bench, by_layer(bench), "absorb biases"):
        for node in stage.layers:
            if node.name in exact:
                _absorb_pair(
                    bench, exact[node.name], _certain(bench, stage.floats[node.inputs[0]], exact[node.name])
                )


def _certain(bench: Workbench, x: Tensor, pair: Pair) -> Tensor:
    """max(0, mean - 3 std) of every channel before the ReLU."""
    outputs = [float_output(bench, pair.first, part) for part in x.split(BATCH)]
    values = torch.cat([z.transpose(0, 1).flatten(1) for z in outputs], dim=1)
    return (values.mean(1) - 3 * values.std(1, correction=0)).clamp(min=0.0)


def _absorb_pair(bench: Workbench, pair: Pair, certain: Tensor) -> None:
    first, second, _ = pair
    weight = bench.weight(second)
    moved = (pair.split(weight) * pair.columns(certain, weight)).sum((2, 3)).reshape(-1)
    bench.set_float(first, bench.weight(first), bench.bias(first) - certain)
    bench.set_float(second, weight, bench.bias(second) + moved)


def _shifts_through(bench: Workbench, pair: Pair) -> bool:
    graph, name = bench.prep.graph, pair.second.inputs[0]
    while name != pair.first.name:
        node = graph.nodes[name]
        if node.op not in ("max_pool2d", "flatten", "dropout") or any(_padding(node.attrs.get("padding", 0))):
            return False
        name = node.inputs[0]
    no_padding = not any(_padding(pair.second.attrs.get("padding", 0)))
    return pair.first.attrs.get("activation") == "relu" and no_padding


def _padding(padding: int | list[int]) -> list[int]:
    return [padding] if isinstance(padding, int) else list(padding)
