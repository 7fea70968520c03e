"""Batch norm statistics that rest at the end of training."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..train import Hook


class FrozenStatistics(Hook):
    """From `start` on (in epochs), batch norms normalize by their learned statistics, as the integer model
    will: what is trained is then what is run (Krishnamoorthi, arXiv:1806.08342, section 3.2.2).

    >>> model = nn.Sequential(nn.BatchNorm2d(2)).train()
    >>> hook = FrozenStatistics(1.5)
    >>> hook.begin_step(model, 1.4); model[0].training
    True
    >>> hook.begin_step(model, 1.5); model[0].training
    False
    """

    def __init__(self, start: float) -> None:
        self.start = start

    def begin_step(self, model: nn.Module, position: float) -> None:
        if position < self.start:
            return
        for module in model.modules():
            if isinstance(module, _BatchNorm) and module.training:
                module.eval()
