"""quantize: post-training quantization in one call."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from torch import nn

from ..errors import PtqxError
from ..quant import METHODS, Recipe, named_options
from ..quant import recipe as find_recipe
from .calibrate import calibrate, check_loader, first_tensor
from .convert import convert
from .integer import IntegerModel
from .prepare import prepare
from .simulated import SimulatedModel
from .workbench import Workbench


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
        recipe: a preset's name, with methods if wanted ("w4a4+gptq"), or a Recipe.
        example_inputs: a tensor of the model's input shape; by default the first batch.
        progress: show progress bars.

    Raises:
        PtqxError: what `prepare`, `calibrate`, `apply_methods` and `convert` raise.
    """
    chosen = find_recipe(recipe)
    check_methods(chosen)
    check_loader(loader)
    if chosen.methods and iter(loader) is loader:  # methods need the batches again
        loader = list(loader)
    if example_inputs is None:
        batches = iter(loader)
        first = next(batches, None)
        if first is None:
            raise PtqxError("loader: the calibration set is empty; give at least one batch")
        example_inputs = first_tensor(first)[:1]
        if batches is loader:  # an iterator gives its first batch only once
            loader = itertools.chain([first], batches)
    prep = calibrate(prepare(model, chosen, example_inputs), loader, progress)
    return convert(apply_methods(prep, loader, progress))


def apply_methods(prep: SimulatedModel, loader: Iterable[Any], progress: bool = False) -> SimulatedModel:
    """Run the recipe's methods, in its order, on a calibrated model; change and return it.

    Raises:
        PtqxError: what `check_methods` raises, or a model or data that they can't work on.
    """
    check_methods(prep.recipe)
    if prep.recipe.methods:
        bench = Workbench(prep, loader, progress)
        for name, options in map(named_options, prep.recipe.methods):
            METHODS[name](bench, **options)
    return prep


def check_methods(recipe: Recipe) -> None:
    """Raise a PtqxError, before anything takes time, if the recipe's methods can't do what it asks."""
    rounded = ""
    for name, _ in map(named_options, recipe.methods):
        METHODS[name].check(recipe, rounded)
        rounded = name if METHODS[name].rounds else rounded
