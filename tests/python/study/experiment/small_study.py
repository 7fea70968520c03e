"""A study so small that it takes seconds."""

from __future__ import annotations

import json
from typing import Any

from ptqx.study import Results, Study
from ptqx.study.experiment.config import check
from ptqx.study.experiment.reader import build

TRAIN = {"batch_size": 128, "amp": "off"}
SMALL: dict[str, Any] = {
    "name": "small",
    "model": "cnn",
    "model_options": {"width": 4},
    "dataset": "digits",
    "train": {"epochs": 3, **TRAIN},
    "threads": 1,
    "batch_size": 8,
    "seconds": 0.01,
    "calibration": {"images": 64, "sets": 2},
    "ptq": [{"recipe": "int8"}, {"recipe": "w2a2", "sets": 1}],
    "qat": [{"recipe": "w4a4", "epochs": 1, "train": TRAIN}],
    "parts": {
        "bit_widths": {"bits": [8, 4, 3, 2], "families": ["both"]},
        "observers": {"weight_bits": [4], "activation_bits": [4], "activations": ["minmax", "mse"]},
        "biases": None,
        "sensitivity": {"bits": [3], "images": 100},
        "distributions": {"recipes": ["w4a4"]},
        "half_floats": {"steps": 3},
        "latency": None,
    },
}
# Of it, what takes a second.
FEW: dict[str, Any] = {"ptq": [{"recipe": "int8"}], "qat": [], "parts": {"biases": None}}


def small_study(**changes: Any) -> Study:
    study = build(Study, {**SMALL, **changes})
    check(study)
    return study


def without_times(results: Results) -> Any:
    """Everything that does not depend on when and how fast it ran."""
    values = json.loads(results.to_json())
    values.pop("seconds")
    for unit in values["units"]:
        unit.pop("seconds")
        unit["values"].pop("speed", None)
    for row in values["rows"]:
        for key in ("latency_ms", "throughput", "speedup_vs_fp32"):
            row.pop(key)
    values["verdicts"] = [
        v for v in values["verdicts"] if v["unit"] != "times" or "laten" not in v["statistic"]
    ]
    return values
