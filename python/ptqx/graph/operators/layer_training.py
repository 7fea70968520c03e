"""Layers in training: fake-quantized weights, batch norms unfolded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..formulas import convolve, per_channel
from ..ir import Node
from ..weights import folded, in_float_dtype, raw_weight, training_factor

if TYPE_CHECKING:
    from ..simulated import SimulatedModel


def trained(model: SimulatedModel, node: Node, x: Tensor) -> Tensor:
    """The layer before residual and activation, on real values with fake-quantized weights.

    With its batch norm unfolded (`qat`), weight * `training_factor` is quantized and divided by the factor
    again, so that the batch norm sees the scale of its statistics (Krishnamoorthi, arXiv:1806.08342, section
    3.2.2).
    """
    if model.observing or node.kind == "float":
        weight, bias = folded(model, node)
        if not model.observing:
            weight = in_float_dtype(weight, node)
        return convolve(x, weight, node.attrs, bias)
    quantizer = model.weight_quantizer(node)
    factor = training_factor(model, node)
    if factor is None:
        weight, bias = folded(model, node)
        return _convolve_quantized(model, node, x, quantizer(weight), quantizer.scale, bias)
    weight = quantizer.forward_scaled(raw_weight(model, node), factor)
    bias = model.tensor(node.params["bias"]) if "bias" in node.params else None
    y = _convolve_quantized(model, node, x, weight, quantizer.scale / factor, bias)
    return _batch_norm(model, node, y)


def _convolve_quantized(
    model: SimulatedModel, node: Node, x: Tensor, weight: Tensor, step: Tensor, bias: Tensor | None
) -> Tensor:
    """Under autocast the convolution gets codes, exact in bfloat16, and the scales come after it.

    What is divided before and multiplied after cancels in the gradients, so that scales learn from their fake
    quantizations alone.

    Args:
        x: fake-quantized, or its codes (`SimulatedModel.passes_codes`).
        weight: fake-quantized, whole multiples of `step`, [1] or [out].
    """
    scale = model.input_scale(node)
    grouped = model.weight_quantizer(node).scheme.group_size
    if scale is None or grouped or not torch.is_autocast_enabled(x.device.type):
        return convolve(x, weight, node.attrs, bias)
    scale, step = scale.detach(), step.detach()
    unit = scale * step
    codes = weight / step.reshape(-1, *[1] * (weight.dim() - 1))
    if not model.passes_codes(model.graph.nodes[node.inputs[0]].quantizer, x):
        x = x / scale
    acc = convolve(x, codes, node.attrs, None if bias is None else bias / unit)
    return acc.mul_(per_channel(unit, weight).to(acc.dtype))  # nobody else reads acc


def _batch_norm(model: SimulatedModel, node: Node, y: Tensor) -> Tensor:
    if node.attrs["bn_module"] is not None:
        norm = model.get_submodule(node.attrs["bn_module"])
        if isinstance(norm, nn.BatchNorm1d) and y.dim() == 4:  # sequences, or features, as images of one row
            return norm(y.flatten(2)).view_as(y)
        return norm(y)
    roles = ("bn_running_mean", "bn_running_var", "bn_weight", "bn_bias")
    mean, variance, gamma, beta = (
        model.tensor(node.params[role]) if role in node.params else None for role in roles
    )
    return F.batch_norm(y, mean, variance, gamma, beta, eps=node.attrs["bn_eps"])
