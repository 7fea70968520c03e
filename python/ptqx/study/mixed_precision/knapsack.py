"""The multiple-choice knapsack: of every layer one width, the least loss within the budgets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...errors import PtqxError


def knapsack(losses: np.ndarray, limits: Sequence[tuple[np.ndarray, float]]) -> list[int]:
    """Minimise sum_i losses[i, choice_i] while sum_i costs[i, choice_i] <= budget for each of `limits`.

    Solved to the optimum as an integer program by HiGHS (scipy.optimize.milp).

    Args:
        losses: float64 (layers, widths).
        limits: (costs of the same shape, budget); an infinite cost can't be chosen.

    Returns:
        The index of each layer's width.

    Raises:
        PtqxError: no choice keeps within the budgets, or scipy is missing.

    >>> losses = np.array([[0.0, 1.0], [0.0, 5.0]])
    >>> knapsack(losses, [(np.array([[8.0, 4.0], [8.0, 4.0]]), 12.0)])
    [1, 0]
    """
    try:
        from scipy.optimize import Bounds, LinearConstraint, milp
    except ImportError as error:
        raise PtqxError("mixed precision needs scipy: pip install 'ptqx[study]'") from error
    layers, widths = losses.shape
    possible = np.isfinite(losses)
    constraints = [LinearConstraint(np.kron(np.eye(layers), np.ones(widths)), 1, 1)]
    for costs, budget in limits:
        possible &= np.isfinite(costs)
        unit = max(abs(budget), 1e-12)  # HiGHS' tolerances are absolute
        finite = np.where(np.isfinite(costs), costs, 0.0)
        constraints.append(LinearConstraint(finite.reshape(1, -1) / unit, ub=budget / unit))
    solution = milp(
        np.where(possible, losses, 0.0).ravel(),
        integrality=np.ones(losses.size),
        bounds=Bounds(0, possible.ravel().astype(float)),
        constraints=constraints,
        options={"mip_rel_gap": 0.0},
    )
    if solution.x is None:
        raise PtqxError(f"no choice of widths keeps within the budget: {solution.message}")
    return [int(i) for i in solution.x.reshape(layers, widths).argmax(1)]
