"""Magnitude sparsity: the smallest weights become 0 before they are quantized."""

from __future__ import annotations

import torch

from ..errors import PtqxError
from ..graph.workbench import Workbench
from ..quant import METHODS, Recipe, named_options
from ..sparsity import Pattern
from .method import KINDS, Method

NEAREST = "nearest"  # rounds and leaves zeros where they are


class _Sparse(Method):
    def check(self, recipe: Recipe, rounded: str = "") -> None:
        super().check(recipe, rounded)
        names = [named_options(entry)[0] for entry in recipe.methods]
        for name in names[names.index(self.name) :]:
            if METHODS[name].rounds and name != NEAREST:
                raise PtqxError(
                    f"method {name!r} would move the zeros of {self.name!r}; leave one of them out"
                )


def _sparse(bench: Workbench, share: float = 0.5, keep: int = 0, of: int = 0) -> None:
    """Set to 0 all but the largest weights of every layer, then find all scales again.

    "int8+sparse" keeps the larger half, "int8+sparse:share=0.8" the largest fifth,
    "int8+sparse:keep=2:of=4" the two largest of every four neighbours (`ptqx.sparsity.Pattern`). Batch norms
    are folded already: what counts is the weight that is quantized. Zeros are stored and multiplied with like
    all weights. Han et al. 2015, arXiv:1506.02626.

    Raises:
        PtqxError: no such pattern, or no layer with input channels for it; or the levels of a layer's weights
            have no 0.
    """
    pattern = Pattern(keep=keep, of=of) if keep or of else Pattern(share)
    pattern.check(bench.weight(node) for node in bench.layers)
    with torch.no_grad():
        for node in bench.layers:
            weight = bench.weight(node)
            bench.set_weight(node, weight * pattern.mask(weight))
    bench.recalibrate()
    with torch.no_grad():
        for node in bench.layers:
            weight = bench.weight(node)
            if bool((bench.quantizer(node)(weight)[weight == 0] != 0).any()):
                raise PtqxError(f"{node.name}: the levels of its weights have no 0; sparsity needs one")


sparse = METHODS.register("sparse")(_Sparse(_sparse, KINDS, rounds=False, moves_weights=True, levels=None))
