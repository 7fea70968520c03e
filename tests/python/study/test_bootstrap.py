"""The paired bootstrap against all resamples of a small example, written out."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from ptqx.errors import PtqxError
from ptqx.study import paired_drop_interval

# One image lost, one gained, the others equal.
REFERENCE = torch.tensor([True, False, True, True, False, True])
OTHER = torch.tensor([False, True, True, True, False, True])


def test_interval_equals_the_one_over_all_resamples() -> None:
    difference = REFERENCE.int().numpy() - OTHER.int().numpy()
    drops = [100.0 * difference[list(draw)].mean() for draw in product(range(6), repeat=6)]
    exact = tuple(np.percentile(drops, [2.5, 97.5]))
    assert exact == pytest.approx((-50.0, 50.0))
    assert paired_drop_interval(REFERENCE, OTHER) == pytest.approx(exact)


def test_interval_narrows_with_the_square_root_of_the_images() -> None:
    few = paired_drop_interval(REFERENCE.repeat(100), OTHER.repeat(100))
    many = paired_drop_interval(REFERENCE.repeat(10_000), OTHER.repeat(10_000))
    assert (few[1] - few[0]) / (many[1] - many[0]) == pytest.approx(10.0, rel=0.1)


def test_interval_is_paired_not_pooled() -> None:
    # Both are right on the same half: an unpaired interval would be about 4 points wide.
    same = torch.arange(1000) % 2 == 0
    assert paired_drop_interval(same, same) == (0.0, 0.0)


def test_interval_covers_the_true_drop_about_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    covered = 0
    for trial in range(200):
        reference = torch.rand(400, generator=generator) < 0.8
        lost = torch.rand(400, generator=generator) < 0.1
        low, high = paired_drop_interval(reference, reference & ~lost, seed=trial)
        covered += low <= 8.0 <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_same_seed_gives_the_same_interval() -> None:
    assert paired_drop_interval(REFERENCE, OTHER, seed=3) == paired_drop_interval(REFERENCE, OTHER, seed=3)


@pytest.mark.parametrize(
    ("reference", "other", "confidence"),
    [
        (REFERENCE, OTHER[:3], 0.95),
        (REFERENCE[:0], OTHER[:0], 0.95),
        (REFERENCE[None], OTHER[None], 0.95),
        (REFERENCE, OTHER, 1.0),
    ],
    ids=["other-length", "empty", "two-dimensional", "confidence-one"],
)
def test_bad_arguments_raise(reference: torch.Tensor, other: torch.Tensor, confidence: float) -> None:
    with pytest.raises(PtqxError):
        paired_drop_interval(reference, other, confidence=confidence)
