"""Sequential error feedback: float weights that make up for what earlier layers lost."""

from __future__ import annotations

from ..graph.workbench import Workbench
from .least_squares import fit_layer
from .method import method
from .moments import grouped
from .walk import by_layer, walk


@method("error_feedback", levels=None, moves_weights=True)
def error_feedback(bench: Workbench, *, damping: float = 0.01) -> None:
    """Layer by layer, the weights and bias whose output on the quantized inputs is nearest the float output.

    W += E[r (x - E x)^T] (E[(x - E x)(x - E x)^T] + damping)^-1 and b accordingly, r = z - (W x + b), x the
    layer's input in the quantized network so far. The weights stay float, to be rounded to the nearest level
    or by a method after this one; `gptq` does the same by itself.

    Args:
        damping: share of the inputs' mean variance that is added to every variance, at least; how much more
            is chosen on samples held back.
    """
    for stage in walk(bench, by_layer(bench), "error_feedback"):
        for node in stage.layers:
            moments, change = fit_layer(bench, stage, node, damping)
            weight = bench.weight(node)
            shift = moments.lack - (change.double() @ moments.mean[:, :, None]).squeeze(2)
            bench.set_weight(node, (grouped(node, weight) + change).reshape(weight.shape))
            bench.set_bias(node, bench.bias(node) + shift.reshape(-1))
            bench.quantizer(node).fit(bench.weight(node))
