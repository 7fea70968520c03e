"""How much a channel matters: one decorated function each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..errors import unknown_name
from .channels import Channels, Use

Score = Callable[[Channels, nn.Module], Tensor]
IMPORTANCES: dict[str, Score] = {}


def importance(name: str) -> Callable[[Score], Score]:
    """Decorator: make a score known by name. It gives float [number of ids], larger at channels that matter
    more; it is read at `Channels.roots`."""

    def enter(score: Score) -> Score:
        IMPORTANCES[name] = score
        return score

    return enter


def relative_importance(name: str, channels: Channels, model: nn.Module) -> Tensor:
    """The score `name` of every channel over the mean of its width, so that layers can be compared."""
    if name not in IMPORTANCES:
        raise unknown_name("importance", name, IMPORTANCES)
    with torch.no_grad():
        scores = IMPORTANCES[name](channels, model).double()
    for members in channels.members().values():
        scores[members] /= scores[members].mean().clamp(min=1e-30)
    return scores


@importance("magnitude")
def magnitude(channels: Channels, model: nn.Module) -> Tensor:
    """The L2 norm of the filter, of all filters that are tied together (Li et al. 2017, arXiv:1608.08710)."""
    uses = [use for use in channels.uses if use.writes]
    return _norms(channels, [(use, model.get_parameter(use.path)) for use in uses])


@importance("batch_norm")
def batch_norm(channels: Channels, model: nn.Module) -> Tensor:
    """|gamma| of the batch norm (Liu et al. 2017, arXiv:1708.06519); magnitude for widths that have none."""
    gammas = [
        (use, model.get_parameter(use.path)) for use in channels.uses if _is_batch_norm_weight(use, model)
    ]
    scores = _norms(channels, gammas)
    normalized = {int(channels.widths[use.channels[0]]) for use, _ in gammas}
    plain = magnitude(channels, model)
    for width, members in channels.members().items():
        if width not in normalized:
            scores[members] = plain[members]
    return scores


def _is_batch_norm_weight(use: Use, model: nn.Module) -> bool:
    owner, _, name = use.path.rpartition(".")
    return name == "weight" and isinstance(model.get_submodule(owner), nn.modules.batchnorm._BatchNorm)


def _norms(channels: Channels, tensors: Sequence[tuple[Use, Tensor]]) -> Tensor:
    """The L2 norm over everything in `tensors` that belongs to a channel."""
    squares = torch.zeros(len(channels.roots), dtype=torch.float64)
    for use, tensor in tensors:
        square = tensor.detach().cpu().double().movedim(use.axis, 0).flatten(1 if tensor.dim() > 1 else 0)
        square = square.square().sum(1) if tensor.dim() > 1 else square.square()
        squares.index_add_(0, channels.roots[use.channels], square)
    return squares.sqrt()
