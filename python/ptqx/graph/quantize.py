"""quantize: post-training quantization in one call."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from torch import nn

from ..errors import PtqxError
from ..quant import METHODS, Recipe
from ..quant import recipe as find_recipe
from .calibrate import calibrate
from .convert import convert
from .integer import IntegerModel
from .prepare import prepare
from .simulated import SimulatedModel


def quantize(
    model: nn.Module,
    loader: Iterable[Any],
    recipe: str | Recipe = "int8",
    example_inputs: Any = None,
    progress: bool = False,
) -> IntegerModel:
    """Post-training quantization: prepare, calibrate on `loader`, the recipe's methods, convert.

    Args:
        model: the float model; it is not changed.
        loader: calibration batches x or (x, y); a list of tensors will do, a few hundred samples suffice.
        recipe: a preset's name or a Recipe.
        example_inputs: a tensor of the model's input shape; by default the first batch.
        progress: show a progress bar.

    Raises:
        PtqxError: what `prepare`, `calibrate` and `convert` raise.
    """
    chosen = find_recipe(recipe)
    if example_inputs is None:
        batches = iter(loader)
        first = next(batches, None)
        if first is None:
            raise PtqxError("loader: the calibration set is empty; give at least one batch")
        example_inputs = (first[0] if isinstance(first, (tuple, list)) else first)[:1]
        if batches is loader:  # an iterator gives its first batch only once
            loader = itertools.chain([first], batches)
    prep = calibrate(prepare(model, chosen, example_inputs), loader, progress)
    return convert(apply_methods(prep, loader))


def apply_methods(prep: SimulatedModel, loader: Iterable[Any]) -> SimulatedModel:
    """Run the recipe's methods, in its order, on a calibrated model; change and return it."""
    for name in prep.recipe.methods:
        METHODS[name](prep, loader)
    return prep
