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
        rounds: it leaves weights on the levels of their quantizers, which later methods must not move.
        levels: those of weights (`Scheme.levels`), rounded to the nearest, that it can work for; None: any.
        moves_weights: it changes the float weights or the ranges found for them, so it comes before rounding.
    """

    name: str  # set by the registry

    def __init__(
        self,
        run: Callable[..., None],
        kinds: Sequence[str],
        rounds: bool,
        moves_weights: bool,
        levels: Sequence[str] | None,
    ) -> None:
        functools.update_wrapper(self, run)
        self._run = run
        self.kinds = kinds
        self.rounds = rounds
        self.levels = levels
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
        self._check_levels(recipe.weights)
        if rounded and (self.moves_weights or self.rounds):
            raise PtqxError(
                f"method {self.name!r} would move the weights that {rounded!r} has rounded; name it "
                f"before {rounded!r}, or leave one out"
            )

    def _check_levels(self, weights: Scheme) -> None:
        if self.levels is None or (weights.levels in self.levels and weights.rounding == "nearest"):
            return
        expected = " or ".join(repr(levels) for levels in self.levels)
        raise PtqxError(
            f"method {self.name!r} needs weights with levels={expected} and rounding='nearest', got "
            f"{weights.levels!r} and {weights.rounding!r}; for any levels: "
            + ", ".join(name for name, method in METHODS.items() if method.levels is None)
        )


def _instead(kind: str) -> str:
    possible = [name for name, method in METHODS.items() if kind in method.kinds]
    return f"with {kind} recipes: {', '.join(possible)}"


def method(
    name: str,
    *,
    kinds: Sequence[str] = KINDS,
    rounds: bool = False,
    moves_weights: bool = False,
    levels: Sequence[str] | None = ("uniform",),
) -> Callable[[Callable[..., None]], Method]:
    """Decorator: enter a function under its name in recipes; see `Method`."""

    def enter(run: Callable[..., None]) -> Method:
        return METHODS.register(name)(Method(run, kinds, rounds, moves_weights, levels))

    return enter
