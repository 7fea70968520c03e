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
GRAM_BLOCK = 512  # rows of a product that are worth a matrix product of their own
COLUMNS_PER_WEIGHT = 64  # more positions than that for each weight of an output are thinned out


@dataclass(frozen=True)
class Moments:
    """Means over samples and positions, of G groups of channels, K weights of an output, O outputs a group.

    x is the layer's input in the quantized network, r = z - (W x + b) what its output lacks with the weight W
    and bias b of the moment, z the float network's.

    Attributes:
        gram: float32 [G, K, K], covariance of x.
        mean: float64 [G, K], of x.
        cross: float32 [G, O, K], covariance of r and x.
        lack: float64 [G, O], mean of r.
        noise: float64 [G], the share of the mean variance by which gram should be damped because it comes
            from so few values.
    """

    gram: Tensor
    mean: Tensor
    cross: Tensor
    lack: Tensor
    noise: Tensor

    def damped(self, damping: float) -> Tensor:
        """gram with its mean diagonal times `damping`, or times the noise if that is more, added to the
        diagonal; never singular."""
        gram = self.gram.clone()
        diagonal = gram.diagonal(dim1=1, dim2=2)
        diagonal += (self.noise.float().clamp(min=damping) * diagonal.mean(1)).clamp(min=1e-12)[:, None]
        return gram


@dataclass(frozen=True)
class Sums:
    """What `Moments` are made of, with x counted from `origin` [G, K]: sums of x x^T, x, r x^T, r, |x|^4."""

    origin: Tensor
    count: int
    xx: Tensor
    x: Tensor
    rx: Tensor
    r: Tensor
    quartic: Tensor

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.origin,
            self.count + other.count,
            *(a + b for a, b in zip(self._sums(), other._sums(), strict=True)),
        )

    def moments(self) -> Moments:
        xx, x, rx, r, quartic = (total / self.count for total in self._sums())
        gram = xx.baddbmm_(x[:, :, None], x[:, None, :], alpha=-1).float()
        cross = rx.baddbmm_(r[:, :, None], x[:, None, :], alpha=-1).float()
        return Moments(gram, x + self.origin, cross, r, _noise(gram, quartic, self.count))

    def _sums(self) -> tuple[Tensor, ...]:
        return self.xx, self.x, self.rx, self.r, self.quartic


def _noise(gram: Tensor, quartic: Tensor, count: int) -> Tensor:
    """rho / (1 - rho), rho the best weight of the identity beside a covariance estimated from `count` values.

    Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", 2004.
    """
    size = gram.shape[1]
    square = gram.square().sum((1, 2), dtype=torch.float64)
    spread = square / size - gram.diagonal(dim1=1, dim2=2).mean(1).square()
    error = ((quartic - square) / (count * size)).clamp(min=0.0)
    rho = (error / spread.clamp(min=1e-30)).clamp(max=0.99)
    return rho / (1 - rho) if size > 1 else torch.zeros_like(rho)


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


def layer_moments(bench: Workbench, stage: Stage, node: Node) -> Moments:
    """Over all samples."""
    return layer_sums(bench, stage, node, slice(0, len(bench.inputs))).moments()


@torch.no_grad()
def layer_sums(bench: Workbench, stage: Stage, node: Node, rows: slice, origin: Tensor | None = None) -> Sums:
    """Over the samples `rows`; the origin is near the mean, so that float32 products keep their digits."""
    weight, bias = bench.weight(node), bench.bias(node)
    x, reference = stage.quantized[node.inputs[0]][rows], stage.floats[node.inputs[0]][rows]
    step, count, sums = _batch_size(node, weight, len(x)), 0, None
    stride = _stride(node, weight, len(bench.inputs))
    for start in range(0, len(x), step):
        batch = layer_input(bench, node, x[start : start + step])
        columns = unfolded(node, weight, batch)[:, :, ::stride]
        origin = columns.mean(2) if origin is None else origin.float()
        columns = columns - origin[:, :, None]
        z = float_output(bench, node, reference[start : start + step])
        lack = output_columns(node, z - convolve(batch, weight, node.attrs, bias))[:, :, ::stride]
        terms = [
            _self_product(columns),
            columns.sum(2, dtype=torch.float64),
            lack @ columns.transpose(1, 2),
            lack.sum(2, dtype=torch.float64),
            columns.square().sum(1, dtype=torch.float64).square().sum(1),
        ]
        if sums is None:
            sums = [torch.zeros_like(term, dtype=torch.float64) for term in terms]
        for total, term in zip(sums, terms, strict=True):
            total += term
        count += columns.shape[2]
    assert sums is not None and origin is not None
    return Sums(origin.double(), count, *sums)


def _self_product(columns: Tensor) -> Tensor:
    """columns @ columns^T of [G, K, N], a symmetric matrix: blocks below the diagonal are copies."""
    size = columns.shape[1]
    if size <= GRAM_BLOCK:
        return columns @ columns.transpose(1, 2)
    product = columns.new_empty(len(columns), size, size)
    for start in range(0, size, GRAM_BLOCK):
        end = min(start + GRAM_BLOCK, size)
        product[:, start:end, start:] = columns[:, start:end] @ columns[:, start:].transpose(1, 2)
        product[:, end:, start:end] = product[:, start:end, end:].transpose(1, 2)
    return product


def _batch_size(node: Node, weight: Tensor, samples: int) -> int:
    """How many samples' unfolded inputs are held at a time."""
    values = weight[0].numel() * node.attrs.get("groups", 1) * _positions(node)
    return max(1, min(samples, COLUMN_VALUES // values))


def _stride(node: Node, weight: Tensor, samples: int) -> int:
    """Of the positions that are looked at; odd, so that it meets every column of an image."""
    enough = COLUMNS_PER_WEIGHT * weight[0].numel()
    return max(1, samples * _positions(node) // enough) | 1


def _positions(node: Node) -> int:
    return node.shape[1] * node.shape[2] if len(node.shape) == 3 else 1


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
