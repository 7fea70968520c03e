"""AdaRound: rounding up or down, learned layer by layer."""

from __future__ import annotations

from dataclasses import replace

from ..graph.workbench import Workbench
from .learn import Learning, learn
from .method import method
from .walk import Segment, by_layer, walk


@method("adaround", rounds=True)
def adaround(
    bench: Workbench,
    *,
    steps: int = 1000,
    batch: int = 32,
    rate: float = 0.01,
    drop: float = 0.5,
    regularizer: float = 0.01,
    warmup: float = 0.2,
    seed: int = 0,
) -> None:
    """Learn, layer by layer, which weights to round up or down for the least error after the activation.

    The layer's inputs are those of the quantized network so far, a random share `drop` of the values taken
    from the float network. Scales stay. Nagel et al., "Up or Down? Adaptive Rounding for Post-Training
    Quantization", ICML 2020.

    Args:
        steps, batch: of Adam, and samples a step.
        rate: learning rate.
        drop: share of float values among the inputs, [0, 1).
        regularizer, warmup: of the term that makes weights choose, and the share of steps without it.
        seed: of the samples drawn.
    """
    how = Learning(steps, batch, rate, 0.0, drop, regularizer, warmup, seed)
    for stage in walk(bench, by_layer(bench), "adaround"):
        for node in stage.layers:
            learn(bench, stage, Segment([node], [node.name]), replace(how, seed=seed))
