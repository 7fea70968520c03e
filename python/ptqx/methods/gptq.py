"""GPTQ: weights rounded one after the other, each error made up for by those still to come."""

from __future__ import annotations

import torch
from torch import Tensor

from ..graph.workbench import Workbench
from .grid import Grid, in_order, layer_grid
from .least_squares import fit_layer
from .method import method
from .moments import grouped, layer_moments
from .walk import by_layer, walk

BLOCK = 128  # columns whose corrections are applied together


@method("gptq", rounds=True)
def gptq(
    bench: Workbench,
    *,
    damping: float = 0.01,
    act_order: bool = True,
    sweeps: int = 2,
    feedback: bool = True,
) -> None:
    """Choose the codes of every layer, in order, so that its output errs least on the quantized inputs.

    Minimises E |z - (Q x + b)|^2 over codes Q and bias b, where x is the layer's input in the quantized
    network and z its output in the float network. Columns are rounded one by one; the optimal change of
    the columns to come makes up for each (optimal brain surgeon); then `sweeps` times every column is chosen
    again with all others fixed. Convolutions, grouped and depthwise too, are linear on unfolded inputs.
    Frantar et al., "GPTQ", ICLR 2023; Nair and Suggala, "CDQuant", 2024, for the sweeps.

    Args:
        damping: share of the inputs' mean variance that is added to every variance; more where there are few
            samples for so many weights.
        act_order: round the columns with the largest inputs first.
        sweeps: of coordinate descent afterwards.
        feedback: round the weights that fit the quantized inputs best (least squares) instead of the float
            ones, so that errors of earlier layers are made up for.
    """
    for stage in walk(bench, by_layer(bench), "gptq"):
        for node in stage.layers:
            weight = bench.weight(node)
            start = target = grouped(node, weight)
            if feedback:
                moments, change = fit_layer(bench, stage, node, damping)
                target = start + change
            else:
                moments = layer_moments(bench, stage, node)
            gram = moments.damped(damping)
            rounded = solve(target, gram, layer_grid(bench, node), act_order, sweeps)
            bench.set_weight(node, rounded.reshape(weight.shape))
            shift = ((start - rounded).double() @ moments.mean[:, :, None]).squeeze(2)
            bench.set_bias(node, bench.bias(node) + (moments.lack + shift).reshape(-1))


def solve(target: Tensor, gram: Tensor, grid: Grid, act_order: bool, sweeps: int) -> Tensor:
    """Levels Q near `target` [G, O, K] with small tr (Q - target) gram (Q - target)^T, float32."""
    diagonal = gram.diagonal(dim1=1, dim2=2)
    order = torch.argsort(diagonal, dim=1, descending=True, stable=True)
    if not act_order:
        order = torch.arange(diagonal.shape[1], device=order.device).expand_as(order)
    ordered = gram.gather(1, order[:, :, None].expand_as(gram))
    ordered = ordered.gather(2, order[:, None, :].expand_as(gram))
    levels, wanted = grid.ordered(order), in_order(target, order)
    rounded = _in_turn(wanted, _inverse_factor(ordered), levels)
    for _ in range(sweeps):
        rounded = _sweep(rounded, wanted, ordered, levels)
    return in_order(rounded, torch.argsort(order, dim=1))


def _inverse_factor(gram: Tensor) -> Tensor:
    """Upper U with U^T U = gram^-1: the inverse of the factor that starts from the last column."""
    backwards = torch.linalg.cholesky(gram.flip(1, 2)).flip(1, 2)
    identity = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device).expand_as(gram)
    return torch.linalg.solve_triangular(backwards, identity, upper=True)


def _in_turn(wanted: Tensor, factor: Tensor, grid: Grid) -> Tensor:
    """Round column by column; the later ones take the errors over (upper factor of the inverse gram)."""
    remaining, rounded = wanted.clone(), torch.empty_like(wanted)
    columns = wanted.shape[2]
    for start in range(0, columns, BLOCK):
        end = min(start + BLOCK, columns)
        errors = torch.empty_like(wanted[:, :, start:end])
        for j in range(start, end):
            w = remaining[:, :, j]
            rounded[:, :, j] = grid.column(j).nearest(w)
            error = (w - rounded[:, :, j]) / factor[:, j, j, None]
            errors[:, :, j - start] = error
            remaining[:, :, j + 1 : end] -= error[:, :, None] * factor[:, None, j, j + 1 : end]
        remaining[:, :, end:] -= errors @ factor[:, start:end, end:]
    return rounded


def _sweep(rounded: Tensor, wanted: Tensor, gram: Tensor, grid: Grid) -> Tensor:
    """Every column in turn at its best level for the others as they are."""
    rounded = rounded.clone()
    slope = (rounded - wanted) @ gram
    columns = wanted.shape[2]
    for start in range(0, columns, BLOCK):
        end = min(start + BLOCK, columns)
        changes = torch.empty_like(wanted[:, :, start:end])
        for j in range(start, end):
            best = grid.column(j).nearest(rounded[:, :, j] - slope[:, :, j] / gram[:, j, j, None])
            change = best - rounded[:, :, j]
            rounded[:, :, j] = best
            changes[:, :, j - start] = change
            slope[:, :, j:end] += change[:, :, None] * gram[:, None, j, j:end]
        slope[:, :, end:] += changes @ gram[:, start:end, end:]
        slope[:, :, :start] += changes @ gram[:, start:end, :start]
    return rounded
