"""How the loss grows as bits go: a fitted law and what it leaves unexplained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import PtqxError
from .results import Results

LEAST_POINTS = 4  # for three parameters


def scaling_laws(results: Results) -> list[dict[str, Any]]:
    """One fit for every family of bit widths that has enough of them."""
    points = results.of("bit_widths")
    families = dict.fromkeys(point["family"] for point in points)
    fits = []
    for family in families:
        chosen = [p for p in points if p["family"] == family]
        if len(chosen) >= LEAST_POINTS:
            bits, losses, errors = ([p[key] for p in chosen] for key in ("bits", "loss", "loss_error"))
            fits.append({"family": family, **fit_law(bits, losses, errors)})
    return fits


def fit_law(bits: Sequence[float], losses: Sequence[float], errors: Sequence[float]) -> dict[str, Any]:
    """Weighted least squares of loss(b) = floor + size * 2**(-rate * b).

    Rounding to b bits leaves noise of variance proportional to 4**-b, so a loss that grows with the noise's
    variance has a rate of 2, and one that grows faster a higher rate.

    Args:
        errors: standard error of each loss, its weight in the fit.

    Returns:
        floor, size, rate; rate_ci95, from the fit's covariance; fitted and residuals at `bits`; r2.

    >>> law = fit_law([8, 6, 4, 3, 2], [1 + 16 * 4.0**-b for b in (8, 6, 4, 3, 2)], [0.01] * 5)
    >>> round(law["floor"], 3), round(law["size"], 2), round(law["rate"], 3)
    (1.0, 16.0, 2.0)
    """
    try:
        from scipy.optimize import OptimizeWarning, curve_fit
    except ModuleNotFoundError as error:
        raise PtqxError("fits need SciPy: pip install 'ptqx[study]'") from error
    import warnings

    b, y = np.asarray(bits, dtype=float), np.asarray(losses, dtype=float)
    start = (y.min(), max(y.max() - y.min(), 1e-6) * 2.0 ** (2 * b.min()), 2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizeWarning)  # of an exact fit, whose covariance is not known
        values, covariance = curve_fit(
            _law, b, y, p0=start, sigma=np.maximum(errors, 1e-9), bounds=([0, 0, 0], np.inf), maxfev=20_000
        )
    fitted = _law(b, *values)
    spread = float(((y - y.mean()) ** 2).sum())
    reach = 1.96 * float(np.sqrt(covariance[2, 2]))
    return {
        "floor": float(values[0]),
        "size": float(values[1]),
        "rate": float(values[2]),
        "rate_ci95": [float(values[2]) - reach, float(values[2]) + reach],
        "bits": [float(x) for x in b],
        "losses": [float(x) for x in y],
        "errors": [float(x) for x in errors],
        "fitted": [float(x) for x in fitted],
        "residuals": [float(x) for x in y - fitted],
        "r2": 1.0 - float(((y - fitted) ** 2).sum()) / spread if spread else 1.0,
    }


def _law(b: Any, floor: float, size: float, rate: float) -> Any:
    return floor + size * np.exp2(-rate * b)
