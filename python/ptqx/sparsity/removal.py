"""Structured sparsity: channels removed for good from a float network."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PtqxError, unknown_name
from ..files import write_tensors
from ..graph import Graph, capture, weight_uses
from ..tables import aligned
from .channels import Channels
from .importance import relative_importance
from .widths import OWN_WIDTHS, WIDTHS, take_widths

MEASURES = ("parameters", "macs", "channels")
ALLOCATIONS = ("global", "cost", "uniform")
LAYERS = ("conv2d", "linear")


@dataclass(frozen=True)
class Width:
    """Channels that a layer had and has, with the layers that share its width."""

    layers: tuple[str, ...]
    before: int
    after: int


@dataclass(frozen=True)
class Cost:
    """Parameters, multiply-accumulates of one sample, and channels that could be removed."""

    parameters: int
    macs: int
    channels: int


@dataclass(frozen=True, eq=False)
class Removal:
    """A network without some of its channels, and what that saved.

    Attributes:
        model: an ordinary module of the same class with narrower layers.
        before, after: the costs.
        widths: a row for every width that could have been narrowed.
    """

    model: nn.Module
    before: Cost
    after: Cost
    widths: tuple[Width, ...]

    def __str__(self) -> str:
        rows = [[", ".join(w.layers), str(w.before), str(w.after)] for w in self.widths]
        table = aligned(["layers", "channels", "kept"], rows, ["channels", "kept"])
        lines = [
            f"{name}: {old:,} -> {new:,} ({100 * (1 - new / old):.1f} % removed)"
            for name, old, new in (
                ("parameters", self.before.parameters, self.after.parameters),
                ("MACs", self.before.macs, self.after.macs),
            )
        ]
        return "\n".join([table, "", *lines])


def remove_channels(
    model: nn.Module,
    example_inputs: Any,
    share: float,
    of: str = "parameters",
    importance: str = "magnitude",
    allocation: str = "global",
    least: float = 0.1,
    multiple: int = 8,
) -> Removal:
    """Remove the least important channels until `share` of the parameters is gone.

    What belongs to a channel goes with it: its filter, its batch norm, the inputs of the layers that read it
    (through pooling and flattening), and the channels that additions tie to it. The result computes what
    `model` would with these channels set to 0, and is quantized, saved and run like any other network.
    Fine-tune it: without, accuracy falls steeply.

    Args:
        model: a float CNN that `ptqx.capture` takes; it is not changed.
        share: in (0, 1), of what is to go; at least as much goes, and little more.
        of: "parameters", "macs" (multiply-accumulates: speed) or "channels".
        importance: "magnitude" (norm of the filters) or "batch_norm" (its scale), relative to the mean of the
            layer.
        allocation: "global" compares the channels of all layers; "cost" does so by their importance over what
            they cost, counted as `of` says, so that wide layers with few pixels go first when parameters do;
            "uniform" takes the same share of each layer.
        least: share of its channels that every layer keeps.
        multiple: layers keep a multiple of so many channels; integer kernels take them in groups of four.

    Raises:
        PtqxError: a value out of range; not that much can be removed; forward has the number of channels
            written in it.

    >>> model = nn.Sequential(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 4, 3))
    >>> removal = remove_channels(model, torch.zeros(1, 3, 8, 8), 0.4)
    >>> removal.model[0], removal.model[3].in_channels
    (Conv2d(3, 16, kernel_size=(3, 3), stride=(1, 1)), 16)
    """
    _check(share, of, allocation, least, multiple)
    copied = copy.deepcopy(model).eval()
    graph = capture(copied, example_inputs)
    network = _Network(copied, graph)
    scores = relative_importance(importance, network.channels, copied)
    if allocation == "uniform":
        scores = _ranks(scores, network.channels)
    elif allocation == "cost":
        scores = _per_cost(scores, network, of)
    kept = _least_kept(network, scores, share, of, least, multiple)
    tensors = network.narrowed(kept)
    removal = Removal(
        take_widths(copied, tensors).train(model.training),
        network.cost(network.everything()),
        network.cost(kept),
        network.width_rows(kept),
    )
    _check_runs(removal.model, graph)
    return removal


def save(model: nn.Module, path: str | os.PathLike[str], info: Mapping[str, str] | None = None) -> None:
    """Write a network without some of its channels as safetensors. The model's builder rebuilds it from that:
    `ptqx.models.vgg11_bn(num_classes=100, weights=path)`, and so do all commands with `--weights`.

    Args:
        info: free strings kept in the file.
    """
    write_tensors(path, model.state_dict(), {**(info or {}), WIDTHS: OWN_WIDTHS})


def cost(model: nn.Module, example_inputs: Any) -> Cost:
    """Parameters and multiply-accumulates of a network as it is.

    >>> cost(nn.Sequential(nn.Conv2d(3, 8, 3, bias=False)), torch.zeros(1, 3, 4, 4))
    Cost(parameters=216, macs=864, channels=0)
    """
    network = _Network(model, capture(model, example_inputs))
    return network.cost(network.everything())


class _Network:
    """A captured model, and what it costs with only some of its channels."""

    def __init__(self, model: nn.Module, graph: Graph) -> None:
        self.graph = graph
        self.channels = Channels(graph, model)
        self.state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        self.parameters = dict(model.named_parameters())
        self.axes: dict[str, dict[int, Tensor]] = {}  # path -> axis -> channel of every index
        for use in self.channels.uses:
            self.axes.setdefault(use.path, {})[use.axis] = self.channels.roots[use.channels]

    def everything(self) -> Tensor:
        return torch.ones(len(self.channels.roots), dtype=torch.bool)

    def cost(self, kept: Tensor) -> Cost:
        """Of the network with those channels, bool [number of ids], read at the roots."""
        sizes = {path: self._size(path, kept) for path in self.parameters}
        computed = {path: tensor.numel() for path, tensor in self.graph.constants.items()}
        weights = [(n, n.params["weight"]) for n in self.graph if n.op in LAYERS]
        macs = sum({**sizes, **computed}[path] * weight_uses(self.graph, n) for n, path in weights)
        return Cost(sum(sizes.values()), macs, int((kept & self.channels.removable).sum()))

    def narrowed(self, kept: Tensor) -> dict[str, Tensor]:
        """Every tensor that loses something, without it."""
        tensors = {}
        for path, axes in self.axes.items():
            tensor = self.state[path].detach()
            for axis, ids in axes.items():
                tensor = tensor.index_select(axis, kept[ids].nonzero().flatten().to(tensor.device))
            if tensor.shape != self.state[path].shape:
                tensors[path] = tensor
        return tensors

    def width_rows(self, kept: Tensor) -> tuple[Width, ...]:
        names: dict[int, list[str]] = {}
        for use in self.channels.uses:
            if use.writes:
                names.setdefault(int(self.channels.widths[use.channels[0]]), []).append(
                    use.path.rpartition(".")[0]
                )
        return tuple(
            Width(tuple(names.get(width, ())), len(members), int(kept[members].sum()))
            for width, members in self.channels.members().items()
        )

    def _size(self, path: str, kept: Tensor) -> int:
        shape = list(self.state[path].shape)
        for axis, ids in self.axes.get(path, {}).items():
            shape[axis] = int(kept[ids].sum())
        return math.prod(shape)


def _least_kept(
    network: _Network, scores: Tensor, share: float, of: str, least: float, multiple: int
) -> Tensor:
    """The channels to keep: what remains when the fewest of the least important ones are gone that make up
    `share`."""
    members = network.channels.members()
    if not members:
        raise PtqxError("no channel can be removed: every layer's are those of input or output, or are kept")
    order = torch.cat(list(members.values()))
    order = order[scores[order].argsort(stable=True)]
    allowed = (1 - share) * getattr(network.cost(network.everything()), of)

    def kept_without(count: int) -> Tensor:
        kept = network.everything()
        kept[order[:count]] = False
        for candidates in members.values():
            total = len(candidates)
            wanted = max(int(kept[candidates].sum()), math.ceil(least * total), 1)
            wanted = min(total, -(-wanted // multiple) * multiple)
            best = candidates[scores[candidates].argsort(descending=True, stable=True)]
            kept[candidates] = False
            kept[best[:wanted]] = True
        return kept

    low, high = 0, len(order)
    fewest = getattr(network.cost(kept_without(high)), of)
    if fewest > allowed:
        possible = 1 - fewest / max(1.0, allowed / (1 - share))
        raise PtqxError(
            f"share: {100 * share:.1f} % of the {of} can't be removed, at most {100 * possible:.1f} % with "
            f"least={least} and multiple={multiple}"
        )
    while low < high:
        middle = (low + high) // 2
        if getattr(network.cost(kept_without(middle)), of) <= allowed:
            high = middle
        else:
            low = middle + 1
    return kept_without(low)


def _ranks(scores: Tensor, channels: Channels) -> Tensor:
    """The place of every channel in its width's order of importance, in (0, 1]."""
    ranks = scores.clone()
    for members in channels.members().values():
        order = scores[members].argsort(stable=True)
        ranks[members[order]] = torch.arange(1, len(members) + 1, dtype=scores.dtype) / len(members)
    return ranks


