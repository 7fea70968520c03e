"""k-means codebooks that err least where the output would notice."""

from __future__ import annotations

from ..graph.workbench import Workbench
from ..quant import LevelQuantizer
from .method import method
from .moments import layer_moments
from .walk import by_layer, walk


@method("hessian_kmeans", levels=("kmeans",), moves_weights=True)
def hessian_kmeans(bench: Workbench, *, damping: float = 0.01) -> None:
    """Find every codebook again, each weight's squared error counted by the diagonal of its layer's Hessian.

    The Hessian of the squared error of a layer's output with respect to the weights of one output is
    2 E[x x^T], x its inputs: a weight counts E[x^2] of its input. Layers with other levels stay as they are.
    Choi, El-Khamy, Lee, "Towards the Limit of Network Quantization", ICLR 2017, section 3.3.

    Args:
        damping: of the inputs' mean square, added to every one: inputs that are always 0 count a little.
    """
    for stage in walk(bench, by_layer(bench), "hessian_kmeans"):
        for node in stage.layers:
            quantizer, weight = bench.quantizer(node), bench.weight(node)
            if not isinstance(quantizer, LevelQuantizer) or quantizer.scheme.levels != "kmeans":
                continue
            moments = layer_moments(bench, stage, node)
            squares = moments.gram.diagonal(dim1=1, dim2=2) + moments.mean.square()
            squares = squares + damping * squares.mean()
            outputs = len(weight) // len(squares)
            importance = squares.float().repeat_interleave(outputs, dim=0).reshape(weight.shape)
            quantizer.fit(weight, importance)
