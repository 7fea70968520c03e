"""The table of a study, made of its runs: means over calibration sets and training seeds, with intervals."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..bootstrap import mean_drop_interval
from .part import Values
from .results import Results
from .subject import bits

ROWS, LATENCY = "rows", "latency"
REFERENCE = "fp32"


def table(results: Results) -> list[Values]:
    """One row per format, as `study.rows.Row` has it, and further keys:

    tier; seeds of the runs; recipe; n_calibration images; loss; top1_runs, the top-1 of each run; logits_db,
    the SQNR of all logits against fp32's, None where they are equal or units of older versions do not say it;
    control, drop_control and its interval drop_control_ci95, against the float model trained on alike (QAT);
    epochs and history of training.
    """
    return [_row(results, name) for name in row_names(results)]


def row_names(results: Results) -> list[str]:
    return list(dict.fromkeys(run["row"] for run in results.of(ROWS)))


def runs_of(results: Results, row: str) -> list[Values]:
    return [run for run in results.of(ROWS) if run["row"] == row]


def correct(results: Results, row: str) -> np.ndarray:
    """bool (runs, test images)."""
    images = results.info["test_images"]
    return np.stack([bits(run["correct"], images) for run in runs_of(results, row)])


def drop_between(results: Results, reference: str, row: str) -> tuple[float, list[float]]:
    """Mean top-1 of `reference` minus that of `row`, percent points, with its 95 % interval.

    Runs are paired where both have the same number; otherwise a single one is set against all of the other's.
    """
    a, b = correct(results, reference), correct(results, row)
    if len(a) != len(b):
        runs = max(len(a), len(b)) if min(len(a), len(b)) == 1 else min(len(a), len(b))
        a, b = (np.repeat(x, runs, axis=0) if len(x) == 1 else x[:runs] for x in (a, b))
    drop = 100.0 * float(a.mean() - b.mean())
    return drop, list(mean_drop_interval(a, b, seed=results.info["seed"]))


def _row(results: Results, name: str) -> Values:
    runs = runs_of(results, name)
    first = runs[0]
    drop, interval = drop_between(results, REFERENCE, name)
    row = {
        "format": name,
        "kind": first["kind"],
        "execution": first["execution"],
        "top1": _mean(runs, "top1"),
        "drop": drop,
        "drop_ci95": interval,
        "agreement": _mean(runs, "agreement"),
        "size_bytes": first["size_bytes"],
        **_speed(results, name),
        "coverage": first["coverage"],
        "detail": first["detail"],
        "tier": results.info["tier"],
        "seeds": [run["seed"] for run in runs],
        "recipe": first["recipe"],
        "n_calibration": first["n_calibration"],
        "loss": _mean(runs, "loss"),
        "top1_runs": [run["top1"] for run in runs],
        "logits_db": _decibels(runs),
    }
    if "history" in first:
        row |= {"epochs": first["epochs"], "history": [run["history"] for run in runs]}
    control = results.info["controls"].get(name)
    if control in row_names(results):
        against, between = drop_between(results, control, name)
        row |= {"control": control, "drop_control": against, "drop_control_ci95": between}
    return row


def _mean(runs: list[Values], key: str) -> float:
    return float(np.mean([run[key] for run in runs]))


def _decibels(runs: list[Values]) -> float | None:
    """Mean over the runs, where all of them have it."""
    values = [run.get("logits_db") for run in runs]
    return None if None in values else float(np.mean(values))  # type: ignore[arg-type]


def _speed(results: Results, name: str) -> dict[str, Any]:
    """Of the study's own batch size, which is the first that was timed."""
    measured = results.of(LATENCY)
    entries = measured[0]["speed"] if measured else []
    times: Values = next((e for e in entries if e["format"] == name), {})
    return {
        "latency_ms": times.get("median_ms"),
        "throughput": times.get("throughput"),
        "speedup_vs_fp32": times.get("speedup_vs_fp32"),
        "batch": entries[0]["batch"] if entries else results.config["batch_size"],
        "threads": results.info["threads"],
        "isa": results.machine["isa"],
    }
