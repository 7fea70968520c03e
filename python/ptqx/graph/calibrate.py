"""calibrate: the float network runs over a few batches while the quantizers watch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from ..errors import PtqxError
from ..quant import check_finite
from .ir import INPUT
from .simulated import SimulatedModel

KEPT_SAMPLES = 16  # for convert's comparison


@torch.no_grad()
def calibrate(prep: SimulatedModel, loader: Iterable[Any], progress: bool = False) -> SimulatedModel:
    """Find the scale of every quantizer from the batches of `loader`; what was observed before is forgotten.

    Weights are fitted again as they are now. In a process group the statistics of all ranks are merged. The
    first samples are kept in `prep.verification_batch` for `convert`.

    Args:
        prep: of `ptqx.prepare`.
        loader: yields x or (x, y, …), x a float batch; a list of tensors is a loader.
        progress: show a progress bar.

    Returns:
        `prep` itself.

    Raises:
        PtqxError: no batch, NaN or infinite values (naming the place and the count), or batches that don't
            fit.
    """
    check_loader(loader)
    keys = list(prep.graph.quantizers)
    quantizers = [prep.activation_quantizer(key) for key in keys]
    for quantizer in quantizers:
        if quantizer.observer is not None:
            quantizer.observer.reset()
    prep.fit_weights()
    device = next((t.device for t in [*prep.parameters(), *prep.buffers()]), torch.device("cpu"))
    samples = 0
    with prep.observe():
        for batch in tqdm(loader, "calibrate", disable=not progress, leave=False):
            x = batch_input(batch, prep.graph.input_shape).to(device)
            check_finite(x, INPUT)
            prep(x)
            if samples == 0:
                prep.verification_batch = x[:KEPT_SAMPLES].clone()
            samples += len(x)
    if samples == 0:
        raise PtqxError("loader: the calibration set is empty; give at least one batch")
    for quantizer in quantizers:
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            quantizer.sync()
        quantizer.compute_qparams()
    return prep


def check_loader(loader: Any) -> None:
    """
    Raises:
        PtqxError: no batches can be had of it.
    """
    if isinstance(loader, Tensor):
        raise PtqxError("loader: expected batches, got one tensor; [tensor] is a loader with one batch")
    if not isinstance(loader, Iterable) and not hasattr(loader, "__getitem__"):
        raise PtqxError(f"loader: expected batches x or (x, y), got {type(loader).__name__}")


def first_tensor(batch: Any) -> Tensor:
    """x of what a loader yields: x, or (x, y, …)."""
    x = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
        raise PtqxError(f"loader: expected batches x or (x, y) with a floating-point tensor x, got {got}")
    return x


def batch_input(batch: Any, sample_shape: tuple[int, ...]) -> Tensor:
    """The float32 input of what a loader yields: x, or the first of (x, y, …)."""
    x = first_tensor(batch)
    if x.dim() != len(sample_shape) + 1 or x.shape[1] != sample_shape[0]:
        raise PtqxError(
            f"loader: expected batches of shape [N, {', '.join(map(str, sample_shape))}], got {list(x.shape)}"
        )
    return x.float()
