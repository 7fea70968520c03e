"""Paired bootstrap of a difference in top-1 accuracy."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ..errors import PtqxError

RESAMPLES = 10_000


def paired_drop_interval(
    reference_correct: Tensor,
    correct: Tensor,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval, in percent points, of the drop 100 * (mean(reference_correct) - mean(correct)).

    Both models saw the same images, so whole images are resampled (Efron, 1979). An image's contribution is
    +1 (only the reference is right), -1 (only the other is right) or 0, so a resample of n images is one draw
    of the counts from a multinomial distribution: exact, and independent of n in cost.

    Args:
        reference_correct, correct: bool (N,), per test image, N >= 1.

    >>> import torch
    >>> right, wrong = torch.tensor([True]), torch.tensor([False])
    >>> reference = torch.cat([right.repeat(95), wrong.repeat(5)])
    >>> paired_drop_interval(reference, reference)
    (0.0, 0.0)
    >>> paired_drop_interval(reference, torch.cat([right.repeat(85), wrong.repeat(15)]))
    (5.0, 16.0)
    """
    if reference_correct.shape != correct.shape or correct.dim() != 1 or not len(correct):
        raise PtqxError(
            f"expected two non-empty vectors of one length, got {tuple(reference_correct.shape)} "
            f"and {tuple(correct.shape)}"
        )
    if not 0.0 < confidence < 1.0:
        raise PtqxError(f"confidence must be in (0, 1), got {confidence}")
    n = len(correct)
    lost = int((reference_correct & ~correct).sum())
    gained = int((correct & ~reference_correct).sum())
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(n, [lost / n, gained / n, (n - lost - gained) / n], size=resamples)
    drops = 100.0 * (counts[:, 0] - counts[:, 1]) / n
    tail = 100.0 * (1.0 - confidence) / 2.0
    low, high = np.percentile(drops, [tail, 100.0 - tail])
    return float(low), float(high)


def mean_drop_interval(
    reference_correct: np.ndarray,
    correct: np.ndarray,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """The same for the mean over several runs: images are resampled, and runs too.

    Args:
        reference_correct, correct: bool (runs, N): per run (a calibration set, a training seed) and image.
            Run i of one is compared with run i of the other.

    With one run it is `paired_drop_interval`. Images with the same outcome in all runs are one category of
    the multinomial distribution.

    >>> right, wrong = np.ones((2, 90), bool), np.zeros((2, 10), bool)
    >>> both = np.concatenate([right, wrong], axis=1)
    >>> mean_drop_interval(both, both)
    (0.0, 0.0)
    >>> mean_drop_interval(np.ones((2, 100), bool), both)
    (5.0, 16.0)
    """
    if reference_correct.shape != correct.shape or correct.ndim != 2 or not correct.size:
        raise PtqxError(
            f"expected two arrays (runs, images) of one shape, got {reference_correct.shape} "
            f"and {correct.shape}"
        )
    runs, n = correct.shape
    patterns, counts = np.unique(
        reference_correct.astype(np.int8) - correct.astype(np.int8), axis=1, return_counts=True
    )
    generator = np.random.default_rng(seed)
    images = generator.multinomial(n, counts / n, size=resamples)
    weights = generator.multinomial(runs, np.full(runs, 1 / runs), size=resamples) / runs
    drops = 100.0 * np.einsum("rk,rk->r", images, weights @ patterns) / n
    tail = 100.0 * (1.0 - confidence) / 2.0
    low, high = np.percentile(drops, [tail, 100.0 - tail])
    return float(low), float(high)
