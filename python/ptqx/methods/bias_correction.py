"""Bias correction: the mean error of every output channel goes into its bias."""

from __future__ import annotations

import torch

from ..graph.workbench import Workbench
from .method import method
from .outputs import output_statistics
from .walk import by_layer, walk


@method("bias_correction", levels=None)
def bias_correction(bench: Workbench) -> None:
    """Layer by layer, b += E[z] - E[Q x + b]: z in the float network, x and Q in the quantized one.

    Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, with
    the means of calibration data. It changes no weight, so it may stand after any method.
    """
    with torch.no_grad():
        for stage in walk(bench, by_layer(bench), "bias_correction"):
            for node in stage.layers:
                quantized, wanted = output_statistics(bench, stage, node)
                bench.set_bias(node, bench.bias(node) + wanted.mean - quantized.mean)
