"""The fewest bits that lose no more accuracy than may be lost."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, isfinite

from torch import Tensor, nn
from tqdm import tqdm

from ...data import ImageDataset
from ...errors import PtqxError
from ...graph import quantize
from ...train import evaluate
from .choice import Budget, MeasuredLayers
from .widths import stored_bits

STEPS_PER_BIT = 8
WIDEST = 8  # bits on average: beyond lies float


@dataclass(frozen=True)
class Tolerated:
    """A budget of bits, and what is lost with it: percent points of top-1 on the images it was found on."""

    budget: Budget
    drop: float


def fewest_bits(
    model: nn.Module,
    calibration: Sequence[Tensor],
    held_out: ImageDataset | Iterable[tuple[Tensor, Tensor]],
    measured: MeasuredLayers,
    drop: float,
    *,
    progress: bool = False,
) -> Tolerated:
    """The smallest budget whose integer model is at most `drop` percent points of top-1 below the float one.

    Budgets lie an eighth of a bit a weight apart, and each is met as `measured.choose` does. The smallest is
    found by bisection, which takes accuracy to rise with bits: some seven models are converted and tested.

    Args:
        calibration: batches of inputs.
        held_out: images to lose accuracy on, read once per model: no test images, by which nothing may be
            chosen, and none of `calibration`.
        measured: of `measure_layers` for this model.
        drop: percent points, 0 or more.

    Raises:
        PtqxError: a `drop` below 0 or not finite; one that the widest widths exceed, with what they lose.

    >>> import ptqx
    >>> from ptqx.study.mixed_precision import measure_layers
    >>> digits = ptqx.data.load("digits")
    >>> model = ptqx.models.cnn(width=4).eval()
    >>> measured = measure_layers(model, digits, by="hessian", calibration=64, images=64)
    >>> batches = [digits.normalize(digits.images[:64])]
    >>> fewest_bits(model, batches, digits.subset(slice(64, 128)), measured, drop=100.0).budget.bits
    2.0
    """
    if not (isfinite(drop) and drop >= 0):
        raise PtqxError(f"drop: expected 0 or more percent points, got {drop!r}")
    reference = evaluate(copy.deepcopy(model).eval(), held_out).top1
    bits = [stored_bits(width) for width in measured.widths]
    narrowest, widest = (ceil(b * STEPS_PER_BIT) for b in (min(bits), min(max(bits), WIDEST)))

    def lost(eighths: int) -> float:
        recipe = measured.choose(Budget(bits=eighths / STEPS_PER_BIT)).recipe
        return reference - evaluate(quantize(model, calibration, recipe), held_out).top1

    with tqdm(desc=f"drop {drop:g}", unit=" models", disable=not progress, leave=False) as bar:
        best = lost(widest)
        if best > drop:
            raise PtqxError(f"drop: {drop:g} percent points, but the widest widths lose {best:.2f}")
        bar.update()
        while narrowest < widest:
            middle = (narrowest + widest) // 2
            loss = lost(middle)
            if loss <= drop:
                widest, best = middle, loss
            else:
                narrowest = middle + 1
            bar.update()
    return Tolerated(Budget(bits=widest / STEPS_PER_BIT), best)
