"""Batch norm statistics during training: found anew for the weights of the moment, at rest at the end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..graph import SimulatedModel
from ..train import Hook


class BatchNormStatistics(Hook):
    """Keeps what batch norms will run with close to the weights.

    Moving averages lag behind weights that move fast, with few bits by more than a network bears. So they are
    found anew before every evaluation (Nagel et al., "Overcoming oscillations in quantization-aware
    training", ICML 2022, section 4.1), and once more at `rest`, in epochs. From there on they rest, and batch
    norms normalize by them, as the integer model will: what is trained is then what is run (Krishnamoorthi,
    arXiv:1806.08342, section 3.2.2). `rest=0` leaves them as they are given.

    Args:
        rest: in epochs; infinity is never.
        images: batches (x, y) to find them by, read at every time.

    >>> model = nn.Sequential(nn.BatchNorm2d(2)).train()
    >>> hook = BatchNormStatistics(1.5, [(torch.full((4, 2, 1, 1), 3.0), None)])
    >>> hook.begin_step(model, 1.4); model[0].training, model[0].running_mean
    (True, tensor([0., 0.]))
    >>> hook.begin_step(model, 1.5); model[0].training, model[0].running_mean
    (False, tensor([3., 3.]))
    """

    def __init__(self, rest: float, images: Iterable[tuple[Tensor, Any]]) -> None:
        self.rest = rest
        self.images = images
        self.resting = rest <= 0

    def begin_step(self, model: nn.Module, position: float) -> None:
        if position < self.rest:
            return
        if not self.resting:
            reestimate(model, self.images)
            self.resting = True
        for norm in _norms(model):
            norm.eval()

    def begin_evaluation(self, model: nn.Module) -> None:
        if not self.resting:
            reestimate(model, self.images)

    def state_dict(self) -> dict[str, Any]:
        return {"resting": self.resting}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.resting = state["resting"]


@torch.no_grad()
def reestimate(model: nn.Module, images: Iterable[tuple[Tensor, Any]]) -> None:
    """Set the statistics of all batch norms to the means over these batches, of the network as it is trained
    (fake-quantized), with everything else as in eval()."""
    forward = model.fake_quantized if isinstance(model, SimulatedModel) else model
    with _estimating(model) as norms:
        if not norms:
            return
        for number, (x, _) in enumerate(images, start=1):
            for norm in norms:
                norm.momentum = 1.0 / number  # the mean of all so far
            forward(x)


@contextmanager
def _estimating(model: nn.Module) -> Iterator[list[_BatchNorm]]:
    """Inside, the batch norms that have statistics are in train(), all other modules in eval()."""
    modes = {module: module.training for module in model.modules()}
    norms = _norms(model)
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.train()
    try:
        yield norms
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, training in modes.items():
            module.training = training


def _norms(model: nn.Module) -> list[_BatchNorm]:
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