def _per_cost(scores: Tensor, network: _Network, of: str) -> Tensor:
    """Scores over what one channel of that width alone would save."""
    scores = scores.clone()
    whole = getattr(network.cost(network.everything()), of)
    for members in network.channels.members().values():
        without = network.everything()
        without[members[0]] = False
        scores[members] /= whole - getattr(network.cost(without), of)
    return scores


def _check(share: float, of: str, allocation: str, least: float, multiple: int) -> None:
    if of not in MEASURES:
        raise unknown_name("measure", of, MEASURES)
    if allocation not in ALLOCATIONS:
        raise unknown_name("allocation", allocation, ALLOCATIONS)
    if not 0 < share < 1:
        raise PtqxError(f"share must be in (0, 1), got {share}")
    if not 0 <= least <= 1:
        raise PtqxError(f"least must be in [0, 1], got {least}")
    if multiple < 1:
        raise PtqxError(f"multiple must be at least 1, got {multiple}")


def _check_runs(model: nn.Module, graph: Graph) -> None:
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(2, *graph.input_shape, device=next(model.parameters()).device))
    except RuntimeError as error:
        raise PtqxError(
            f"{type(model).__name__} does not run without these channels: {str(error).splitlines()[0]}; its "
            "forward has their number written in it (use flatten instead of view)"
        ) from error
    finally:
        model.train(training)
