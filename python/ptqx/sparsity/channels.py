"""Which indices of which tensors are one channel: what has to go together when a channel is removed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..graph import Graph, Node

Ids = list[int]  # of channels, one for every index of an axis

# What every channel goes through alone, whatever the number of channels.
CHANNELWISE = (
    *("unary", "dropout", "pad", "upsample_nearest2d", "upsample_zeros2d", "upsample_bilinear2d"),
    *("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d"),
)


@dataclass(frozen=True)
class Use:
    """The channel of every index of one axis of a parameter or buffer; `writes` where a layer makes them."""

    path: str
    axis: int
    channels: Ids
    writes: bool = False


class Channels:
    """The channels of a captured network, found by following them from layer to layer.

    A convolution or linear layer makes channels and reads others. Batch norms, activations, pooling and
    depthwise convolutions pass them on; flattening gives each as many features as it has pixels; an addition
    or a product ties those of both operands together; concatenation puts them side by side. What computes
    with numbers of channels that are written in the code (slices, shuffles, permutations, reshapes), grouped
    convolutions and what stays a Python module keep all of theirs, and so do input and output.

    Attributes:
        uses: what reads or holds channels.
        roots: int64 [number of ids], every id to the channel that it is tied to.
        removable: bool [number of ids], at the roots.
        widths: int64 [number of ids], every id to its width: the channels that one layer makes, and those
            that are tied to them.
    """

    def __init__(self, graph: Graph, model: nn.Module) -> None:
        self._model = model
        self._computed = frozenset(graph.constants)
        self._parents: list[int] = []
        self._origins: list[int] = []  # the width that an id was made with
        self._width_parents: list[int] = []
        self._kept: set[int] = set()
        self._used: dict[tuple[str, int], Ids] = {}
        keeping: list[Node] = []
        self.uses: list[Use] = []
        values = {graph.input: self._new(graph.input_shape[0], kept=True)}
        for node in graph:
            inputs = [values[name] for name in node.inputs]
            out = self._through(node, inputs, [graph.shape(name) for name in node.inputs])
            if out is None:
                keeping.append(node)
                for ids in inputs:
                    self._kept.update(ids)
                out = self._new(node.shape[0] if node.shape else 1, kept=True)
            values[node.name] = out
        for node in keeping:
            self._keep_parameters(node)
        for name in graph.outputs:
            self._kept.update(values[name])
        self.roots = torch.tensor([_find(self._parents, i) for i in range(len(self._parents))])
        self.widths = torch.tensor([_find(self._width_parents, origin) for origin in self._origins])
        self.removable = torch.zeros(len(self._parents), dtype=torch.bool)
        self.removable[self.roots] = True
        self.removable[self.roots[sorted(self._kept)]] = False

    def members(self) -> dict[int, Tensor]:
        """Width to its removable channels, for those widths that have any."""
        candidates = self.removable.nonzero().flatten()
        widths = self.widths[candidates]
        return {int(width): candidates[widths == width] for width in widths.unique()}

    def _through(self, node: Node, inputs: Sequence[Ids], shapes: Sequence[tuple[int, ...]]) -> Ids | None:
        """The channels of what a step gives; None if it must keep them all."""
        if self._computed.intersection(node.params.values()):
            return None
        if node.op in CHANNELWISE:
            return inputs[0]
        handler = _HANDLERS.get(node.op)
        return handler(self, node, inputs, shapes) if handler else None

    def _new(self, count: int, kept: bool = False) -> Ids:
        first, width = len(self._parents), len(self._width_parents)
        ids = list(range(first, first + count))
        self._parents += ids
        self._origins += [width] * count
        self._width_parents.append(width)
        if kept:
            self._kept.update(ids)
        return ids

    def _tie(self, a: Ids, b: Ids) -> None:
        for i, j in zip(a, b, strict=True):
            _join(self._parents, i, j)
            _join(self._width_parents, self._origins[i], self._origins[j])

    def _use(self, path: str, axis: int, channels: Ids, writes: bool = False) -> None:
        if (path, axis) in self._used:  # by a module that is called again
            self._tie(self._used[path, axis], channels)
            return
        self._used[path, axis] = channels
        self.uses.append(Use(path, axis, channels, writes))

    def _keep_parameters(self, node: Node) -> None:
        """What a step that must keep its channels reads, though others read it too."""
        for use in self.uses:
            inside = node.module is not None and use.path.startswith(f"{node.module}.")
            if inside or use.path in node.params.values():
                self._kept.update(use.channels)

    def _layer(self, node: Node, inputs: Sequence[Ids], shapes: Sequence[tuple[int, ...]]) -> Ids | None:
        path, count = node.params["weight"], node.shape[0]
        groups = node.attrs.get("groups", 1)
        if (node.op == "linear" and len(shapes[0]) != 1) or groups not in (1, len(inputs[0])):
            return None
        depthwise, transposed = groups > 1, node.attrs.get("transposed", False)
        if depthwise and transposed:
            return None
        out = [i for i in inputs[0] for _ in range(count // groups)] if depthwise else self._new(count)
        self._use(path, int(transposed), out, writes=True)
        if not depthwise:
            self._use(path, int(not transposed), inputs[0])
        if "bias" in node.params:
            self._use(node.params["bias"], 0, out)
        return out

    def _per_channel(self, node: Node, inputs: Sequence[Ids], shapes: Sequence[tuple[int, ...]]) -> Ids:
        for path in node.params.values():
            if self._tensor(path).numel() > 1 or len(inputs[0]) == 1:
                self._use(path, 0, inputs[0])
        return inputs[0]

    def _flatten(self, node: Node, inputs: Sequence[Ids], shapes: Sequence[tuple[int, ...]]) -> Ids:
        pixels = math.prod(shapes[0][1:])
        return [i for i in inputs[0] for _ in range(pixels)]

    def _reshape(self, node: Node, inputs: Sequence[Ids], shapes: Sequence[tuple[int, ...]]) -> Ids | None:
        """Of a sequence to an image of one row, and back."""
        before, after = shapes[0], node.shape
        is_row = {len(before), len(after)} == {2, 3} and max(before, after, key=len)[1] == 1
        return inputs[0] if is_row and (before[0], before[-1]) == (after[0], after[-1]) else None

    def _elementwise(self, node: Node, inputs: Sequence[Ids], shapes: Sequence[tuple[int, ...]]) -> Ids:
        self._tie(inputs[0], inputs[1])
        return inputs[0]

    def _product(self, node: Node, inputs: Sequence[Ids], shapes: Sequence[tuple[int, ...]]) -> Ids:
        if len(inputs[1]) == 1 < len(inputs[0]):
            return inputs[0]  # one number a pixel for all channels
        return self._elementwise(node, inputs, shapes)

    def _cat(self, node: Node, inputs: Sequence[Ids], shapes: Sequence[tuple[int, ...]]) -> Ids | None:
        return [i for ids in inputs for i in ids] if node.attrs["dim"] == 1 else None

    def _tensor(self, path: str) -> Tensor:
        owner, _, name = path.rpartition(".")
        tensor: Tensor = getattr(self._model.get_submodule(owner), name)
        return tensor


Handler = Callable[[Channels, Node, Sequence[Ids], Sequence[tuple[int, ...]]], Ids | None]
_HANDLERS: dict[str, Handler] = {
    "conv2d": Channels._layer,
    "linear": Channels._layer,
    "batch_norm": Channels._per_channel,
    "prelu": Channels._per_channel,
    "flatten": Channels._flatten,
    "reshape": Channels._reshape,
    "add": Channels._elementwise,
    "mul": Channels._product,
    "cat": Channels._cat,
}


def _find(parents: list[int], i: int) -> int:
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = parents[i]
    return i


def _join(parents: list[int], i: int, j: int) -> None:
    i, j = _find(parents, i), _find(parents, j)
    parents[max(i, j)] = min(i, j)
