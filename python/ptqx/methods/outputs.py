"""What a layer gives in both networks: channel means and deviations."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..graph.formulas import convolve
from ..graph.ir import Node
from ..graph.workbench import BATCH, Workbench
from .moments import float_output, layer_input, output_columns
from .walk import Stage


class ChannelStatistics(NamedTuple):
    """Over all samples and positions, float32 [channels]."""

    mean: Tensor
    std: Tensor


def output_statistics(
    bench: Workbench, stage: Stage, node: Node
) -> tuple[ChannelStatistics, ChannelStatistics]:
    """Of the layer's output before residual and activation: in the quantized and in the float network."""
    weight = bench.quantizer(node)(bench.weight(node))
    sums = torch.zeros(4, len(weight), dtype=torch.float64)
    count = 0
    inputs = (stage.quantized[node.inputs[0]], stage.floats[node.inputs[0]])
    for x, reference in zip(*(values.split(BATCH) for values in inputs), strict=True):
        quantized = convolve(layer_input(bench, node, x), weight, node.attrs, bench.bias(node))
        outputs = (quantized, float_output(bench, node, reference))
        rows = [output_columns(node, z).flatten(0, 1).double() for z in outputs]
        sums += torch.stack([t for z in rows for t in (z.sum(1), z.square().sum(1))])
        count += rows[0].shape[1]
    means = sums / count
    return _statistics(means[0], means[1]), _statistics(means[2], means[3])


def _statistics(mean: Tensor, square: Tensor) -> ChannelStatistics:
    return ChannelStatistics(mean.float(), (square - mean.square()).clamp(min=0.0).sqrt().float())
