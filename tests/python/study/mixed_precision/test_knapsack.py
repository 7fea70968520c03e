"""The integer program against every choice there is."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest
from ptqx.errors import PtqxError
from ptqx.study.mixed_precision.knapsack import knapsack


def best(losses: np.ndarray, limits: list[tuple[np.ndarray, float]]) -> float:
    layers = range(len(losses))
    return min(
        losses[layers, choice].sum()
        for choice in itertools.product(range(losses.shape[1]), repeat=len(losses))
        if all(costs[layers, choice].sum() <= limit for costs, limit in limits)
    )


@pytest.mark.parametrize("seed", range(8))
def test_choice_is_the_best_of_all(seed: int) -> None:
    generator = np.random.default_rng(seed)
    losses = generator.normal(size=(6, 3))
    costs = generator.integers(1, 10**6, size=(6, 3)).astype(float)
    times = generator.random(size=(6, 3))
    limits = [
        (costs, float(np.floor(costs.min(1).sum() * 1.5))),
        (times, times.max(1).sum() * 0.9),
    ]
    for used in (limits[:1], limits[1:], limits):
        try:
            expected = best(losses, used)
        except ValueError:  # no choice keeps within both
            with pytest.raises(PtqxError, match="no choice of widths"):
                knapsack(losses, used)
            continue
        chosen = knapsack(losses, used)
        assert losses[range(6), chosen].sum() == pytest.approx(expected)
        assert all(cost[range(6), chosen].sum() <= limit for cost, limit in used)


def test_what_costs_infinitely_much_is_never_chosen() -> None:
    losses, costs = np.array([[0.0, 9.0]]), np.array([[np.inf, 1.0]])
    assert knapsack(losses, [(costs, 5.0)]) == [1]


def test_the_whole_budget_may_be_used() -> None:
    losses, costs = np.array([[1.0, 0.0]] * 3), np.array([[1.0, 7.0]] * 3)
    assert knapsack(losses, [(costs, 21.0)]) == [1, 1, 1]
    assert sorted(knapsack(losses, [(costs, 20.0)])) == [0, 1, 1]


def test_missing_scipy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(PtqxError, match=r"pip install 'ptqx\[study\]'"):
        knapsack(np.zeros((1, 1)), [])
