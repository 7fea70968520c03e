"""Plain rounding, by name."""

from __future__ import annotations

from ..graph.workbench import Workbench
from .method import method


@method("nearest", rounds=True)
def nearest(bench: Workbench) -> None:
    """Every weight at the nearest level, which is what happens without a method: "int4+nearest" names it."""
    for node in bench.layers:
        bench.set_weight(node, bench.quantizer(node)(bench.weight(node)))
