"""Re-estimation of batch norm statistics on the quantized network, absorbed by scale and bias."""

from __future__ import annotations

import torch

from ..errors import PtqxError
from ..graph.workbench import Workbench
from .method import method
from .outputs import output_statistics
from .walk import by_layer, walk


@method("batch_norm_reestimation")
def batch_norm_reestimation(bench: Workbench, *, largest_change: float = 1.5) -> None:
    """Layer by layer, give every channel of the quantized network the float network's mean and variance.

    With a = std(z) / std(Q x + b): weights and their scales are multiplied by a, b becomes
    a (b - E[Q x + b]) + E[z], so that no code changes and it may stand after any method. It does what running
    the batch norms over the calibration data again would do.
    Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021; Sun et al., "HLHLp", ECCV 2020, for quantization.

    Args:
        largest_change: a stays in [1 / largest_change, largest_change].

    Raises:
        PtqxError: weights with one scale for the whole tensor, which can't take a factor for each channel.
    """
    if largest_change < 1.0:
        raise PtqxError(f"batch_norm_reestimation: largest_change: expected at least 1, got {largest_change}")
    for node in bench.layers:
        if bench.quantizer(node).scheme.granularity == "tensor":
            raise PtqxError(
                f"{node.name}: batch_norm_reestimation needs weights with granularity='channel' or 'group', "
                "got 'tensor'; bias_correction corrects the means alone"
            )
    with torch.no_grad():
        for stage in walk(bench, by_layer(bench), "batch_norm_reestimation"):
            for node in stage.layers:
                quantized, wanted = output_statistics(bench, stage, node)
                factor = (wanted.std / quantized.std.clamp(min=1e-12)).nan_to_num(1.0)
                factor = factor.clamp(1 / largest_change, largest_change)
                quantizer, weight = bench.quantizer(node), bench.weight(node)
                scale = quantizer.scale.detach()
                scaled = scale * factor.reshape(-1, *[1] * (scale.dim() - 1))
                quantizer.set_qparams(scaled, quantizer.zero_point)
                bench.set_weight(node, weight * factor.reshape(-1, *[1] * (weight.dim() - 1)))
                bench.set_bias(node, factor * (bench.bias(node) - quantized.mean) + wanted.mean)
