"""Optimizers and learning rate schedules by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

if TYPE_CHECKING:
    from .config import TrainConfig

ParameterGroups = list[dict[str, Any]]


def decay_groups(
    model: nn.Module, weight_decay: float, without: Collection[nn.Parameter] = ()
) -> ParameterGroups:
    """Two groups: tensors of two or more axes decay; biases, batch-norm parameters and scales don't.

    Parameters among `without` are left out.
    """
    others = set(without)
    parameters = [p for p in model.parameters() if p.requires_grad and p not in others]
    return [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]


def _sgd(groups: ParameterGroups, config: TrainConfig) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)


def _adamw(groups: ParameterGroups, config: TrainConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=config.lr)


def _cosine(optimizer: torch.optim.Optimizer, config: TrainConfig, steps_per_epoch: int) -> LRScheduler:
    steps = config.epochs * steps_per_epoch
    warmup = round(config.warmup * steps_per_epoch)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return LambdaLR(optimizer, factor)


def _one_cycle(optimizer: torch.optim.Optimizer, config: TrainConfig, steps_per_epoch: int) -> LRScheduler:
    peaks = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(
        optimizer,
        max_lr=peaks,
        total_steps=config.epochs * steps_per_epoch + 1,
        pct_start=config.warmup / config.epochs,
        cycle_momentum=False,
    )


def _constant(optimizer: torch.optim.Optimizer, config: TrainConfig, steps_per_epoch: int) -> LRScheduler:
    return LambdaLR(optimizer, lambda step: 1.0)


OPTIMIZERS: dict[str, Callable[[ParameterGroups, TrainConfig], torch.optim.Optimizer]] = {
    "sgd": _sgd,
    "adamw": _adamw,
}
SCHEDULES: dict[str, Callable[[torch.optim.Optimizer, TrainConfig, int], LRScheduler]] = {
    "cosine": _cosine,
    "one-cycle": _one_cycle,
    "constant": _constant,
}
