"""Top-1 accuracy and loss of any module on a data set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data import ImageDataset, Loader
from ..errors import PtqxError


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Result of `evaluate`; the tensors are on the CPU, in the order of the data.

    Attributes:
        top1: percent of images whose largest logit is the label's.
        loss: mean cross-entropy, without label smoothing.
        logits: float32 (N, num_classes).
        predictions, labels: int64 (N,).
    """

    top1: float
    loss: float
    logits: Tensor
    predictions: Tensor
    labels: Tensor


@torch.no_grad()
def evaluate(
    model: nn.Module,
    data: ImageDataset | Iterable[tuple[Tensor, Tensor]],
    batch_size: int = 500,
    device: torch.device | str | None = None,
) -> Evaluation:
    """Run `model` in eval() mode over `data`, a data set or an iterable of (x, y) batches.

    Every submodule's training flag is put back afterwards.

    Args:
        device: where the batches go; by default where the model's first parameter or buffer is.

    Raises:
        PtqxError: no images, no labels, a model that does not give logits (N, classes), or NaN among them.

    >>> from ptqx.data import load
    >>> from ptqx.models import cnn
    >>> evaluate(cnn(), load("digits", split="test")).logits.shape
    torch.Size([360, 10])
    """
    if device is None:
        device = next((t.device for t in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    batches = Loader(data, batch_size, device=device) if isinstance(data, ImageDataset) else data
    was_training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        results = []
        for batch in batches:
            if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                raise PtqxError(f"evaluate needs batches (x, y) with labels, got {type(batch).__name__}")
            logits = model(batch[0].to(device))
            if not isinstance(logits, Tensor) or logits.dim() != 2:
                given = tuple(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
                raise PtqxError(f"accuracy needs logits of shape (N, classes); the model gives {given}")
            results.append((logits.float().cpu(), batch[1].cpu()))
    finally:
        for module in was_training:
            module.training = True
    if not results:
        raise PtqxError("nothing to evaluate: the data set is empty")
    logits, labels = (torch.cat(parts) for parts in zip(*results, strict=True))
    if logits.isnan().any():
        raise PtqxError(f"{int(logits.isnan().any(dim=1).sum())} of {len(logits)} images gave NaN logits")
    predictions = logits.argmax(dim=1)
    top1 = 100.0 * (predictions == labels).double().mean().item()
    return Evaluation(top1, F.cross_entropy(logits, labels).item(), logits, predictions, labels)
