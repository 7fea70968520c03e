"""Second moments of a layer's inputs and of what its output lacks: all that closed forms need."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..graph.formulas import convolve
from ..graph.ir import Node
from ..graph.operators.layers import dynamic_input
from ..graph.workbench import Workbench
from .walk import Stage

COLUMN_VALUES = 2**25  # values of unfolded inputs at a time


@dataclass(frozen=True)
class Moments:
    """Means over all samples and positions, of G groups of channels, K weights of an output, O outputs a
    group.

    x is the layer's input in the quantized network, r = z - (W x + b) what its output lacks with the weight W
    and bias b of the moment, z the float network's.

    Attributes:
        gram: float64 [G, K, K], covariance of x.
        mean: float64 [G, K], of x.
        cross: float64 [G, O, K], covariance of r and x.
        lack: float64 [G, O], mean of r.
    """

    gram: Tensor
    mean: Tensor
    cross: Tensor
    lack: Tensor

    def damped(self, damping: float) -> Tensor:
        """gram with `damping` times its mean diagonal added to the diagonal; never singular."""
        diagonal = self.gram.diagonal(dim1=1, dim2=2)
        added = (damping * diagonal.mean(1)).clamp(min=1e-12)
        return self.gram + torch.diag_embed(added[:, None].expand_as(diagonal))


def grouped(node: Node, rows: Tensor) -> Tensor:
    """A weight [out, ...] as [G, O, K]."""
    groups = node.attrs.get("groups", 1)
    return rows.reshape(groups, len(rows) // groups, -1)


def layer_input(bench: Workbench, node: Node, x: Tensor) -> Tensor:
    """What the layer multiplies in the quantized network: dynamic layers round their input themselves."""
    return dynamic_input(bench.prep, node, x) if node.kind == "dynamic" else x


def float_output(bench: Workbench, node: Node, x: Tensor) -> Tensor:
    """The layer's output in the float network, before residual and activation."""
    reference = bench.reference
    params = reference.graph.nodes[node.name].params
    bias = reference.tensor(params["bias"]) if "bias" in params else None
    return convolve(x, reference.tensor(params["weight"]), node.attrs, bias)


@torch.no_grad()
def layer_moments(bench: Workbench, stage: Stage, node: Node) -> Moments:
    weight, bias = bench.weight(node), bench.bias(node)
    x, reference = stage.quantized[node.inputs[0]], stage.floats[node.inputs[0]]
    groups = node.attrs.get("groups", 1)
    positions = node.shape[1] * node.shape[2] if len(node.shape) == 3 else 1
    step = max(1, min(len(x), COLUMN_VALUES // (weight[0].numel() * groups * positions)))
    sums: list[Tensor] | None = None
    count = 0
    for start in range(0, len(x), step):
        batch = layer_input(bench, node, x[start : start + step])
        columns = unfolded(node, weight, batch)
        z = float_output(bench, node, reference[start : start + step])
        lack = output_columns(node, z - convolve(batch, weight, node.attrs, bias))
        terms = [
            columns @ columns.transpose(1, 2),
            columns.sum(2, dtype=torch.float64),
            lack @ columns.transpose(1, 2),
            lack.sum(2, dtype=torch.float64),
        ]
        if sums is None:
            sums = [torch.zeros_like(term, dtype=torch.float64) for term in terms]
        for total, term in zip(sums, terms, strict=True):
            total += term
        count += columns.shape[2]
    assert sums is not None
    gram, mean, cross, lacking = (total.div_(count) for total in sums)
    gram -= mean[:, :, None] * mean[:, None, :]
    cross -= lacking[:, :, None] * mean[:, None, :]
    return Moments(gram, mean, cross, lacking)


def unfolded(node: Node, weight: Tensor, x: Tensor) -> Tensor:
    """The inputs that each output position multiplies, [G, K, columns]."""
    if weight.dim() == 2:
        return x.reshape(-1, x.shape[-1]).t()[None]
    attrs = node.attrs
    top, left, bottom, right = attrs["padding"]
    patches = F.unfold(
        F.pad(x, (left, right, top, bottom)), weight.shape[2:], attrs["dilation"], 0, attrs["stride"]
    )
    split = patches.reshape(len(x), attrs["groups"], -1, patches.shape[2])
    return split.permute(1, 2, 0, 3).flatten(2)


def output_columns(node: Node, z: Tensor) -> Tensor:
    """A layer's output as [G, O, columns], columns as `unfolded` orders them."""
    if z.dim() != 4:
        return z.reshape(-1, z.shape[-1]).t()[None]
    groups = node.attrs["groups"]
    return z.flatten(2).reshape(len(z), groups, z.shape[1] // groups, -1).permute(1, 2, 0, 3).flatten(2)
