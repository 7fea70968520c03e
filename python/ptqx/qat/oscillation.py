"""Weights that swing between two codes, tracked and frozen.

Near the end of training a weight whose best value lies between two levels crosses their border to and fro.
Nagel et al., "Overcoming oscillations in quantization-aware training", ICML 2022, algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..graph import SimulatedModel
from ..graph.weights import training_factor
from ..quant import Quantizer, expand_to
from ..train import Hook, distributed

MOMENTUM = 0.01  # of the frequency and of the average code
FIRST_THRESHOLD = 4.0  # times the last
WIDEST = 7  # bits of codes that are tracked


class FreezeOscillating(Hook):
    """Freezes weights that oscillate more often than a threshold on their average code.

    An oscillation is a change of code in the direction opposite to the last change. Its frequency per step is
    a moving average f of momentum 0.01; where f exceeds the threshold, which falls from 4 * `threshold` to
    `threshold` over `epochs` by a cosine, the code becomes the rounded moving average of codes and rests.
    Layers of 8 bits, of other levels than uniform and of stochastic rounding are left alone. Between changes
    both averages follow a closed form, so a step costs one quantization of the weights and the changed few.
    """

    def __init__(self, threshold: float, epochs: float) -> None:
        self.threshold = threshold
        self.epochs = epochs
        self.step = 0
        self.layers: dict[str, _Track] = {}

    def begin_step(self, model: nn.Module, position: float) -> None:
        if not self.layers:
            assert isinstance(model, SimulatedModel)
            _share_statistics(model)
            self.layers = dict(_tracked_layers(model))

    def end_step(self, model: nn.Module, position: float) -> None:
        assert isinstance(model, SimulatedModel)
        self.step += 1
        _share_statistics(model)
        for name, track in self.layers.items():
            layer = _Layer(model, name)
            track.follow(layer.codes(), self.step, self._threshold(position))
            track.restore(layer)

    def frozen_share(self) -> float:
        """Of the tracked weights."""
        counts = [(int(track.frozen.sum()), track.frozen.numel()) for track in self.layers.values()]
        return sum(frozen for frozen, _ in counts) / max(1, sum(total for _, total in counts))

    def end_epoch(self, model: nn.Module, row: dict[str, int | float]) -> None:
        row["frozen"] = self.frozen_share()

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "layers": {name: track.state_dict() for name, track in self.layers.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.layers = {
            name: _Track(**{key: tensor.clone() for key, tensor in tensors.items()})
            for name, tensors in state["layers"].items()
        }

    def _threshold(self, position: float) -> float:
        fallen = 0.5 * (1 + math.cos(math.pi * min(1.0, position / self.epochs)))
        return self.threshold * (1 + (FIRST_THRESHOLD - 1) * fallen)


@dataclass
class _Track:
    """What is known of the weights of one layer, in the order in which they lie in memory; of each as of the
    last step in which it changed."""

    codes: Tensor  # int8, now
    direction: Tensor  # int8: sign of the last change
    changed: Tensor  # int32: step of the last change
    frequency: Tensor  # float32: of oscillations
    average: Tensor  # float32: of codes
    frozen: Tensor  # bool
    resting: Tensor | None = field(default=None, init=False)  # where frozen; None until it is asked for

    @staticmethod
    def of(codes: Tensor) -> _Track:
        real = codes.float()
        none = torch.zeros_like(codes)
        return _Track(codes, none, none.int(), torch.zeros_like(real), real, none.bool())

    def follow(self, codes: Tensor, step: int, threshold: float) -> None:
        index = _differing(codes, self.codes)
        index = index[~self.frozen[index]]
        before, after = self.codes[index].float(), codes[index].float()
        kept = (1 - MOMENTUM) ** (step - self.changed[index]).float()
        # The code before held from the last change until this step.
        average = before + (self.average[index] - before) * (kept / (1 - MOMENTUM))
        average = average + MOMENTUM * (after - average)
        direction = (after - before).sign().to(torch.int8)
        swung = (direction * self.direction[index] < 0).float()
        frequency = kept * self.frequency[index] + MOMENTUM * swung
        stops = frequency > threshold
        self.codes[index] = torch.where(stops, average.round(), after).to(torch.int8)
        self.direction[index] = direction
        self.changed[index] = step
        self.frequency[index] = frequency
        self.average[index] = average
        self.frozen[index] = stops
        if self.resting is not None:
            self.resting = torch.cat([self.resting, index[stops]])

    @torch.no_grad()
    def restore(self, layer: _Layer) -> None:
        """Set frozen weights to what their codes stand for."""
        if self.resting is None:
            (self.resting,) = self.frozen.nonzero(as_tuple=True)
        if len(self.resting):
            layer.set_codes(self.resting, self.codes[self.resting])

    def state_dict(self) -> dict[str, Tensor]:
        return {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.init}


class _Layer:
    """The weight of a layer as training quantizes it: times its batch norm's factor."""

    def __init__(self, model: SimulatedModel, name: str) -> None:
        node = model.graph.nodes[name]
        self.weight = model.tensor(node.params["weight"])
        strides = self.weight.stride()
        self.order = sorted(range(self.weight.dim()), key=lambda axis: -strides[axis])
        self.quantizer: Quantizer = model.weight_quantizer(node)
        factor = training_factor(model, node)
        self.factor = torch.ones(len(self.weight), device=self.weight.device) if factor is None else factor

    @torch.no_grad()
    def codes(self) -> Tensor:
        """int8, in the order of memory."""
        codes = self.quantizer.quantize(self.weight * self._column(self.factor)).to(torch.int8)
        return codes.permute(self.order).flatten()

    def set_codes(self, index: Tensor, codes: Tensor) -> None:
        """Change the weights at those places in memory, so that they have those codes."""
        quantizer = self.quantizer
        axes = torch.unravel_index(index, [self.weight.shape[axis] for axis in self.order])
        place = tuple(axes[self.order.index(axis)] for axis in range(self.weight.dim()))
        scale, zero_point = (
            expand_to(p.detach(), self.weight, quantizer.scheme)
            for p in (quantizer.scale, quantizer.zero_point)
        )
        scale, zero_point = (p.expand_as(self.weight)[place] for p in (scale, zero_point))
        centered = codes.float() - zero_point
        if quantizer.midrise is not None:
            centered = centered + 0.5 * quantizer.midrise.expand(len(self.weight))[place[0]]
        self.weight[place] = centered * scale / self.factor[place[0]]

    def _column(self, factor: Tensor) -> Tensor:
        return factor.reshape(-1, *[1] * (self.weight.dim() - 1))


def _differing(a: Tensor, b: Tensor) -> Tensor:
    """Where two flat int8 tensors differ, by comparing eight values at once: few do."""
    if a.numel() % 8:
        return (a != b).nonzero().flatten()
    words = (a.view(torch.int64) != b.view(torch.int64)).nonzero()
    index = (8 * words + torch.arange(8, device=a.device)).flatten()
    return index[a[index] != b[index]]


def _tracked_layers(model: SimulatedModel) -> Iterator[tuple[str, _Track]]:
    for node in model.graph:
        weights = model.schemes.get(node.name, (None, None))[0]
        if weights is None or weights.bits > WIDEST or "weight" not in node.params:
            continue
        if "layer_scale" in node.params:
            continue  # what is quantized moves with the scale
        if node.attrs.get("transposed"):
            continue  # what is quantized is no view of the weight
        if weights.levels == "uniform" and weights.rounding == "nearest":
            yield node.name, _Track.of(_Layer(model, node.name).codes())


def _share_statistics(model: SimulatedModel) -> None:
    """Rank 0's batch norm statistics to all, as the next forward would: codes depend on them."""
    if distributed.world_size() == 1:
        return
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            dist.broadcast(buffer, 0)
