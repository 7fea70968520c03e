"""What a post-training method is, and the decorator that enters one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import PtqxError
from ..graph.workbench import Workbench
from ..quant import METHODS, Recipe, Scheme

KINDS = ("static", "dynamic", "weight_only")


class Method:
    """A function (workbench, *, option=default, ...) that improves a calibrated model in place.

    Attributes:
        kinds: kinds of recipes (`Recipe.kind`) it can work for.
        any_levels: it also works for levels other than uniform ones rounded to the nearest.
        rounds: it leaves weights on the levels of their quantizers, which later methods must not move.
        moves_weights: it changes the float weights or the ranges found for them, so it comes before rounding.
    """

    name: str  # set by the registry

    def __init__(
        self,
        run: Callable[..., None],
        kinds: Sequence[str],
        any_levels: bool,
        rounds: bool,
        moves_weights: bool,
    ) -> None:
        functools.update_wrapper(self, run)
        self._run = run
        self.kinds = kinds
        self.any_levels = any_levels
        self.rounds = rounds
        self.moves_weights = moves_weights

    def __call__(self, bench: Workbench, **options: Any) -> None:
        self._run(bench, **options)

    def check(self, recipe: Recipe, rounded: str = "") -> None:
        """
        Args:
            rounded: the method before it that has rounded the weights; "" if none has.

        Raises:
            PtqxError: the recipe asks for what the method can't do.
        """
        if recipe.weights is None:
            raise PtqxError(f"method {self.name!r} needs quantized weights; the recipe leaves them float")
        if recipe.kind not in self.kinds:
            raise PtqxError(
                f"method {self.name!r} works with {' or '.join(self.kinds)} recipes, "
                f"this one is {recipe.kind}; {_instead(recipe.kind)}"
            )
        if not self.any_levels:
            self._check_levels(recipe.weights)
        if rounded and (self.moves_weights or self.rounds):
            raise PtqxError(
                f"method {self.name!r} would move the weights that {rounded!r} has rounded; name it "
                f"before {rounded!r}, or leave one out"
            )

    def _check_levels(self, weights: Scheme) -> None:
        if weights.levels != "uniform" or weights.rounding != "nearest":
            raise PtqxError(
                f"method {self.name!r} needs weights with levels='uniform' and rounding='nearest', got "
                f"{weights.levels!r} and {weights.rounding!r}; for any levels: "
                + ", ".join(name for name, method in METHODS.items() if method.any_levels)
            )


def _instead(kind: str) -> str:
    possible = [name for name, method in METHODS.items() if kind in method.kinds]
    return f"with {kind} recipes: {', '.join(possible)}"


def method(
    name: str,
    *,
    kinds: Sequence[str] = KINDS,
    any_levels: bool = False,
    rounds: bool = False,
    moves_weights: bool = False,
) -> Callable[[Callable[..., None]], Method]:
    """Decorator: enter a function under its name in recipes; see `Method`."""

    def enter(run: Callable[..., None]) -> Method:
        return METHODS.register(name)(Method(run, kinds, any_levels, rounds, moves_weights))

    return enter
