"""Quantization-aware training: the same loop as for a float model, on the simulated one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from .. import graph
from ..data import ImageDataset
from ..quant import Recipe
from ..train import TrainConfig, fit


def train_quantized(
    model: nn.Module,
    recipe: str | Recipe,
    train: ImageDataset,
    test: ImageDataset,
    config: TrainConfig,
    calibration: Iterable[Any],
    *,
    out: str | os.PathLike[str] | None = None,
    resume: bool = True,
    identity: dict[str, Any] | None = None,
    progress: bool = True,
) -> graph.SimulatedModel:
    """Prepare a trained float model, calibrate it, and train it on as its integer self.

    Batch norms keep learning their statistics, and step sizes are learned unless the recipe says otherwise.

    Args:
        calibration: batches x or (x, y) for the starting ranges.
        out, resume, identity, progress: of `ptqx.train.fit`.

    Returns:
        The trained simulated model; `ptqx.convert` makes it an integer one.
    """
    example = _first_input(calibration)
    prepared = graph.prepare(model, recipe, example, qat=True)
    graph.calibrate(prepared, calibration)
    fit(
        prepared,
        train,
        test,
        config,
        out=out,
        resume=resume,
        identity=identity,
        device="cpu",
        progress=progress,
    )
    return prepared.eval()


def _first_input(batches: Iterable[Any]) -> Tensor:
    first = next(iter(batches))
    x: Tensor = first[0] if isinstance(first, (tuple, list)) else first
    return x[:1]
