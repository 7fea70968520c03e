"""Block reconstruction: rounding and activation scales learned for the output of whole blocks."""

from __future__ import annotations

from ..graph.workbench import Workbench
from .learn import Learning, learn
from .method import method
from .walk import by_block, walk


@method("reconstruction", rounds=True)
def reconstruction(
    bench: Workbench,
    *,
    steps: int = 1000,
    batch: int = 32,
    rate: float = 0.01,
    scale_rate: float = 1e-3,
    drop: float = 0.5,
    regularizer: float = 0.01,
    warmup: float = 0.2,
    seed: int = 0,
) -> None:
    """Learn rounding and activation scales block by block, for outputs like the float network's.

    A block has one value in and one out: a residual block, or a layer where there are none. While it learns,
    a random share `drop` of its activations and inputs is not rounded, which keeps the result good away from
    the calibration data. Li et al., "BRECQ", ICLR 2021; Wei et al., "QDrop", ICLR 2022.

    Args:
        steps, batch: of Adam, and samples a step.
        rate: learning rate of the rounding.
        scale_rate: of the logarithm of activation scales; 0 leaves them.
        drop: [0, 1).
        regularizer, warmup: of the term that makes weights choose, and the share of steps without it.
        seed: of the samples drawn and of what is dropped.
    """
    how = Learning(steps, batch, rate, scale_rate, drop, regularizer, warmup, seed)
    for stage in walk(bench, by_block(bench), "reconstruction"):
        learn(bench, stage, stage.segment, how)
