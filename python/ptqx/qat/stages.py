"""Progressive lowering of bits: a stage for each width, which begins with the weights of the last.

Each stage is calibrated anew, so that its scales fit its own width (Zhuang et al., "Towards effective
low-bitwidth convolutional neural networks", CVPR 2018; Li et al., "Additive powers-of-two quantization",
ICLR 2020).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..errors import PtqxError
from ..quant import LEVELS, Recipe, Scheme


@dataclass(frozen=True)
class Stage:
    """One part of a run: a recipe, and for how long it is trained."""

    recipe: Recipe
    epochs: int

    @property
    def name(self) -> str:
        """Widths of weights and activations: "w4a4"; what is float has none."""
        parts = (("w", self.recipe.weights), ("a", self.recipe.activations))
        return "".join(f"{letter}{scheme.bits}" for letter, scheme in parts if scheme is not None)


def smallest_bits(recipe: Recipe) -> int:
    """The narrower of weights and activations.

    >>> from ..quant import recipe
    >>> smallest_bits(recipe("w2a4"))
    2
    """
    return min((s.bits for s in (recipe.weights, recipe.activations) if s is not None), default=8)


def at_least(recipe: Recipe, bits: int) -> Recipe:
    """The recipe with every width below `bits` raised to it, those of overrides included.

    Levels that do not exist at that width, such as ternary ones, become uniform.

    >>> from ..quant import recipe
    >>> wider = at_least(recipe("w2a8", overrides={"features.4": {"bits": 3}}), 4)
    >>> wider.weights.bits, wider.activations.bits, wider.overrides["features.4"]["bits"]
    (4, 8, 4)
    >>> at_least(recipe("w2a8", overrides={"features.4": {"dtype": "bf16"}}), 4).overrides
    {'features.4': {'dtype': 'bf16'}}
    """
    edge_bits = recipe.edge_bits if recipe.edge_bits is None else max(recipe.edge_bits, bits)
    overrides = {
        pattern: {key: _raised(value, bits) for key, value in override.items()}
        for pattern, override in recipe.overrides.items()
    }
    weights, activations = (_raised(scheme, bits) for scheme in (recipe.weights, recipe.activations))
    return replace(recipe, weights=weights, activations=activations, edge_bits=edge_bits, overrides=overrides)


def plan_stages(recipe: Recipe, progressive: tuple[int, ...], epochs: int) -> list[Stage]:
    """A stage for each width and one for the recipe itself, which has the epochs that are left.

    Raises:
        PtqxError: widths that do not fall, are not above the recipe's, or leave no epoch for it.

    >>> from ..quant import recipe
    >>> [(stage.name, stage.epochs) for stage in plan_stages(recipe("w2a4"), (8, 4, 3), 12)]
    [('w8a8', 2), ('w4a4', 2), ('w3a4', 2), ('w2a4', 6)]
    """
    least = smallest_bits(recipe)
    if list(progressive) != sorted(set(progressive), reverse=True) or not all(
        least < bits <= 8 for bits in progressive
    ):
        raise PtqxError(
            f"progressive: expected falling numbers of bits from 8 to above the recipe's {least}, "
            f"got {', '.join(map(str, progressive))}"
        )
    each = max(1, epochs // 6)
    left = epochs - each * len(progressive)
    if left < 1:
        raise PtqxError(
            f"progressive: {len(progressive)} widths before the recipe's own need at least "
            f"{len(progressive) + 1} epochs, got {epochs}"
        )
    return [*(Stage(at_least(recipe, bits), each) for bits in progressive), Stage(recipe, left)]


def _raised(value: Any, bits: int) -> Any:
    """A width, a scheme or the fields of one (an override's), at least `bits` wide; a float type stays."""
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return max(value, bits)
    given = value.to_dict() if isinstance(value, Scheme) else dict(value or {})
    if given.get("bits", bits) >= bits:
        return value
    raised = {**given, "bits": bits, "midrise": None}
    if bits not in LEVELS[given.get("levels", "uniform")].allowed_bits:
        observer = LEVELS[given["levels"]].wider_observer
        raised |= {"levels": "uniform", "levels_args": {}, "observer": observer, "observer_args": {}}
    return Scheme(**raised) if isinstance(value, Scheme) else raised
