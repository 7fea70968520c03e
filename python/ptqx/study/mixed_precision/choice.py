"""Widths chosen under a budget, and the recipe that they make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

import numpy as np
from torch import nn

from ...data import ImageDataset
from ...errors import PtqxError
from ...quant import Recipe
from ..compare import calibration_batches
from ..curvature import float_network, labelled_batches, layer_weights
from ..rows import markdown_table
from .costs import LayerCosts, layer_costs
from .knapsack import knapsack
from .losses import Evidence, Losses, layer_losses
from .widths import (
    DEFAULT_WIDTHS,
    FLOAT_WIDTHS,
    Width,
    base_recipe,
    checked_widths,
    mixed_recipe,
    stored_bits,
)


@dataclass(frozen=True)
class Budget:
    """At most so much; what is None is not limited.

    Attributes:
        bits: that a weight takes in the file, on average: 4 for codes of 3 or 4 bits, 8 for 5 to 8.
        bytes: of all layers' tensors in the file.
        milliseconds: of the engine on a batch, on one thread.
    """

    bits: float | None = None
    bytes: int | None = None
    milliseconds: float | None = None

    def __post_init__(self) -> None:
        limits = asdict(self)
        if all(value is None for value in limits.values()):
            raise PtqxError("a budget needs bits, bytes or milliseconds")
        for name, value in limits.items():
            if value is not None and not value > 0:
                raise PtqxError(f"{name}: expected a positive budget, got {value!r}")

    def __str__(self) -> str:
        parts = [
            None if self.bits is None else f"{self.bits:g} bits",
            None if self.bytes is None else f"{self.bytes} bytes",
            None if self.milliseconds is None else f"{self.milliseconds:g} ms",
        ]
        return ", ".join(filter(None, parts))


@dataclass(frozen=True, eq=False)
class Choice:
    """What a budget leads to.

    Attributes:
        widths: by layer, in the network's order.
        recipe: 8-bit weights with these widths as overrides.
        loss: sum of the layers' estimated increases of the cross-entropy.
        bits: that a weight takes on average.
        bytes: of all layers' tensors in the file.
        milliseconds: of the engine on a batch, on one thread; None if not measured.
    """

    budget: Budget
    widths: dict[str, Width]
    recipe: Recipe
    loss: float
    bits: float
    bytes: int
    milliseconds: float | None


@dataclass(frozen=True, eq=False)
class MeasuredLayers:
    """All that widths are chosen by; measured once for any number of budgets.

    Attributes:
        parameters: weights of each layer.
        losses: by layer and width, see `layer_losses`.
        costs: see `LayerCosts`.
        base: the recipe that overrides depart from.
    """

    widths: tuple[Width, ...]
    parameters: dict[str, int]
    losses: Losses
    costs: LayerCosts
    base: Recipe

    def choose(self, budget: Budget) -> Choice:
        """The widths with the least sum of losses within the budget, by an integer program.

        Raises:
            PtqxError: the budget is too small for the narrowest widths (the least there is is named), or one
                of milliseconds where nothing was timed.
        """
        limits = []
        if budget.bits is not None:
            limits.append((self._stored_bits(), budget.bits, "bits"))
        if budget.bytes is not None:
            limits.append((self._array(self.costs.bytes), float(budget.bytes), "bytes"))
        if budget.milliseconds is not None:
            if self.costs.milliseconds is None:
                raise PtqxError("milliseconds: nothing was timed; give measure_layers a batch")
            room = budget.milliseconds - self.costs.other_milliseconds
            limits.append((self._array(self.costs.milliseconds), room, "milliseconds"))
        for costs, limit, unit in limits:
            least = costs.min(axis=1).sum()
            if least > limit * (1 + 1e-9):
                others = self.costs.other_milliseconds if unit == "milliseconds" else 0.0
                raise PtqxError(
                    f"budget: of the widths {', '.join(map(str, self.widths))} the cheapest take "
                    f"{least + others:.7g} {unit}{', the steps between them included' if others else ''}, "
                    f"more than {limit + others:.7g}"
                )
        losses = self._array(self.losses)
        chosen = knapsack(losses, [(costs, limit) for costs, limit, _ in limits])
        return self._choice(budget, chosen)

    def _choice(self, budget: Budget, chosen: list[int]) -> Choice:
        layers = range(len(chosen))

        def total(values: np.ndarray) -> float:
            return float(values[layers, chosen].sum())

        widths = {layer: self.widths[i] for layer, i in zip(self.parameters, chosen, strict=True)}
        if set(widths.values()) <= set(FLOAT_WIDTHS):
            raise PtqxError(f"budget: {budget} leaves every layer in float: nothing would be quantized")
        times = self.costs.milliseconds
        spent = None if times is None else total(self._array(times)) + self.costs.other_milliseconds
        return Choice(
            budget=budget,
            widths=widths,
            recipe=mixed_recipe(self.base, widths),
            loss=total(self._array(self.losses)),
            bits=total(self._stored_bits()),
            bytes=sum(self.costs.bytes[layer][width] for layer, width in widths.items()),
            milliseconds=None if spent is None or not isfinite(spent) else spent,
        )

    def _array(self, values: Any) -> np.ndarray:
        return np.array([[values[layer][width] for width in self.widths] for layer in self.parameters], float)

    def _stored_bits(self) -> np.ndarray:
        """Shares of the average number of bits that a weight takes, (layers, widths)."""
        counts = np.array(list(self.parameters.values()), float)
        stored = [stored_bits(width) for width in self.widths]
        return np.outer(counts / counts.sum(), stored)

    def to_dicts(self) -> list[dict[str, Any]]:
        """One entry a layer, ready for JSON; an infinite time is None."""
        times = self.costs.milliseconds
        return [
            {
                "layer": layer,
                "parameters": count,
                "loss": {str(w): self.losses[layer][w] for w in self.widths},
                "bytes": {str(w): self.costs.bytes[layer][w] for w in self.widths},
                "milliseconds": None
                if times is None
                else {str(w): times[layer][w] if isfinite(times[layer][w]) else None for w in self.widths},
            }
            for layer, count in self.parameters.items()
        ]

    def to_markdown(self, choice: Choice | None = None) -> str:
        """Losses and bytes (and times) by layer and width; of a choice, which was chosen."""
        times = self.costs.milliseconds
        header = ["layer", "weights"] + ["width"] * (choice is not None)
        header += [f"loss at {w}" for w in self.widths] + [f"bytes at {w}" for w in self.widths]
        header += [f"ms at {w}" for w in self.widths] if times is not None else []
        lines = [
            [
                *(layer, f"{count:,}", *([str(choice.widths[layer])] if choice is not None else [])),
                *(f"{self.losses[layer][w]:+.4f}" for w in self.widths),
                *(f"{self.costs.bytes[layer][w]:,}" for w in self.widths),
                *((_milliseconds(times[layer][w]) for w in self.widths) if times is not None else ()),
            ]
            for layer, count in self.parameters.items()
        ]
        return markdown_table(header, lines, frozenset(header) - {"layer"})


def _milliseconds(value: float) -> str:
    """As text; "-" where the engine does not run it."""
    return f"{value:.3g}" if isfinite(value) else "-"


def measure_layers(
    model: nn.Module,
    train: ImageDataset | Iterable[Any],
    *,
    by: str = "loss",
    widths: Sequence[Width] = DEFAULT_WIDTHS,
    activations: int = 8,
    methods: Sequence[Any] = (),
    calibration: int = 1024,
    images: int = 512,
    batch: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> MeasuredLayers:
    """What every layer loses and costs in every width.

    Args:
        model: a float CNN; it is not changed.
        train: a data set, or batches (x, y). Losses are found on `images` of it that calibration does not see
            (where it is a data set).
        by: "loss" (each layer alone, measured), "hessian" or "fisher"; see `layer_losses`.
        widths: of weights, 2 to 8 bits, or "bf16", "fp16" or "fp32": stored so, computed in float32, and
            outside the engine.
        activations: bits of every layer's input.
        methods: post-training methods of the recipe; losses are those without them.
        batch: time the engine on so many samples; None leaves time out.
    """
    checked = checked_widths(widths)
    base = base_recipe(activations, methods)
    batches = calibration_batches(train, calibration, seed)
    labelled = labelled_batches(train, images, calibration, seed)
    weights = layer_weights(float_network(model, batches[0]))
    evidence = Evidence(model, batches, labelled, activations, seed, progress)
    return MeasuredLayers(
        widths=checked,
        parameters={layer: weight.numel() for layer, weight in weights.items()},
        losses=layer_losses(evidence, by, checked),
        costs=layer_costs(model, base, weights, checked, batches, batch, progress),
        base=base,
    )


def mixed_precision(
    model: nn.Module,
    train: ImageDataset | Iterable[Any],
    *,
    bits: float | None = None,
    bytes: int | None = None,
    milliseconds: float | None = None,
    **options: Any,
) -> Choice:
    """Choose the width of every layer's weights: the least loss within a budget.

    The losses of layers are taken to add up, which makes it a multiple-choice knapsack, solved by an integer
    program (Dong et al., HAWQ-V2, 2020; Yao et al., HAWQ-V3, 2021).

    Args:
        bits, bytes, milliseconds: the budget, see `Budget`; 4 bits if none is given.
        options: of `measure_layers`. For milliseconds, `batch` is 1 unless given.

    >>> import ptqx
    >>> digits = ptqx.data.load("digits")
    >>> model = ptqx.models.cnn(width=4).eval()
    >>> choice = mixed_precision(model, digits, bits=4, by="hessian", calibration=64, images=64)
    >>> choice.bits <= 4, set(choice.widths.values()) <= {2, 3, 4, 6, 8}
    (True, True)
    >>> qmodel = ptqx.quantize(model, [digits.normalize(digits.images[:64])], choice.recipe)
    """
    if bits is None and bytes is None and milliseconds is None:
        bits = 4
    budget = Budget(bits, bytes, milliseconds)
    if milliseconds is not None:
        options.setdefault("batch", 1)
    return measure_layers(model, train, **options).choose(budget)
